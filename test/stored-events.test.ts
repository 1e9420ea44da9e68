import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { readConfig } from '../src/config/config.ts';
import type { RedisClient } from '../src/state/redis.ts';
import { limitReplies } from '../src/state/redis-protocol.ts';
import { APP_LIMITS } from '../src/state/reply-guard.ts';
import { Seal } from '../src/state/session-keys.ts';
import { RetainedStore, SendQueue, type StampedJson, StreamConsumer } from '../src/state/stored-events.ts';
import { connected } from './connected.ts';
import { bulk, FakeRedis } from './fake-redis.ts';
import { LocalRedis, withRedis } from './process/redis.ts';
import { until } from './until.ts';

const LIMITS = { maxMessages: 5, maxCharacters: 100 };
const settled = () => new Promise(setImmediate);

test('the send queue keeps messages during an outage, and sends them in order afterwards', async () => {
  const received: string[] = [];
  let isDown = true;
  const queue = new SendQueue(async batch => {
    if (isDown) throw new Error('outage');
    received.push(...batch);
  }, LIMITS);
  for (const text of ['a', 'b', 'c']) queue.push(text);
  await settled();
  assert.deepEqual([received, queue.size], [[], 3]);
  isDown = false;
  queue.push('d');
  await settled();
  assert.deepEqual([received, queue.size, queue.dropped], [['a', 'b', 'c', 'd'], 0, 0]);
});

test('of too many messages, or too long ones, the send queue drops and counts the oldest', async () => {
  const queue = new SendQueue(() => Promise.reject(new Error('outage')), LIMITS);
  for (let i = 0; i < 8; i++) queue.push(String(i));
  assert.deepEqual([queue.size, queue.dropped], [5, 3]);
  queue.push('x'.repeat(98));
  assert.deepEqual([queue.size, queue.dropped], [3, 6]);
  await settled();
});

test('a message that the send queue drops while its batch is being sent is not sent twice, and no other one is lost', async () => {
  const received: string[] = [];
  const taken = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const queue = new SendQueue(
    async batch => {
      await taken.shift()?.promise;
      received.push(...batch);
    },
    { maxMessages: 2, maxCharacters: 100 },
  );
  const [first, second] = taken;
  for (const text of ['a', 'b', 'c', 'd']) queue.push(text);
  first?.resolve();
  second?.resolve();
  for (let i = 0; i < 5; i++) await settled();
  assert.deepEqual(received, ['a', 'c', 'd']);
  assert.equal(queue.size, 0);
});

test('the send queue frees the room of what it has sent, and sends batches of 100', async () => {
  const batches: number[] = [];
  const gate = Promise.withResolvers<void>();
  const queue = new SendQueue(
    async batch => {
      batches.push(batch.length);
      await gate.promise;
    },
    { maxMessages: 1000, maxCharacters: 1000 },
  );
  for (let i = 0; i < 250; i++) queue.push('xxx');
  gate.resolve();
  for (let i = 0; i < 10; i++) await settled();
  assert.deepEqual([batches, queue.size], [[1, 100, 100, 49], 0]);
  for (let i = 0; i < 100; i++) queue.push('x'.repeat(10));
  assert.deepEqual([queue.size, queue.dropped], [100, 0], 'exactly as much as allowed');
  queue.push('x');
  assert.equal(queue.dropped, 1);
});

const stampAt = (at: number) => `${String(at).padStart(15, '0')}-0123456789ab`;

/** Runs `run` with a store of the events "config" and "flags" in a real Redis. */
async function withStore(
  run: (store: RetainedStore, client: RedisClient, ignored: string[], seal: Seal) => Promise<void>,
  keys?: string[],
): Promise<void> {
  const redis = await LocalRedis.start();
  const { client, close } = await connected(redis);
  const ignored: string[] = [];
  const seal = new Seal(keys);
  const names = ['config', 'flags'];
  const store = new RetainedStore(client, {
    key: 'retained',
    label: 'r',
    names,
    seal,
    onIgnored: reason => ignored.push(reason),
  });
  try {
    await run(store, client, ignored, seal);
  } finally {
    await close();
    await redis.stop();
  }
}

test('of a retained event the newest is stored; an older one gets the newer one as its answer', withRedis, () =>
  withStore(
    async (store, _client, ignored) => {
      const [older, newer] = [1000, 2000].map(at => ({ stamp: stampAt(at), json: `{"at":"${at}"}` })) as [
        StampedJson,
        StampedJson,
      ];
      assert.deepEqual(await store.all(), new Map());
      assert.equal(await store.keep('config', older), undefined);
      assert.equal(await store.keep('config', newer), undefined);
      assert.deepEqual(await store.keep('config', older), newer);
      assert.deepEqual(await store.all(), new Map([['config', newer]]));
      assert.equal(await store.keep('flags', older), undefined);
      assert.deepEqual([...(await store.all()).keys()], ['config', 'flags']);
      assert.deepEqual(ignored, []);
    },
    ['key'],
  ),
);

test('forged values of a retained event are ignored, counted and replaced', withRedis, () =>
  withStore(
    async (store, client, ignored, seal) => {
      const event = { stamp: stampAt(1000), json: '1' };
      const newer = `${stampAt(2000)}\n2`;
      const forgeries: [string, string | undefined][] = [
        [newer, 'unauthenticated'],
        [seal.sign('r flags', newer), 'unauthenticated'],
        [seal.sign('r config', `${stampAt(2000)}\n{`), 'malformed'],
        [seal.sign('r config', `${stampAt(Date.now() + 600_000)}\n2`), undefined],
        [`${newer}${'x'.repeat(300_000)}`, undefined],
      ];
      for (const [forged, reason] of forgeries) {
        ignored.length = 0;
        await client.hset('retained', 'config', forged);
        assert.equal(await store.keep('config', event), undefined);
        assert.deepEqual(ignored, reason === undefined ? [] : [reason]);
        assert.deepEqual(await store.all(), new Map([['config', event]]), forged.slice(0, 100));
      }
      ignored.length = 0;
      await client.hset('retained', 'config', newer);
      assert.deepEqual(await store.all(), new Map());
      assert.deepEqual(ignored, ['unauthenticated']);
    },
    ['key'],
  ),
);

test('without SESSION_KEYS retained events are stored unsigned', withRedis, () =>
  withStore(async (store, client) => {
    const event = { stamp: stampAt(1000), json: '"a\\n"' };
    await store.keep('config', event);
    assert.equal(await client.hget('retained', 'config'), `${event.stamp}\n${event.json}`);
    assert.deepEqual(await store.all(), new Map([['config', event]]));
  }),
);

test('a reply that is not one string for each retained event is an error, and what is no string is ignored', async () => {
  for (const found of [null, 'x', [], ['', '', '']]) {
    const client = { eval: async () => found } as unknown as RedisClient;
    const store = new RetainedStore(client, {
      key: 'k',
      label: 'r',
      names: ['a', 'b'],
      seal: new Seal(undefined),
      onIgnored: assert.fail,
    });
    await assert.rejects(store.all(), { message: 'retained values must be 2 strings, got another value' });
  }
  const client = { eval: async () => [7, null] } as unknown as RedisClient;
  const store = new RetainedStore(client, {
    key: 'k',
    label: 'r',
    names: ['a', 'b'],
    seal: new Seal(undefined),
    onIgnored: assert.fail,
  });
  assert.deepEqual(await store.all(), new Map());
  for (const reply of [null, 7, '']) {
    const other = { eval: async () => reply } as unknown as RedisClient;
    const kept = new RetainedStore(other, { key: 'k', label: 'r', names: [], seal: new Seal(undefined), onIgnored: assert.fail });
    assert.equal(await kept.keep('a', { stamp: stampAt(1), json: '1' }), undefined);
  }
});

test('a stream consumer gets every event appended since its start, in order, also those of an outage', withRedis, async () => {
  const redis = await LocalRedis.start();
  const { client, close } = await connected(redis);
  await client.xadd('events', '*', 'event', 'earlier');
  const got: string[] = [];
  const consumer = new StreamConsumer(readConfig({ REDIS_URL: redis.url }), 'events', 'test', client, text => got.push(text));
  try {
    await consumer.started;
    assert.equal(consumer.name, 'events');
    const texts = Array.from({ length: 100 }, (_, i) => `event ${i}`);
    for (const text of texts) consumer.append(text);
    const hasAll = () => got.length >= texts.length || undefined;
    await until(hasAll, () => String(got));
    assert.deepEqual(got, texts);
    await client.xadd('events', '*', 'other', 'fields', 'of', 'another program');
    consumer.reconnect();
    texts.push('fields', 'after a reconnect');
    consumer.append('after a reconnect');
    await until(hasAll, () => String(got));
    assert.deepEqual(got, texts);
    client.disconnect();
    await once(client, 'end');
    consumer.append('during an outage');
    await client.connect();
    consumer.flush();
    texts.push('during an outage');
    await until(hasAll, () => String(got));
    assert.deepEqual([got, consumer.dropped], [texts, 0]);
  } finally {
    await consumer.close();
    await close();
    await redis.stop();
  }
});

/** The reply to a read of the stream: entries by id, each with one field and its value. */
const entries = (...found: [string, string][]) =>
  `%1\r\n${bulk('events')}*${found.length}\r\n${found
    .map(([id, text]) => `*2\r\n${bulk(id)}*2\r\n${bulk('event')}${bulk(text)}`)
    .join('')}`;

/** A consumer of a server that gives these answers in turn: to the question for the last id of the stream, and to reads. */
async function consume(ends: string[], reads: string[], writer?: unknown) {
  const fake = await FakeRedis.start(([name = '']) =>
    name.toLowerCase() === 'eval' ? (ends.shift() ?? '') : name.toLowerCase() === 'xread' ? reads.shift() : undefined,
  );
  const got: string[] = [];
  const config = readConfig({ REDIS_URL: fake.url });
  const consumer = new StreamConsumer(config, 'events', 'test', writer as RedisClient, text => got.push(text));
  const readFrom = () => fake.commands.flatMap(({ command: [name, ...args] }) => (name === 'xread' ? args.slice(-1) : []));
  const hasReadFrom = (...positions: string[]) =>
    until(
      () => readFrom().slice(0, positions.length).join() === positions.join() || undefined,
      () => `read from ${readFrom()}, expected ${positions}`,
    );
  return { consumer, got, fake, hasReadFrom, [Symbol.asyncDispose]: () => consumer.close() };
}

test('a stream consumer reads from the end of the stream, then from the last event that it got', async () => {
  await using stream = await consume([bulk('5-1')], [entries(['6-0', 'a'], ['7-0', 'b']), entries(['8-0', 'c'])]);
  await stream.hasReadFrom('5-1', '7-0', '8-0');
  assert.deepEqual(stream.got, ['a', 'b', 'c']);
  const read = stream.fake.commands.find(({ command }) => command[0] === 'xread');
  assert.deepEqual(read?.command, ['xread', 'COUNT', '32', 'BLOCK', '1000', 'STREAMS', 'events', '5-1']);
});

test('a stream consumer of an empty stream reads it from its first event', async () => {
  await using stream = await consume(['_\r\n'], [entries(['1-0', 'first'])]);
  await stream.hasReadFrom('0-0', '1-0');
  assert.deepEqual(stream.got, ['first']);
});

test('a stream consumer queries the end of the stream again instead of reading from a malformed id', async () => {
  const malformed = ['5', '5-1x', 'x5-1', `1-${'1'.repeat(21)}`].map(bulk);
  await using stream = await consume([...malformed, ':5\r\n', bulk('18446744073709551615-5')], []);
  await stream.hasReadFrom('18446744073709551615-5');
});

test('a stream consumer keeps its place and passes nothing on if an entry has a malformed id', async () => {
  await using stream = await consume([bulk('5-1')], [entries(['6-0', 'a'], ['7', 'b']), entries(['7-0', 'b'])]);
  await stream.hasReadFrom('5-1', '6-0', '7-0');
  assert.deepEqual(stream.got, ['a', 'b']);
});

test('a stream consumer skips an entry that is too large, and keeps its place on every other faulty reply', async t => {
  limitReplies({ maxBytes: 2000, maxElements: 100 });
  t.after(() => limitReplies(APP_LIMITS));
  await using stream = await consume(
    [bulk('5-1'), bulk('9-0')],
    ['-ERR busy\r\n', '?\r\n', entries(['6-0', 'x'.repeat(3000)]), entries(['10-0', 'next'])],
  );
  await stream.hasReadFrom('5-1', '5-1', '5-1', '9-0', '10-0');
  assert.deepEqual(stream.got, ['next']);
});

test('a batch of which Redis refuses one event is appended again as a whole', async () => {
  const added: unknown[][] = [];
  const outcomes = [
    [[null, '1-0']],
    [[null, '2-0'], [new Error('OOM')]],
    [
      [null, '2-0'],
      [null, '3-0'],
    ],
  ];
  const multi = () => ({ xadd: (...args: unknown[]) => added.push(args), exec: async () => outcomes.shift() });
  await using stream = await consume([bulk('0-0')], [], { multi });
  for (const text of ['a', 'b', 'c']) stream.consumer.append(text);
  await settled();
  assert.deepEqual(
    added.map(args => args.at(-1)),
    ['a', 'b', 'c'],
  );
  stream.consumer.flush();
  await settled();
  assert.deepEqual(
    added.map(args => args.at(-1)),
    ['a', 'b', 'c', 'b', 'c'],
  );
  assert.deepEqual(added[0], ['events', 'MAXLEN', '~', 10_000, '*', 'event', 'a']);
  stream.consumer.flush();
  await settled();
  assert.equal(added.length, 5, 'nothing waits any more');
});

test('a stream consumer without Redis is an error', () => {
  const create = () => new StreamConsumer(readConfig({}), 'events', 'test', {} as RedisClient, assert.fail);
  assert.throws(create, { message: 'a stream needs Redis' });
});
