import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { readConfig } from '../src/config/config.ts';
import type { RedisClient } from '../src/state/redis.ts';
import { Breaker, ConflictError, merge, openSessionStore, type SessionData, StoreError } from '../src/state/session-store.ts';
import { placesAt } from './places.ts';

const outage = new Error('outage');
const breakerWith = (probe: () => Promise<unknown>) => new Breaker(probe, error => error === outage);
const fail = (breaker: Breaker, error: Error = outage) =>
  assert.rejects(
    breaker.run(() => Promise.reject(error)),
    error,
  );

test('the circuit breaker opens after three failures in a row, and closes when a probe succeeds', async t => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const probe = Promise.withResolvers<void>();
  let probes = 0;
  const breaker = breakerWith(async () => {
    if (++probes < 3) throw outage;
    await probe.promise;
  });
  for (let i = 0; i < 3; i++) {
    assert.equal(breaker.isOpen, false);
    await fail(breaker);
  }
  let runs = 0;
  const refused = () =>
    assert.rejects(
      breaker.run(async () => runs++),
      /^Error: Redis outage \(circuit breaker open\)$/,
    );
  for (const expected of [1, 2, 3]) {
    await refused();
    assert.equal(probes, expected);
    t.mock.timers.tick(99);
    await new Promise(setImmediate);
    assert.equal(probes, expected, 'the next probe starts 100 ms after the last one has failed');
    t.mock.timers.tick(1);
  }
  await refused();
  assert.deepEqual([runs, probes], [0, 3], 'a pending probe is the only one');
  probe.resolve();
  await new Promise(setImmediate);
  assert.equal(await breaker.run(async () => 'result'), 'result');
  for (let i = 0; i < 3; i++) await fail(breaker);
  assert.equal(probes, 4, 'the next outage is probed again');
});

test('the circuit breaker sends one probe at a time, however many operations fail meanwhile', async () => {
  let probes = 0;
  const breaker = breakerWith(() => new Promise(() => probes++));
  await Promise.all(Array.from({ length: 10 }, () => fail(breaker)));
  assert.equal(probes, 1);
});

test('the circuit breaker counts failures in a row only, and not the errors of a Redis that answers', async () => {
  const breaker = breakerWith(() => Promise.reject(outage));
  for (let i = 0; i < 3; i++) {
    for (let failures = 0; failures < 2; failures++) await fail(breaker);
    await breaker.run(async () => undefined);
  }
  for (let i = 0; i < 2; i++) await fail(breaker);
  for (let i = 0; i < 5; i++) await fail(breaker, new Error('out of memory'));
  for (let i = 0; i < 2; i++) await fail(breaker);
  assert.equal(breaker.isOpen, false);
});

test('two changes of different fields of a session are both kept', () => {
  const base = { user: 'captain', cart: [1], old: true };
  assert.deepEqual(merge(base, { user: 'captain', cart: [1, 2] }, { ...base, seen: 3 }), {
    user: 'captain',
    cart: [1, 2],
    seen: 3,
  });
});

test('two changes of the same field of a session are a conflict, even to the same value: two that count from one both come to two', () => {
  assert.equal(merge({ count: 1 }, { count: 2 }, { count: 3 }), undefined);
  assert.equal(merge({ count: 1 }, {}, { count: 3 }), undefined, 'deleted and changed');
  assert.equal(merge({ count: 1 }, { count: 2 }, { count: 2 }), undefined);
  assert.equal(merge({}, { count: 1 }, { count: 2 }), undefined, 'added twice');
  assert.deepEqual(merge({ count: 1 }, { count: 1 }, { count: 3 }), { count: 3 });
});

test("koa-session's own fields are those of the later write", () => {
  const own = (value: unknown) => ({ _expire: value, _maxAge: value, _session: value });
  assert.deepEqual(merge({ ...own(1), a: 1 }, { ...own(2), a: 1 }, { ...own(3), a: 2 }), { ...own(2), a: 2 });
});

test('for any changes of a session, merging keeps each side’s changed fields and everything else, or is a conflict', () => {
  const session = fc.dictionary(fc.constantFrom('a', 'b', 'c', '_expire'), fc.constantFrom<unknown>(1, 2, null, [1], {}), {
    noNullPrototype: true,
  });
  fc.assert(
    fc.property(session, session, session, (base, ours, theirs) => {
      const merged = merge(base, ours, theirs);
      const changed = (side: SessionData, name: string) => !isDeepStrictEqual(side[name], base[name]);
      const names = ['a', 'b', 'c', '_expire'];
      const conflicts = names.filter(name => name !== '_expire' && changed(ours, name) && changed(theirs, name));
      assert.equal(merged === undefined, conflicts.length > 0);
      if (merged === undefined) return;
      for (const name of names) assert.deepEqual(merged[name], changed(ours, name) ? ours[name] : theirs[name]);
      assert.deepEqual(merge(base, base, theirs), theirs, 'no change of ours changes nothing');
    }),
    { numRuns: 2000 },
  );
});

/** The commands of the store over a map; each can be made to fail. */
class FakeClient extends EventEmitter {
  readonly values = new Map<string, string>();
  readonly commands: unknown[][] = [];
  readonly reconnects: boolean[] = [];
  status = 'ready';
  failure: Error | undefined;

  async get(key: string): Promise<string | null> {
    this.#run('get', key);
    return this.values.get(key) ?? null;
  }

  async set(key: string, value: string, ...options: unknown[]): Promise<void> {
    this.#run('set', key, value, ...options);
    this.values.set(key, value);
  }

  /** The script that writes a session. */
  async eval(_script: string, _keys: number, key: string, ttl: number, json: string, expected: string) {
    this.#run('eval', key, ttl, json);
    const now = this.values.get(key);
    if (now === 'destroyed') return 0;
    if (now !== undefined && expected !== '' && createHash('sha1').update(now).digest('hex') !== expected) return now;
    this.values.set(key, json);
    return 1;
  }

  async ping(): Promise<void> {
    this.#run('ping');
  }

  disconnect(reconnect: boolean): void {
    this.reconnects.push(reconnect);
  }

  #run(...command: unknown[]): void {
    this.commands.push(command);
    if (this.failure) throw this.failure;
  }
}

function storeOver(client: FakeClient, env: Record<string, string> = {}) {
  const config = readConfig({ REDIS_URL: 'redis://redis', SESSION_TTL_SECONDS: '100', SESSION_MAX_BYTES: '1024', ...env });
  return openSessionStore(config, client as unknown as RedisClient, placesAt('koa:sess'));
}

const CTX = { ctx: {} };

test('a session is written with its lifetime and read as it was written', async () => {
  const client = new FakeClient();
  const store = storeOver(client);
  assert.equal(await store.get('id', 1000, CTX), null);
  await store.set('id', { user: 'captain' }, 1500, CTX);
  assert.deepEqual(await store.get('id', 1000, CTX), { user: 'captain' });
  assert.deepEqual(client.commands[1], ['eval', 'koa:sess:id', 2, '{"user":"captain"}']);
  await store.set('id', {}, 'session', CTX);
  assert.equal(client.commands.at(-1)?.[2], 100, 'until the browser is closed: as long as others');
  for (const maxAge of [0, -1, 0.5, Number.NaN, '1000', undefined])
    await assert.rejects(store.set('id', {}, maxAge as number, CTX), {
      name: 'TypeError',
      message: `the maxAge of a session must be milliseconds or "session", got ${JSON.stringify(maxAge)}`,
    });
  await store.set('id', {}, 1, CTX);
  assert.equal(client.commands.at(-1)?.[2], 1);
});

test('a destroyed session is not there, and a request that has read it before does not bring it back', async () => {
  for (const SESSION_WRITES of ['last', 'versioned']) {
    const client = new FakeClient();
    const store = storeOver(client, SESSION_WRITES === 'versioned' ? { SESSION_WRITES } : {});
    await store.set('id', { user: 'captain' }, 1000, { ctx: {} });
    const reader = { ctx: {} };
    await store.get('id', 1000, reader);
    await store.destroy('id');
    assert.deepEqual(client.commands.at(-1), ['set', 'koa:sess:id', 'destroyed', 'EX', 3600]);
    await store.set('id', { user: 'captain', late: true }, 1000, reader);
    assert.equal(await store.get('id', 1000, { ctx: {} }), null);
  }
});

test('a session has at most SESSION_MAX_BYTES of JSON, and the error names the largest field', async () => {
  const store = storeOver(new FakeClient());
  const text = 'x'.repeat(1024 - '{"a":1,"b":""}'.length);
  await store.set('id', { a: 1, b: text }, 1000, CTX);
  await assert.rejects(store.set('id', { a: 1, b: `${text}x` }, 1000, CTX), {
    name: 'RangeError',
    message: `a session must be at most 1024 bytes of JSON (SESSION_MAX_BYTES), got 1025; the largest field is "b" with ${text.length + 3}`,
  });
});

test('a value in Redis that no session can be is a failure of the store, not an outage', async () => {
  const client = new FakeClient();
  const store = storeOver(client);
  client.values.set('koa:sess:id', JSON.stringify('x'.repeat((2 << 20) - 2)));
  assert.equal(String(await store.get('id', 1000, CTX)).length, (2 << 20) - 2);
  for (const value of ['x'.repeat((2 << 20) + 1), 7 as unknown as string, ['x'] as unknown as string]) {
    client.values.set('koa:sess:id', value);
    for (let i = 0; i < 5; i++)
      await assert.rejects(store.get('id', 1000, CTX), {
        name: 'StoreError',
        message: /a session in Redis must be a string of at most 2097152 characters/,
      });
  }
});

test('an error of Redis is a StoreError with its cause; after three without an answer no command is sent until a ping is answered', async t => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const client = new FakeClient();
  const store = storeOver(client);
  const refusal = Object.assign(new Error('OOM command not allowed'), { name: 'ReplyError' });
  const attempt = (cause: Error) => {
    client.failure = cause;
    return assert.rejects(store.get('id', 1000, CTX), error => {
      assert.ok(error instanceof StoreError);
      assert.match(error.message, /^the session store failed: /);
      return error.cause === cause || /circuit breaker/.test(error.message);
    });
  };
  for (let i = 0; i < 5; i++) await attempt(refusal);
  assert.equal(client.commands.length, 5, 'an error reply is an answer');
  for (let i = 0; i < 5; i++) await attempt(new Error('Connection is closed.'));
  assert.deepEqual(
    client.commands.slice(5).map(([name]) => name),
    ['get', 'get', 'get', 'ping'],
  );
  assert.deepEqual(client.reconnects, []);
  const probe = async () => {
    t.mock.timers.tick(100);
    await new Promise(setImmediate);
  };
  await probe();
  assert.deepEqual(client.reconnects, [true], 'two failed probes: the connection is replaced');
  await probe();
  client.status = 'reconnecting';
  await probe();
  assert.deepEqual(client.reconnects, [true], 'but not while a new one is being made');
  client.failure = undefined;
  await probe();
  assert.equal(await store.get('id', 1000, CTX), null);
});

test('conflicts and sessions that are too large do not open the circuit breaker', async () => {
  const store = storeOver(new FakeClient(), { SESSION_WRITES: 'versioned' });
  for (let i = 0; i < 5; i++) await assert.rejects(store.set('id', { b: 'x'.repeat(2000) }, 1000, { ctx: {} }), RangeError);
  for (let i = 0; i < 5; i++) {
    const [one, other] = [{ ctx: {} }, { ctx: {} }];
    for (const options of [one, other]) await store.get('id', 1000, options);
    await store.set('id', { n: 2 * i }, 1000, one);
    await assert.rejects(store.set('id', { n: 2 * i + 1 }, 1000, other), ConflictError);
  }
  assert.deepEqual(await store.get('id', 1000, CTX), { n: 8 });
});

test('concurrent versioned writes of one worker are written one after another, without a conflict in Redis', async () => {
  const client = new FakeClient();
  const store = storeOver(client, { SESSION_WRITES: 'versioned' });
  await store.set('id', { user: 'captain' }, 1000, { ctx: {} });
  const requests = Array.from({ length: 5 }, () => ({ ctx: {} }));
  for (const request of requests) await store.get('id', 1000, request);
  client.commands.length = 0;
  await Promise.all(requests.map((request, i) => store.set('id', { user: 'captain', [`field${i}`]: i }, 1000, request)));
  assert.equal(client.commands.length, 5);
  assert.deepEqual(Object.keys(JSON.parse(client.values.get('koa:sess:id') ?? '')), [
    'user',
    ...requests.map((_, i) => `field${i}`),
  ]);
});

test('a versioned write after those in progress is based on what the request has read, not on another one’s write', async () => {
  const client = new FakeClient();
  const store = storeOver(client, { SESSION_WRITES: 'versioned' });
  const request = { ctx: {} };
  await store.set('id', { a: 1 }, 1000, request);
  client.values.set('koa:sess:id', '{"a":1,"other":true}');
  await store.set('id', { a: 2 }, 1000, request);
  assert.equal(client.values.get('koa:sess:id'), '{"a":2,"other":true}');
  await store.set('id', { a: 3 }, 1000, request);
  assert.equal(client.values.get('koa:sess:id'), '{"a":3,"other":true}', 'the request’s session still lacks the other field');
});

test('a request that gives its session a new id writes that without the base of the old one', async () => {
  const client = new FakeClient();
  const store = storeOver(client, { SESSION_WRITES: 'versioned' });
  const request = { ctx: {} };
  await store.set('old', { a: 1 }, 1000, request);
  client.values.set('koa:sess:new', '{"a":1}');
  await assert.rejects(store.set('new', { a: 2 }, 1000, request), ConflictError, 'another session of that id');
});

test('without SESSION_WRITES=versioned the last write wins', async () => {
  const client = new FakeClient();
  const store = storeOver(client);
  const [one, other] = [{ ctx: {} }, { ctx: {} }];
  for (const options of [one, other]) await store.get('id', 1000, options);
  await store.set('id', { a: 1 }, 1000, one);
  await store.set('id', { b: 2 }, 1000, other);
  assert.deepEqual(await store.get('id', 1000, CTX), { b: 2 });
});

/** A Redis in which another writer has always written `theirs(tries)` first, until that is undefined. */
async function writeAgainst(theirs: (tries: number) => object | undefined) {
  const written: unknown[] = [];
  const waitsMs: number[] = [];
  const client = {
    get: async () => JSON.stringify({ user: 'captain' }),
    eval: async (...[, , , , json]: string[]) => {
      written.push(JSON.parse(json ?? ''));
      const found = theirs(written.length);
      return found === undefined ? 1 : JSON.stringify(found);
    },
  };
  const config = readConfig({ REDIS_URL: 'redis://redis', SESSION_WRITES: 'versioned', SESSION_MAX_BYTES: '1024' });
  const store = openSessionStore(config, client as unknown as RedisClient, placesAt('koa:sess'), async ms => waitsMs.push(ms));
  const ctx = {};
  await store.get('id', 1000, { ctx });
  const writing = store.set('id', { user: 'captain', ours: 1 }, 1000, { ctx });
  return { writing, written, waitsMs };
}

test('a versioned write merges again with each newer version, after a growing random pause', async () => {
  const { writing, written, waitsMs } = await writeAgainst(tries => (tries < 5 ? { user: 'captain', theirs: tries } : undefined));
  await writing;
  assert.deepEqual(written.at(-1), { user: 'captain', theirs: 4, ours: 1 });
  assert.equal(written.length, 5);
  assert.equal(waitsMs.length, 3, 'the first merge is tried at once');
  for (const [index, ms] of waitsMs.entries()) assert.ok(ms >= 0 && ms <= 2 ** (index + 2), String(waitsMs));
  assert.ok(Math.max(...waitsMs) > 0.25, String(waitsMs));
});

test('a versioned write is a conflict after a bounded number of attempts', async () => {
  const { writing, written } = await writeAgainst(tries => ({ user: 'captain', theirs: tries }));
  await assert.rejects(writing, ConflictError);
  assert.equal(written.length, 40);
});

test('a versioned write is a conflict at once if both have changed the same field', async () => {
  const { writing, written } = await writeAgainst(() => ({ user: 'captain', ours: 2 }));
  await assert.rejects(writing, ConflictError);
  assert.equal(written.length, 1);
});

test('a versioned write does not make a session larger than the limit', async () => {
  const { writing } = await writeAgainst(() => ({ user: 'captain', theirs: 'x'.repeat(1000) }));
  await assert.rejects(writing, /^RangeError: a session must be at most 1024 bytes of JSON .* the largest field is "theirs"/);
});
