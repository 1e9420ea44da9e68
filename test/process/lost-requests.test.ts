/**
 * Ways to lose a request that have to do with the pod around the drain: the kernel's queue, PID 1, Redis, idle connections. The numbers
 * are the cases of facts/draining.md, A3; 1 to 12, 19 and 22 are in drain.test.ts, drain-end.test.ts and sigterm.test.ts, the crashes in
 * supervision.test.ts and kills.test.ts.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { freePort } from '../free-port.ts';
import { until } from '../until.ts';
import { Visitor } from '../visitor.ts';
import { RawClient, requestJson, requestText } from './clients.ts';
import { stopsSoon } from './drains.ts';
import { CLEAN, environmentOf, Kit, ROOT, startKit } from './kit.ts';
import { POLICIES } from './policies.ts';
import { childrenOf, handlesSignals } from './processes.ts';
import { LocalRedis, withRedis } from './redis.ts';

/** Most of a test is waiting. */
const CONCURRENCY = 4;
const WAITING = 40;
/** A process whose children have a PID namespace of their own, which ends with it. */
const NAMESPACE = ['--pid', '--fork', '--mount-proc', '--kill-child'];

test('with rr another worker answers the connections of a frozen worker, also while that one drains', async () => {
  const kit = await startKit({ app: 'koa.mjs', env: { NODE_CLUSTER_SCHED_POLICY: 'rr' } });
  const { port } = await kit.ready();
  const [stays, goes] = (await kit.statusWhere(({ workers }) => workers.length === 2)).workers;
  assert.ok(stays && goes);
  const answeredBy = async () => (await requestJson<{ pid: number }>(port, '/')).pid;
  await until(
    async () => (await answeredBy()) === stays.pid || undefined,
    () => kit.transcript(),
  );
  process.kill(goes.pid, 'SIGSTOP');
  try {
    for (let count = 0; count < 5; count++) assert.equal(await answeredBy(), stays.pid);
    kit.signal('SIGTTOU');
    await kit.event('pool.scale');
    for (let count = 0; count < 5; count++) assert.equal(await answeredBy(), stays.pid);
  } finally {
    process.kill(goes.pid, 'SIGCONT');
  }
  assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
});

for (const policy of POLICIES) {
  describe(`policy ${policy}`, { concurrency: CONCURRENCY }, () => {
    /** One worker, and its port stays the same. */
    const startOne = async (env: Record<string, string> = {}) => {
      const one = { NODE_CLUSTER_SCHED_POLICY: policy, NODE_CLUSTER_WORKERS: '1', PORT: String(await freePort()) };
      const kit = await startKit({ app: 'koa.mjs', env: { ...one, ...env } });
      return { kit, ...(await kit.ready()) };
    };

    test(`13 ${WAITING} connections that no worker has accepted at SIGTERM are answered within SHUTDOWN_DELAY_MS, policy ${policy}`, async () => {
      const { kit, port } = await startOne({ SHUTDOWN_DELAY_MS: '4000' });
      await using blocking = await RawClient.open(port);
      blocking.write(requestText('/block?ms=600&mark=blocked'));
      await kit.begun('blocked');
      const waiting = await openWaiting(port);
      kit.signal('SIGTERM');
      await answeredAll(waiting);
      assert.deepEqual(kit.all('shutdown.drain'), [], 'the delay was enough');
      assert.equal((await blocking.answer()).status, 200);
      assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
    });

    test(`14 ${WAITING} connections that the only worker has not accepted when it is replaced are answered, policy ${policy}`, async () => {
      const { kit, port } = await startOne();
      await using blocking = await RawClient.open(port);
      // Until after the new worker serves, and the old one drains.
      blocking.write(requestText('/block?ms=3000&mark=blocked'));
      await kit.begun('blocked');
      const waiting = await openWaiting(port);
      kit.signal('SIGHUP');
      await answeredAll(waiting);
      assert.equal((await blocking.answer()).status, 200);
      await kit.event('pool.restarted');
      const { restarts, drains } = await kit.status();
      assert.deepEqual([restarts.byReason, drains.cutRequests], [{ restart: 1 }, 0]);
      assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
    });

    test(`27 an idle connection is kept for KEEP_ALIVE_TIMEOUT_MS, 75 s by default, and clients see it in a header, policy ${policy}`, async () => {
      const [short, usual] = await Promise.all([startOne({ KEEP_ALIVE_TIMEOUT_MS: '2000' }), startOne()]);
      await using client = await RawClient.open(short.port);
      assert.equal((await client.request('/')).headers['keep-alive'], 'timeout=2');
      await pause(1500);
      assert.equal((await client.request('/')).status, 200);
      const idleSince = performance.now();
      assert.equal(await client.ended(), 'FIN');
      const idleMs = performance.now() - idleSince;
      assert.ok(idleMs >= 2000, `ended after ${idleMs} ms`);
      await using other = await RawClient.open(usual.port);
      assert.equal((await other.request('/')).headers['keep-alive'], 'timeout=75');
    });
  });
}

describe('as PID 1', { concurrency: CONCURRENCY, skip: whyNotPid1() }, () => {
  test('20 a primary that is PID 1 exits with 0 while idle connections are open', async () => {
    const { kit, primary } = await startAsPid1('koa.mjs');
    const { port } = await kit.ready();
    assert.equal((await kit.event('primary.start')).pid, 1);
    const clients = await Promise.all([1, 2, 3].map(() => RawClient.open(port)));
    for (const client of clients) assert.equal((await client.request('/')).status, 200);
    await stopsSoon(kit, () => process.kill(primary, 'SIGTERM'));
    for (const client of clients) assert.equal(await client.ended(), 'FIN');
  });

  test('21 a SIGTERM before the first worker is ready ends a primary that is PID 1 with 0, without SHUTDOWN_DELAY_MS', async () => {
    const { kit, primary } = await startAsPid1('never-ready.mjs', { SHUTDOWN_DELAY_MS: '20000' });
    await handlesSignals(primary);
    await stopsSoon(kit, () => process.kill(primary, 'SIGTERM'));
  });
});

/** Ends with its test. */
async function startRedis(): Promise<LocalRedis> {
  const redis = await LocalRedis.start();
  after(() => redis.stop());
  return redis;
}

describe('with Redis', { concurrency: CONCURRENCY, ...withRedis }, () => {
  test('25 a session that is written during a drain is kept: Redis closes last', async () => {
    const redis = await startRedis();
    const start = () => startKit({ app: 'slow-session.mjs', env: { REDIS_URL: redis.url } });
    const kit = await start();
    const { port } = await kit.ready();
    const visitor = new Visitor();
    const answer = visitor.request(port, '/?ms=1000&mark=slow');
    await kit.begun('slow');
    kit.signal('SIGTERM');
    const { status, body } = await answer;
    assert.deepEqual([status, JSON.parse(body).count], [200, 1]);
    assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());

    const successor = await start();
    assert.equal(JSON.parse((await visitor.request((await successor.ready()).port, '/')).body).count, 2);
  });

  test('26, 30, 31 a pod without its Redis stays alive and ready, and exits soon and with 0 at SIGTERM', async () => {
    const redis = await startRedis();
    const kit = await startKit({ app: 'slow-session.mjs', env: { REDIS_URL: redis.url } });
    const { port } = await kit.ready();
    await using client = await RawClient.open(port);
    assert.equal((await client.request('/')).status, 200);
    await redis.stop();
    await until(
      () => kit.all('redis.unreachable').length >= 2 || undefined,
      () => kit.transcript(),
    );
    assert.equal((await client.request('/')).status, 503);
    assert.deepEqual([(await kit.probe('/livez')).status, (await kit.probe('/readyz')).status], [200, 200]);
    await stopsSoon(kit);
    assert.deepEqual(
      kit.all('worker.exit').map(({ reason, code }) => [reason, code]),
      [
        ['shutdown', 0],
        ['shutdown', 0],
      ],
    );
  });
});

/** Connections with a request each, while the only worker's loop is blocked. */
async function openWaiting(port: number): Promise<RawClient[]> {
  const waiting = await Promise.all(Array.from({ length: WAITING }, () => RawClient.open(port)));
  for (const client of waiting) client.write(requestText('/'));
  for (const client of waiting) assert.equal(client.unread, '');
  return waiting;
}

async function answeredAll(clients: readonly RawClient[]): Promise<void> {
  for (const client of clients) {
    assert.equal((await client.answer()).status, 200);
    client.close();
  }
}

function whyNotPid1(): string | false {
  return spawnSync('unshare', [...NAMESPACE, 'true']).status === 0
    ? false
    : 'needs unshare, and the right to make a PID namespace';
}

/** Process ids in its log are those of its own namespace; `primary` is ours. It ends with the test, and with it all of the namespace. */
async function startAsPid1(app: string, env: Record<string, string> = {}): Promise<{ kit: Kit; primary: number }> {
  const adminPort = await freePort();
  const child = spawn('unshare', [...NAMESPACE, process.execPath, join(ROOT, 'src', 'main.ts')], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: environmentOf(adminPort, app, env),
  });
  const kit = new Kit(child, adminPort, false);
  after(async () => {
    child.kill('SIGKILL');
    await kit.exited;
  });
  const primary = await until(
    () => childrenOf(kit.pid)[0],
    () => 'unshare has no child',
  );
  return { kit, primary };
}
