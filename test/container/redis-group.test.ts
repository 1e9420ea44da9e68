/**
 * A Redis Cluster, and a master with Sentinels: over TLS, with a user; sessions and events work there, and outlive the crash of a master.
 */
import assert from 'node:assert/strict';
import { hostname } from 'node:os';
import { type TestContext, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { CLEAN, type Kit, startKit } from '../process/kit.ts';
import { type Operated, startOperated } from '../process/operator.ts';
import { until } from '../until.ts';
import { Visitor } from '../visitor.ts';
import { withEngine } from './engine.ts';
import { LOGIN, RedisGroup, SENTINEL_PASSWORD } from './redis-group.ts';

const WORKERS = 2;
/** Seven pods start at once here, and the machine may be busy. */
const PATIENT = { WORKER_START_TIMEOUT_MS: '120000' };
/** Visitors who go on through the crash, on both pods. */
const CROWD = 8;
/** Far above the five seconds that are aimed at: the machine may be busy. */
const FAILOVER_MS = 30_000;
/** Replication is asynchronous: a session is safe when the replica has it. */
const REPLICATED_MS = 300;
/** A few attempts to connect. */
const TRIES_MS = 3000;

test('several servers', { ...withEngine, concurrency: true }, async t => {
  const [cluster, sentinels] = await Promise.all([RedisGroup.cluster(), RedisGroup.sentinels('main')]);
  await Promise.all([
    t.test(
      'two pods on a Redis Cluster share sessions and events, also after the crash of a master',
      { concurrency: true },
      test => throughCluster(test, cluster),
    ),
    t.test(
      'two pods on Redis Sentinel share sessions and events, also after the crash of the master',
      { concurrency: true },
      test => throughSentinels(test, sentinels),
    ),
  ]);
});

async function throughCluster(t: TestContext, group: RedisGroup): Promise<void> {
  const nodes = group.ports.slice(0, 3).map(port => `127.0.0.1:${port}`);
  const env = { ...LOGIN, REDIS_CLUSTER_NODES: nodes.join(',') };
  const [pods] = await Promise.all([
    startPods(env),
    t.test('a pod that does not trust the certificate of the Cluster nodes logs it and is not ready', () =>
      assertRejectsCertificate(env),
    ),
  ]);
  const visitor = await assertShared(pods);
  const names = (await Promise.all(group.ports.map(port => group.command(port, 'CLIENT', 'LIST')))).join('\n');
  for (const name of ['1', '2', 'primary', 'subscriber'])
    assert.match(names, new RegExp(` name=bosun:${hostname()}:${name} .* user=app`), name);
  const master = await group.ownerOf(`koa-bosun:koa:sess:${visitor.cookies.get('koa:sess')}`);
  await assertOutlives(t, pods, visitor, () => group.crash(master));
}

async function throughSentinels(t: TestContext, group: RedisGroup): Promise<void> {
  const sentinels = group.ports.slice(2).map(port => `127.0.0.1:${port}`);
  const env = { ...LOGIN, REDIS_SENTINELS: sentinels.join(','), REDIS_SENTINEL_NAME: 'main' };
  const [pods] = await Promise.all([
    startPods({ ...env, REDIS_SENTINEL_PASSWORD: SENTINEL_PASSWORD }),
    t.test('a pod without the password of the Sentinels logs it and is not ready', () => assertRefused(env, /NOAUTH/)),
    t.test('a pod that does not trust the certificate of the Sentinels logs it and is not ready', () =>
      assertRejectsCertificate({ ...env, REDIS_SENTINEL_PASSWORD: SENTINEL_PASSWORD }),
    ),
    // While it is the master.
    t.test('rediss:// works with the CA of the server, and fails with a clear message without it', () =>
      byUrl(group.ports[0] ?? 0),
    ),
  ]);
  const visitor = await assertShared(pods);
  await assertOutlives(t, pods, visitor, () => group.crash(group.ports[0] ?? 0));
}

async function byUrl(port: number): Promise<void> {
  const { REDIS_USERNAME, REDIS_PASSWORD, REDIS_CA_FILE } = LOGIN;
  const url = `rediss://${REDIS_USERNAME}:${REDIS_PASSWORD}@127.0.0.1:${port}/2`;
  const env = { SESSION_COOKIE: 'by-url', NODE_CLUSTER_WORKERS: '1' };
  const [{ kit, port: appPort }] = await Promise.all([
    startOperated({ env: { ...env, REDIS_URL: url, REDIS_CA_FILE } }),
    assertRefused({ ...env, REDIS_URL: url }, /self-signed certificate in certificate chain/),
  ]);
  const visitor = new Visitor();
  for (const counter of [1, 2]) assert.equal((await visitor.count(appPort)).counter, counter);
  assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  assert.doesNotMatch(kit.transcript(), /the-password/);
}

/** Nobody vouches for the servers' certificate. */
async function assertRejectsCertificate({ REDIS_CA_FILE, ...env }: Record<string, string>): Promise<void> {
  await assertRefused(env, /self-signed certificate in certificate chain/);
}

/** With these settings a pod has no Redis, is not ready, and says why without a password. */
async function assertRefused(env: Record<string, string>, reason: RegExp): Promise<void> {
  const kit = await startKit({ env: { NODE_CLUSTER_WORKERS: '1', ...PATIENT, ...env } });
  const { message } = await kit.event('redis.unreachable', event => reason.test(String(event.message)));
  assert.match(String(message), reason);
  assert.equal((await kit.probe('/readyz')).status, 503);
  assert.doesNotMatch(kit.transcript(), /the-password/);
  // It goes on trying: what one attempt leaves behind shows with the next ones.
  await pause(TRIES_MS);
  assert.deepEqual(kit.all('worker.exit'), [], kit.transcript());
  await kit.kill();
}

async function startPods(env: Record<string, string>): Promise<Operated[]> {
  const start = () => startOperated({ env: { ...LOGIN, ...PATIENT, ...env, NODE_CLUSTER_WORKERS: String(WORKERS) } });
  return Promise.all([start(), start()]);
}

/** Each pod knows what the other has written and said. */
async function assertShared(pods: readonly Operated[]): Promise<Visitor> {
  const visitor = new Visitor();
  let visits = 0;
  for (let round = 0; round < WORKERS; round++)
    for (const { port } of pods) assert.equal((await visitor.count(port)).counter, ++visits);
  await assertSentToAll(pods, 'Ahoy');
  return visitor;
}

async function assertSentToAll(pods: readonly Operated[], greeting: string): Promise<void> {
  const ran = await pods[0]?.bosun('broadcast', 'configUpdate', JSON.stringify({ greeting }));
  assert.deepEqual([ran?.code, ran?.stdout], [0, 'sent to 2 workers, and to the other pods\n'], String(ran?.stderr));
  for (const { kit } of pods) for (let worker = 1; worker <= WORKERS; worker++) await greets(kit, worker, greeting);
}

async function greets(kit: Kit, worker: number, greeting: string): Promise<void> {
  await kit.event('demo.configured', event => event.worker === worker && event.greeting === greeting);
}

const idOf = ({ cookies }: Visitor) => cookies.get('koa:sess');

/** Visits the pods in turn until it is over; how many requests failed, with 503 each. */
async function failuresOf(visitor: Visitor, pods: readonly Operated[], over: AbortSignal): Promise<number> {
  let failures = 0;
  while (!over.aborted) {
    for (const { port } of pods) {
      const { status, body } = await visitor.request(port, '/api/counter');
      if (status === 200) continue;
      assert.equal(status, 503, body);
      failures++;
    }
    await pause(20);
  }
  return failures;
}

async function assertOutlives(
  t: TestContext,
  pods: readonly Operated[],
  visitor: Visitor,
  crash: () => Promise<void>,
): Promise<void> {
  const [one, other] = pods as [Operated, Operated];
  const crowd = Array.from({ length: CROWD }, () => new Visitor());
  for (const each of crowd) await each.count(one.port);
  const ids = crowd.map(idOf);
  const { counter: acknowledged } = await visitor.count(one.port);
  await pause(REPLICATED_MS);
  const over = new AbortController();
  const load = Promise.all(crowd.map(each => failuresOf(each, pods, over.signal)));
  await crash();
  const crashedAt = performance.now();
  let failures = 0;
  const { counter } = await until(
    async () => {
      const { status, body } = await visitor.request(other.port, '/api/counter');
      if (status === 200) return JSON.parse(body) as { counter: number };
      assert.equal(status, 503, body);
      failures++;
      return undefined;
    },
    () => `${failures} failures; ${other.kit.transcript()}`,
    FAILOVER_MS,
  );
  const backAfterMs = Math.round(performance.now() - crashedAt);
  over.abort();
  const others = (await load).reduce((sum, each) => sum + each, 0);
  t.diagnostic(
    `sessions again ${backAfterMs} ms after the crash; failed meanwhile: ${failures} requests of a visitor, ${others} of ${CROWD} others`,
  );
  assert.ok(counter > acknowledged, `${counter} after ${acknowledged} were acknowledged`);
  for (const each of crowd) {
    await until(
      async () => (await each.request(other.port, '/api/counter')).status === 200 || undefined,
      () => other.kit.transcript(),
      FAILOVER_MS,
    );
  }
  assert.deepEqual(crowd.map(idOf), ids, 'nobody has lost a session');
  await until(
    async () => ((await one.bosun('broadcast', 'any')).code === 0 ? true : undefined),
    () => one.kit.transcript(),
    FAILOVER_MS,
  );
  await assertSentToAll(pods, 'Hej');
  for (const { kit } of pods) {
    assert.deepEqual(kit.all('worker.exit'), []);
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
    assert.doesNotMatch(kit.transcript(), /the-password/);
  }
}
