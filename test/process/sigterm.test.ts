/**
 * SIGTERM, independent of the policy: what does not delay a drain, what the signals mean, what the probes answer. The case numbers are
 * those of docs/draining.md.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { EXIT_SLACK_MS } from '../../src/protocol/messages.ts';
import { SOON_MS } from '../until.ts';
import { RawClient, requestText } from './clients.ts';
import { closedGracefully, listenersClosed, openKeepAlive, stopsSoon } from './drains.ts';
import { CLEAN, startKit } from './kit.ts';
import { handlesSignals } from './processes.ts';

/** Most of a test is waiting; with more at a time the timings would not hold on two cores. */
const CONCURRENCY = 3;
/** Enough for connections opened before the signal to be accepted before the drain. */
const SHORT_DELAY_MS = 200;

describe('SIGTERM', { concurrency: CONCURRENCY }, () => {
  test('a drain counts no idle connection as an aborted request, however short SHUTDOWN_TIMEOUT_MS is', async () => {
    const kit = await startKit({ app: 'koa.mjs', env: { SHUTDOWN_TIMEOUT_MS: '100' } });
    const { port } = await kit.ready();
    const clients = await openKeepAlive(port, 4);
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
    assert.equal(clients.length, 4);
    assert.deepEqual(kit.all('request.cut'), []);
    assert.equal(closedGracefully(kit), 4);
  });

  test('a request body that arrives after its response does not delay the drain', async () => {
    const kit = await startKit({ app: 'koa.mjs' });
    const { port } = await kit.ready();
    await using client = await RawClient.open(port);
    client.write(requestText('/', { method: 'POST', headers: { 'Content-Length': '10' } }));
    const { status, headers } = await client.answer();
    assert.equal(status, 200);
    assert.equal(headers.connection, 'keep-alive');
    client.write('0123456789');
    await pause(50); // until the server has read it
    await stopsSoon(kit);
  });

  test('a request that Node.js itself has answered does not delay the drain', async () => {
    const kit = await startKit({ app: 'koa.mjs' });
    const { port } = await kit.ready();
    await using client = await RawClient.open(port);
    const headers = { Expect: 'what no server knows', 'Content-Length': '10' };
    client.write(requestText('/', { method: 'POST', headers, body: '01234' }));
    assert.equal((await client.answer()).status, 417);
    client.write('56789');
    await pause(50); // until the server has read it
    await stopsSoon(kit);
  });

  test('a drain that waits for 250 requests and then aborts them counts all and logs the oldest 100', async () => {
    const kit = await startKit({ app: 'koa.mjs', env: { NODE_CLUSTER_WORKERS: '1', SHUTDOWN_TIMEOUT_MS: '3500' } });
    const { port } = await kit.ready();
    await using younger = await RawClient.open(port);
    await using client = await RawClient.open(port);
    client.write(requestText('/slow?ms=60000').repeat(200));
    await kit.statusWhere(({ workers }) => workers[0]?.inFlight === 200);
    await pause(50);
    younger.write(requestText('/slow?ms=60000').repeat(50));
    kit.signal('SIGTERM');
    const { open, requests } = await kit.event('drain.waiting');
    assert.deepEqual([open, (requests as unknown[]).length], [250, 100]);
    const { waitingFor, waitingForCount } = (await kit.status()).workers[0] as {
      waitingFor?: unknown[];
      waitingForCount?: number;
    };
    assert.deepEqual([waitingFor?.length, waitingForCount], [100, 250]);
    assert.deepEqual(await kit.exit(), { code: 1, signal: null });
    assert.equal((await kit.event('shutdown.cut')).requests, 250);
    const { cut, cutRequests } = (await kit.event('worker.exit')).drain as { cut: { ageMs: number }[]; cutRequests: number };
    assert.deepEqual([cutRequests, cut.length, kit.all('request.cut').length], [250, 100, 100]);
    const ages = cut.map(({ ageMs }) => ageMs);
    assert.deepEqual(
      ages,
      ages.toSorted((a, b) => b - a),
    );
    assert.ok(Math.min(...ages) >= 3550, `requests sent 50 ms later are not among them: ${Math.min(...ages)}`);
  });

  for (const policy of ['none', 'least-connections', 'rr']) {
    test(`connections that wait for a blocked worker are served although SIGTERM overtakes them (case 13), policy ${policy}`, async () => {
      const env = { NODE_CLUSTER_SCHED_POLICY: policy, NODE_CLUSTER_WORKERS: '1', SHUTDOWN_DELAY_MS: '0' };
      const kit = await startKit({ app: 'koa.mjs', env });
      const { port } = await kit.ready();
      await using blocking = await RawClient.open(port);
      blocking.write(requestText('/block?ms=1000&mark=blocked'));
      await kit.begun('blocked');
      const clients = await Promise.all(Array.from({ length: 10 }, () => RawClient.open(port)));
      for (const client of clients) client.write(requestText('/'));
      await pause(100); // until the kernel has them all
      kit.signal('SIGTERM');
      for (const client of [blocking, ...clients]) assert.equal((await client.answer()).status, 200);
      for (const client of clients) assert.equal(await client.ended(), 'FIN');
      assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
    });
  }

  test('two shutdown signals within 100 ms count as one, because npm forwards Ctrl-C', async () => {
    const kit = await startKit({ app: 'koa.mjs' });
    const { port } = await kit.ready();
    await using client = await RawClient.open(port);
    client.write(requestText('/slow?ms=600&mark=slow'));
    await kit.begun('slow');
    kit.signal('SIGINT');
    kit.signal('SIGTERM');
    assert.equal((await client.answer()).status, 200);
    assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
  });

  for (const afterMs of [0, 50, 150, 250, 350, 450, 600]) {
    const options = { skip: process.platform !== 'linux' && 'needs /proc to see when the primary handles signals' };
    test(
      `SIGTERM ${afterMs} ms after the primary can handle it exits with 0 at once and leaves no process (case 22)`,
      options,
      async () => {
        const kit = await startKit({ app: 'koa.mjs', detached: true });
        await handlesSignals(kit.pid);
        await pause(afterMs);
        await stopsSoon(kit);
        await kit.workersGone();
      },
    );
  }

  test('requests that workers finish in time are not lost though the primary runs only after the drain deadline', async () => {
    const kit = await startKit({ app: 'koa.mjs', env: { SHUTDOWN_TIMEOUT_MS: '1500' } });
    const { port } = await kit.ready();
    await using slow = await RawClient.open(port);
    slow.write(requestText('/slow?ms=1000&mark=slow'));
    await kit.begun('slow');
    kit.signal('SIGTERM');
    await listenersClosed(port);
    kit.signal('SIGSTOP');
    assert.equal((await slow.answer()).status, 200);
    await pause(1500 + EXIT_SLACK_MS + 200);
    kit.signal('SIGCONT');
    assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
  });

  test('a second SIGTERM exits at once with code 1, counts open requests and leaves no worker', async () => {
    const kit = await startKit({ app: 'koa.mjs', detached: true });
    const { port } = await kit.ready();
    await using client = await RawClient.open(port);
    client.write(requestText('/slow?ms=20000&mark=slow'));
    await kit.begun('slow');
    kit.signal('SIGTERM');
    await pause(200);
    const signalledAt = performance.now();
    assert.deepEqual(await kit.stop(), { code: 1, signal: null }, kit.transcript());
    const tookMs = performance.now() - signalledAt;
    assert.ok(tookMs < SOON_MS, `${tookMs} ms`);
    assert.equal((await kit.event('shutdown.cut')).requests, 1);
    assert.equal(kit.workerPids.length, 2);
    await kit.workersGone();
  });

  test('/livez answers 200 and /readyz 503 "draining" through the delay and the drain (case 29)', async () => {
    const kit = await startKit({ app: 'koa.mjs', env: { SHUTDOWN_DELAY_MS: '500' } });
    const { port } = await kit.ready();
    const probes = async () => {
      const [alive, ready] = [await kit.probe('/livez'), await kit.probe('/readyz?verbose')];
      return [alive.status, ready.status, /draining/.test(ready.body)];
    };
    assert.deepEqual(await probes(), [200, 200, false]);
    await using client = await RawClient.open(port);
    client.write(requestText('/slow?ms=2000&mark=slow'));
    await kit.begun('slow');
    kit.signal('SIGTERM');
    await kit.event('shutdown.delay');
    assert.deepEqual(await probes(), [200, 503, true]);
    assert.deepEqual(kit.all('shutdown.drain'), [], 'the delay is not over');
    await kit.event('shutdown.drain');
    assert.deepEqual(await probes(), [200, 503, true]);
    assert.equal((await kit.status()).state, 'draining');
    assert.equal((await client.answer()).status, 200);
    assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
  });

  test('an app that replaces the prototype of its responses gets X-Response-Time and Connection: close too', async () => {
    const kit = await startKit({ app: 'express-style.cjs', env: { SHUTDOWN_DELAY_MS: String(SHORT_DELAY_MS) } });
    const { port } = await kit.ready();
    const [slow, quick] = await openKeepAlive(port, 2);
    assert.ok(slow && quick);
    slow.write(requestText('/?ms=800'));
    kit.signal('SIGTERM');
    await listenersClosed(port);
    quick.write(requestText('/'));
    for (const client of [quick, slow]) {
      const { status, headers } = await client.answer();
      assert.equal(status, 200);
      assert.equal(headers.connection, 'close');
      assert.match(headers['x-response-time'] ?? '', /^\d+\.\dms$/);
      assert.equal(await client.ended(), 'FIN');
    }
    assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
  });
});
