/**
 * How long requests wait at the limit of ADAPTIVE_CONCURRENCY, and when turning them away is logged.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Episode } from '../src/worker/concurrency/episode.ts';
import { MAX_WAIT_MS, MIN_WAIT_MS, Waiting } from '../src/worker/concurrency/waiting.ts';

test('requests are taken in their order, and those that have left are not', () => {
  const waiting = new Waiting<string>();
  for (const [index, name] of ['a', 'b', 'c'].entries()) assert.ok(waiting.add(name, 2, index));
  waiting.delete('b');
  assert.deepEqual([waiting.take(), waiting.take(), waiting.take()], ['a', 'c', undefined]);
});

test('ten times as many as the limit may wait, and a thousand at most', () => {
  const few = new Waiting<number>();
  assert.deepEqual(Array.from({ length: 21 }, (_, index) => few.add(index, 2, 0)).indexOf(false), 20);
  const many = new Waiting<number>();
  assert.deepEqual(Array.from({ length: 1001 }, (_, index) => many.add(index, 5000, 0)).indexOf(false), 1000);
});

test('a burst may wait for half a second, and requests that keep waiting for half as long as an answer takes', () => {
  const waiting = new Waiting<number>();
  const latencyMs = 100;
  for (let now = 0; now <= MAX_WAIT_MS; now += 20) {
    waiting.add(now, 50, now);
    assert.equal(waiting.maxWaitMs(latencyMs, now), MAX_WAIT_MS);
  }
  const now = MAX_WAIT_MS + 20;
  assert.equal(waiting.maxWaitMs(latencyMs, now), 50);
  assert.equal(waiting.maxWaitMs(0, now), MIN_WAIT_MS);
  assert.equal(waiting.maxWaitMs(10_000, now), MAX_WAIT_MS);
  // 20 ms apart: those of 480 and 500 have waited for less.
  assert.deepEqual(
    waiting.takeOverdue(50, now),
    Array.from({ length: 24 }, (_, index) => 20 * index),
  );
  assert.equal(waiting.size, 2);
});

test('that the queue is empty for a moment begins no new burst', () => {
  const waiting = new Waiting<number>();
  for (let now = 0; now < 1000; now += 100) {
    waiting.add(now, 50, now);
    waiting.take();
  }
  assert.equal(waiting.maxWaitMs(100, 1000), 50);
  waiting.add(1, 50, 900 + MAX_WAIT_MS + 1);
  assert.equal(waiting.maxWaitMs(100, 900 + MAX_WAIT_MS + 1), MAX_WAIT_MS);
});

test('turning away is logged at its beginning, and when it has been over for a minute', () => {
  const episode = new Episode();
  assert.equal(episode.endedBy(0), undefined);
  assert.deepEqual([episode.add(1000), episode.add(3000), episode.add(31_000)], [true, false, false]);
  assert.equal(episode.endedBy(90_999), undefined);
  assert.deepEqual(episode.endedBy(91_000), { rejected: 3, seconds: 30 });
  assert.equal(episode.endedBy(200_000), undefined);
  assert.deepEqual([episode.add(200_000), episode.endedBy(260_000)], [true, { rejected: 1, seconds: 0 }]);
});
