/**
 * The drain of a worker's http server, in virtual time: what it waits for, what it closes, what it aborts, and what it reports.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as pause, setImmediate as turn } from 'node:timers/promises';
import { Clock, eventually, Fixture, get, VirtualDrain } from './app-server.ts';

const NO_STREAMS = { webSockets: { byKit: 0, byApp: 0 }, eventStreams: { byKit: 0, byApp: 0 } };

test('a drain of a server without connections ends at once and reports nothing', async context => {
  const fixture = await Fixture.start();
  const drain = new VirtualDrain(context, fixture);
  await drain.pass(25);
  const nothing = { finished: 0, cutRequests: 0, cut: [], ...NO_STREAMS, closedGracefully: 0, moved: 0, longestRequestMs: 0 };
  assert.deepEqual(await drain.result, { ...nothing, durationMs: 25 });
  await fixture.connect();
  await drain.pass(1000);
  assert.equal(fixture.server.connections, 1, 'no timer is left');
});

test('a drain waits for a pipelined request after the one before it is answered', async context => {
  const fixture = await Fixture.start();
  const client = await fixture.connect();
  client.socket.write(get('/now') + get('/slow'));
  await eventually(() => client.responses === 1 && fixture.requests.length === 2);
  const drain = new VirtualDrain(context, fixture);
  await drain.pass(1000);
  assert.equal(client.hasEnded, false);
  fixture.requests[1]?.response.end();
  await client.end();
  assert.equal(client.responses, 2);
  await drain.pass(25);
  assert.equal((await drain.result).finished, 1);
});

test('a drain waits for open requests, ends their connections and reports how long the oldest took', async context => {
  const fixture = await Fixture.start();
  const clock = new Clock(context);
  const first = await fixture.open('/1');
  clock.now += 400;
  const second = await fixture.open('/2');
  clock.now += 600;
  await fixture.idle(); // a response before the drain does not count
  const drain = new VirtualDrain(context, fixture, {}, clock);
  await drain.pass(200);
  first.response.end();
  await first.client.end();
  assert.match(first.client.received, /^Connection: close\r$/m);
  await drain.pass(200);
  assert.equal(drain.isOver, false);
  second.response.end();
  await second.client.end();
  await drain.pass(25);
  assert.deepEqual(await drain.result, {
    finished: 2,
    cutRequests: 0,
    cut: [],
    ...NO_STREAMS,
    closedGracefully: 3,
    moved: 0,
    longestRequestMs: 1425,
    durationMs: 425,
  });
});

test('a drain closes connections that have been idle for the quiet time, not earlier', async context => {
  const fixture = await Fixture.start();
  const client = await fixture.idle();
  const silent = await fixture.connect();
  const drain = new VirtualDrain(context, fixture, { quietMs: 110 });
  await drain.pass(100);
  assert.deepEqual([client.hasEnded, silent.hasEnded, fixture.server.connections], [false, false, 2]);
  await drain.pass(25);
  await Promise.all([client.end(), silent.end()]);
  await eventually(() => fixture.server.connections === 0);
  await drain.pass(25);
  const { closedGracefully, finished, durationMs } = await drain.result;
  assert.deepEqual({ closedGracefully, finished, durationMs }, { closedGracefully: 2, finished: 0, durationMs: 150 });
});

test('a drain answers a request on an idle connection, whose quiet time then starts again if the client does not close it', async context => {
  const fixture = await Fixture.start();
  const client = await fixture.idle();
  const drain = new VirtualDrain(context, fixture);
  await drain.pass(75);
  const { response } = await fixture.open('/', client);
  await drain.pass(200);
  assert.equal(client.hasEnded, false);
  response.end();
  await client.end();
  assert.match(client.received, /^Connection: close\r$/m);
  await drain.pass(25);
  assert.equal((await drain.result).finished, 1);
});

test('a drain gives the rest of a request head that has begun to arrive its time', async context => {
  const fixture = await Fixture.start();
  const client = await fixture.idle();
  client.socket.write(get('/now').slice(0, 10));
  await eventually(() => fixture.server.waiting.open === 1);
  const drain = new VirtualDrain(context, fixture);
  await drain.pass(1000);
  client.socket.write(get('/now').slice(10));
  await client.end();
  assert.equal(client.responses, 2);
  await drain.pass(25);
  const { finished, cutRequests, closedGracefully } = await drain.result;
  assert.deepEqual({ finished, cutRequests, closedGracefully }, { finished: 1, cutRequests: 0, closedGracefully: 1 });
});

test('a drain does not take the rest of a body that the app has not read for a request', async context => {
  const fixture = await Fixture.start();
  const client = await fixture.connect();
  client.socket.write('POST /now HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\nbody');
  await eventually(() => client.responses === 1);
  client.socket.write('x'.repeat(200_000 - 4));
  await eventually(() => fixture.requests[0]?.request.complete === true);
  await turn();
  assert.equal(fixture.server.waiting.open, 0);
  const drain = new VirtualDrain(context, fixture);
  await drain.pass(75);
  assert.equal(client.hasEnded, false);
  await drain.pass(25);
  await client.end();
  await drain.pass(25);
  assert.equal((await drain.result).closedGracefully, 1);
});

test('a drain takes a connection whose request Node.js has answered by itself for idle', async context => {
  const fixture = await Fixture.start();
  const client = await fixture.connect();
  assert.match(await client.get('/', 'Expect: nonsense'), /^HTTP\/1.1 417 /);
  assert.deepEqual(fixture.server.waiting.open, 0);
  const drain = new VirtualDrain(context, fixture);
  await drain.pass(100);
  await client.end();
  await drain.pass(25);
  assert.equal((await drain.result).finished, 0);
});

test('a drain gives a connection its whole quiet time again after a request that Node.js has answered by itself', async context => {
  const fixture = await Fixture.start();
  const client = await fixture.idle();
  const drain = new VirtualDrain(context, fixture);
  await drain.pass(75);
  assert.match(await client.get('/', 'Expect: nonsense'), /^HTTP\/1.1 417 /);
  await drain.pass(75);
  assert.equal(fixture.server.connections, 1);
  await drain.pass(25);
  await client.end();
});

test('a drain aborts at its deadline what is open, and reports it; idle connections are closed gracefully', async context => {
  const fixture = await Fixture.start();
  fixture.http.on('upgrade', () => undefined);
  const clock = new Clock(context);
  const busy = await fixture.connect();
  busy.socket.write(get('/1?secret') + get('/2'));
  await eventually(() => fixture.requests.length === 2);
  const webSocket = await fixture.connect();
  webSocket.socket.write(get('/socket', 'Connection: Upgrade', 'Upgrade: websocket'));
  const partial = await fixture.connect();
  partial.socket.write('GET');
  await eventually(() => fixture.server.waiting.open === 4);
  const idle = await fixture.idle();
  const drain = new VirtualDrain(context, fixture, { timeoutMs: 500, quietMs: 60_000 }, clock);
  await drain.pass(499);
  assert.deepEqual([drain.isOver, busy.hasEnded, idle.hasEnded], [false, false, false]);
  await drain.pass(1);
  await Promise.all([busy.end(), webSocket.end(), partial.end(), idle.end()]);
  const { cut, ...counts } = await drain.result;
  const times = { longestRequestMs: 500, durationMs: 500 };
  assert.deepEqual(counts, { finished: 0, cutRequests: 4, ...NO_STREAMS, closedGracefully: 1, moved: 0, ...times });
  assert.deepEqual(cut.map(({ method, path }) => `${method} ${path}`).sort(), [
    ' (incomplete request)',
    'GET /1',
    'GET /2',
    'UPGRADE /socket',
  ]);
  await eventually(() => fixture.server.connections === 0);
  assert.equal(fixture.server.inFlight, 0);
});

test('a drain does not count connections that came after its start as closed gracefully', async context => {
  const fixture = await Fixture.start();
  const drain = new VirtualDrain(context, fixture, { timeoutMs: 100 });
  await fixture.open('/');
  await fixture.open('/');
  await drain.pass(100);
  const { closedGracefully, cutRequests, longestRequestMs } = await drain.result;
  assert.deepEqual(
    { closedGracefully, cutRequests, longestRequestMs },
    { closedGracefully: 0, cutRequests: 2, longestRequestMs: 0 },
  );
});

test('a drain aborts a request that arrives after its deadline without passing it to the app', async context => {
  const fixture = await Fixture.start();
  const clock = new Clock(context);
  fixture.server.refuseAfter(100);
  clock.now += 99;
  const [early, late] = [await fixture.idle(), await fixture.connect()];
  assert.equal(fixture.requests.length, 1);
  clock.now += 1;
  late.socket.write(get('/now'));
  await eventually(() => fixture.server.inFlight === 1);
  const drain = new VirtualDrain(context, fixture, { timeoutMs: 0 }, clock);
  await drain.pass(25);
  await Promise.all([early.end(), late.end()]);
  const { cut, cutRequests, finished } = await drain.result;
  assert.deepEqual([cutRequests, cut[0]?.path, finished, fixture.requests.length, late.responses], [1, '/now', 0, 1, 0]);
});

test('a drain reports what it waits for every 3 s, and no more once it is over', async context => {
  const fixture = await Fixture.start();
  const clock = new Clock(context); // before the request begins: its age is exact
  const { client, response } = await fixture.open('/slow');
  const drain = new VirtualDrain(context, fixture, {}, clock);
  await drain.pass(2999);
  assert.deepEqual(drain.progress, []);
  await drain.pass(1);
  assert.deepEqual(drain.progress, [{ open: 1, oldest: [{ method: 'GET', path: '/slow', ageMs: 3000, bytesSent: 0 }] }]);
  await drain.pass(3000);
  assert.equal(drain.progress.length, 2);
  response.end();
  await client.end();
  await drain.pass(25);
  await drain.result;
  await drain.pass(6000);
  assert.equal(drain.progress.length, 2);
});

for (const endStalled of [true, false])
  test(`a drain ${endStalled ? 'closes, but does not abort,' : 'waits, where it is not a shutdown, for'} clients that take nothing of a whole response for 5 s`, {
    skip: process.platform !== 'linux' && 'needs /proc/net/tcp',
  }, async context => {
    const fixture = await Fixture.start();
    const [stalled, partial, slow] = [
      await fixture.open('/stalled'),
      await fixture.open('/partial'),
      await fixture.open('/slow'),
    ];
    await fixture.open('/next', partial.client);
    await fixture.idle();
    const body = Buffer.alloc(24 << 20, 'x');
    for (const { client } of [stalled, partial]) client.socket.pause();
    stalled.response.end(body);
    partial.response.end(body);
    await pause(50); // until the kernel's buffers are full
    const drain = new VirtualDrain(context, fixture, { endStalled, timeoutMs: 20_000, quietMs: 60_000 });
    await drain.pass(5000);
    assert.equal(fixture.server.connections, 4);
    await drain.pass(100);
    assert.equal(fixture.server.connections, endStalled ? 3 : 4);
    slow.response.end();
    await slow.client.end();
    await drain.pass(15_000);
    const { cutRequests, closedGracefully, finished } = await drain.result;
    const expected = endStalled ? { cutRequests: 2, closedGracefully: 2 } : { cutRequests: 3, closedGracefully: 2 };
    assert.deepEqual({ cutRequests, closedGracefully, finished }, { ...expected, finished: 1 });
  });
