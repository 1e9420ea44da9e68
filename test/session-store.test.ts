import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { readConfig } from '../src/config/config.ts';
import { Breaker } from '../src/state/breaker.ts';
import type { RedisClient } from '../src/state/redis.ts';
import { merge } from '../src/state/session-merge.ts';
import { ConflictError, openSessionStore } from '../src/state/session-store.ts';

describe('a breaker', () => {
  const away = new Error('away');
  const refusal = new Error('refused');

  function breakerWith(probe: () => Promise<unknown>) {
    return new Breaker({ probe, isAway: error => error === away, refusal: () => refusal });
  }
  const fail = (breaker: Breaker, error: Error = away) =>
    assert.rejects(
      breaker.run(() => Promise.reject(error)),
      error,
    );

  test('asks no more after three failures in a row, until a probe succeeds', async () => {
    const probed = Promise.withResolvers<void>();
    const found = Promise.withResolvers<void>();
    let probes = 0;
    const breaker = breakerWith(async () => {
      if (++probes === 1) throw away;
      probed.resolve();
      await found.promise;
    });
    for (let i = 0; i < 3; i++) await fail(breaker);
    let asked = 0;
    await assert.rejects(
      breaker.run(async () => asked++),
      refusal,
    );
    await probed.promise;
    await assert.rejects(
      breaker.run(async () => asked++),
      refusal,
    );
    assert.equal(asked, 0);
    found.resolve();
    await new Promise(setImmediate);
    assert.equal(await breaker.run(async () => 'well'), 'well');
  });

  test('counts failures in a row only, and not the answers of something that is there', async () => {
    const breaker = breakerWith(() => Promise.reject(away));
    for (let i = 0; i < 3; i++) {
      for (let failures = 0; failures < 2; failures++) await fail(breaker);
      await breaker.run(async () => undefined);
    }
    for (let i = 0; i < 5; i++) await fail(breaker, new Error('out of memory'));
    assert.equal(breaker.isOpen, false);
  });
});

describe('two changes of one session', () => {
  test('of different fields are both kept', () => {
    const base = { user: 'captain', cart: [1], old: true };
    assert.deepEqual(merge(base, { user: 'captain', cart: [1, 2] }, { ...base, seen: 3 }), {
      user: 'captain',
      cart: [1, 2],
      seen: 3,
    });
  });

  test('of the same field are a conflict, also where they agree: two that count from one both come to two', () => {
    assert.equal(merge({ count: 1 }, { count: 2 }, { count: 3 }), undefined);
    assert.equal(merge({ count: 1 }, {}, { count: 3 }), undefined, 'taken away, and changed');
    assert.equal(merge({ count: 1 }, { count: 2 }, { count: 2 }), undefined);
    assert.deepEqual(merge({ count: 1 }, { count: 1 }, { count: 3 }), { count: 3 });
  });

  test('the times of koa-session are those of the later write', () => {
    assert.deepEqual(merge({ _expire: 1, a: 1 }, { _expire: 2, a: 1 }, { _expire: 3, a: 2 }), { _expire: 2, a: 2 });
  });
});

describe('a versioned write', () => {
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
    const { writing, written, waitsMs } = await writeAgainst(tries =>
      tries < 5 ? { user: 'captain', theirs: tries } : undefined,
    );
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
});
