/**
 * SIGTERM loses no request of clients that have sent something, or are about to. The case numbers are those of docs/draining.md.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { RawClient, requestText } from './clients.ts';
import { listenersClosed, openKeepAlive, starterWith } from './drains.ts';
import { CLEAN } from './kit.ts';
import { freshLoad, keepAliveLoad } from './loads.ts';
import { POLICIES } from './policies.ts';

/** Most of a test is waiting; with more at a time the timings would not hold on two cores. */
const CONCURRENCY = 3;
/** Enough for connections opened before the signal to be accepted before the drain. */
const SHORT_DELAY_MS = 200;

for (const policy of POLICIES) {
  const start = starterWith(policy);

  describe(`SIGTERM with policy ${policy}`, { concurrency: CONCURRENCY }, () => {
    test(`SIGTERM under load loses no request of keep-alive clients, policy ${policy}`, async () => {
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
        assert.ok(lastOnConnection >= 4, `every connection gets Connection: close, ${lastOnConnection} did`);
        const since = answered - Number(before[index]);
        assert.ok(since > 0, 'answers after the signal');
      }
      assert.deepEqual(kit.all('request.cut'), []);
    });

    test(`new connections are answered through SHUTDOWN_DELAY_MS (case 1), policy ${policy}`, async () => {
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
      assert.ok(answered > before, 'answers after the signal');
      assert.ok(lastOnConnection >= 25, `${lastOnConnection} answers ended their connection`);
    });

    test(`a request on an idle connection, written in the same tick as SIGTERM, is answered (case 2), policy ${policy}`, async () => {
      const kit = await start('koa.mjs');
      const { port } = await kit.ready();
      const clients = await openKeepAlive(port, 8);
      kit.signal('SIGTERM');
      for (const client of clients) client.write(requestText('/'));
      for (const client of clients) assert.equal((await client.answer()).status, 200);
      assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
      for (const client of clients) assert.equal(await client.ended(), 'FIN');
    });

    test(`a request that waits in the kernel when the drain begins is answered (case 2), policy ${policy}`, async () => {
      const kit = await start('koa.mjs', { NODE_CLUSTER_WORKERS: '1' });
      const { port } = await kit.ready();
      const idle = await openKeepAlive(port, 3);
      const [blocking] = await openKeepAlive(port, 1);
      assert.ok(blocking);
      blocking.write(requestText('/block?ms=600&mark=blocked'));
      await kit.begun('blocked');
      kit.signal('SIGTERM');
      await kit.event('shutdown.drain'); // the worker reads this message before the requests
      for (const client of idle) client.write(requestText('/'));
      for (const client of [blocking, ...idle]) {
        const { status, headers } = await client.answer();
        assert.equal(status, 200);
        assert.equal(headers['x-response-time']?.endsWith('ms'), true);
      }
      assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
    });

    test(`a slow request in flight is answered with Connection: close, then FIN (case 3), policy ${policy}`, async () => {
      const kit = await start('koa.mjs');
      const { port } = await kit.ready();
      const [client] = await openKeepAlive(port, 1);
      assert.ok(client);
      client.write(requestText('/slow?ms=600&mark=slow'));
      await kit.begun('slow');
      kit.signal('SIGTERM');
      const { status, headers } = await client.answer();
      assert.equal(status, 200);
      assert.equal(headers.connection, 'close');
      assert.equal(await client.ended(), 'FIN');
      assert.equal(client.unread, '');
      assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
    });

    test(`a route that throws during the drain is answered with 500 and Connection: close, then FIN (case 4), policy ${policy}`, async () => {
      const kit = await start('koa.mjs');
      const { port } = await kit.ready();
      const [client] = await openKeepAlive(port, 1);
      assert.ok(client);
      client.write(requestText('/throw?ms=600&mark=throw'));
      await kit.begun('throw');
      kit.signal('SIGTERM');
      const { status, headers } = await client.answer();
      assert.equal(status, 500);
      assert.equal(headers.connection, 'close');
      assert.match(headers['x-response-time'] ?? '', /^\d+\.\dms$/);
      assert.equal(await client.ended(), 'FIN');
      assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
    });

    test(`a request whose head is half sent before SIGTERM is answered during the drain (case 5), policy ${policy}`, async () => {
      const kit = await start('koa.mjs', { SHUTDOWN_DELAY_MS: String(SHORT_DELAY_MS) });
      const { port } = await kit.ready();
      const [used] = await openKeepAlive(port, 1);
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

    test(`a first request that a connection sends during the drain is answered (case 6), policy ${policy}`, async () => {
      const kit = await start('koa.mjs', { SHUTDOWN_DELAY_MS: String(SHORT_DELAY_MS) });
      const { port } = await kit.ready();
      const clients = [await RawClient.open(port), await RawClient.open(port)];
      kit.signal('SIGTERM');
      await listenersClosed(port);
      await pause(75); // a quarter of the time for which an idle connection stays open
      for (const client of clients) client.write(requestText('/'));
      for (const client of clients) {
        const { status, headers } = await client.answer();
        assert.equal(status, 200);
        assert.equal(headers.connection, 'close');
        assert.equal(await client.ended(), 'FIN');
      }
      assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
    });

    test(`pipelined requests are all answered during the drain, and only the last response ends the connection (case 7), policy ${policy}`, async () => {
      const kit = await start('koa.mjs');
      const { port } = await kit.ready();
      await using client = await RawClient.open(port);
      const paths = ['/slow?ms=600&mark=first', '/slow?ms=800', '/slow?ms=700'];
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

    test(`pipelined responses that were ready before SIGTERM are sent after the slow one (case 7), policy ${policy}`, async () => {
      const kit = await start('koa.mjs');
      const { port } = await kit.ready();
      await using client = await RawClient.open(port);
      client.write(requestText('/slow?ms=600&mark=first') + requestText('/') + requestText('/'));
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

    test(`a synchronous listener answers three pipelined requests during the drain (case 7), policy ${policy}`, async () => {
      const kit = await start('listener.mjs', { SHUTDOWN_DELAY_MS: String(SHORT_DELAY_MS) });
      const { port } = await kit.ready();
      await using client = await RawClient.open(port);
      const requests = ['/1', '/2', '/3'].map(path => requestText(path)).join('');
      // With a partial request: an idle connection might be closed before a busy machine lets us write.
      client.write(requests.slice(0, 5));
      kit.signal('SIGTERM');
      await listenersClosed(port);
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

    test(`an upload that is half sent before SIGTERM is answered during the drain (case 8), policy ${policy}`, async () => {
      const kit = await start('koa.mjs');
      const { port } = await kit.ready();
      await using client = await RawClient.open(port);
      const half = 'x'.repeat(50_000);
      client.write(requestText('/upload?mark=upload', { method: 'POST', headers: { 'Content-Length': '100000' }, body: half }));
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
  });
}
