import assert from 'node:assert/strict';
import { once } from 'node:events';
import { performance } from 'node:perf_hooks';
import { after, mock, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { WAKE_UP_SIGNAL, wakeUpThread } from '../src/balancing/wake-up.ts';

const SIGNALS = 50;
/** Signals of one kind that wait for a busy process become one: so many are sent in vain at most. */
const UNTIL_ONE_ARRIVES = 1000;

let signals = 0;
const count = () => signals++;
process.on(WAKE_UP_SIGNAL, count);
after(() => process.off(WAKE_UP_SIGNAL, count));

/** Sends wake-up signals as another worker does, not from the thread that gets them. Resolves with the share of time that this thread was busy. */
async function busyWhileWoken(thread: number): Promise<number> {
  const before = signals;
  const sender = new Worker(
    `const { thread, signal, most } = require('node:worker_threads').workerData;
     let sent = 0;
     setInterval(() => sent++ < most && process.kill(thread, signal), 10);`,
    { eval: true, workerData: { thread, signal: WAKE_UP_SIGNAL, most: UNTIL_ONE_ARRIVES } },
  );
  await once(sender, 'online');
  const started = performance.eventLoopUtilization();
  while (signals - before < SIGNALS) await sleep(100);
  const { utilization } = performance.eventLoopUtilization(started);
  await sender.terminate();
  return utilization;
}

const SKIP = process.platform !== 'linux' && 'needs /proc';

test('wake-up signals do not count as busy time of the event loop, unlike signals to the main thread', {
  skip: SKIP,
}, async () => {
  const thread = wakeUpThread();
  assert.notEqual(thread, process.pid);
  const [woken, interrupted] = [await busyWhileWoken(thread), await busyWhileWoken(process.pid)];
  assert.ok(woken < interrupted / 2, `busy for ${woken} of the time, and ${interrupted} with signals to the main thread`);
});

test('where threads cannot be signalled, the process is', () => {
  mock.method(process, 'kill', () => {
    throw new Error('ESRCH');
  });
  assert.equal(wakeUpThread(), process.pid);
  mock.reset();
});
