import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Breaker } from '../src/state/breaker.ts';
import { merge } from '../src/state/session-merge.ts';

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
