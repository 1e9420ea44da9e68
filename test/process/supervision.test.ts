/**
 * What the primary promises about its workers: a lost one is replaced, and none outlives the primary.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { freePort } from '../free-port.ts';
import { SOON_MS, until } from '../until.ts';
import { everyWorker, RawClient, request, requestJson, requestText } from './clients.ts';
import { CLEAN, type Kit, startKit } from './kit.ts';
import { freshLoad, keepAliveLoad } from './loads.ts';

const CONCURRENCY = 3;

describe('a worker that ends', { concurrency: CONCURRENCY }, () => {
  test('a worker killed by SIGKILL is replaced at once, and the other answers meanwhile', async () => {
    const kit = await startKit({ app: 'koa.mjs' });
    const { port } = await kit.ready();
    const [killed = 0, other = 0] = (await kit.status()).workers.map(({ pid }) => pid);
    process.kill(killed, 'SIGKILL');
    const exit = await kit.event('worker.exit', ({ workerPid }) => workerPid === killed);
    assert.equal(exit.reason, 'killed');
    const replacement = replacementOf([killed, other], kit);
    let isReplaced = false;
    const stopSending = () => {
      isReplaced = true;
    };
    replacement.then(stopSending, stopSending);
    const meanwhile: number[] = [];
    while (!isReplaced) {
      meanwhile.push(await pidOf(port));
      assert.equal((await kit.probe('/readyz')).status, 200);
    }
    const fresh = await replacement;
    assert.ok(meanwhile.includes(other), 'the other one answered while one was missing');
    assert.ok(meanwhile.every(pid => pid === other || pid === fresh));
    const after = await everyWorker(port, 2, async client => (await client.requestJson<{ pid: number }>('/')).pid);
    assert.deepEqual(after, new Set([other, fresh]));
    const { restarts, workers } = await kit.status();
    assert.deepEqual(restarts, { total: 1, byReason: { killed: 1 } });
    assert.deepEqual(
      workers.map(({ id, pid, state }) => [id, pid, state]),
      [
        [1, fresh, 'ready'],
        [2, other, 'ready'],
      ],
    );
    assert.deepEqual(kit.all('pool.backoff'), []);
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });

  test('when the only worker exits /readyz answers 503 until another serves', async () => {
    const kit = await startKit({ app: 'koa.mjs', env: { NODE_CLUSTER_WORKERS: '1' } });
    await kit.ready();
    const [killed = 0] = kit.workerPids;
    assert.equal((await kit.probe('/readyz')).status, 200);
    process.kill(killed, 'SIGKILL');
    await kit.event('worker.exit');
    const { status, body } = await kit.probe('/readyz');
    assert.equal(status, 503);
    assert.match(body, /no worker serves/);
    assert.equal((await kit.probe('/livez')).status, 200);
    await replacementOf([killed], kit);
    assert.equal((await kit.probe('/readyz')).status, 200);
  });

  for (const policy of ['rr', 'none']) {
    test(`a worker with an uncaught exception answers its other open requests and is replaced (case 17), policy ${policy}`, async () => {
      // One worker: both requests are on it. A port of its own: PORT=0 would give another one to its replacement.
      const env = { NODE_CLUSTER_SCHED_POLICY: policy, NODE_CLUSTER_WORKERS: '1', PORT: String(await freePort()) };
      const kit = await startKit({ app: 'koa.mjs', env });
      const { port } = await kit.ready();
      const [crashed = 0] = kit.workerPids;
      await using slow = await RawClient.open(port);
      slow.write(requestText('/slow?ms=3000&mark=slow'));
      assert.equal((await kit.begun('slow')).workerPid, crashed);
      assert.equal((await request(port, '/crash?ms=0')).status, 200);
      const { status, body } = await slow.answer();
      assert.equal(status, 200);
      assert.equal(JSON.parse(body).pid, crashed);
      const exit = await kit.event('worker.exit', ({ workerPid }) => workerPid === crashed);
      assert.equal(exit.reason, 'crash');
      assert.equal(exit.failure, 'crashed on request');
      const replacement = await replacementOf([crashed], kit);
      assert.equal(await pidOf(port), replacement);
      // Unless the replacement was not ready within the 5 s of the crashed worker.
      const { moved } = exit.drain as { moved: number };
      if (moved === 1) assert.equal((await slow.requestJson<{ pid: number }>('/')).pid, replacement);
      assert.deepEqual((await kit.status()).restarts, { total: 1, byReason: { crash: 1 } });
      const { err } = await kit.event('worker.uncaught-exception');
      assert.match((err as { stack: string }).stack, /koa\.mjs:\d+/);
      assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
    });
  }

  test('a worker that exits by itself counts as crashed, even with code 0', async () => {
    const kit = await startKit({ app: 'koa.mjs' });
    const { port } = await kit.ready();
    const first = kit.workerPids;
    await assert.rejects(request(port, '/exit?code=0'), /connection ended/);
    const exit = await kit.event('worker.exit');
    assert.equal(exit.reason, 'crash');
    assert.equal(exit.failure, 'the app called process.exit(0) with 1 open request');
    await replacementOf(first, kit);
    assert.deepEqual((await kit.status()).restarts, { total: 1, byReason: { crash: 1 } });
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });

  test('a worker blocked beyond the shutdown deadline is killed, and the primary exits with 1', async () => {
    const kit = await startKit({ app: 'koa.mjs', env: { SHUTDOWN_TIMEOUT_MS: '500' }, detached: true });
    const { port } = await kit.ready();
    await using blocked = await RawClient.open(port);
    blocked.write(requestText('/block?ms=60000&mark=blocked'));
    const { workerPid } = await kit.begun('blocked');
    const signalledAt = performance.now();
    assert.deepEqual(await kit.stop(), { code: 1, signal: null }, kit.transcript());
    const tookMs = performance.now() - signalledAt;
    assert.ok(tookMs >= 5400 && tookMs < SOON_MS, `500 ms for requests and 5 s for the exit, took ${tookMs} ms`);
    const exit = await kit.event('worker.exit', event => event.workerPid === workerPid);
    assert.equal(exit.reason, 'shutdown');
    assert.match(String(exit.failure), /killed/);
    await kit.workersGone();
  });
});

describe('a primary that is killed', { concurrency: CONCURRENCY }, () => {
  test('a primary killed by SIGKILL leaves no worker', async () => {
    const kit = await startKit({ app: 'koa.mjs', detached: true });
    await kit.ready();
    assert.equal(kit.workerPids.length, 2);
    assert.deepEqual(await kit.stop('SIGKILL'), { code: null, signal: 'SIGKILL' });
    await kit.workersGone();
  });

  for (const policy of ['rr', 'none']) {
    test(`a primary killed by SIGKILL leaves no worker with a request in flight (case 16), policy ${policy}`, async () => {
      const kit = await startKit({ app: 'koa.mjs', env: { NODE_CLUSTER_SCHED_POLICY: policy }, detached: true });
      const { port } = await kit.ready();
      await using client = await RawClient.open(port);
      client.write(requestText('/slow?ms=60000&mark=slow'));
      await kit.begun('slow');
      kit.signal('SIGKILL');
      assert.match(await client.ended(), /^(FIN|ECONNRESET)$/);
      await kit.exit();
      await kit.workersGone();
    });
  }

  test('a primary killed by SIGKILL leaves no worker that is still starting', async () => {
    const kit = await startKit({ app: 'never-ready.mjs', detached: true });
    await kit.event('primary.start');
    kit.signal('SIGKILL');
    await kit.exit();
    await kit.workersGone();
  });
});

describe('the number of workers', { concurrency: CONCURRENCY }, () => {
  for (const policy of ['rr', 'none']) {
    test(`the pool grows with SIGTTIN and shrinks with SIGTTOU, and no request is lost under load, policy ${policy}`, async () => {
      const kit = await startKit({ app: 'koa.mjs', env: { NODE_CLUSTER_SCHED_POLICY: policy } });
      const { port } = await kit.ready();
      const loads = [
        keepAliveLoad(port),
        keepAliveLoad(port, { path: '/slow?ms=60', clients: 8 }),
        freshLoad(port, { everyMs: 5 }),
      ];
      const moreAnswers = () => Promise.all(loads.map(load => load.answered(load.result.answered + 20)));
      await moreAnswers();
      kit.signal('SIGTTIN');
      const { workerPid: third } = await kit.event('worker.ready', ({ worker }) => worker === 3);
      await moreAnswers();
      assert.equal((await kit.status()).workers.length, 3);
      for (const left of [2, 1]) {
        kit.signal('SIGTTOU');
        await kit.statusWhere(({ workers }) => workers.length === left);
        await moreAnswers();
      }
      // Never the last one.
      kit.signal('SIGTTOU');
      await until(
        () => kit.all('signal').filter(({ command }) => command === 'one-fewer').length === 3 || undefined,
        () => `the signal is not received; ${kit.transcript()}`,
      );
      await moreAnswers();
      const results = await Promise.all(loads.map(load => load.stop()));
      for (const { failures, refused, answered } of results) {
        assert.deepEqual(failures, []);
        assert.equal(refused, 0);
        assert.ok(answered >= 100, `${answered} answers`);
      }
      const byThird = results.reduce((sum, { byPid }) => sum + (byPid.get(Number(third)) ?? 0), 0);
      if (policy === 'rr') assert.ok(byThird > 0, 'the third worker answered too');
      const exits = kit.all('worker.exit');
      assert.deepEqual(
        exits.map(({ worker, reason }) => [worker, reason]),
        [
          [3, 'scale-down'],
          [2, 'scale-down'],
        ],
      );
      const { restarts, workers } = await kit.status();
      assert.deepEqual(restarts, { total: 2, byReason: { 'scale-down': 2 } });
      assert.equal(workers.length, 1);
      assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
    });
  }
});

/** The pid of the first worker that becomes ready and is none of `known`. */
async function replacementOf(known: readonly number[], kit: Kit): Promise<number> {
  return Number((await kit.event('worker.ready', ({ workerPid }) => !known.includes(Number(workerPid)))).workerPid);
}

async function pidOf(port: number): Promise<number> {
  return (await requestJson<{ pid: number }>(port, '/')).pid;
}
