/**
 * A worker that has served enough, has grown too big or is hung is replaced, the new one first, and nothing is lost.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { until } from '../until.ts';
import { readyPids, watchCapacity } from './capacity.ts';
import { RawClient, request, requestJson, requestText } from './clients.ts';
import { CLEAN, type Kit, startKit } from './kit.ts';
import { freshLoad, keepAliveLoad, type Load } from './loads.ts';
import { startOperated } from './operator.ts';

/** Most of a test is waiting. */
const CONCURRENCY = 4;
const WORKERS = 2;
/** For what takes several starts of a worker, on a slow machine too. */
const PATIENCE_MS = 40_000;

describe('a worker is recycled, the new one first and nothing lost', { concurrency: CONCURRENCY }, () => {
  test('a worker is recycled after WORKER_MAX_REQUESTS, its successor first, and no request is lost', async () => {
    const kit = await startKit({ app: 'koa.mjs', env: { WORKER_MAX_REQUESTS: '100' } });
    await recycles(kit, 'recycled-requests', 3);
  });

  test('WORKER_MAX_REQUESTS_JITTER gives each worker its own number of requests before it is recycled', async () => {
    // Each draws from a million: none is through after some hundred, but in one run of some thousand.
    const kit = await startKit({ app: 'koa.mjs', env: { WORKER_MAX_REQUESTS: '1', WORKER_MAX_REQUESTS_JITTER: '1000000' } });
    const { port } = await kit.ready();
    const load = keepAliveLoad(port);
    await load.answered(300);
    await load.stop();
    await kit.statusWhere(({ workers }) => workers.reduce((sum, { requests }) => sum + requests, 0) >= 300);
    assert.deepEqual(kit.all('worker.replace'), []);
  });

  test('a worker above WORKER_MAX_RSS_MB is recycled, its successor first, and no request is lost', async () => {
    const { kit, port } = await startOperated({ env: { WORKER_MAX_RSS_MB: '300' } });
    const load = keepAliveLoad(port, { path: '/slow?ms=5', clients: 8 });
    const capacity = watchCapacity(kit);
    const pids = await readyPids(kit);
    await using client = await RawClient.open(port);
    for (const mb of [100, 100, 100]) assert.equal((await client.request(`/leak?mb=${mb}`)).status, 200);
    const { workerPid } = await kit.event('worker.exit', ({ reason }) => reason === 'recycled-rss');
    assert.ok(pids.includes(Number(workerPid)));
    await load.answered(load.result.answered + 100);
    const { failures, refused } = await load.stop();
    assert.deepEqual({ failures, refused }, { failures: [], refused: 0 });
    assert.equal((await capacity.stop()).least, WORKERS);
    assert.deepEqual((await kit.status()).restarts, { total: 1, byReason: { 'recycled-rss': 1 } });
  });

  test('a worker is recycled at WORKER_MAX_AGE_MS, its successor first, and no request is lost', async () => {
    const kit = await startKit({ app: 'koa.mjs', env: { WORKER_MAX_AGE_MS: '1500' } });
    await recycles(kit, 'recycled-age', 3);
  });
});

describe('a worker whose event loop is blocked', () => {
  for (const policy of ['rr', 'none']) {
    test(`a worker with a blocked event loop is replaced after WORKER_HEARTBEAT_TIMEOUT_MS while the other one answers, policy ${policy}`, async t => {
      const timeoutMs = 1000;
      const env = { NODE_CLUSTER_SCHED_POLICY: policy, WORKER_HEARTBEAT_TIMEOUT_MS: String(timeoutMs) };
      const kit = await startKit({ app: 'koa.mjs', env });
      const { port } = await kit.ready();
      // Nobody is hung who is idle, busy as usual, or blocked for half the time.
      const usual = keepAliveLoad(port);
      for (let count = 0; count < 6; count++) assert.equal((await request(port, `/block?ms=${timeoutMs / 2}`)).status, 200);
      assert.deepEqual(kit.all('worker.replace'), []);
      assert.deepEqual((await usual.stop()).failures, []);

      await using blocking = await RawClient.open(port);
      blocking.write(requestText('/block?ms=60000&mark=blocked'));
      const { workerPid: hung } = await kit.begun('blocked');
      const blockedAt = performance.now();
      const fresh = kit.event('worker.ready', ({ worker }) => worker === 3).then(() => performance.now() - blockedAt);
      const gone = kit.event('worker.exit', ({ workerPid }) => workerPid === hung).then(() => performance.now() - blockedAt);
      const requested: { answered: boolean }[] = [];
      let isGone = false;
      void gone.finally(() => {
        isGone = true;
      });
      while (!isGone) {
        const one = { answered: false };
        requested.push(one);
        void requestJson<{ pid: number }>(port, '/').then(
          ({ pid }) => {
            one.answered = pid !== hung;
          },
          () => undefined,
        );
        await pause(50);
      }
      const [readyMs, goneMs] = [await fresh, await gone];
      t.diagnostic(`the new one served after ${Math.round(readyMs)} ms, the old one was gone after ${Math.round(goneMs)} ms`);
      assert.ok(readyMs >= timeoutMs, `took ${readyMs} ms`);
      const unanswered = () => requested.filter(({ answered }) => !answered).length;
      await until(
        () => unanswered() === 0 || undefined,
        () => `${unanswered()} of ${requested.length} unanswered`,
      );
      assert.ok(requested.length >= 20, `${requested.length} requested meanwhile`);

      assert.equal((await kit.event('worker.exit')).reason, 'hung');
      assert.deepEqual((await kit.status()).restarts, { total: 1, byReason: { hung: 1 } });
      const { stack, workerPid } = await kit.event('worker.hung');
      assert.equal(workerPid, hung);
      assert.match(String(stack), /koa\.mjs:\d+:\d+/);
      await until(
        async () => (await readyPids(kit)).length === WORKERS || undefined,
        () => kit.transcript(),
      );
    });
  }
});

/** Under load, until `count` workers were recycled: all for that reason, none lost a request, and never fewer than wanted served. */
async function recycles(kit: Kit, reason: string, count: number): Promise<void> {
  const { port } = await kit.ready();
  const capacity = watchCapacity(kit);
  const loads: Load[] = [keepAliveLoad(port), keepAliveLoad(port, { path: '/slow?ms=100' }), freshLoad(port)];
  await until(
    () => kit.all('worker.exit').length >= count || undefined,
    () => kit.transcript(),
    PATIENCE_MS,
  );
  for (const load of loads) {
    const { answered, failures, refused } = await load.stop();
    assert.ok(answered > 50, `${answered} answers`);
    assert.deepEqual({ failures, refused }, { failures: [], refused: 0 });
  }
  const { least, samples } = await capacity.stop();
  assert.equal(least, WORKERS);
  assert.ok(samples > 20, `${samples} looks`);
  const { restarts, drains } = await kit.status();
  assert.ok(restarts.total >= count);
  assert.deepEqual(restarts.byReason, { [reason]: restarts.total });
  assert.equal(drains.cutRequests, 0);
  assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
}
