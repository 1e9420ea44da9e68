import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { readConfig } from '../src/config/config.ts';
import type { RedisClient } from '../src/state/redis.ts';
import { Breaker, ConflictError, merge, openSessionStore, type SessionData } from '../src/state/session-store.ts';

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
  const store = openSessionStore(config, client as unknown as RedisClient, async ms => waitsMs.push(ms));
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
