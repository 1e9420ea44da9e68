import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Backoff, isFailover, printable, Refusals, refusalCode } from '../src/state/redis-health.ts';

describe('a lasting refusal by Redis', () => {
  test('a refusal has a known code, in script errors of older servers too', () => {
    for (const code of [
      'READONLY',
      'MASTERDOWN',
      'NOREPLICAS',
      'OOM',
      'MISCONF',
      'NOPERM',
      'NOAUTH',
      'WRONGPASS',
      'BUSY',
      'LOADING',
    ])
      assert.equal(refusalCode(`${code} words`), code);
    assert.equal(
      refusalCode('ERR Error running script (call to f_1): @user_script:4: @user_script: 4: -READONLY You can not'),
      'READONLY',
    );
    for (const other of ['WRONGTYPE words', 'ERR syntax error', 'OOMPH', 'Connection is closed.', ''])
      assert.equal(refusalCode(other), undefined);
  });

  test('three codes show that a server is no longer the master', () => {
    for (const message of ['READONLY x', 'MASTERDOWN x', 'UNBLOCKED x']) assert.ok(isFailover(message));
    for (const message of ['OOM x', 'ERR READONLY', 'NOPERM x']) assert.ok(!isFailover(message));
  });

  test('a refusal lasts until the same command works and is not refused for five seconds', () => {
    let now = 0;
    const refusals = new Refusals(() => now);
    refusals.onError('eval', 'OOM no memory');
    refusals.onError('eval', 'OOM no memory');
    assert.deepEqual(refusals.current, [{ code: 'OOM', command: 'eval', message: 'OOM no memory', count: 2 }]);
    now = 10_000;
    refusals.onSuccess('get');
    assert.equal(refusals.current.length, 1, 'another command says nothing of this one');
    refusals.onSuccess('eval');
    refusals.onError('eval', 'OOM no memory');
    assert.equal(refusals.current.length, 1);
    now = 14_999;
    refusals.onSuccess('eval');
    assert.equal(refusals.current.length, 1, 'not yet');
    now = 15_000;
    assert.deepEqual(refusals.current, []);
  });

  test('refusals are bounded in number and size, without control characters', () => {
    const refusals = new Refusals();
    for (let i = 0; i < 100; i++) refusals.onError(`command${i}`, `NOPERM \x1b[31m\u202e${'x'.repeat(1000)}`);
    assert.equal(refusals.current.length, 20);
    assert.match(refusals.current[0]?.message ?? '', /^NOPERM \?\[31m\?x+…$/);
    assert.ok(JSON.stringify(refusals.current).length < 8000);
    assert.equal(printable('a\nb\u2028c\uD800', 10), 'a?b?c\uFFFD');
  });
});

test('useless connections are replaced at once the first time, then with delays of up to five seconds', () => {
  let now = 0;
  const backoff = new Backoff(
    () => now,
    () => 1,
  );
  assert.deepEqual(
    Array.from({ length: 8 }, () => backoff.next()),
    [0, 250, 500, 1000, 2000, 4000, 5000, 5000],
  );
  now = 60_001;
  assert.equal(backoff.next(), 0, 'after a minute without');
});
