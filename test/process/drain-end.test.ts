/**
 * The end of a drain: what it waits for, what it aborts, and when the primary exits. The case numbers are those of docs/draining.md.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SOON_MS } from '../until.ts';
import { RawClient, requestText } from './clients.ts';
import { closedGracefully, listenersClosed, openKeepAlive, starterWith, stopsSoon } from './drains.ts';
import { CLEAN } from './kit.ts';
import { POLICIES } from './policies.ts';

/** Most of a test is waiting; with more at a time the timings would not hold on two cores. */
const CONCURRENCY = 3;

for (const policy of POLICIES) {
  const start = starterWith(policy);

  describe(`the end of a drain with policy ${policy}`, { concurrency: CONCURRENCY }, () => {
    test(`the drain refuses new connections while a request is in flight, policy ${policy}`, async () => {
      const kit = await start('koa.mjs');
      const { port } = await kit.ready();
      await using slow = await RawClient.open(port);
      slow.write(requestText('/slow?ms=1500&mark=slow'));
      await kit.begun('slow');
      kit.signal('SIGTERM');
      await listenersClosed(port);
      assert.equal(slow.unread, '', 'the request is still in flight');
      assert.equal((await slow.answer()).status, 200);
      assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
    });

    test(`the drain closes idle keep-alive connections with FIN, and exits within a second after the delay, policy ${policy}`, async t => {
      const delayMs = 300;
      const end = async () => {
        const kit = await start('koa.mjs', { SHUTDOWN_DELAY_MS: String(delayMs) });
        const { port } = await kit.ready();
        const clients = await openKeepAlive(port, 6);
        const signalledAt = performance.now();
        kit.signal('SIGTERM');
        assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
        const tookMs = performance.now() - signalledAt;
        for (const client of clients) assert.equal(await client.ended(), 'FIN');
        return tookMs;
      };
      // A busy machine can only add time: one of a few runs must be fast.
      const tookMs: number[] = [];
      while (tookMs.length < 5 && !tookMs.some(ms => ms < delayMs + 1000)) tookMs.push(await end());
      t.diagnostic(`${tookMs.map(Math.round).join(', ')} ms`);
      assert.ok(Math.min(...tookMs) < delayMs + 1000, `${tookMs} ms`);
    });

    test(`the drain waits for a handler of 2.5 s (case 9), policy ${policy}`, async () => {
      const kit = await start('koa.mjs');
      const { port } = await kit.ready();
      await using client = await RawClient.open(port);
      client.write(requestText('/slow?ms=2500&mark=slow'));
      const { workerPid } = await kit.begun('slow');
      kit.signal('SIGTERM');
      assert.equal((await client.answer()).status, 200);
      assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
      const exit = await kit.event('worker.exit', event => event.workerPid === workerPid);
      const drain = exit.drain as { finished: number; cut: unknown[]; longestRequestMs: number };
      assert.equal(drain.finished, 1);
      assert.deepEqual(drain.cut, []);
      assert.ok(drain.longestRequestMs >= 2400, String(drain.longestRequestMs));
    });

    test(`a request beyond SHUTDOWN_TIMEOUT_MS is aborted, counted and logged without its query, and the exit code is 1 (case 10), policy ${policy}`, async () => {
      const kit = await start('koa.mjs', { SHUTDOWN_TIMEOUT_MS: '500' });
      const { port } = await kit.ready();
      await using slow = await RawClient.open(port);
      await using partial = await RawClient.open(port);
      slow.write(requestText('/slow?ms=20000&mark=slow&token=s3cret'));
      await kit.begun('slow');
      partial.write('GET /never-finished?token=s3cret HTTP/1.1\r\n');
      await kit.statusWhere(({ workers }) => workers.reduce((sum, { connections }) => sum + connections, 0) === 2);
      const signalledAt = performance.now();
      kit.signal('SIGTERM');
      assert.deepEqual(await kit.exit(), { code: 1, signal: null }, kit.transcript());
      const tookMs = performance.now() - signalledAt;
      assert.ok(tookMs >= 500 && tookMs < SOON_MS, `${tookMs} ms`);
      await slow.ended();
      assert.equal(slow.unread, '');
      const cut = kit.all('request.cut').sort((a, b) => String(a.path).localeCompare(String(b.path)));
      assert.deepEqual(
        cut.map(({ method, path }) => [method, path]),
        [
          ['', '(incomplete request)'],
          ['GET', '/slow'],
        ],
      );
      assert.ok(Number(cut[1]?.ageMs) >= 500, String(cut[1]?.ageMs));
      assert.equal((await kit.event('shutdown.cut')).requests, 2);
      assert.equal(closedGracefully(kit), 0);
      assert.doesNotMatch(kit.transcript(), /s3cret/);
    });

    test(`server-sent events end within a second of the drain (case 11), policy ${policy}`, async () => {
      const kit = await start(undefined, { SHUTDOWN_DELAY_MS: '300' });
      const { port } = await kit.ready();
      const clients = [await RawClient.open(port), await RawClient.open(port)];
      for (const client of clients) client.write(requestText('/stream'));
      for (const client of clients) await client.received(/data: /);
      kit.signal('SIGTERM');
      await kit.event('shutdown.drain');
      const drainingAt = performance.now();
      for (const client of clients) {
        const { status, body } = await client.answer();
        assert.equal(status, 200);
        assert.match(body, /retry: 100\n\n$/);
        assert.equal(await client.ended(), 'FIN');
      }
      const tookMs = performance.now() - drainingAt;
      assert.ok(tookMs < SOON_MS, `${tookMs} ms`);
      assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
    });

    test(`Ctrl-C, which signals the whole process group, drains (case 19), policy ${policy}`, async () => {
      const kit = await start('koa.mjs', {}, true);
      const { port } = await kit.ready();
      await using client = await RawClient.open(port);
      client.write(requestText('/slow?ms=600&mark=slow'));
      await kit.begun('slow');
      process.kill(-kit.pid, 'SIGINT');
      assert.equal((await client.answer()).status, 200);
      assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
      await kit.workersGone();
    });

    test(`SIGTERM before any worker listens exits with 0 at once, without SHUTDOWN_DELAY_MS (case 22), policy ${policy}`, async () => {
      const kit = await start('never-ready.mjs', { SHUTDOWN_DELAY_MS: '20000' }, true);
      await kit.event('primary.start');
      await stopsSoon(kit);
      await kit.workersGone();
    });
  });
}
