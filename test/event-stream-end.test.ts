/**
 * Streams of server-sent events at a drain, in apps of several frameworks: clients get whole events, then the end, and reconnect by themselves.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { OutgoingHttpHeaders, RequestListener, ServerResponse } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { PassThrough } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { after, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { constants, createGzip, gunzipSync } from 'node:zlib';
import { EventSource } from 'eventsource';
import express from 'express';
import fastify from 'fastify';
import Koa from 'koa';
import { toNodeHandler } from 'srvx/node';
import type { Log } from '../src/log/log.ts';
import { logKoaErrors, logRequestError } from '../src/worker/request-errors.ts';
import { AppServer } from '../src/worker/server.ts';
import { eventually, get, LIMITS } from './app-server.ts';

const TIMES = { timeoutMs: 10_000, quietMs: 100, appMs: 100, endStalled: false, moves: false };
const EVERY_MS = 3;

/** Writes events until the stream closes, as apps do: they do not look whether it has ended. */
function write(stream: { write(chunk: string): unknown; on(event: 'close', listener: () => void): unknown }): void {
  let index = 0;
  const writing = setInterval(() => {
    stream.write(`id: ${index}\n`);
    stream.write(`data: ${index++}\n\n`);
  }, EVERY_MS);
  // Long after the client has gone: late writes must do no harm.
  stream.on('close', () => setTimeout(() => clearInterval(writing), 300));
}

const HEADERS = { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' };

const plain: RequestListener = (_request, response) => write(response.writeHead(200, HEADERS));

/** The levels of the lines that the kit has logged about requests. */
const logged: string[] = [];
const log = () => new Proxy({}, { get: (_, level) => () => logged.push(String(level)) }) as Log;

function koaStream(): RequestListener {
  const app = new Koa();
  logKoaErrors(app, log);
  app.use(ctx => {
    const stream = new PassThrough();
    write(stream);
    ctx.type = 'text/event-stream';
    ctx.body = stream;
  });
  return app.callback();
}

function koaRaw(): RequestListener {
  const app = new Koa();
  app.use(ctx => {
    ctx.respond = false;
    write(ctx.res.writeHead(200, HEADERS));
  });
  return app.callback();
}

function expressApp(): RequestListener {
  const app = express();
  app.get('/', (_request, response) => {
    response.set(HEADERS).flushHeaders();
    write(response);
  });
  return app as unknown as RequestListener;
}

async function fastifyStream(): Promise<RequestListener> {
  const app = fastify();
  app.get('/', (_request, reply) => {
    const stream = new PassThrough();
    write(stream);
    return reply.headers(HEADERS).send(stream);
  });
  await app.ready();
  return (request, response) => app.routing(request, response);
}

const fetchApp = toNodeHandler(() => {
  let timer: NodeJS.Timeout;
  let index = 0;
  const body = new ReadableStream({
    start(controller) {
      timer = setInterval(() => controller.enqueue(new TextEncoder().encode(`id: ${index}\ndata: ${index++}\n\n`)), EVERY_MS);
    },
    cancel: () => clearInterval(timer),
  });
  return new Response(body, { headers: HEADERS });
}) as RequestListener;

const compressed: RequestListener = (_request, response) => {
  const gzip = createGzip();
  response.writeHead(200, { ...HEADERS, 'Content-Encoding': 'gzip' });
  gzip.pipe(response);
  response.on('close', () => gzip.destroy());
  write(gzip);
  setInterval(() => gzip.flush(), 20).unref();
};

async function serve(listener: RequestListener): Promise<{ server: AppServer; port: number }> {
  const server = new AppServer(LIMITS, () => undefined);
  const http = server.add({ listener }).listen(0, '127.0.0.1');
  await once(http, 'listening');
  after(() => http.close());
  return { server, port: (http.address() as AddressInfo).port };
}

describe('a drain', { concurrency: true }, () => {
  const apps: [string, RequestListener | Promise<RequestListener>][] = [
    ['plain Node.js', plain],
    ['a stream of Koa', koaStream()],
    ['the response below Koa', koaRaw()],
    ['Express', expressApp()],
    ['a stream of Fastify', fastifyStream()],
    ['an app with fetch', fetchApp],
  ];
  for (const [name, listener] of apps) {
    test(`ends an event stream of ${name} after a whole event, and its client reconnects by itself`, async () => {
      const { server, port } = await serve(await listener);
      const client = new EventSource(`http://127.0.0.1:${port}/`);
      let next = 0;
      client.onmessage = ({ data }) => assert.equal(Number(data), next++);
      await once(client, 'message');
      const draining = server.drain(TIMES, () => undefined);
      await once(client, 'error');
      const endedAt = performance.now();
      assert.ok(next > 1);
      next = 0;
      assert.equal(client.readyState, EventSource.CONNECTING);
      const { eventStreams, cutRequests } = await draining;
      assert.deepEqual([eventStreams, cutRequests], [{ byKit: 1, byApp: 0 }, 0]);
      await once(client, 'open');
      const retryMs = performance.now() - endedAt;
      assert.ok(retryMs > 450 && retryMs < 2500, `it reconnected after ${retryMs} ms`);
      client.close();
      assert.deepEqual(
        logged.filter(level => level !== 'debug'),
        [],
      );
    });
  }

  test('ends a compressed event stream without a hint: what has arrived can be decompressed', async () => {
    const body = await drained(compressed);
    const events = gunzipSync(dechunked(body), { finishFlush: constants.Z_SYNC_FLUSH }).toString();
    assert.match(events, /^(id: \d+\ndata: \d+\n\n)+(id: \d+\n)?$/);
  });

  test('ends an event stream in the middle of an event, which no client takes for a whole one', async () => {
    const { server, port } = await serve((_request, response) =>
      response.writeHead(200, HEADERS).write('data: whole\n\ndata: ha'),
    );
    const client = new EventSource(`http://127.0.0.1:${port}/`);
    const events: string[] = [];
    client.onmessage = ({ data }) => events.push(data);
    await once(client, 'message');
    const { durationMs } = await server.drain({ ...TIMES, quietMs: 3000, appMs: 300 }, () => undefined);
    assert.ok(durationMs < 3000, 'its connection is not idle first');
    assert.equal(client.readyState, EventSource.CONNECTING);
    client.close();
    assert.deepEqual(events, ['whole']);
  });

  test('ends an event stream whose client is slow: it gets all that was written before, and what the app writes after is no error', async () => {
    const large = `data: ${'x'.repeat(8_000_000)}\n\n`;
    let calledBack = 0;
    const { promise, resolve } = Promise.withResolvers<ServerResponse>();
    const { server, port } = await serve((request, response) => {
      response.writeHead(200, HEADERS).write(large);
      const writing = setInterval(() => response.write('data: late\n\n', () => calledBack++), 10);
      request.socket.on('close', () => clearInterval(writing));
      resolve(response);
    });
    const client = connect(port, '127.0.0.1');
    client.write(get('/', 'Accept: text/event-stream'));
    await once(client, 'readable');
    const draining = server.drain({ ...TIMES, quietMs: 50, appMs: 50 }, () => undefined);
    await eventually(() => calledBack > 5); // writes call back only once they are dropped: the client takes nothing
    const response = (await promise).end(() => calledBack++);
    const error = Object.assign(new Error('closed'), { code: 'ERR_STREAM_PREMATURE_CLOSE' });
    logRequestError(log, error, response.req, response);
    assert.deepEqual(
      logged.filter(level => level !== 'debug'),
      [],
    );
    const body = dechunked(await buffer(client)).toString();
    assert.match(body.slice(large.length), /^(data: late\n\n)*retry: \d+\n$/);
    assert.deepEqual([(await draining).cutRequests, (await draining).eventStreams.byKit], [0, 1]);
  });

  const ORDINARY: [string, Parameters<typeof drained>[1], OutgoingHttpHeaders][] = [
    ['the answer to a POST', { method: 'POST' }, HEADERS],
    ['a response to a client that accepts any type', { accept: '*/*' }, HEADERS],
    ['a response of a known length', {}, { ...HEADERS, 'Content-Length': 1000 }],
    ['a response of another type', {}, { 'Content-Type': 'text/plain' }],
  ];
  for (const [name, request, headers] of ORDINARY) {
    test(`waits for ${name}, and aborts it at the deadline`, async () => {
      const body = await drained((_request, response) => response.writeHead(200, headers).write('data: '), request, 1);
      assert.doesNotMatch(body.toString(), /retry:|0\r\n\r\n$/);
    });
  }

  test('counts an event stream that the app ends on kit.draining as ended by the app', async () => {
    const { promise, resolve } = Promise.withResolvers<ServerResponse>();
    const { server, port } = await serve((_request, response) => {
      response.writeHead(200, HEADERS).write(': hello\n\n');
      resolve(response);
    });
    connect(port, '127.0.0.1').resume().write(get('/', 'Accept: text/event-stream'));
    (await promise).end();
    assert.deepEqual((await server.drain(TIMES, () => undefined)).eventStreams, { byKit: 0, byApp: 1 });
  });
});

/** What a client receives of a response over a drain with this many cut requests. */
async function drained(
  listener: RequestListener,
  { method = 'GET', accept = 'text/event-stream' } = {},
  cut = 0,
): Promise<Buffer> {
  const { server, port } = await serve(listener);
  const client = connect(port, '127.0.0.1');
  client.write(get('/', `Accept: ${accept}`).replace('GET', method));
  const received = buffer(client);
  await once(client, 'readable');
  await pause(50);
  const drain = await server.drain({ ...TIMES, timeoutMs: cut === 0 ? TIMES.timeoutMs : 200 }, () => undefined);
  assert.deepEqual([drain.cutRequests, drain.eventStreams.byKit], [cut, 1 - cut]);
  return received;
}

/** The body of a response that has ended. */
function dechunked(response: Buffer): Buffer {
  const parts: Buffer[] = [];
  let at = response.indexOf('\r\n\r\n') + 4;
  for (;;) {
    const end = response.indexOf('\r\n', at);
    const size = Number.parseInt(response.toString('latin1', at, end), 16);
    assert.ok(Number.isInteger(size), 'the response has its end');
    if (size === 0) return Buffer.concat(parts);
    parts.push(response.subarray(end + 2, end + 2 + size));
    at = end + 2 + size + 2;
  }
}
