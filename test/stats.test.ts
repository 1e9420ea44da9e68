/** What a worker reports of its event loop, by blocking this one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { Stats } from '../src/worker/stats.ts';

function block(ms: number): void {
  const endsAt = performance.now() + ms;
  while (performance.now() < endsAt);
}

/** Blocks the event loop until timers are late, and lets them run. */
async function beLate(): Promise<void> {
  await pause(1);
  block(100);
  await pause(1);
}

function figuresOf(stats: Stats): [utilization: number, delayMs: number] {
  const { eventLoopUtilization, eventLoopDelayMs } = stats.snapshot({ connections: 0, accepted: 0, load: 0, inFlight: 0 }, []);
  return [eventLoopUtilization, eventLoopDelayMs];
}

test('the event loop figures of a new worker leave its start out', async () => {
  const stats = new Stats([1]);
  await beLate();
  assert.deepEqual(figuresOf(stats), [0, 0], 'the first snapshot, sent when the app has loaded');
  block(20);
  assert.equal(figuresOf(stats)[0], 1, 'since the first snapshot');
});

test('the event loop figures cover the time since the last snapshot', async () => {
  const stats = new Stats([1]);
  figuresOf(stats);
  await beLate();
  const [, delayMs] = figuresOf(stats);
  assert.ok(delayMs > 0, `${delayMs} ms`);
  await pause(50);
  const [utilization] = figuresOf(stats);
  assert.ok(utilization < 1, String(utilization));
});
