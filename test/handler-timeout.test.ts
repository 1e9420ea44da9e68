/**
 * HANDLER_TIMEOUT_MS over real sockets, with the real frameworks; its clock moves when the test lets it.
 */
import assert from 'node:assert/strict';
import type { RequestListener, ServerResponse } from 'node:http';
import { createRequire } from 'node:module';
import { describe, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import express from 'express';
import Fastify from 'fastify';
import Koa from 'koa';
import type { Kit } from '../src/index.ts';
import { fetchListener } from '../src/worker/fetch-app.ts';
import { HandlerTimeout, TIMED_OUT_STATUS, TimeoutLines } from '../src/worker/handler-timeout.ts';
import { type Client, eventually, Fixture, get } from './app-server.ts';

const TIMEOUT_MS = 1000;

/** A server with the timeout of a second. */
class Timed {
  readonly fixture: Fixture;
  readonly timeout: HandlerTimeout;
  readonly timedOut: (string | undefined)[] = [];
  #now = performance.now();

  private constructor(fixture: Fixture) {
    this.fixture = fixture;
    const { server } = fixture;
    const options = { handlerTimeoutMs: TIMEOUT_MS, responseTimeHeader: true };
    this.timeout = new HandlerTimeout(
      options,
      () => server.openConnections,
      (exchange, ms) => {
        server.onOwnAnswer(exchange, TIMED_OUT_STATUS, ms);
        this.timedOut.push(exchange.request.url);
      },
      this.#now,
    );
  }

  static async start(listener?: RequestListener): Promise<Timed> {
    return new Timed(await Fixture.start({}, listener));
  }

  /** The requests that have arrived wait for `ms` longer. */
  pass(ms: number): void {
    for (let left = ms; left > 0; left -= this.timeout.tickMs) {
      this.#now += this.timeout.tickMs;
      this.timeout.tick(this.#now);
    }
  }

  /** Longer than the timeout, whatever was rounded. */
  passTimeout(): void {
    this.#now = Math.max(this.#now, performance.now());
    this.pass(TIMEOUT_MS + 2 * this.timeout.tickMs);
  }
}

test('a request that the app does not answer gets 503, is counted once, and its connection ends', async () => {
  const timed = await Timed.start();
  const { fixture } = timed;
  const { client } = await fixture.open('/a?secret=1');
  timed.pass(TIMEOUT_MS / 2);
  assert.deepEqual(timed.timedOut, []);
  timed.passTimeout();
  await client.end();
  assert.match(client.received, /^HTTP\/1\.1 503 Service Unavailable\r\nX-Response-Time: [\d.]+ms\r\n/);
  assert.match(client.received, /\r\nConnection: close\r\n\r\nThis server did not answer in time\.\n$/);
  assert.doesNotMatch(client.received, /Retry-After/);
  await eventually(() => fixture.server.connections === 0);
  assert.equal(fixture.server.inFlight, 0);
  assert.deepEqual(timed.timedOut, ['/a?secret=1']);
  assert.deepEqual(
    fixture.responses.map(({ url, status }) => ({ url, status })),
    [{ url: '/a?secret=1', status: 503 }],
  );
});

test('the 503 of a HEAD request has no body', async () => {
  const timed = await Timed.start();
  const client = await timed.fixture.connect();
  client.socket.write('HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n');
  await eventually(() => timed.fixture.requests.length === 1);
  timed.passTimeout();
  await client.end();
  assert.match(client.received, /Content-Length: 36\r\n[\s\S]*\r\n\r\n$/);
});

test('a response that has begun, an answered request and a WebSocket have no timeout', async () => {
  const timed = await Timed.start();
  const { fixture } = timed;
  const streaming = await fixture.open('/events');
  streaming.response.writeHead(200, { 'Content-Type': 'text/event-stream' });
  const idle = await fixture.idle();
  fixture.http.on('upgrade', (_request, socket) => socket.write('HTTP/1.1 101 Switching Protocols\r\n\r\n'));
  const upgraded = await fixture.connect();
  upgraded.socket.write(get('/socket', 'Connection: Upgrade', 'Upgrade: websocket'));
  await eventually(() => /101/.test(upgraded.received));
  timed.passTimeout();
  timed.passTimeout();
  streaming.response.end('data: late\n\n');
  await eventually(() => /data: late/.test(streaming.client.received));
  assert.match(await idle.get('/now'), /200 OK/);
  assert.deepEqual([timed.timedOut, upgraded.hasEnded], [[], false]);
});

describe('what the app does later has no effect, and throws nothing', () => {
  /** Resolves with what the handler has done after its time. */
  const cases: [string, (later: Promise<void>, done: (what: unknown) => void) => RequestListener | Promise<RequestListener>][] = [
    [
      'node:http',
      (later, done) => async (_request, response) => {
        await later;
        response.setHeader('X-Late', '1');
        response.writeHead(200, { 'Content-Type': 'text/plain' });
        response.write('late');
        response.end('late');
        done(response.destroyed);
      },
    ],
    [
      'node:http, with a body that cannot be sent again',
      (later, done) => async (_request, response) => {
        await later;
        response.flushHeaders();
        response.end('late', () => undefined);
        done('ended');
      },
    ],
    [
      'Koa',
      (later, done) => {
        const koa = new Koa();
        koa.on('error', done);
        koa.use(async (ctx, next) => {
          await next();
          setImmediate(() => done(ctx.status));
        });
        koa.use(async ctx => {
          ctx.set('Content-Length', '3');
          await later;
          ctx.body = { late: true };
        });
        return koa.callback();
      },
    ],
    [
      'Koa 2',
      (later, done) => {
        const Koa2 = createRequire(import.meta.url)('koa2') as typeof Koa;
        const koa = new Koa2();
        koa.on('error', done);
        koa.use(async ctx => {
          await later;
          ctx.body = { late: true };
          setImmediate(() => done(ctx.status));
        });
        return koa.callback();
      },
    ],
    [
      'Express',
      (later, done) => {
        const app = express();
        app.get('/a', async (_request, response) => {
          await later;
          response.status(200).json({ late: true });
          setImmediate(() => done('sent'));
        });
        return app;
      },
    ],
    [
      'Fastify',
      async (later, done) => {
        const app = Fastify();
        app.get('/a', async () => {
          await later;
          setImmediate(() => done('sent'));
          return { late: true };
        });
        await app.ready();
        return (request, response) => app.routing(request, response);
      },
    ],
    [
      'fetch',
      (later, done) => {
        const app = {
          async fetch({ signal }: Request) {
            await later;
            setImmediate(() => done(signal.aborted));
            return new Response('late');
          },
        };
        return fetchListener(app, { config: {} } as Kit, import.meta.filename);
      },
    ],
  ];
  for (const [name, listenerOf] of cases) {
    for (const when of ['after the connection has closed', 'at once']) {
      test(`${name}, ${when}`, async () => {
        const later = Promise.withResolvers<void>();
        const done = Promise.withResolvers<unknown>();
        const listener = await listenerOf(later.promise, done.resolve);
        let response: ServerResponse | undefined;
        const timed = await Timed.start((request, answer) => {
          response = answer;
          return listener(request, answer);
        });
        const client = await timed.fixture.connect();
        client.socket.write(get('/a'));
        await eventually(() => response !== undefined);
        timed.passTimeout();
        if (when === 'at once') later.resolve();
        await client.end();
        await eventually(() => timed.fixture.server.connections === 0);
        later.resolve();
        const what = await done.promise;
        if (what instanceof Error) throw what;
        for (let count = 0; count < 5; count++) await turn();
        assert.equal(client.responses, 1, client.received);
        assert.match(client.received, /^HTTP\/1\.1 503 /);
        assert.deepEqual([timed.fixture.server.inFlight, timed.fixture.responses.length], [0, 1]);
      });
    }
  }
});

test('the request and its response close as if the client had left', async () => {
  const timed = await Timed.start();
  const { fixture } = timed;
  const { response } = await fixture.open('/a');
  const closed: string[] = [];
  response.on('close', () => closed.push(`response, written: ${response.writableFinished}`));
  fixture.requests[0]?.request.on('close', () => closed.push('request'));
  timed.passTimeout();
  await eventually(() => closed.length === 2);
  assert.deepEqual(closed.sort(), ['request', 'response, written: false']);
});

test('the time begins again while the body of a request arrives, and not with what the client sends after it', async () => {
  const timed = await Timed.start((request, _response) => request.resume());
  const { fixture } = timed;
  const upload = await fixture.connect();
  const send = async (client: Client, bytes: string) => {
    const [connection] = fixture.server.openConnections;
    const before = connection?.socket.bytesRead ?? 0;
    client.socket.write(bytes);
    await eventually(() => (connection?.socket.bytesRead ?? 0) > before);
  };
  await send(upload, 'POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n');
  for (const byte of ['1', '2', '3', '4', '5']) {
    timed.pass(TIMEOUT_MS * 0.6);
    await send(upload, byte);
  }
  assert.deepEqual(timed.timedOut, []);
  timed.pass(TIMEOUT_MS * 0.6);
  await send(upload, get('/b')); // pipelined
  timed.pass(TIMEOUT_MS * 0.6);
  assert.deepEqual(timed.timedOut, ['/a']);
});

test('a pipelined request waits for its turn', async () => {
  const timed = await Timed.start();
  const { fixture } = timed;
  const { client, response } = await fixture.open('/a');
  await fixture.open('/b', client);
  timed.pass(TIMEOUT_MS * 0.6);
  response.end('first');
  await eventually(() => /first/.test(client.received));
  timed.pass(TIMEOUT_MS * 0.6);
  assert.deepEqual(timed.timedOut, []);
  timed.passTimeout();
  await client.end();
  assert.deepEqual(timed.timedOut, ['/b']);
  assert.equal(client.responses, 2);
});

test('after a turn that has blocked the event loop, the other requests have not waited for all of it', async () => {
  const timed = await Timed.start();
  await timed.fixture.open('/a');
  timed.timeout.tick(performance.now() + 60_000);
  assert.deepEqual(timed.timedOut, []);
});

test('a connection whose client does not take the 503 is destroyed after the same time again', async () => {
  const timed = await Timed.start();
  const { fixture } = timed;
  const { client } = await fixture.open('/a');
  const [connection] = fixture.server.openConnections;
  assert.ok(connection !== undefined);
  connection.socket.destroySoon = () => undefined; // its buffer never empties
  timed.passTimeout();
  assert.equal(connection.socket.destroyed, false);
  timed.passTimeout();
  assert.equal(connection.socket.destroyed, true);
  await client.end();
  assert.deepEqual(timed.timedOut, ['/a']);
});

test('each worker names 10 requests in 10 seconds, and then says how many it has not named', () => {
  const lines = new TimeoutLines();
  const request = (url: string) => ({ method: 'GET', url }) as Parameters<TimeoutLines['lineFor']>[0];
  const logged = Array.from({ length: 25 }, () => lines.lineFor(request('/a?secret=1'), 1000.4, 5000)).filter(Boolean);
  assert.equal(logged.length, 10);
  assert.deepEqual(logged[0], { method: 'GET', path: '/a', ms: 1000 });
  assert.equal(lines.lineFor(request('/b'), 1000, 14_999), undefined);
  assert.deepEqual(lines.lineFor(request('/b'), 1000, 15_000), { method: 'GET', path: '/b', ms: 1000, unnamed: 16 });
  assert.deepEqual(lines.lineFor(request('/b'), 1000, 15_001), { method: 'GET', path: '/b', ms: 1000 });
});
