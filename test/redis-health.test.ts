import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { describe, test } from 'node:test';
import type { Redis } from 'ioredis';
import { printable } from '../src/protocol/shapes.ts';
import { REDIS_BUCKETS_S } from '../src/protocol/snapshot.ts';
import {
  Backoff,
  isFailingOver,
  isFailover,
  Refusals,
  reconnecting,
  redisCounters,
  redisRefusals,
  refusalCode,
  replaceConnection,
  throughFailover,
  watchRedis,
} from '../src/state/redis-health.ts';
import { ProtocolError } from '../src/state/reply-guard.ts';

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

test('at most 20 refusals are listed, and each one ends five seconds after its last occurrence', () => {
  let now = 0;
  const refusals = new Refusals(() => now);
  for (let i = 0; i < 20; i++) refusals.onError(`command${i}`, 'NOPERM');
  refusals.onError('command0', 'NOPERM');
  refusals.onError('one more', 'NOPERM');
  assert.equal(refusals.current.length, 20);
  assert.equal(
    refusals.current.find(({ command }) => command === 'command0')?.count,
    2,
    'a known one is counted beyond the limit',
  );
  refusals.onError('get', 'ERR syntax error');
  assert.ok(!refusals.current.some(({ command }) => command === 'get'));
  now = 5000;
  refusals.onSuccess('command1');
  now = 5001;
  assert.equal(refusals.current.length, 19);
  assert.equal(printable('x'.repeat(10), 10), 'x'.repeat(10));
  assert.equal(isFailover('not UNBLOCKED'), false);
});

test('delays between new connections are spread over the upper half, and a minute without a fault is forgotten', () => {
  let now = 0;
  const backoff = new Backoff(
    () => now,
    () => 0,
  );
  assert.deepEqual(
    Array.from({ length: 3 }, () => backoff.next()),
    [0, 125, 250],
  );
  now = 60_000;
  assert.equal(backoff.next(), 500, 'not yet');
  now = 120_001;
  assert.equal(backoff.next(), 0);
});

/** As much of an ioredis client as is used here. */
class FakeClient extends EventEmitter {
  status = 'ready';
  readonly reconnects: boolean[] = [];

  sendCommand(command: { promise: Promise<unknown> }): Promise<unknown> {
    return command.promise;
  }

  disconnect(reconnect: boolean): void {
    this.reconnects.push(reconnect);
  }
}

const clientOf = (fake: FakeClient) => fake as unknown as Redis;

test('the commands of a client are counted with their latency, and its failures, reconnects and protocol errors', async () => {
  const fake = new FakeClient();
  watchRedis(clientOf(fake));
  const before = redisCounters();
  const send = async (name: string, promise: Promise<unknown>) => {
    fake.sendCommand({ name, promise } as { promise: Promise<unknown> });
    await promise.catch(() => undefined);
    await new Promise(setImmediate);
  };
  await send('get', Promise.resolve('x'));
  const slow = new Promise(resolve => setTimeout(resolve, 60));
  await send('get', slow);
  await send('set', Promise.reject(new Error('OOM no memory')));
  await send('info', Promise.reject(new Error('NOPERM no')));
  await send('get', Promise.reject('no error'));
  fake.status = 'connect';
  await send('hello', Promise.resolve());
  for (const error of [new ProtocolError('x'), new Error('x')]) fake.emit('error', error);
  for (let i = 0; i < 2; i++) fake.emit('reconnecting');
  const after = redisCounters();
  const { commands, errors, reconnects, faults } = after;
  assert.deepEqual(
    [commands - before.commands, errors - before.errors, reconnects - before.reconnects, faults - before.faults],
    [5, 3, 2, 1],
    'the handshake is not counted',
  );
  const seconds = after.sumSeconds - before.sumSeconds;
  assert.ok(seconds > 0.055 && seconds < 5, String(seconds));
  const counts = after.counts.map((count, bucket) => count - (before.counts[bucket] ?? 0));
  assert.equal(
    counts.reduce((sum, count) => sum + count),
    2,
    'answers only',
  );
  const bucket = counts.lastIndexOf(1);
  assert.ok((REDIS_BUCKETS_S[bucket - 1] ?? 0) < seconds, `${counts}`);
  assert.deepEqual(
    redisRefusals().map(({ code, command }) => [code, command]),
    [['OOM', 'set']],
    'a missing permission for INFO is no refusal',
  );
});

test('the buckets of the latency histogram include their upper bound, and the last one has no bound', async t => {
  const now = t.mock.method(performance, 'now', () => 0);
  const fake = new FakeClient();
  watchRedis(clientOf(fake));
  const countOf = async (seconds: number) => {
    const before = redisCounters().counts;
    now.mock.mockImplementation(() => 0);
    const promise = Promise.resolve();
    fake.sendCommand({ name: 'get', promise } as { promise: Promise<unknown> });
    now.mock.mockImplementation(() => seconds * 1000);
    await promise;
    await new Promise(setImmediate);
    return redisCounters().counts.findIndex((count, index) => count > (before[index] ?? 0));
  };
  for (const [index, bound] of REDIS_BUCKETS_S.entries()) assert.equal(await countOf(bound), index);
  assert.equal(await countOf(1e6), REDIS_BUCKETS_S.length);
});

test('a useless connection is replaced at once, and the next ones of the same client after a growing delay', () => {
  const fake = new FakeClient();
  replaceConnection(clientOf(fake));
  assert.deepEqual(fake.reconnects, [true], 'also for a client that is not known');
  const state = { backoff: new Backoff(undefined, () => 1), notBefore: 0, isFailingOver: false };
  reconnecting.set(clientOf(fake), state);
  const delays = [0, 250, 500].map(() => {
    const before = performance.now();
    replaceConnection(clientOf(fake));
    return state.notBefore - before;
  });
  for (const [index, ms] of [0, 250, 500].entries()) assert.ok(Math.abs((delays[index] ?? -1) - ms) < 100, `${delays}`);
  assert.equal(fake.reconnects.length, 4);
});

test('an idempotent command is repeated on the new connection if the server is no longer the master', async () => {
  const fake = new FakeClient();
  const client = clientOf(fake);
  let runs = 0;
  const readonly = new Error('READONLY');
  const failOnce = async () => {
    if (++runs === 1) throw readonly;
    return 'result';
  };
  await assert.rejects(throughFailover(client, failOnce), readonly, 'no failover is going on');
  assert.equal(isFailingOver(client), false);
  reconnecting.set(client, { backoff: new Backoff(), notBefore: 0, isFailingOver: true });
  assert.equal(isFailingOver(client), true);
  runs = 0;
  const repeated = throughFailover(client, failOnce);
  await new Promise(setImmediate);
  assert.equal(runs, 1, 'it waits for the new connection');
  fake.emit('ready');
  assert.equal(await repeated, 'result');
  runs = 0;
  const startedAt = performance.now();
  await assert.rejects(throughFailover(client, failOnce), readonly);
  const ms = performance.now() - startedAt;
  assert.ok(ms > 350 && ms < 3000, `${ms} ms: there is no new connection in time`);
  assert.equal(runs, 1);
  assert.equal(await throughFailover(client, async () => 'at once'), 'at once');
});
