/**
 * Two apps that use one Redis: by default they share nothing, with one SERVICE_NAME they share everything, as in version 0.1.0.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { connected } from '../connected.ts';
import { until } from '../until.ts';
import { Visitor } from '../visitor.ts';
import { requestJson } from './clients.ts';
import { APPS } from './kit.ts';
import { type Operated, startOperated, temporaryFolder } from './operator.ts';
import { LocalRedis, withRedis } from './redis.ts';

/** A folder with a package of that name. */
function writtenPackage(name: string): string {
  const folder = temporaryFolder();
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ name, main: 'app.mjs' }));
  writeFileSync(join(folder, 'app.mjs'), `export { default } from ${JSON.stringify(join(APPS, 'uses-redis.mjs'))};\n`);
  return folder;
}

async function startApps(
  redis: LocalRedis,
  env: Record<string, string | undefined> = { SERVICE_NAME: undefined },
): Promise<[Operated, Operated]> {
  const settings = { REDIS_URL: redis.url, NODE_CLUSTER_WORKERS: '1', BROADCAST_DURABLE: 'true', ...env };
  const start = (name: string) => startOperated({ cwd: writtenPackage(name), env: settings });
  return Promise.all([start('shop'), start('@acme/blog')]);
}

const fleetOf = async ({ bosun }: Operated) => JSON.parse((await bosun('fleet', '--json')).stdout).pods.length as number;
const configOf = async ({ port }: Operated) => (await requestJson<{ configUpdate: unknown }>(port, '/received')).configUpdate;

/** The visits that the second app counts for a visitor of the first one. */
async function visitsAtSecond([first, second]: readonly [Operated, Operated]): Promise<number> {
  const visitor = new Visitor();
  for (let i = 0; i < 3; i++) await visitor.json(first.port, '/visit');
  return (await visitor.json<{ visits: number }>(second.port, '/visit')).visits;
}

test('two apps on one Redis share no session, key, event or fleet', withRedis, async () => {
  const redis = await LocalRedis.start();
  after(() => redis.stop());
  const apps = await startApps(redis);
  const [shop, blog] = apps;
  const { client, close } = await connected(redis);
  after(close);
  assert.equal(await visitsAtSecond(apps), 1, 'a cookie of one app is none for the other');
  assert.deepEqual(await Promise.all(apps.map(fleetOf)), [1, 1]);
  await shop.bosun('broadcast', 'configUpdate', '"for the shop"');
  await until(
    async () => (await configOf(shop)) === 'for the shop' || undefined,
    () => shop.kit.transcript(),
  );
  assert.equal(await configOf(blog), null);
  const [shopKeys, blogKeys] = await client.mget('shop:koa:sess:keys', 'acme-blog:koa:sess:keys');
  assert.ok(shopKeys && blogKeys && shopKeys !== blogKeys, 'each has session keys of its own, and rotates those');
  const roots = (await client.keys('*koa:sess*')).map(key => key.replace(/:koa:sess:.*/, ''));
  assert.deepEqual(new Set(roots), new Set(['shop', 'acme-blog', 'koa:sess:services']));
});

test('two apps with one SERVICE_NAME share sessions, events and the fleet', withRedis, async () => {
  const redis = await LocalRedis.start();
  after(() => redis.stop());
  const apps = await startApps(redis, { SERVICE_NAME: 'both' });
  assert.equal(await visitsAtSecond(apps), 4);
  await until(
    async () => (await fleetOf(apps[0])) === 2 || undefined,
    () => apps[0].kit.transcript(),
  );
  await apps[0].bosun('broadcast', 'configUpdate', '"for both"');
  await until(
    async () => (await configOf(apps[1])) === 'for both' || undefined,
    () => apps[1].kit.transcript(),
  );
});
