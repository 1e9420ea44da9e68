/**
 * What SIGTERM promises to clients. The numbers are those of docs/draining.md: each is a way to lose a request.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { freshLoad, keepAliveLoad, RawClient, requestText } from './clients.ts';
import { type Kit, SOON_MS, startKit, until } from './kit.ts';
import { POLICIES } from './policies.ts';
import { hearsSignals } from './processes.ts';

const CLEAN = { code: 0, signal: null };
/** Most of a test is waiting: a few at a time, and their timings hold on two cores. */
const CONCURRENCY = 3;
/** Time in which what was opened before the signal is surely accepted when the drain begins. */
const SHORT_DELAY_MS = 200;

for (const policy of POLICIES) {
  const start = (app: string | undefined, env: Record<string, string> = {}, detached = false) =>
    startKit({ ...(app && { app }), env: { NODE_CLUSTER_SCHED_POLICY: policy, ...env }, detached });

  describe(`SIGTERM with policy ${policy}`, { concurrency: CONCURRENCY }, () => {
    test('keep-alive clients under load lose nothing', async () => {
      const delayMs = 1000;
      const kit = await start('koa.mjs', { SHUTDOWN_DELAY_MS: String(delayMs) });
      const { port } = await kit.ready();
      const loads = [keepAliveLoad(port), keepAliveLoad(port, { path: '/slow?ms=60' })];
      for (const load of loads) await load.answered(20);
      const before = loads.map(({ result }) => result.answered);
      kit.signal('SIGTERM');
      for (const load of loads) load.openNoMore(delayMs - 200);
      assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
      for (const [index, load] of loads.entries()) {
        const { failures, refused, lastOnConnection, answered } = await load.stop();
        assert.deepEqual(failures, []);
        assert.equal(refused, 0);
        assert.ok(lastOnConnection >= 4, `every connection is told its end, ${lastOnConnection} were`);
        const since = answered - Number(before[index]);
        assert.ok(since >= 10, `${since} answers after the signal`);
      }
      assert.deepEqual(kit.all('request.cut'), []);
    });

    test('1 a new connection every 20 ms is answered until 200 ms before the end of the delay', async () => {
      const delayMs = 1000;
      const kit = await start('koa.mjs', { SHUTDOWN_DELAY_MS: String(delayMs) });
      const { port } = await kit.ready();
      const load = freshLoad(port, { everyMs: 20 });
      await load.answered(5);
      const before = load.result.answered;
      kit.signal('SIGTERM');
      load.openNoMore(delayMs - 200);
      assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
      const { failures, refused, answered, lastOnConnection } = await load.stop();
      assert.deepEqual(failures, []);
      assert.equal(refused, 0);
      assert.ok(answered - before >= 30, `${answered - before} answers after the signal`);
      assert.ok(lastOnConnection >= 25, `${lastOnConnection} answers ended their connection`);
    });

    test('2 a request written in the same tick as the signal on an idle connection is answered', async () => {
      const kit = await start('koa.mjs');
      const { port } = await kit.ready();
      const clients = await openAsked(port, 8);
      kit.signal('SIGTERM');
      for (const client of clients) client.write(requestText('/'));
      for (const client of clients) assert.equal((await client.answer()).status, 200);
      assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
      for (const client of clients) assert.equal(await client.ended(), 'FIN');
    });

    test('2 a request that waits in the kernel of an idle connection while the drain begins is answered', async () => {
      const kit = await start('koa.mjs', { NODE_CLUSTER_WORKERS: '1' });
      const { port } = await kit.ready();
      const idle = await openAsked(port, 3);
      const [blocking] = await openAsked(port, 1);
      assert.ok(blocking);
      blocking.write(requestText('/block?ms=600&tell=blocked'));
      await kit.begun('blocked');
      kit.signal('SIGTERM');
      await kit.event('shutdown.drain'); // the worker will read of it, and then of the requests
      for (const client of idle) client.write(requestText('/'));
      for (const client of [blocking, ...idle]) {
        const { status, headers } = await client.answer();
        assert.equal(status, 200);
        assert.equal(headers['x-response-time']?.endsWith('ms'), true);
      }
      assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
    });

    test('3 a slow request in flight is answered with Connection: close, then FIN', async () => {
      const kit = await start('koa.mjs');
      const { port } = await kit.ready();
      const [client] = await openAsked(port, 1);
      assert.ok(client);
      client.write(requestText('/slow?ms=600&tell=slow'));
      await kit.begun('slow');
      kit.signal('SIGTERM');
      const { status, headers } = await client.answer();
      assert.equal(status, 200);
      assert.equal(headers.connection, 'close');
      assert.equal(await client.ended(), 'FIN');
      assert.equal(client.unread, '');
      assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
    });

    test('4 a route that throws during the drain is answered with 500 and Connection: close, then FIN', async () => {
      const kit = await start('koa.mjs');
      const { port } = await kit.ready();
      const [client] = await openAsked(port, 1);
      assert.ok(client);
      client.write(requestText('/throw?ms=600&tell=throw'));
      await kit.begun('throw');
      kit.signal('SIGTERM');
      const { status, headers } = await client.answer();
      assert.equal(status, 500);
      assert.equal(headers.connection, 'close');
      assert.match(headers['x-response-time'] ?? '', /^\d+\.\dms$/);
      assert.equal(await client.ended(), 'FIN');
      assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
    });

    test('5 half a request head before the signal, the rest 600 ms into the drain', async () => {
      const kit = await start('koa.mjs', { SHUTDOWN_DELAY_MS: String(SHORT_DELAY_MS) });
      const { port } = await kit.ready();
      const [used] = await openAsked(port, 1);
      assert.ok(used);
      const clients = [used, await RawClient.open(port)];
      for (const client of clients) client.write('GET / HTTP/1.1\r\nHost: 127');
      kit.signal('SIGTERM');
      await kit.event('shutdown.drain');
      await pause(600);
      for (const client of clients) {
        client.write('.0.0.1\r\n\r\n');
        const { status, headers } = await client.answer();
        assert.equal(status, 200);
        assert.equal(headers.connection, 'close');
        assert.equal(await client.ended(), 'FIN');
      }
      assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
    });

    test('6 a connection that has said nothing before the drain is still heard', async () => {
      const kit = await start('koa.mjs', { SHUTDOWN_DELAY_MS: String(SHORT_DELAY_MS) });
      const { port } = await kit.ready();
      const clients = [await RawClient.open(port), await RawClient.open(port)];
      kit.signal('SIGTERM');
      await doorClosed(port);
      await pause(75); // a quarter of the time for which a quiet connection is listened to
      for (const client of clients) client.write(requestText('/'));
      for (const client of clients) {
        const { status, headers } = await client.answer();
        assert.equal(status, 200);
        assert.equal(headers.connection, 'close');
        assert.equal(await client.ended(), 'FIN');
      }
      assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
    });

    test('7 of three pipelined requests in one write, the first slow, all are answered and only the last ends the connection', async () => {
      const kit = await start('koa.mjs');
      const { port } = await kit.ready();
      await using client = await RawClient.open(port);
      const paths = ['/slow?ms=600&tell=first', '/slow?ms=800', '/slow?ms=700'];
      client.write(paths.map(path => requestText(path)).join(''));
      await kit.begun('first');
      kit.signal('SIGTERM');
      const answers = [await client.answer(), await client.answer(), await client.answer()];
      assert.deepEqual(
        answers.map(({ status, headers, body }) => [status, headers.connection, JSON.parse(body).ms]),
        [
          [200, 'keep-alive', 600],
          [200, 'keep-alive', 800],
          [200, 'close', 700],
        ],
      );
      assert.equal(await client.ended(), 'FIN');
      assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
    });

    test('7 pipelined answers that were ready before the signal still go out behind the slow one', async () => {
      const kit = await start('koa.mjs');
      const { port } = await kit.ready();
      await using client = await RawClient.open(port);
      client.write(requestText('/slow?ms=600&tell=first') + requestText('/') + requestText('/'));
      await kit.begun('first');
      kit.signal('SIGTERM');
      const answers = [await client.answer(), await client.answer(), await client.answer()];
      assert.deepEqual(
        answers.map(({ status, body }) => [status, JSON.parse(body).ms]),
        [
          [200, 600],
          [200, undefined],
          [200, undefined],
        ],
      );
      assert.equal(await client.ended(), 'FIN');
      assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
    });

    test('7b a listener that answers at once answers three pipelined requests during the drain', async () => {
      const kit = await start('listener.mjs', { SHUTDOWN_DELAY_MS: String(SHORT_DELAY_MS) });
      const { port } = await kit.ready();
      await using client = await RawClient.open(port);
      const requests = ['/1', '/2', '/3'].map(path => requestText(path)).join('');
      // Begun, so that the connection is not at rest: it might be ended before a busy machine lets us write.
      client.write(requests.slice(0, 5));
      kit.signal('SIGTERM');
      await doorClosed(port);
      client.write(requests.slice(5));
      const answers = [await client.answer(), await client.answer(), await client.answer()];
      assert.deepEqual(
        answers.map(({ status, body }) => [status, JSON.parse(body).url]),
        [
          [200, '/1'],
          [200, '/2'],
          [200, '/3'],
        ],
      );
      assert.equal(answers[2]?.headers.connection, 'close');
      assert.equal(await client.ended(), 'FIN');
      assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
    });

    test('8 half an upload before the signal, the rest 600 ms into the drain', async () => {
      const kit = await start('koa.mjs');
      const { port } = await kit.ready();
      await using client = await RawClient.open(port);
      const half = 'x'.repeat(50_000);
      client.write(requestText('/upload?tell=upload', { method: 'POST', headers: { 'Content-Length': '100000' }, body: half }));
      await kit.begun('upload');
      kit.signal('SIGTERM');
      await kit.event('shutdown.drain');
      await pause(600);
      client.write(half);
      const { status, headers, body } = await client.answer();
      assert.equal(status, 200, body);
      assert.equal(JSON.parse(body).bytes, 100_000);
      assert.equal(headers.connection, 'close');
      assert.equal(await client.ended(), 'FIN');
      assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
    });

    test('the drain closes the door: a new connection is refused while a request in flight is waited for', async () => {
      const kit = await start('koa.mjs');
      const { port } = await kit.ready();
      await using slow = await RawClient.open(port);
      slow.write(requestText('/slow?ms=1500&tell=slow'));
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
      client.write(requestText('/slow?ms=2500&tell=slow'));
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
      slow.write(requestText('/slow?ms=20000&tell=slow&token=s3cret'));
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
      for (const client of clients) await client.heard(/data: /);
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
      client.write(requestText('/slow?ms=600&tell=slow'));
      await kit.begun('slow');
      process.kill(-kit.pid, 'SIGINT');
      assert.equal((await client.answer()).status, 200);
      assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
      await kit.workersGone();
    });

    test('22 before any worker listens: exits 0 quickly, however long the delay', async () => {
      const kit = await start('never-ready.mjs', { SHUTDOWN_DELAY_MS: '20000' }, true);
      await kit.event('primary.start');
      const signalledAt = performance.now();
      assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
      const tookMs = performance.now() - signalledAt;
      assert.ok(tookMs < SOON_MS, `${tookMs} ms`);
      await kit.workersGone();
    });
  });
}

describe('SIGTERM', { concurrency: CONCURRENCY }, () => {
  test('idle connections are no cut requests, however short SHUTDOWN_TIMEOUT_MS is', async () => {
    const kit = await startKit({ app: 'koa.mjs', env: { SHUTDOWN_TIMEOUT_MS: '100' } });
    const { port } = await kit.ready();
    const clients = await openAsked(port, 4);
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
    assert.equal(clients.length, 4);
    assert.deepEqual(kit.all('request.cut'), []);
    assert.equal(handedOver(kit), 4);
  });

  test('a body that came after its answer does not hold up the drain', async () => {
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

  test('a request that Node.js has answered by itself does not hold up the drain', async () => {
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

  test('of many requests that it waits for and then cuts, a drain counts all and names the oldest hundred', async () => {
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
    assert.ok(Math.min(...ages) >= 3550, `those that came 50 ms later are not among them: ${Math.min(...ages)}`);
  });

  test('two signals in one moment are one: npm passes a Ctrl-C on to a process that has had it', async () => {
    const kit = await startKit({ app: 'koa.mjs' });
    const { port } = await kit.ready();
    await using client = await RawClient.open(port);
    client.write(requestText('/slow?ms=600&tell=slow'));
    await kit.begun('slow');
    kit.signal('SIGINT');
    kit.signal('SIGTERM');
    assert.equal((await client.answer()).status, 200);
    assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
  });

  for (const afterMs of [0, 50, 150, 250, 350, 450, 600]) {
    const options = { skip: process.platform !== 'linux' && 'needs /proc to see when the primary hears signals' };
    test(`22 ${afterMs} ms after the primary can hear it: exits 0 quickly and leaves nobody`, options, async () => {
      const kit = await startKit({ app: 'koa.mjs', detached: true });
      await hearsSignals(kit.pid);
      await pause(afterMs);
      const signalledAt = performance.now();
      assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
      const tookMs = performance.now() - signalledAt;
      assert.ok(tookMs < SOON_MS, `${tookMs} ms`);
      await kit.workersGone();
    });
  }

  test('a second one, 200 ms after the first, exits at once with code 1 and leaves no worker', async () => {
    const kit = await startKit({ app: 'koa.mjs', detached: true });
    const { port } = await kit.ready();
    await using client = await RawClient.open(port);
    client.write(requestText('/slow?ms=20000&tell=slow'));
    await kit.begun('slow');
    kit.signal('SIGTERM');
    await pause(200);
    const signalledAt = performance.now();
    assert.deepEqual(await kit.stop(), { code: 1, signal: null }, kit.transcript());
    const tookMs = performance.now() - signalledAt;
    assert.ok(tookMs < SOON_MS, `${tookMs} ms`);
    assert.equal(kit.workerPids.length, 2);
    await kit.workersGone();
  });

  test('29 /livez says 200 and /readyz 503 "draining", through the delay and the drain', async () => {
    const kit = await startKit({ app: 'koa.mjs', env: { SHUTDOWN_DELAY_MS: '500' } });
    const { port } = await kit.ready();
    const probes = async () => {
      const [alive, ready] = [await kit.probe('/livez'), await kit.probe('/readyz?verbose')];
      return [alive.status, ready.status, /draining/.test(ready.body)];
    };
    assert.deepEqual(await probes(), [200, 200, false]);
    await using client = await RawClient.open(port);
    client.write(requestText('/slow?ms=2000&tell=slow'));
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

  test('an app that exchanges the prototype of its responses gets X-Response-Time and Connection: close too', async () => {
    const kit = await startKit({ app: 'express-style.cjs', env: { SHUTDOWN_DELAY_MS: String(SHORT_DELAY_MS) } });
    const { port } = await kit.ready();
    const [slow, quick] = await openAsked(port, 2);
    assert.ok(slow && quick);
    slow.write(requestText('/?ms=800'));
    kit.signal('SIGTERM');
    await doorClosed(port);
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

/** Connections that have had one answer each, and are promised that they stay open. */
async function openAsked(port: number, count: number): Promise<RawClient[]> {
  const clients = await Promise.all(Array.from({ length: count }, () => RawClient.open(port)));
  for (const client of clients) {
    const { status, headers } = await client.ask('/');
    assert.equal(status, 200);
    assert.equal(headers.connection, 'keep-alive');
  }
  return clients;
}

/** Resolves when no worker listens any more: the drain has begun, and quiet connections have 300 ms left. */
async function doorClosed(port: number): Promise<void> {
  await until(
    async () => (await isRefused(port)) || undefined,
    () => 'connections are still taken',
  );
}

async function isRefused(port: number): Promise<boolean> {
  try {
    (await RawClient.open(port)).close();
    return false;
  } catch (error) {
    // Reset: it came between the last look of a worker and the end of the listener.
    assert.match((error as NodeJS.ErrnoException).code ?? '', /^(?:ECONNREFUSED|ECONNRESET)$/);
    return true;
  }
}

/** SIGTERM ends it cleanly, and nothing is waited for. */
async function stopsSoon(kit: Kit): Promise<void> {
  const signalledAt = performance.now();
  assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  const tookMs = performance.now() - signalledAt;
  assert.ok(tookMs < SOON_MS, `${tookMs} ms`);
}

/** Connections that the drains of all workers ended in peace, by their ledgers. */
function handedOver(kit: Kit): number {
  return kit
    .all('worker.exit')
    .map(({ drain }) => (drain as { handedOver: number }).handedOver)
    .reduce((sum, count) => sum + count, 0);
}
