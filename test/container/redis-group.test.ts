/**
 * A Redis Cluster, and a master with Sentinels: over TLS, with a user; sessions and events work there, and outlive the crash of a master.
 */
import assert from 'node:assert/strict';
import { hostname } from 'node:os';
import { type TestContext, test } from 'node:test';
import type { Kit } from '../process/kit.ts';
import { until } from '../process/kit.ts';
import { type Operated, startOperated } from '../process/operator.ts';
import { withEngine } from './engine.ts';
import { LOGIN, RedisGroup } from './redis-group.ts';
import { Visitor } from './visitor.ts';

const CLEAN = { code: 0, signal: null };
const WORKERS = 2;
/** Far above the five seconds that are aimed at: the machine may be busy. */
const FAILOVER_MS = 30_000;
/** Replication is asynchronous: a session is safe when the replica has it. */
const REPLICATED_MS = 300;

test('a Redis Cluster: sessions and events of two pods, and the crash of a master', withEngine, async t => {
  const group = await RedisGroup.cluster();
  const nodes = group.ports.slice(0, 3).map(port => `127.0.0.1:${port}`);
  const pods = await startPods({ REDIS_CLUSTER_NODES: nodes.join(',') });
  const visitor = await assertShared(pods);
  const names = (await Promise.all(group.ports.map(port => group.command(port, 'CLIENT', 'LIST')))).join('\n');
  for (const name of ['1', '2', 'primary', 'subscriber'])
    assert.match(names, new RegExp(` name=bosun:${hostname()}:${name} .* user=app`), name);
  const master = await group.ownerOf(`koa:sess:${visitor.cookies.get('koa:sess')}`);
  await assertOutlives(t, pods, visitor, () => group.crash(master));
});

test('Sentinels: sessions and events of two pods, and the crash of the master', withEngine, async t => {
  const group = await RedisGroup.sentinels('main');
  const sentinels = group.ports.slice(2).map(port => `127.0.0.1:${port}`);
  const pods = await startPods({ REDIS_SENTINELS: sentinels.join(','), REDIS_SENTINEL_NAME: 'main' });
  const visitor = await assertShared(pods);
  await assertOutlives(t, pods, visitor, () => group.crash(group.ports[0] ?? 0));
});

async function startPods(env: Record<string, string>): Promise<Operated[]> {
  const start = () => startOperated({ env: { ...LOGIN, ...env, NODE_CLUSTER_WORKERS: String(WORKERS) } });
  return Promise.all([start(), start()]);
}

/** Each pod knows what the other has written and said. */
async function assertShared(pods: readonly Operated[]): Promise<Visitor> {
  const visitor = new Visitor();
  let visits = 0;
  for (let round = 0; round < WORKERS; round++)
    for (const { port } of pods) assert.equal((await visitor.count(port)).counter, ++visits);
  await assertToldToAll(pods, 'Ahoy');
  return visitor;
}

async function assertToldToAll(pods: readonly Operated[], greeting: string): Promise<void> {
  const ran = await pods[0]?.bosun('broadcast', 'configUpdate', JSON.stringify({ greeting }));
  assert.deepEqual([ran?.code, ran?.stdout], [0, 'sent to 2 workers, and to the other pods\n'], String(ran?.stderr));
  for (const { kit } of pods) for (let worker = 1; worker <= WORKERS; worker++) await greets(kit, worker, greeting);
}

async function greets(kit: Kit, worker: number, greeting: string): Promise<void> {
  await kit.event('demo.configured', event => event.worker === worker && event.greeting === greeting);
}

async function assertOutlives(
  t: TestContext,
  pods: readonly Operated[],
  visitor: Visitor,
  crash: () => Promise<void>,
): Promise<void> {
  const [one, other] = pods as [Operated, Operated];
  const { counter: acknowledged } = await visitor.count(one.port);
  await new Promise(resolve => setTimeout(resolve, REPLICATED_MS));
  await crash();
  const crashedAt = performance.now();
  let failures = 0;
  const { counter } = await until(
    async () => {
      const { status, body } = await visitor.ask(other.port, '/api/counter');
      if (status === 200) return JSON.parse(body) as { counter: number };
      assert.equal(status, 503, body);
      failures++;
      return undefined;
    },
    () => `${failures} failures; ${other.kit.transcript()}`,
    FAILOVER_MS,
  );
  t.diagnostic(
    `sessions again ${Math.round(performance.now() - crashedAt)} ms after the crash, ${failures} requests failed meanwhile`,
  );
  assert.ok(counter > acknowledged, `${counter} after ${acknowledged} were acknowledged`);
  await until(
    async () => ((await one.bosun('broadcast', 'any')).code === 0 ? true : undefined),
    () => one.kit.transcript(),
    FAILOVER_MS,
  );
  await assertToldToAll(pods, 'Hej');
  for (const { kit } of pods) {
    assert.deepEqual(kit.all('worker.exit'), []);
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
    assert.doesNotMatch(kit.transcript(), /the-password/);
  }
}
