/**
 * MAX_CONNECTIONS over real sockets; the clock and the timers move when the test lets them.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type TestContext, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { connectionsWithin } from '../src/resources/usage.ts';
import { maxConnectionsOf } from '../src/worker/bounds.ts';
import { MaxConnections } from '../src/worker/max-connections.ts';
import { type Client, eventually, Fixture, get } from './app-server.ts';

const CHECK_MS = 10;

class Bounded {
  readonly fixture: Fixture;
  readonly limit: MaxConnections;
  /** Whether it was full, and then not. */
  readonly changes: boolean[] = [];
  reclaimed = 0;
  readonly #context: TestContext;
  #now = performance.now();

  private constructor(context: TestContext, fixture: Fixture, max: number) {
    this.fixture = fixture;
    this.#context = context;
    context.mock.timers.enable({ apis: ['setInterval'] });
    context.mock.method(performance, 'now', () => this.#now);
    this.limit = new MaxConnections(max, fixture.server, {
      onFull: isFull => this.changes.push(isFull),
      onReclaimed: () => this.reclaimed++,
    });
    fixture.http.on('connection', () => this.limit.check());
  }

  static async start(context: TestContext, max: number): Promise<Bounded> {
    return new Bounded(context, await Fixture.start(), max);
  }

  async pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= CHECK_MS) {
      this.#now += CHECK_MS;
      this.#context.mock.timers.tick(CHECK_MS);
      await turn();
      await turn();
    }
  }
}

test('a full worker closes connections that have been idle for a second, and then accepts again', async context => {
  const bounded = await Bounded.start(context, 3);
  const { fixture } = bounded;
  const used = await fixture.idle();
  const silent = await fixture.connect();
  await bounded.pass(600);
  await used.get('/now');
  await bounded.pass(600);
  assert.deepEqual(bounded.changes, []);
  const busy = await fixture.open('/a');
  assert.deepEqual(bounded.changes, [true]);
  await silent.end();
  assert.equal(used.hasEnded, false);
  await bounded.pass(CHECK_MS);
  assert.deepEqual([bounded.changes, bounded.reclaimed], [[true, false], 1]);
  busy.response.end('done');
  await eventually(() => /done/.test(busy.client.received));
});

test('it closes no connection that is in use, or may be about to: WebSockets, partial requests, new ones', async context => {
  const bounded = await Bounded.start(context, 4);
  const { fixture } = bounded;
  fixture.http.on('upgrade', (_request, socket) => socket.write('HTTP/1.1 101 Switching Protocols\r\n\r\n'));
  const upgraded = await fixture.connect();
  upgraded.socket.write(get('/socket', 'Connection: Upgrade', 'Upgrade: websocket'));
  await eventually(() => /101/.test(upgraded.received));
  const partial = await fixture.connect();
  const [, connection] = fixture.server.openConnections;
  partial.socket.write('GET / HTTP/1.1\r\n');
  await eventually(() => (connection?.socket.bytesRead ?? 0) > 0);
  const open = await fixture.open('/a');
  await bounded.pass(1500);
  const young = await fixture.connect();
  await bounded.pass(900);
  assert.deepEqual([bounded.changes, bounded.reclaimed, fixture.server.connections], [[true], 0, 4]);
  await bounded.pass(300);
  await young.end();
  assert.deepEqual([bounded.changes, bounded.reclaimed, fixture.server.connections], [[true, false], 1, 3]);
  assert.equal(open.client.hasEnded || partial.hasEnded || upgraded.hasEnded, false);
});

test('it accepts again as soon as a connection has ended', async context => {
  const bounded = await Bounded.start(context, 1);
  const { client } = await bounded.fixture.open('/a');
  await bounded.pass(100);
  assert.deepEqual(bounded.changes, [true]);
  client.socket.destroy();
  await once(client.socket, 'close');
  await eventually(() => bounded.fixture.server.connections === 0);
  await bounded.pass(CHECK_MS);
  assert.deepEqual([bounded.changes, bounded.limit.isFull], [[true, false], false]);
});

test('an eighth of the idle connections is closed at once, but at least 8, the oldest first', async context => {
  const bounded = await Bounded.start(context, 81);
  const clients: Client[] = [];
  for (let count = 0; count < 80; count++) {
    clients.push(await bounded.fixture.connect());
    await bounded.pass(CHECK_MS);
  }
  await bounded.pass(1100);
  await bounded.fixture.open('/a');
  await eventually(() => clients.filter(({ hasEnded }) => hasEnded).length === 10);
  await bounded.pass(50);
  assert.deepEqual([bounded.reclaimed, bounded.changes], [10, [true, false]]);
  assert.deepEqual(
    clients.slice(8, 12).map(({ hasEnded }) => hasEnded),
    [true, true, false, false],
  );
});

test('of a few idle connections all are closed at once', async context => {
  const bounded = await Bounded.start(context, 9);
  for (let count = 0; count < 8; count++) await bounded.fixture.connect();
  await bounded.pass(1100);
  await bounded.fixture.open('/a');
  await bounded.pass(50);
  assert.deepEqual([bounded.reclaimed, bounded.changes], [8, [true, false]]);
});

test('without the limit, at a shutdown, it stays open', async context => {
  const bounded = await Bounded.start(context, 1);
  await bounded.fixture.connect();
  bounded.limit.stop();
  await bounded.pass(2000);
  assert.deepEqual([bounded.limit.isFull, bounded.reclaimed], [false, 0]);
});

test('of the descriptors a quarter is not for connections: at least 72, at most 1,000', () => {
  const limits = [20, 100, 150, 1024, 4096, 16_384, 1_048_576].map(descriptors => connectionsWithin(descriptors));
  assert.deepEqual(limits, [16, 28, 78, 768, 3096, 15_384, 1_047_576]);
});

test('with NODE_CLUSTER_STICKY each connection may need two more, between workers', () => {
  assert.equal(maxConnectionsOf({ maxConnections: 5, sticky: 'cookie' }), 5);
  const limit = maxConnectionsOf({ maxConnections: undefined, sticky: undefined }) ?? 0;
  assert.equal(maxConnectionsOf({ maxConnections: undefined, sticky: 'cookie' }), Math.max(16, Math.floor(limit / 3)));
});
