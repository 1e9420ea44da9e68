import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SendQueue } from '../src/state/stored-events.ts';

const LIMITS = { maxMessages: 5, maxCharacters: 100 };
const settled = () => new Promise(setImmediate);

test('what its receiver does not take waits, and goes in order when it is back', async () => {
  const received: string[] = [];
  let isAway = true;
  const queue = new SendQueue(async batch => {
    if (isAway) throw new Error('away');
    received.push(...batch);
  }, LIMITS);
  for (const text of ['a', 'b', 'c']) queue.push(text);
  await settled();
  assert.deepEqual([received, queue.size], [[], 3]);
  isAway = false;
  queue.push('d');
  await settled();
  assert.deepEqual([received, queue.size, queue.dropped], [['a', 'b', 'c', 'd'], 0, 0]);
});

test('of too many, or too much, the oldest is given up and counted', async () => {
  const queue = new SendQueue(() => Promise.reject(new Error('away')), LIMITS);
  for (let i = 0; i < 8; i++) queue.push(String(i));
  assert.deepEqual([queue.size, queue.dropped], [5, 3]);
  queue.push('x'.repeat(98));
  assert.deepEqual([queue.size, queue.dropped], [3, 6]);
  await settled();
});

test('what is given up while its batch is on the way is neither sent twice nor takes the place of another', async () => {
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
