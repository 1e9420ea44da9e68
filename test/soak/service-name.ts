/**
 * A change of the service's name in real pools: one that keeps the names of version 0.1.0, one that writes to both, the end, and one that begins after
 * it. A visitor goes from pool to pool.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { connected } from '../connected.ts';
import { type Operated, startOperated } from '../process/operator.ts';
import { LocalRedis, withRedis } from '../process/redis.ts';
import { until } from '../until.ts';
import { Visitor } from '../visitor.ts';

test(
  'a visitor stays logged in while the name of the service changes, and nothing is left of the old names',
  withRedis,
  async () => {
    const redis = await LocalRedis.start();
    after(() => redis.stop());
    const { client, close } = await connected(redis);
    after(close);
    await client.set('koa:sess:keys', 'session-key-of-version-0.1.0');
    const start = (more: Record<string, string> = {}) =>
      startOperated({
        app: 'uses-redis.mjs',
        env: { REDIS_URL: redis.url, NODE_CLUSTER_WORKERS: '1', SERVICE_NAME: 'shop', ...more },
      });
    const visitor = new Visitor();
    const visit = async ({ port }: Operated) => (await visitor.json<{ visits: number }>(port, '/visit')).visits;
    const fleetOf = (pod: Operated, count: number) =>
      until(
        async () => JSON.parse((await pod.bosun('fleet', '--json')).stdout).pods.length === count || undefined,
        () => pod.kit.transcript(),
      );

    const before = await start();
    const changing = await start({ SERVICE_NAME_BEFORE: 'none' });
    await fleetOf(changing, 2);
    for (const [index, pod] of [before, changing, before, changing].entries()) assert.equal(await visit(pod), index + 1);
    const { code, stderr } = await changing.bosun('service', 'migrate');
    assert.equal(code, 1);
    assert.match(stderr, /still writes only to the old names: restart it with SERVICE_NAME=shop and SERVICE_NAME_BEFORE=none/);
    await before.bosun('broadcast', 'configUpdate', '"through both"');
    await until(
      async () =>
        (await visitor.json<{ configUpdate: unknown }>(changing.port, '/received')).configUpdate === 'through both' || undefined,
      () => changing.kit.transcript(),
    );
    await before.kit.stop();
    await fleetOf(changing, 1);
    assert.match((await changing.bosun('service', 'migrate')).stdout, /the old names \(without a service\) are deleted/);
    const done = await start();
    for (const [index, pod] of [changing, done].entries()) assert.equal(await visit(pod), index + 5);
    assert.deepEqual(await client.keys('koa:sess*'), []);
  },
);
