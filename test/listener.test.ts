import assert from 'node:assert/strict';
import { once } from 'node:events';
import { fstatSync, readdirSync } from 'node:fs';
import { createServer, type Server as HttpServer } from 'node:http';
import { BoundSocket, connect, createServer as createNetServer, type Socket } from 'node:net';
import { afterEach, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { canPause, handleOf, Listeners, ListeningSockets, PortError } from '../src/balancing/listener.ts';
import { waitingConnections } from '../src/balancing/tcp-table.ts';
import { until } from './until.ts';

const LOOPBACK = '127.0.0.1';
const SKIP = process.platform !== 'linux' && 'needs /proc';

const clients: Socket[] = [];
const open: Listeners[] = [];
const servers: HttpServer[] = [];
afterEach(() => {
  for (const client of clients.splice(0)) client.destroy();
  for (const listeners of open.splice(0)) listeners.close();
  for (const server of servers.splice(0)) server.close();
});

const dial = (port: number) => {
  const client = connect(port, LOOPBACK).on('error', () => {});
  clients.push(client);
  return client;
};

/** Listeners over so many sockets with SO_REUSEPORT, in this process. `accepted` counts what the http server was given. */
function listenersOver(count: number, assigned: number[]) {
  const sockets = count === 1 ? ListeningSockets.shared(LOOPBACK, 0) : ListeningSockets.many(LOOPBACK, 0, count);
  const { port, fds, inodes } = sockets;
  const http: HttpServer = createServer((_request, response) => response.end('ok'));
  const state = { accepted: 0 };
  http.on('connection', () => state.accepted++);
  servers.push(http.listen(new BoundSocket({ host: LOOPBACK }))); // of its own, to have a handle that accepts
  const listeners = new Listeners(handleOf(http) ?? assert.fail(), fds, assigned);
  open.push(listeners);
  return {
    listeners,
    http,
    port,
    sockets,
    state,
    waitingAt: (index: number) => waitingConnections(new Set([inodes[index] ?? 0])),
  };
}

const accepts = (state: { accepted: number }, count: number) =>
  until(
    () => state.accepted === count || undefined,
    () => `${state.accepted} accepted, expected ${count}`,
  );

test('this Node.js can pause a listener', () => {
  assert.equal(canPause(), true);
});

test('a held or paused listener leaves connections in the queue, and accepts them once neither applies', {
  skip: SKIP,
}, async () => {
  const { listeners, port, state, waitingAt } = listenersOver(1, [0]);
  assert.equal((await listeners.open()).port, port);
  assert.equal(listeners.canPause, true);
  dial(port);
  await accepts(state, 1);
  listeners.hold();
  for (let count = 0; count < 3; count++) dial(port);
  await until(
    () => waitingAt(0) === 3 || undefined,
    () => `${waitingAt(0)} wait`,
  );
  listeners.pause();
  listeners.release();
  await pause(20);
  assert.deepEqual([state.accepted, waitingAt(0)], [1, 3], 'still paused');
  listeners.hold();
  listeners.resume();
  await pause(20);
  assert.equal(state.accepted, 1, 'still held');
  listeners.release();
  await accepts(state, 4);
  assert.equal(waitingAt(0), 0);
});

test('listeners that are paused, also before they open, accept nothing until they resume', { skip: SKIP }, async () => {
  const { listeners, port, state, waitingAt } = listenersOver(1, [0]);
  listeners.pause();
  await listeners.open();
  dial(port);
  await until(
    () => waitingAt(0) === 1 || undefined,
    () => `${waitingAt(0)} wait`,
  );
  assert.equal(state.accepted, 0);
  listeners.resume();
  await accepts(state, 1);
  listeners.pause();
  dial(port);
  await until(
    () => waitingAt(0) === 1 || undefined,
    () => `${waitingAt(0)} wait`,
  );
  listeners.resume();
  await accepts(state, 2);
});

test('a worker accepts from the listeners that are assigned to it, and no longer from the others', { skip: SKIP }, async () => {
  const { listeners, port, state, waitingAt } = listenersOver(2, [0]);
  listeners.serve([0]); // before they are open
  await listeners.open();
  for (let count = 0; count < 8; count++) dial(port);
  await accepts(state, 8); // only one socket listens yet
  listeners.serve([0, 1]);
  const spread = Array.from({ length: 32 }, () => dial(port));
  await accepts(state, 40);
  await Promise.all(spread.map(client => client.readyState === 'open' || once(client, 'connect')));
  listeners.serve([1]);
  for (let count = 0; count < 32; count++) dial(port);
  await until(
    () => ((waitingAt(0) ?? 0) > 0 && state.accepted + (waitingAt(0) ?? 0) === 72) || undefined,
    () => `${state.accepted} accepted, ${waitingAt(0)} wait`,
  );
  assert.equal(waitingAt(1), 0);
  listeners.serve([0, 1]);
  await accepts(state, 72);
});

test('requests are served on every listener', { skip: SKIP }, async () => {
  const { listeners, http, port } = listenersOver(2, [0, 1]);
  await listeners.open();
  const statuses = await Promise.all(
    Array.from({ length: 8 }, () =>
      fetch(`http://${LOOPBACK}:${port}/`, { signal: AbortSignal.timeout(10_000) }).then(({ status }) => status),
    ),
  );
  assert.deepEqual(new Set(statuses), new Set([200]));
  http.closeAllConnections();
});

test('a worker that accepts many polls every descriptor, unless it is held', { skip: SKIP }, async () => {
  const { listeners, port, state, waitingAt } = listenersOver(3, [0, 1, 2]);
  await listeners.open();
  listeners.serve([0]);
  for (let dialled = 0; dialled < 30; dialled++) dial(port);
  const waiting = () => [0, 1, 2].reduce((sum, index) => sum + (waitingAt(index) ?? 0), 0);
  await until(
    () => state.accepted + waiting() === 30 || undefined,
    () => `${state.accepted} accepted, ${waiting()} waiting`,
  );
  assert.notEqual(waiting(), 0, 'the kernel spreads them over three sockets');
  listeners.hold();
  listeners.acceptMany(true);
  assert.notEqual(waiting(), 0);
  listeners.release();
  await accepts(state, 30);
});

test('after close the sockets refuse connections, also those that were never assigned, and nothing reopens them', {
  skip: SKIP,
}, async () => {
  const { listeners, http, port, sockets } = listenersOver(3, [0]);
  await listeners.open();
  const { fds } = sockets;
  const kept = dial(port);
  await once(http, 'connection');
  listeners.close();
  listeners.serve([0, 1, 2]);
  listeners.resume();
  await until(
    () => fds.every(fd => !isOpen(fd)) || undefined,
    () => `open: ${fds.filter(isOpen).join()}`,
  );
  const [error] = (await once(connect(port, LOOPBACK), 'error')) as [NodeJS.ErrnoException];
  assert.equal(error.code, 'ECONNREFUSED');
  assert.equal(kept.destroyed, false, 'open connections go on');
  open.length = 0;
});

test('a descriptor that cannot listen fails the start', async () => {
  await assert.rejects(new Listeners({ onconnection: () => assert.fail() }, [], [0]).open(), { code: 'ERR_OUT_OF_RANGE' });
});

test('the primary opens one socket, or with SO_REUSEPORT exactly as many as it is to, all on one port', { skip: SKIP }, () => {
  const openFds = () => readdirSync('/proc/self/fd').length;
  for (const count of [1, 3]) {
    const before = openFds();
    const sockets = count === 1 ? ListeningSockets.shared(LOOPBACK, 0) : ListeningSockets.many(LOOPBACK, 0, count);
    assert.equal(openFds() - before, count);
    assert.deepEqual(
      sockets.inodes,
      sockets.fds.map(fd => fstatSync(fd).ino),
    );
    assert.equal(new Set(sockets.inodes).size, count);
    assert.ok(sockets.port > 0);
    sockets.close();
    assert.equal(openFds(), before);
  }
});

test('a port that another pool listens on is taken, with and without SO_REUSEPORT', { skip: SKIP }, async () => {
  for (const count of [1, 2]) {
    const { listeners, port } = listenersOver(count, [0]);
    await listeners.open();
    const bind = [() => ListeningSockets.shared(LOOPBACK, port), () => ListeningSockets.many(LOOPBACK, port, 2)];
    for (const one of bind) assert.throws(one, { name: 'PortError', isTaken: true });
  }
});

test('an address that this machine does not have is a PortError, and the port is not taken', () => {
  const bind = [() => ListeningSockets.shared('192.0.2.1', 0), () => ListeningSockets.many('192.0.2.1', 0, 2)];
  for (const one of bind)
    assert.throws(one, (error: PortError) => {
      assert.match(error.message, /^192\.0\.2\.1:0: cannot listen: .*EADDRNOTAVAIL.* \(HOST, PORT\)$/);
      return error instanceof PortError && !error.isTaken && error.cause instanceof Error;
    });
});

test('if Node.js lacks a method that pauses a listener, connections are accepted even while it is held', {
  skip: SKIP,
}, async t => {
  const probe = createNetServer().listen(new BoundSocket({ host: LOOPBACK }));
  const handle = Object.getPrototypeOf(Reflect.get(probe, '_handle'));
  probe.close();
  for (const name of ['readStart', 'readStop']) {
    assert.equal(canPause(), true);
    Object.defineProperty(handle, name, { value: undefined, configurable: true });
    const restore = () => Reflect.deleteProperty(handle, name);
    t.after(restore);
    assert.equal(canPause(), false, name);
    const { listeners, port, state } = listenersOver(1, [0]);
    await listeners.open();
    restore();
    assert.equal(listeners.canPause, false, name);
    listeners.hold();
    dial(port);
    await accepts(state, 1);
  }
});

function isOpen(fd: number): boolean {
  try {
    return fstatSync(fd).isSocket();
  } catch {
    return false;
  }
}
