import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Outbox } from '../src/state/send-queue.ts';

const LIMITS = { mostMessages: 5, mostBytes: 100 };
const settled = () => new Promise(setImmediate);

test('what its receiver does not take waits, and goes in order when it is back', async () => {
  const received: string[] = [];
  let isAway = true;
  const outbox = new Outbox(async batch => {
    if (isAway) throw new Error('away');
    received.push(...batch);
  }, LIMITS);
  for (const text of ['a', 'b', 'c']) outbox.push(text);
  await settled();
  assert.deepEqual([received, outbox.size], [[], 3]);
  isAway = false;
  outbox.push('d');
  await settled();
  assert.deepEqual([received, outbox.size, outbox.dropped], [['a', 'b', 'c', 'd'], 0, 0]);
});

test('of too many, or too much, the oldest is given up and counted', async () => {
  const outbox = new Outbox(() => Promise.reject(new Error('away')), LIMITS);
  for (let i = 0; i < 8; i++) outbox.push(String(i));
  assert.deepEqual([outbox.size, outbox.dropped], [5, 3]);
  outbox.push('x'.repeat(98));
  assert.deepEqual([outbox.size, outbox.dropped], [3, 6]);
  await settled();
});

test('what is given up while its batch is on the way is neither sent twice nor takes the place of another', async () => {
  const received: string[] = [];
  const taken = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const outbox = new Outbox(
    async batch => {
      await taken.shift()?.promise;
      received.push(...batch);
    },
    { mostMessages: 2, mostBytes: 100 },
  );
  const [first, second] = taken;
  for (const text of ['a', 'b', 'c', 'd']) outbox.push(text);
  first?.resolve();
  second?.resolve();
  for (let i = 0; i < 5; i++) await settled();
  assert.deepEqual(received, ['a', 'c', 'd']);
  assert.equal(outbox.size, 0);
});
