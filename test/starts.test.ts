/**
 * How many workers start at the same time, and when a pool counts as started, in virtual time.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Count, Failures, Starts } from '../src/pool/failures.ts';

const LIMITS = { restartIntensity: 10, restartPeriodMs: 60_000, startTimeoutMs: 60_000 };
const GIVE_OTHERS_MS = 30_000;

function startsOn(cpus: number) {
  const failures = new Failures(LIMITS, 0);
  const starts = new Starts(failures, { cpus: { quota: null, cpuset: null, effective: cpus, source: 'test' } }, 0);
  const started = (count: Partial<Count>, now: number) =>
    starts.take({ pool: 0, wanted: 1, up: 0, serving: 0, starting: [], ...count }, now);
  const failed = (now: number) =>
    failures.ended({ startedAt: now, readyAt: undefined, reason: 'crash', isPermanent: false }, true, [], now);
  return { failures, starts, started, failed };
}

test('the first worker starts alone, until it is ready or 250 ms have passed', () => {
  const { starts, started } = startsOn(8);
  assert.equal(started({ wanted: 8 }, 0), 1);
  assert.equal(started({ wanted: 8, pool: 1, starting: [0] }, 249), 0);
  assert.equal(starts.dueAt({ starting: [] }, 100, GIVE_OTHERS_MS), 250);
  assert.equal(started({ wanted: 8, pool: 1, starting: [0] }, 250), 7);
  const early = startsOn(8);
  early.starts.ready(100);
  assert.equal(early.starts.dueAt({ starting: [] }, 100, GIVE_OTHERS_MS), 120);
  assert.equal(early.started({ wanted: 8, pool: 1 }, 120), 7);
});

test('as many workers start at the same time as there are CPUs, at least two', () => {
  for (const [cpus, most] of [
    [0.5, 2],
    [1, 2],
    [2.5, 3],
    [16, 16],
  ] as const) {
    const { started } = startsOn(cpus);
    assert.equal(started({ wanted: 999 }, 1000), most);
    assert.equal(started({ wanted: 999, pool: most, starting: Array(most).fill(1000) }, 1000), 0);
    assert.equal(started({ wanted: 999, pool: most, starting: Array(most - 1).fill(1000) }, 1000), 1);
  }
});

test('missing workers start together with the one that is retried', () => {
  const { failures, started, failed } = startsOn(8);
  failed(1000);
  failed(1000);
  assert.equal(started({ wanted: 3 }, 1050), 2);
  assert.equal(started({ wanted: 3 }, 1100), 3);
  assert.equal(failures.nextTryAt, undefined, 'none waits');
});

test('workers that take longer than 5 s to start do not block others', () => {
  const { starts, started } = startsOn(1);
  const hanging = { wanted: 4, pool: 3, starting: [1000, 2000] };
  assert.equal(started(hanging, 5999), 0);
  assert.equal(starts.dueAt(hanging, 5999, GIVE_OTHERS_MS), 6000);
  assert.equal(started(hanging, 6000), 1);
});

test('more CPUs start more workers at a time', () => {
  const { starts, started } = startsOn(1);
  starts.resized({ cpus: { quota: null, cpuset: null, effective: 4, source: 'test' } });
  assert.equal(started({ wanted: 9 }, 1000), 4);
});

test('a pool has started, once, when all wanted workers serve', () => {
  const { starts } = startsOn(2);
  const count = { pool: 2, wanted: 2, starting: [] };
  assert.equal(starts.note({ ...count, up: 1, serving: 1 }, 1000, GIVE_OTHERS_MS), false);
  assert.equal(starts.note({ ...count, up: 2, serving: 2 }, 1001, GIVE_OTHERS_MS), true);
  assert.equal(starts.note({ ...count, up: 2, serving: 2 }, 1002, GIVE_OTHERS_MS), false);
  assert.equal(starts.hasStarted, true);
});

test('a pool has started without workers that have failed for WORKER_START_TIMEOUT_MS, if another one serves', () => {
  const { starts, failed } = startsOn(2);
  const count = { pool: 2, wanted: 2, starting: [0] };
  failed(5000);
  assert.ok(starts.dueAt({ starting: [] }, 6000, GIVE_OTHERS_MS) <= 35_000);
  assert.equal(starts.note({ ...count, up: 0, serving: 0 }, 35_000, GIVE_OTHERS_MS), false);
  assert.equal(starts.note({ ...count, up: 1, serving: 1 }, 34_999, GIVE_OTHERS_MS), false);
  assert.equal(starts.note({ ...count, up: 1, serving: 1 }, 35_000, GIVE_OTHERS_MS), true);
});

test('a pool with a cordoned worker is complete and has no failing worker', () => {
  const { failures, starts, failed } = startsOn(2);
  failed(1000);
  starts.note({ pool: 2, wanted: 2, up: 1, serving: 1, starting: [] }, 2000, GIVE_OTHERS_MS);
  assert.equal(failures.failingSince, 1000);
  starts.note({ pool: 2, wanted: 2, up: 2, serving: 1, starting: [] }, 3000, GIVE_OTHERS_MS);
  assert.equal(failures.failingSince, undefined);
});

test('a pool waits for slow workers that have not failed', () => {
  const { starts } = startsOn(2);
  assert.equal(starts.note({ pool: 2, wanted: 2, up: 1, serving: 1, starting: [0] }, 1e9, GIVE_OTHERS_MS), false);
});
