/**
 * ADAPTIVE_CONCURRENCY over real sockets: what waits, what is turned away, and what counts as in flight.
 */
import assert from 'node:assert/strict';
import { AsyncLocalStorage } from 'node:async_hooks';
import type { RequestListener, ServerResponse } from 'node:http';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { AdaptiveConcurrency } from '../src/worker/concurrency/adaptive.ts';
import { ConcurrencyLimit } from '../src/worker/concurrency/limit.ts';
import { eventually, Fixture, get } from './app-server.ts';

const REFUSED = 503;

/** A server with this limit, which does not change. */
async function limited(limit: number, listener?: RequestListener) {
  const concurrency = new AdaptiveConcurrency(
    {
      onTurnedAway: ({ response }) => response.writeHead(REFUSED).end(),
      onWindow: () => undefined,
    },
    new ConcurrencyLimit(limit),
  );
  const fixture = await Fixture.start({}, listener, concurrency.refuse);
  const counts = () => {
    const { inFlight, queued, rejected } = concurrency.status;
    return { inFlight, queued, rejected };
  };
  const reach = (expected: Partial<ReturnType<typeof counts>>) =>
    eventually(() => {
      const now = counts();
      return Object.entries(expected).every(([key, value]) => now[key as keyof typeof now] === value);
    });
  return { fixture, reach, concurrency };
}

test('above the limit a request waits, and the app gets it when another is answered', async () => {
  const { fixture, reach } = await limited(2);
  const first = await fixture.open('/a');
  await fixture.open('/b');
  const waiting = await fixture.connect();
  waiting.socket.write(get('/c'));
  await reach({ inFlight: 2, queued: 1 });
  assert.deepEqual(
    fixture.requests.map(({ request }) => request.url),
    ['/a', '/b'],
  );
  first.response.end('one');
  await eventually(() => fixture.requests.length === 3);
  fixture.requests[2]?.response.end('three');
  await eventually(() => waiting.received.endsWith('three'));
  await reach({ inFlight: 1, queued: 0, rejected: 0 });
});

test('a request that has waited for too long gets 503, over a connection that goes on', async () => {
  const { fixture, reach } = await limited(2);
  const held = await fixture.open('/a');
  await fixture.open('/b');
  const turnedAway = await fixture.connect();
  assert.match(await turnedAway.get('/c'), /^HTTP\/1.1 503 /);
  await reach({ inFlight: 2, queued: 0, rejected: 1 });
  held.response.end();
  await reach({ inFlight: 1 });
  assert.match(await turnedAway.get('/now'), /^HTTP\/1.1 200 /);
});

test('a client that leaves while it waits is forgotten, and one that leaves its answer makes room', async () => {
  const { fixture, reach } = await limited(2);
  const handled = await fixture.open('/a');
  await fixture.open('/b');
  const [leaving, staying] = [await fixture.connect(), await fixture.connect()];
  leaving.socket.write(get('/leaves'));
  await reach({ queued: 1 });
  staying.socket.write(get('/stays'));
  await reach({ queued: 2 });
  leaving.socket.destroy();
  await reach({ queued: 1 });
  handled.client.socket.destroy();
  await eventually(() => fixture.requests.length === 3);
  assert.equal(fixture.requests[2]?.request.url, '/stays');
  await reach({ inFlight: 2, queued: 0, rejected: 0 });
});

test('pipelined requests wait, and are answered in their order', async () => {
  const { fixture, reach } = await limited(2);
  const client = await fixture.connect();
  client.socket.write(get('/a') + get('/b') + get('/c') + get('/d'));
  await reach({ inFlight: 2, queued: 2 });
  for (const [index, body] of ['-1', '-2', '-3', '-4'].entries()) {
    await eventually(() => fixture.requests.length > index);
    fixture.requests[index]?.response.end(body);
  }
  await eventually(() => client.responses === 4);
  assert.deepEqual(client.received.match(/-\d$|-\d(?=HTTP)/gm), ['-1', '-2', '-3', '-4']);
  await reach({ inFlight: 0, queued: 0, rejected: 0 });
});

test('a response counts until its headers: neither an event stream nor a client that reads slowly keeps its place', async () => {
  const { fixture, reach } = await limited(2);
  const stream = await fixture.open('/stream');
  stream.response.writeHead(200, { 'Content-Type': 'text/event-stream' });
  await reach({ inFlight: 0 });
  const slow = await fixture.open('/slow');
  slow.client.socket.pause();
  slow.response.end(Buffer.alloc(50_000_000));
  await reach({ inFlight: 0 });
  assert.equal(fixture.server.inFlight, 2);
  stream.response.end();
});

test('a body that waits is read by the app alone, and arrives whole', async () => {
  const bodies: string[] = [];
  const held: (() => void)[] = [];
  const { fixture, reach } = await limited(2, async (request, response) => {
    if (request.url === '/held') return void held.push(() => response.end());
    let body = '';
    for await (const chunk of request) body += chunk;
    bodies.push(body);
    response.end();
  });
  const holders = [await fixture.connect(), await fixture.connect()];
  for (const client of holders) client.socket.write(get('/held'));
  await reach({ inFlight: 2 });
  const upload = await fixture.connect();
  const body = 'x'.repeat(1_000_000);
  upload.socket.write(`POST /upload HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: ${body.length}\r\n\r\n`);
  await reach({ queued: 1 });
  upload.socket.write(body);
  held[0]?.();
  await eventually(() => bodies.length === 1);
  assert.equal(bodies[0], body);
  await eventually(() => upload.received.includes('HTTP/1.1 200'));
  held[1]?.();
});

test('while the body of a request arrives it does not count', async () => {
  const complete: ServerResponse[] = [];
  const { fixture, reach } = await limited(2, async (request, response) => {
    for await (const _ of request);
    complete.push(response);
  });
  const uploads = [await fixture.connect(), await fixture.connect(), await fixture.connect()];
  for (const { socket } of uploads) socket.write('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345');
  await eventually(() => fixture.server.inFlight === 3);
  await reach({ inFlight: 0, queued: 0 });
  const other = await fixture.connect();
  other.socket.write(get('/other'));
  await reach({ inFlight: 1, queued: 0 });
  for (const { socket } of uploads) socket.write('67890');
  await eventually(() => complete.length === 4);
  await reach({ inFlight: 4, queued: 0 });
  for (const response of complete) response.end('ok');
  await eventually(() => uploads.every(({ received }) => received.endsWith('ok')));
  await reach({ inFlight: 0, rejected: 0 });
});

test('what a blocking app answers in one turn of the event loop counts together', async () => {
  const inFlight: number[] = [];
  const { fixture, concurrency } = await limited(2, (_, response) => {
    inFlight.push(concurrency.status.inFlight);
    response.end('ok');
  });
  const client = await fixture.connect();
  client.socket.write(get('/a') + get('/b') + get('/c') + get('/d'));
  await eventually(() => client.responses === 4);
  assert.deepEqual(inFlight, [1, 2, 1, 2]);
});

test('a request that has waited has its own asynchronous context', async () => {
  const context = new AsyncLocalStorage<string>();
  const found: (string | undefined)[] = [];
  const { fixture } = await limited(2, (request, response) => {
    found.push(context.getStore());
    context.run(String(request.url), () => void turn().then(() => response.end('ok')));
  });
  const client = await fixture.connect();
  client.socket.write(get('/a') + get('/b') + get('/c') + get('/d'));
  await eventually(() => client.responses === 4);
  assert.deepEqual(found, [undefined, undefined, undefined, undefined]);
});

test('a drain answers the requests that wait', async () => {
  const { fixture, reach } = await limited(2);
  const first = await fixture.open('/a');
  const second = await fixture.open('/b');
  const waiting = await fixture.connect();
  waiting.socket.write(get('/now'));
  await reach({ queued: 1 });
  const drained = fixture.server.drain(
    { timeoutMs: 10_000, quietMs: 0, appMs: 0, endStalled: false, moves: false },
    () => undefined,
  );
  first.response.end();
  second.response.end();
  const { cutRequests, finished } = await drained;
  assert.deepEqual([cutRequests, finished], [0, 3]);
  assert.match(waiting.received, /^HTTP\/1.1 200 [\s\S]*ok$/);
});
