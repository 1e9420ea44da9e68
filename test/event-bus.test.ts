/**
 * The event bus in virtual time, over a pub/sub in memory that connects the buses of one test.
 */
import assert from 'node:assert/strict';
import { mock, type TestContext, test } from 'node:test';
import { type Config, readConfig } from '../src/config/config.ts';
import { KEYS_EVENT, type RedisState } from '../src/protocol/messages.ts';
import { Retained } from '../src/state/broadcast.ts';
import type { Connection } from '../src/state/connection.ts';
import { EventBus, OPERATOR, type Recipient } from '../src/state/event-bus.ts';
import type { PubSubListener } from '../src/state/pubsub.ts';

type Stamped = { stamp: string; json: string };

/** What all pods of a test share. */
class FakeRedis {
  readonly connections = new Set<FakePubSub>();
  readonly retained = new Map<string, Stamped>();
  /** Commands fail. */
  isDown = false;
  /** Published messages reach nobody. */
  isDeaf = false;
}

class FakePubSub implements Connection {
  readonly redis = {} as Connection['redis'];
  readonly names = {} as Connection['names'];
  readonly calls: string[] = [];
  readonly published: { channel: string; text: string }[] = [];
  isConnected = false;
  isSigned = false;
  dropped = 0;
  readonly listener: PubSubListener;
  readonly #server: FakeRedis;

  constructor(server: FakeRedis, listener: PubSubListener) {
    this.#server = server;
    this.listener = listener;
    server.connections.add(this);
  }

  readonly retained = {
    all: async () => {
      if (this.#server.isDown) throw new Error('Connection is closed.');
      return new Map(this.#server.retained);
    },
    keep: async (name: string, event: Stamped) => {
      this.calls.push(`keep ${name}`);
      if (this.#server.isDown) throw new Error('Connection is closed.');
      const stored = this.#server.retained.get(name);
      if (stored !== undefined && stored.stamp >= event.stamp) return stored;
      this.#server.retained.set(name, event);
      return undefined;
    },
  } as unknown as Connection['retained'];

  async publish(channel: 'broadcast' | 'fleet', text: string): Promise<void> {
    if (this.#server.isDown) throw new Error('Connection is closed.');
    this.published.push({ channel, text });
    if (!this.#server.isDeaf) for (const { listener } of this.#server.connections) listener.onMessage(channel, text);
  }

  async connect(): Promise<void> {
    this.isConnected = true;
    this.listener.onConnected();
    await settled();
  }

  async readNames(): Promise<boolean> {
    return true;
  }

  async findMaster(): Promise<void> {
    this.calls.push('findMaster');
  }

  reconnect(): void {
    this.calls.push('reconnect');
  }

  async close(): Promise<void> {
    this.calls.push('close');
    this.#server.connections.delete(this);
  }
}

const SERVICE = { name: 'shop', isGiven: true, app: 'shop', directory: '/srv/shop', module: 'app.js' };

const settled = () => new Promise(setImmediate);

class Worker implements Recipient {
  isActive = true;
  isFull = false;
  keysRead: string | undefined;
  readonly got: string[] = [];

  deliver({ event, json }: { event: string; json: string }): boolean {
    this.got.push(`${event} ${json}`);
    return !this.isFull;
  }
}

class Pod {
  readonly workers = [new Worker(), new Worker()];
  readonly states: string[] = [];
  readonly retained: Retained;
  readonly bus: EventBus;
  readonly connections: FakePubSub[] = [];
  connected = 0;
  config: Config;

  constructor(server: FakeRedis, env: Record<string, string> = {}) {
    this.config = readConfig({ REDIS_URL: 'redis://redis', BROADCAST_RETAINED: 'config', ...env });
    this.retained = new Retained(this.config.broadcastRetained);
    this.bus = new EventBus(
      {
        config: () => this.config,
        service: SERVICE,
        retained: this.retained,
        ownPod: () => ({ version: '1', state: 'ready', generation: 1, workers: 2, wanted: 2, p99Ms: 3, requests: 0 }),
        workers: () => this.workers,
        onState: (state: RedisState, message: string) => this.states.push(`${state}: ${message}`),
        onConnected: () => this.connected++,
      },
      async (_config, _service, _pod, listener) => {
        const pubsub = new FakePubSub(server, listener);
        this.connections.push(pubsub);
        return pubsub;
      },
    );
  }

  static async connected(server: FakeRedis, env?: Record<string, string>): Promise<Pod> {
    const pod = new Pod(server, env);
    await pod.bus.open();
    await pod.pubsub.connect();
    return pod;
  }

  get pubsub(): FakePubSub {
    const pubsub = this.connections.at(-1);
    assert.ok(pubsub, 'no connection was opened');
    return pubsub;
  }

  /** What its first worker got. */
  get got(): string[] {
    return this.workers[0]?.got ?? [];
  }

  heartbeats(): Record<string, unknown>[] {
    return this.pubsub.published.filter(({ channel }) => channel === 'fleet').map(({ text }) => JSON.parse(text));
  }
}

/** @returns a function that lets seconds pass */
function virtualTime(t: TestContext): (seconds: number) => Promise<void> {
  mock.timers.enable({ apis: ['setInterval', 'Date'], now: 1_000_000 });
  t.after(() => mock.timers.reset());
  return async seconds => {
    for (let i = 0; i < seconds; i++) {
      mock.timers.tick(1000);
      await settled();
    }
  };
}

const NEWS = { event: 'news', json: '1' };
const CONFIG = { event: 'config', json: '"a"' };

test('an event reaches every active worker of the pod, and copies that a worker does not take are counted', () => {
  const pod = new Pod(new FakeRedis(), { REDIS_URL: '' });
  const [first, second] = pod.workers as [Worker, Worker];
  first.isActive = false;
  second.isFull = true;
  const { workers, otherPods } = pod.bus.broadcast(NEWS, 1);
  assert.deepEqual([workers, otherPods, first.got, second.got], [1, undefined, [], ['news 1']]);
  assert.deepEqual([pod.bus.counts.sent, pod.bus.counts.droppedCopies], [1, 1]);
});

test('without Redis a pod knows itself only, and has no counters of Redis', async t => {
  const pass = virtualTime(t);
  const pod = new Pod(new FakeRedis(), { REDIS_URL: '' });
  await pod.bus.open();
  await pass(2);
  assert.deepEqual(pod.connections, []);
  assert.deepEqual(
    pod.bus.peers.map(({ isSelf, workers, silentSeconds }) => [isSelf, workers, silentSeconds]),
    [[true, 2, 0]],
  );
  assert.deepEqual([pod.bus.redisCounters, pod.bus.redis, pod.bus.redisRefusals], [undefined, undefined, []]);
  await pod.bus.close();
});

test('an event reaches the workers of every pod once, in its sender’s order', async t => {
  virtualTime(t);
  const server = new FakeRedis();
  const [a, b] = [await Pod.connected(server), await Pod.connected(server)];
  const deliveries = [1, 2, 3].map(json => a.bus.broadcast({ event: 'news', json: String(json) }, 7));
  assert.deepEqual(await Promise.all(deliveries.map(({ otherPods }) => otherPods)), ['sent', 'sent', 'sent']);
  for (const pod of [a, b]) for (const { got } of pod.workers) assert.deepEqual(got, ['news 1', 'news 2', 'news 3']);
  const sent = a.pubsub.published.filter(({ channel }) => channel === 'broadcast').map(({ text }) => JSON.parse(text));
  assert.deepEqual(
    sent.map(({ seq, at, sender, event, json }) => [seq, at, sender, event, json]),
    [1, 2, 3].map(seq => [seq, 1_000_000, 7, 'news', String(seq)]),
  );
  assert.match(sent[0]?.origin, /^[\w.-]+:[\da-f]{12}$/);
  assert.deepEqual([b.bus.counts.received, b.bus.counts.duplicates, a.bus.counts.received], [3, 0, 0]);
  assert.equal(a.bus.redis, a.pubsub.redis);
  assert.ok(a.bus.redisCounters);
});

test('during an outage an event is never sent, a retained one is sent later, and so is a durable one', async t => {
  virtualTime(t);
  for (const [env, event, expected, unsent] of [
    [{}, NEWS, 'never', 1],
    [{}, CONFIG, 'later', 1],
    [{ BROADCAST_DURABLE: 'true' }, NEWS, 'later', 0],
  ] as const) {
    const server = new FakeRedis();
    const pod = await Pod.connected(server, env);
    server.isDown = true;
    assert.equal(await pod.bus.broadcast(event, OPERATOR).otherPods, expected);
    assert.equal(pod.bus.counts.unsent, unsent);
    pod.pubsub.dropped = 5;
    assert.equal(pod.bus.counts.unsent, unsent + 5, 'with those that the stream has dropped');
  }
});

test('an event that is sent before pub/sub is open counts as unsent, durable or not', async () => {
  for (const BROADCAST_DURABLE of ['true', 'false']) {
    const pod = new Pod(new FakeRedis(), { BROADCAST_DURABLE });
    await pod.bus.broadcast(NEWS, 1).otherPods;
    assert.equal(pod.bus.counts.unsent, 1);
  }
});

test('a pod that joins gets the retained events before it counts as connected, and the others get its own', async t => {
  virtualTime(t);
  const server = new FakeRedis();
  const a = await Pod.connected(server, { BROADCAST_RETAINED: 'config,flags' });
  a.bus.broadcast(CONFIG, 1);
  await settled();
  const b = new Pod(server, { BROADCAST_RETAINED: 'config,flags' });
  b.bus.broadcast({ event: 'flags', json: '2' }, 1);
  await b.bus.open();
  assert.deepEqual([b.connected, b.bus.hasBeenConnected], [0, false]);
  await b.pubsub.connect();
  assert.deepEqual([b.connected, b.bus.hasBeenConnected], [1, true]);
  assert.deepEqual(b.got, ['flags 2', 'config "a"']);
  assert.deepEqual(a.got, ['config "a"', 'flags 2']);
  const names = (pod: Pod) => pod.retained.all.map(({ event }) => event).sort();
  assert.deepEqual([names(a), names(b), [...server.retained.keys()].sort()], Array(3).fill(['config', 'flags']));
  await b.pubsub.connect();
  assert.equal(b.connected, 1, 'once');
});

test('a retained event that arrives twice is delivered once, and of two the newer one wins in every pod', async t => {
  const pass = virtualTime(t);
  const server = new FakeRedis();
  const [a, b] = [await Pod.connected(server), await Pod.connected(server)];
  server.isDeaf = true;
  a.bus.broadcast({ event: 'config', json: '"older"' }, 1);
  await pass(1);
  b.bus.broadcast({ event: 'config', json: '"newer"' }, 1);
  await settled();
  server.isDeaf = false;
  await a.pubsub.connect();
  await b.pubsub.connect();
  assert.deepEqual(
    a.got.filter(text => text.startsWith('config')),
    ['config "older"', 'config "newer"'],
  );
  assert.deepEqual(
    b.got.filter(text => text.startsWith('config')),
    ['config "newer"'],
  );
  const [kept] = b.retained.all;
  b.pubsub.listener.onMessage('broadcast', JSON.stringify({ origin: 'c', sender: 1, seq: 1, ...kept }));
  assert.equal(b.got.filter(text => text.startsWith('config')).length, 1);
});

test('a newer value that is stored in Redis replaces the one that a pod sends', async t => {
  virtualTime(t);
  const server = new FakeRedis();
  const pod = await Pod.connected(server);
  const future = `${String(1_000_100).padStart(15, '0')}-${'0'.repeat(12)}`;
  server.retained.set('config', { stamp: future, json: '"stored"' });
  pod.bus.broadcast(CONFIG, 1);
  await settled();
  assert.deepEqual(pod.got, ['config "a"', 'config "stored"']);
  assert.deepEqual(pod.retained.forWorkers, [{ event: 'config', json: '"stored"' }]);
});

test('a failed exchange of retained events is reported, retried with the next heartbeat, and its end is reported', async t => {
  const pass = virtualTime(t);
  const server = new FakeRedis();
  const pod = new Pod(server);
  await pod.bus.open();
  server.isDown = true;
  await pod.pubsub.connect();
  assert.deepEqual(pod.states, ['unreachable: retained events cannot be exchanged: Connection is closed.']);
  assert.deepEqual([pod.connected, pod.bus.hasBeenConnected], [0, false]);
  server.isDown = false;
  await pass(1);
  assert.deepEqual(pod.states.slice(1), ['ready: retained events are synchronised']);
  assert.equal(pod.connected, 1);
  await pass(2);
  assert.equal(pod.states.length, 2, 'no further exchange');
  await pod.pubsub.connect();
  assert.equal(pod.states.length, 2, 'only the end of a failure is reported');
});

test('states of Redis are passed on', () => {
  const pod = new Pod(new FakeRedis());
  pod.bus.onState('refused', 'wrong password');
  assert.deepEqual(pod.states, ['refused: wrong password']);
});

test('after an outage, but not at the start, workers read the session keys again: they may have changed meanwhile', async t => {
  virtualTime(t);
  const pod = await Pod.connected(new FakeRedis());
  assert.deepEqual(pod.got, []);
  await pod.pubsub.connect();
  assert.equal(pod.got.length, 1);
  assert.match(pod.got[0] ?? '', new RegExp(`^${KEYS_EVENT} "[\\da-f-]{36}"$`));
});

test('a heartbeat reports a change of the session keys once every active worker has read them', async t => {
  const pass = virtualTime(t);
  const server = new FakeRedis();
  const [a, b] = [await Pod.connected(server), await Pod.connected(server)];
  const [first, second] = a.workers as [Worker, Worker];
  b.bus.broadcast({ event: KEYS_EVENT, json: '"change"' }, OPERATOR);
  await settled();
  const reported = async () => {
    await pass(1);
    return b.bus.peers.find(({ isSelf }) => !isSelf)?.keysRead;
  };
  assert.equal(await reported(), undefined);
  first.keysRead = '"change"';
  assert.equal(await reported(), undefined);
  second.keysRead = '"another"';
  assert.equal(await reported(), undefined);
  second.isActive = false;
  assert.equal(await reported(), '"change"', 'a worker that has ended need not read them');
  assert.equal(a.heartbeats().at(-1)?.keysRead, '"change"');
});

test('a pod sends a heartbeat as soon as it is connected and then every second, and checks for the master each time', async t => {
  const pass = virtualTime(t);
  const pod = await Pod.connected(new FakeRedis());
  assert.equal(pod.heartbeats().length, 1);
  await pass(3);
  assert.deepEqual(
    pod.heartbeats().map(({ beat, at }) => [beat, at]),
    [0, 1, 2, 3].map(n => [n + 1, 1_000_000 + n * 1000]),
  );
  assert.equal(pod.pubsub.calls.filter(call => call === 'findMaster').length, 3);
  pod.pubsub.isConnected = false;
  await pass(5);
  assert.equal(pod.heartbeats().length, 4, 'none while disconnected');
  assert.equal(pod.pubsub.calls.filter(call => call === 'findMaster').length, 3);
});

test('connections over which three heartbeats do not come back are replaced; one that comes back starts the count again', async t => {
  const pass = virtualTime(t);
  const server = new FakeRedis();
  const pod = await Pod.connected(server);
  const reconnects = () => pod.pubsub.calls.filter(call => call === 'reconnect').length;
  server.isDeaf = true;
  await pass(3);
  server.isDeaf = false;
  pod.bus.broadcast(NEWS, 1); // any message of our own will do
  await settled();
  server.isDeaf = true;
  await pass(3);
  assert.equal(reconnects(), 0);
  const sent = pod.heartbeats().length;
  await pass(1);
  assert.deepEqual([reconnects(), pod.heartbeats().length], [1, sent], 'no heartbeat into a dead connection');
  await pass(3);
  assert.equal(reconnects(), 1);
  await pass(1);
  assert.equal(reconnects(), 2);
  await pass(2);
  await pod.pubsub.connect();
  await pass(3);
  assert.equal(reconnects(), 2, 'a new connection starts the count again');
});

test('messages of other pods do not count as heartbeats of our own', async t => {
  const pass = virtualTime(t);
  const server = new FakeRedis();
  const [a, b] = [await Pod.connected(server), await Pod.connected(server)];
  server.connections.delete(a.pubsub);
  await pass(4);
  assert.ok(a.pubsub.calls.includes('reconnect'));
  assert.ok(!b.pubsub.calls.includes('reconnect'));
});

test('every minute a pod stores its retained events again: the stored one may be older or missing', async t => {
  const pass = virtualTime(t);
  const server = new FakeRedis();
  const pod = await Pod.connected(server);
  pod.bus.broadcast(CONFIG, 1);
  await settled();
  server.retained.clear();
  await pass(59);
  assert.equal(server.retained.size, 0);
  await pass(1);
  assert.deepEqual([...server.retained.keys()], ['config']);
  server.retained.clear();
  await pass(60);
  assert.equal(server.retained.size, 1);
});

test('with new settings of Redis a pod connects with those, keeps its counts, and closes the old connection', async t => {
  const pass = virtualTime(t);
  const server = new FakeRedis();
  const pod = await Pod.connected(server);
  pod.pubsub.dropped = 3;
  await pass(1);
  assert.equal(pod.connections.length, 1);
  for (const change of [{ logLevel: 'debug' }, { redisUrl: 'redis://other' }] as const) {
    pod.config = { ...pod.config, ...change } as Config;
    await pass(1);
    assert.equal(pod.connections.length, 'redisUrl' in change ? 2 : 1);
  }
  assert.ok(pod.connections[0]?.calls.includes('close'));
  assert.equal(pod.bus.counts.unsent, 3);
  for (const change of [{ sessionCookie: 'other' }, { sessionKeys: ['key'] }]) {
    pod.config = { ...pod.config, ...change } as Config;
    await pass(1);
  }
  assert.equal(pod.connections.length, 4);
  assert.equal(server.connections.size, 1);
});

test('a pod says goodbye when it closes, and its peers forget it at once', async t => {
  virtualTime(t);
  const server = new FakeRedis();
  const [a, b] = [await Pod.connected(server), await Pod.connected(server)];
  await settled();
  assert.deepEqual(
    b.bus.peers.map(({ isSelf }) => isSelf),
    [true],
    'a connected first',
  );
  a.bus.onConnected();
  await settled();
  assert.deepEqual(
    b.bus.peers.map(({ isSelf }) => isSelf),
    [true, false],
  );
  await a.bus.close();
  assert.deepEqual(
    b.bus.peers.map(({ isSelf }) => isSelf),
    [true],
  );
  assert.equal(a.pubsub.calls.at(-1), 'close');
});

test('ignored messages are counted by channel and reason, and replays only of signed ones', async t => {
  virtualTime(t);
  const pod = await Pod.connected(new FakeRedis());
  for (const reason of ['malformed', 'unauthenticated', 'unauthenticated'] as const) {
    pod.bus.onIgnored('broadcast', reason);
    pod.bus.onIgnored('fleet', reason);
  }
  pod.bus.onIgnored('fleet', 'malformed');
  const { malformed, unauthenticated, ignoredHeartbeats } = pod.bus.counts;
  assert.deepEqual([malformed, unauthenticated], [1, 2]);
  assert.deepEqual(ignoredHeartbeats, { malformed: 2, unauthenticated: 2, stale: 0, crowded: 0 });
  const old = JSON.stringify({ origin: 'x', sender: 1, seq: 1, at: 1, ...NEWS });
  pod.pubsub.isSigned = true;
  pod.bus.onMessage('broadcast', old);
  assert.deepEqual([pod.got, pod.bus.counts.stale], [[], 1]);
  const { beat: _, ...heartbeat } = pod.heartbeats()[0] ?? {};
  pod.bus.onMessage('fleet', JSON.stringify({ ...heartbeat, origin: 'x' }));
  assert.equal(pod.bus.counts.ignoredHeartbeats.stale, 1);
  pod.pubsub.isSigned = false;
  pod.bus.onMessage('broadcast', old);
  assert.deepEqual(pod.got, ['news 1']);
  pod.bus.onMessage('fleet', JSON.stringify({ ...heartbeat, origin: 'x' }));
  assert.equal(pod.bus.peers.length, 2);
});

test('with BROADCAST_DURABLE signed events may arrive late, but not from before the start', async t => {
  const pass = virtualTime(t);
  const pod = await Pod.connected(new FakeRedis(), { BROADCAST_DURABLE: 'true' });
  pod.pubsub.isSigned = true;
  await pass(400);
  pod.bus.onMessage('broadcast', JSON.stringify({ origin: 'x', sender: 1, seq: 1, at: 1_000_000, ...NEWS }));
  assert.deepEqual(pod.got.at(-1), 'news 1');
});
