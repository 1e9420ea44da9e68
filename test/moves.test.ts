/**
 * Connections that move, in one process: what this Node.js must do for it, and which connections stay. test/process/moving.test.ts moves them
 * between workers.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { type AddressInfo, connect, Socket } from 'node:net';
import { after, test } from 'node:test';
import { setTimeout as pause, setImmediate as turn } from 'node:timers/promises';
import { Connection } from '../src/worker/connections.ts';
import { whyNotMovable } from '../src/worker/move-check.ts';
import { betweenMessages, detach, isMovable, own, reattach, SocketShape, startIdle } from '../src/worker/move-socket.ts';
import { MAX_UNDER_WAY, Moves, PAUSE_MS } from '../src/worker/moves.ts';
import { sampleOf } from '../src/worker/rebalance.ts';

const REQUEST = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n';

interface Pair {
  server: Server;
  /** Of the server. */
  socket: Socket;
  client: Socket;
}

async function connected(server = createServer((_request, response) => response.end('ok'))): Promise<Pair> {
  if (!server.listening) await once(server.listen(0, '127.0.0.1'), 'listening');
  const accepted = once(server, 'connection');
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1');
  const [socket] = (await accepted) as [Socket];
  after(() => {
    client.destroy();
    socket.destroy();
    server.close();
  });
  return { server, socket, client };
}

async function answered({ client }: Pair, text: string): Promise<void> {
  const answer = once(client, 'data');
  client.write(text);
  await answer;
  await turn();
}

test('connections can be moved with this Node.js', async () => {
  assert.equal(await whyNotMovable(), undefined);
});

test('connections are not moved, and not kept, where the self-test cannot be loaded', async () => {
  const { server, socket } = await connected();
  const lines: unknown[] = [];
  const moves = new Moves(
    () => assert.fail(),
    () => ({ warn: (line: unknown) => void lines.push(line) }) as never,
  );
  const connection = new Connection(socket);
  moves.onConnection(connection, server);
  const begun = moves.begin(new Map([[socket, connection]]), async () => assert.fail('Cannot find module'));
  assert.equal(moves.mayMove(connection), true);
  await begun;
  assert.equal(moves.mayMove(connection), false);
  assert.partialDeepStrictEqual(lines, [{ event: 'connections.not-moved', why: 'Cannot find module' }]);
});

test('a connection that no worker could take is not kept open for another try', async () => {
  const { server, socket } = await connected();
  const connection = new Connection(socket);
  let refused = 0;
  const refuse = (_id: number, _handle: unknown, onFailed: () => void) => {
    refused++;
    onFailed();
  };
  const moves = new Moves(refuse, () => assert.fail());
  moves.onConnection(connection, server);
  await turn();
  await moves.begin(new Map([[socket, connection]]), async () => undefined);
  assert.equal(refused, 1);
  await pause(PAUSE_MS + 1);
  assert.equal(moves.keeps(connection), false);
  connection.wasRefused = false;
  assert.equal(moves.keeps(connection), true, 'it was not the pause');
});

test('what is offered in a rebalancing moves until it is withdrawn; refused, it is as it was before, and in a drain nothing is offered', async () => {
  const pairs = [await connected(), await connected()];
  const [first, second] = pairs.map(({ socket }) => new Connection(socket));
  assert.ok(first && second);
  const sent: Connection[] = [];
  const refuse = (_id: number, _handle: unknown, onFailed: () => void) => {
    sent.push(...[first, second].filter(({ moveId }) => moveId !== undefined));
    onFailed();
  };
  const moves = new Moves(refuse, () => assert.fail());
  for (const [index, { server }] of pairs.entries()) moves.onConnection([first, second][index] ?? assert.fail(), server);
  await turn();
  const offered = new Map([[first.socket, first]]);
  await moves.offer(offered, async () => undefined);
  assert.deepEqual([sent, first.wasRefused, moves.keeps(first)], [[first], false, false]);
  moves.withdraw(offered);
  await pause(PAUSE_MS + 1);
  moves.moveNow();
  assert.equal(sent.length, 1);
  const all = new Map([first, second].map(connection => [connection.socket, connection]));
  await moves.begin(all);
  assert.deepEqual([sent.length, first.wasRefused, second.wasRefused], [3, true, true]);
  await pause(PAUSE_MS + 1);
  moves.endOffers();
  await moves.offer(offered);
  assert.equal(sent.length, 3);
});

test('what a rebalancing has tried and not moved has no effect on a later drain', async t => {
  const clock = { now: 1000 };
  t.mock.method(performance, 'now', () => clock.now);
  const pairs = [await connected(), await connected()];
  const [idle, busy] = pairs.map(({ socket }) => new Connection(socket));
  assert.ok(idle && busy);
  const moves = new Moves(
    (_id, _handle, onFailed) => onFailed(),
    () => assert.fail(),
  );
  for (const [index, { server }] of pairs.entries()) moves.onConnection([idle, busy][index] ?? assert.fail(), server);
  await turn();
  const offered = new Map([[idle.socket, idle]]);
  await moves.offer(offered, async () => undefined);
  moves.onResponseEnd(busy);
  moves.withdraw(offered);
  clock.now += 10;
  Object.assign(busy, { exchanges: [{}] });
  await moves.begin(new Map([[busy.socket, busy]]));
  assert.equal(moves.keeps(busy), true, 'no pause');
  clock.now += 4000;
  assert.equal(moves.keeps(busy), true, 'its open request has not ended since');
});

test('a rebalancing takes an even sample of the connections by their last use, the busiest first, and none that cannot move', () => {
  const connections = Array.from({ length: 12 }, (_, name) => Object.assign(new Connection(new Socket()), { name }));
  for (const [index, connection] of connections.entries()) Object.defineProperty(connection, 'idleSince', { value: 100 - index });
  const [busiest, , unmovable, webSocket, moving] = connections.toReversed();
  Object.assign(busiest ?? {}, { exchanges: [{}] });
  Object.assign(unmovable ?? {}, { isUnmovable: true });
  Object.assign(webSocket ?? {}, { upgrade: {} });
  Object.assign(moving ?? {}, { moveId: 1 });
  const namesOf = (count: number) =>
    [...sampleOf(connections, count).values()].map(connection => Reflect.get(connection, 'name'));
  assert.deepEqual(namesOf(9), [11, 0, 1, 2, 3, 4, 5, 6, 10]);
  assert.deepEqual(namesOf(100), namesOf(9));
  assert.deepEqual(namesOf(3), [0, 3, 6]);
  assert.deepEqual(namesOf(1), [3]);
  assert.deepEqual(namesOf(0), []);
});

/** Counts how many connections are looked at. */
class CountingMap extends Map<Socket, Connection> {
  looks = 0;

  override *values(): MapIterator<Connection> {
    for (const connection of super.values()) {
      this.looks++;
      yield connection;
    }
  }
}

/** Connections of one server, each after a response, and the moves of its worker. */
async function idleConnections(count: number) {
  const server = createServer((_request, response) => response.end('ok'));
  const sent: number[] = [];
  const moves = new Moves(
    id => void sent.push(id),
    () => assert.fail(),
  );
  const connections = new CountingMap();
  const pairs: Pair[] = [];
  const add = async () => {
    const pair = await connected(server);
    const connection = new Connection(pair.socket);
    moves.onConnection(connection, server);
    connections.set(pair.socket, connection);
    pairs.push(pair);
    await turn();
    await answered(pair, REQUEST);
    connection.onResponseEnd({ complete: true } as IncomingMessage);
    return { ...pair, connection };
  };
  while (pairs.length < count) await add();
  return { moves, connections, sent, add };
}

test('each idle connection is looked at once, however many there are', async () => {
  const count = 5 * MAX_UNDER_WAY;
  const { moves, connections, sent } = await idleConnections(count);
  await moves.begin(connections, async () => undefined);
  assert.equal(sent.length, MAX_UNDER_WAY);
  for (let id = 1; id <= count; id++) {
    assert.ok(sent.includes(id), `connection ${id} is not sent`);
    moves.onMoved(id, true);
    await turn();
    await turn();
  }
  assert.deepEqual([moves.moved, connections.looks], [count, count]);
});

test('a connection whose response has just ended moves before the others, and does not wait for them', async () => {
  const { moves, connections, sent, add } = await idleConnections(3 * MAX_UNDER_WAY);
  const { connection } = await add();
  await moves.begin(connections, async () => undefined);
  assert.equal(sent.length, MAX_UNDER_WAY);
  await pause(20); // by then it may look again which are between two messages
  moves.onResponseEnd(connection);
  await turn();
  await turn();
  assert.deepEqual([sent.length, connection.moveId], [MAX_UNDER_WAY + 1, sent.at(-1)]);
});

test('a connection is between messages after a response, unless the next request has begun to arrive', async () => {
  const pair = await connected();
  await answered(pair, REQUEST);
  assert.ok(betweenMessages(pair.server).has(pair.socket));
  await answered(pair, `${REQUEST}G`);
  assert.equal(betweenMessages(pair.server).size, 0);
  await answered(pair, REQUEST.slice(1));
  assert.ok(betweenMessages(pair.server).has(pair.socket));
  assert.equal(pair.socket.destroyed, false);
});

test('what a client sends after detach waits in the kernel until the connection is read again', async () => {
  const pair = await connected();
  await answered(pair, REQUEST);
  const before = pair.socket.bytesRead;
  assert.ok(detach(pair.socket));
  await new Promise(resolve => pair.client.write(REQUEST, resolve));
  await turn();
  assert.equal(pair.socket.bytesRead, before);
  const answer = once(pair.client, 'data');
  reattach(pair.socket, pair.server);
  await answer;
});

test('a connection with unsent data, or one that has ended, is not detached', async () => {
  const ended = await connected();
  ended.socket.end();
  assert.equal(detach(ended.socket), undefined);
  const unsent = await connected();
  unsent.client.pause();
  unsent.socket.write(Buffer.alloc(32 << 20));
  assert.equal(detach(unsent.socket), undefined);
});

test('a connection that has come from another worker waits for its next request as after a response', async () => {
  const pair = await connected();
  const begin = startIdle(pair.socket, pair.server);
  assert.ok(betweenMessages(pair.server).has(pair.socket));
  assert.equal(pair.socket.timeout, pair.server.keepAliveTimeout + 1000);
  begin();
  assert.equal(pair.socket.timeout, 0);
  await answered(pair, REQUEST);
  assert.ok(betweenMessages(pair.server).has(pair.socket));
});

test('a server whose app listens to connection keeps its connections', () => {
  const server = createServer();
  server.on(
    'connection',
    own(() => undefined),
  );
  assert.equal(isMovable(server), true);
  server.on('connection', () => undefined);
  assert.equal(isMovable(server), false);
});

test('a connection fits as long as the app has added nothing to it, whatever Node.js has', async () => {
  const pair = await connected();
  const shape = new SocketShape(pair.socket);
  await answered(pair, REQUEST);
  pair.socket.setKeepAlive(true, 1000);
  assert.ok(pair.socket.remoteAddress);
  assert.equal(shape.fits(pair.socket), true);
  const listener = () => undefined;
  pair.socket.on('close', listener);
  assert.equal(shape.fits(pair.socket), false);
  pair.socket.off('close', listener);
  assert.equal(shape.fits(pair.socket), true);
  Object.assign(pair.socket, { ntlm: {} });
  assert.equal(shape.fits(pair.socket), false);
});
