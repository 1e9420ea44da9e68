/**
 * How a drain ends: what it waits for, what it cuts, and when the exit comes. The numbers are those of docs/draining.md.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SOON_MS } from '../until.ts';
import { RawClient, requestText } from './clients.ts';
import { doorClosed, handedOver, openAsked, starterWith, stopsSoon } from './drains.ts';
import { CLEAN } from './kit.ts';
import { POLICIES } from './policies.ts';

/** Most of a test is waiting: a few at a time, and their timings hold on two cores. */
const CONCURRENCY = 3;

for (const policy of POLICIES) {
  const start = starterWith(policy);

  describe(`the end of a drain with policy ${policy}`, { concurrency: CONCURRENCY }, () => {
    test('the drain closes the door: a new connection is refused while a request in flight is waited for', async () => {
      const kit = await start('koa.mjs');
      const { port } = await kit.ready();
      await using slow = await RawClient.open(port);
      slow.write(requestText('/slow?ms=1500&mark=slow'));
      await kit.begun('slow');
      kit.signal('SIGTERM');
      await doorClosed(port);
      assert.equal(slow.unread, '', 'the request is still in flight');
      assert.equal((await slow.answer()).status, 200);
      assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
    });

    test('idle keep-alive clients get a FIN, and the exit comes within the delay and a second', async t => {
      const delayMs = 300;
      const end = async () => {
        const kit = await start('koa.mjs', { SHUTDOWN_DELAY_MS: String(delayMs) });
        const { port } = await kit.ready();
        const clients = await openAsked(port, 6);
        const signalledAt = performance.now();
        kit.signal('SIGTERM');
        assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
        const tookMs = performance.now() - signalledAt;
        for (const client of clients) assert.equal(await client.ended(), 'FIN');
        return tookMs;
      };
      // Whatever else the machine does can only add to it: one of a few must come in time.
      const tookMs: number[] = [];
      while (tookMs.length < 5 && !tookMs.some(ms => ms < delayMs + 1000)) tookMs.push(await end());
      t.diagnostic(`${tookMs.map(Math.round).join(', ')} ms`);
      assert.ok(Math.min(...tookMs) < delayMs + 1000, `${tookMs} ms`);
    });

    test('9 a handler of 2.5 s is waited for', async () => {
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

    test('10 a handler beyond SHUTDOWN_TIMEOUT_MS is cut, counted, named without its query, and the exit code says so', async () => {
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
      assert.equal(handedOver(kit), 0);
      assert.doesNotMatch(kit.transcript(), /s3cret/);
    });

    test('11 a stream of events ends within a second of the drain', async () => {
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

    test('19 Ctrl-C, which reaches every process of the group, drains', async () => {
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

    test('22 before any worker listens: exits 0 quickly, however long the delay', async () => {
      const kit = await start('never-ready.mjs', { SHUTDOWN_DELAY_MS: '20000' }, true);
      await kit.event('primary.start');
      await stopsSoon(kit);
      await kit.workersGone();
    });
  });
}
