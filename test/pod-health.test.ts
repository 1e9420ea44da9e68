/**
 * What the reports of several workers add up to: when a check keeps the pod out of rotation, and what is shown and logged of it.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type CheckingWorker, Health } from '../src/admin/health.ts';
import type { LifecycleEvent } from '../src/protocol/events.ts';
import type { CheckFailure, HealthReport } from '../src/protocol/health.ts';

const TIMED_OUT: CheckFailure = { kind: 'timed-out', afterMs: 5000 };
const SECRET = 'cannot connect to postgres://shop:hunter2@db';
const THREW: CheckFailure = {
  kind: 'threw',
  message: SECRET,
  summary: { class: 'Error', code: 'ECONNREFUSED', file: 'db.js', line: 7 },
};

/** A pod whose workers, clock and state the test sets. */
function pod({ starting = false } = {}) {
  const workers: { isServing: boolean; isActive: boolean }[] = [];
  const events: LifecycleEvent[] = [];
  const its = { now: 0, starting };
  const health = new Health({
    workers: () => workers,
    isStarting: () => its.starting,
    emit: event => events.push(event),
    now: () => its.now,
  });
  const start = () => {
    const worker = { isServing: true, isActive: true };
    workers.push(worker);
    return worker;
  };
  const remove = (worker: CheckingWorker) => workers.splice(workers.indexOf(worker as never), 1);
  const report = (
    worker: CheckingWorker,
    failures: number | undefined,
    change: Partial<HealthReport> & { failure?: CheckFailure } = {},
  ) => {
    const { failure = TIMED_OUT, ...rest } = change;
    const result = failures === undefined ? {} : { result: { failures, durationMs: 3, ...(failures > 0 && { failure }) } };
    health.receive(worker, { name: 'database', readiness: true, validMs: 25_000, ...rest, ...result });
  };
  return { health, workers, its, start, remove, report, names: () => events.map(({ event }) => event), events };
}

const OUT = 'check database: timed out after 5000 ms in 2 of 2 workers, 3 times in a row';

test('the pod is unready once a check has failed in every worker three times in a row, and ready again with the first success', () => {
  const { health, start, report, names } = pod();
  const [a, b] = [start(), start()];
  for (const failures of [undefined, 1]) for (const worker of [a, b]) report(worker, failures);
  for (const failures of [2, 3]) report(a, failures);
  report(b, 2);
  assert.deepEqual([health.whyNotReady, names()], [undefined, ['health.failing']]);
  report(b, 3);
  assert.equal(health.whyNotReady, OUT);
  report(a, 0);
  assert.equal(health.whyNotReady, undefined);
  assert.equal(health.whatFails, 'check database: timed out after 5000 ms in 1 of 2 workers, 3 times in a row');
  report(b, 0);
  assert.deepEqual(names(), ['health.failing', 'health.unready', 'health.ready', 'health.passing']);
});

test('a check without readiness takes nobody out', () => {
  const { health, start, report, names } = pod();
  const a = start();
  report(a, 9, { readiness: false });
  assert.deepEqual([health.whyNotReady, names()], [undefined, ['health.failing']]);
  assert.equal(health.whatFails, 'check database: timed out after 5000 ms in 1 of 1 workers, 9 times in a row');
});

test('a worker that has not run the check yet keeps the pod ready', () => {
  const { health, start, report } = pod();
  const [a, b] = [start(), start()];
  report(b, undefined);
  report(a, 3);
  assert.equal(health.whyNotReady, undefined);
  report(b, 1);
  assert.equal(health.whyNotReady, undefined);
  report(b, 3);
  assert.equal(health.whyNotReady, OUT);
});

test('a pod stays unready while a roll replaces all its workers, until one passes the check', () => {
  const { health, start, report, remove, names } = pod();
  const [a, b] = [start(), start()];
  for (const worker of [a, b]) report(worker, 3);
  for (const old of [a, b]) {
    const fresh = start();
    report(fresh, undefined);
    health.update();
    assert.ok(health.whyNotReady);
    report(fresh, 1);
    old.isServing = false;
    health.update();
    assert.ok(health.whyNotReady);
    remove(old);
    health.update();
    assert.ok(health.whyNotReady);
  }
  assert.deepEqual(names(), ['health.failing', 'health.unready']);
});

test('a pod stays unready across a moment without workers, and says why', () => {
  const { health, start, report, remove } = pod();
  const a = start();
  report(a, 3);
  remove(a);
  health.update();
  const b = start();
  health.update();
  report(b, undefined);
  assert.equal(health.whyNotReady, 'check database: timed out after 5000 ms, and no worker has passed it since');
  report(b, 0);
  assert.equal(health.whyNotReady, undefined);
});

test('the last success of a worker that is blocked or killed does not count once it is old', () => {
  const { health, its, start, report, remove } = pod();
  const [blocked, b] = [start(), start()];
  report(blocked, 0);
  report(b, 3);
  assert.equal(health.whyNotReady, undefined);
  its.now = 25_001;
  report(b, 4);
  assert.equal(health.whyNotReady, 'check database: timed out after 5000 ms in 1 of 2 workers, 4 times in a row');
  const other = pod();
  const [killed, c] = [other.start(), other.start()];
  other.report(killed, 0);
  other.report(c, 3);
  remove(killed);
  other.remove(killed);
  other.health.update();
  assert.ok(other.health.whyNotReady);
});

test('where every worker is blocked, the check is unknown and changes nothing', () => {
  const { health, its, start, report, names } = pod();
  report(start(), 0);
  its.now = 60_000;
  health.update();
  assert.deepEqual([health.status('open')?.database?.state, health.whyNotReady, names()], ['unknown', undefined, []]);
});

test('a pod that starts is ready only after the first success', () => {
  const { health, its, start, report, names } = pod({ starting: true });
  const [a, b] = [start(), start()];
  report(a, undefined);
  its.starting = false;
  report(b, undefined);
  assert.deepEqual([health.whyNotReady, names()], ['check database has not passed yet', []]);
  report(a, 1);
  assert.equal(health.whyNotReady, 'check database: timed out after 5000 ms in 1 of 2 workers');
  report(b, 0);
  assert.equal(health.whyNotReady, undefined);
  assert.deepEqual(names(), ['health.failing', 'health.unready', 'health.ready']);
  report(a, 2);
  assert.equal(health.whyNotReady, undefined);
});

test('a check that a later version of the app adds, and that fails, is treated as any other', () => {
  const { health, start, report } = pod();
  report(start(), undefined);
  assert.equal(health.whyNotReady, undefined);
});

test('a version of the app without the check, or without its readiness, makes the pod ready', () => {
  for (const change of ['removed', 'demoted']) {
    const { health, its, start, report, remove, names } = pod();
    const a = start();
    report(a, 3);
    remove(a);
    const b = start();
    if (change === 'demoted') report(b, 1, { readiness: false });
    health.update();
    assert.equal(health.whyNotReady === undefined, change === 'demoted');
    its.now = 60_001;
    health.update();
    assert.deepEqual([health.whyNotReady, names().at(-1)], [undefined, 'health.ready'], change);
    assert.equal(health.status('open') === undefined, change === 'removed');
  }
});

test('only operators see the text of the app; others see class, code and place', () => {
  const { health, events, start, report } = pod();
  report(start(), 3, { failure: THREW });
  const open = health.status('open')?.database;
  assert.deepEqual(open, {
    state: 'failing',
    seconds: 0,
    readiness: true,
    isUnready: true,
    workers: 1,
    failing: 1,
    failures: 3,
    durationMs: 3,
    failure: 'Error ECONNREFUSED at db.js:7',
  });
  assert.deepEqual(health.status('operator')?.database, { ...open, message: SECRET });
  assert.equal(health.whyNotReady, 'check database: Error ECONNREFUSED at db.js:7 in 1 of 1 workers, 3 times in a row');
  const errors = events.map(event => 'error' in event && event.error);
  assert.deepEqual(errors, Array(2).fill(`Error ECONNREFUSED at db.js:7: ${SECRET}`));
});

test('a condition that lasts is logged once, and a flap of one worker only where it changes the pod', () => {
  const { start, report, names } = pod();
  const [a, b] = [start(), start()];
  for (let failures = 1; failures < 50; failures++) {
    report(a, failures, { readiness: false });
    report(b, failures % 2, { readiness: false });
  }
  assert.deepEqual(names(), ['health.failing']);
});

test('names that keep changing do not grow the primary', () => {
  const { health, start, report } = pod();
  for (let worker = 0; worker < 20; worker++) {
    const its = start();
    for (let check = 0; check < 50; check++) report(its, 1, { name: `check-${worker}-${check}` });
  }
  assert.equal(Object.keys(health.status('open') ?? {}).length, 100);
  const one = pod();
  const its = one.start();
  for (let check = 0; check < 50; check++) one.report(its, 1, { name: `check-${check}` });
  assert.equal(Object.keys(one.health.status('open') ?? {}).length, 20);
});

test('the status, the log and the reason say for how long, in which workers, and how it fails most', () => {
  const { health, its, start, report, events } = pod();
  const [a, b, draining] = [start(), start(), start()];
  const returned: CheckFailure = { kind: 'returned', value: 'ok: false', message: '{ ok: false, lag: 9 }' };
  report(a, 0, { name: 'queue' });
  for (const worker of [a, b]) report(worker, 0);
  draining.isServing = false;
  report(draining, 9);
  its.now = 4000;
  report(a, 1);
  report(b, 2, { failure: returned });
  assert.equal(health.whatFails, 'check database: returned ok: false in 2 of 2 workers, 2 times in a row');
  its.now = 9000;
  health.update();
  const { state, seconds, failing, workers, failure, message } = health.status('operator')?.database ?? assert.fail();
  assert.deepEqual([state, seconds, failing, workers, failure], ['failing', 5, 2, 2, 'returned ok: false']);
  assert.equal(message, '{ ok: false, lag: 9 }');
  report(b, 3, { failure: returned });
  report(a, 3, { failure: { kind: 'returned', value: 'false', message: 'false' } });
  its.now = 12_000;
  for (const worker of [a, b]) report(worker, 0);
  const expected = [
    { event: 'health.failing', check: 'database', failing: 1, workers: 2, error: 'timed out after 5000 ms' },
    { event: 'health.unready', check: 'database', error: 'returned false' },
    { event: 'health.ready', check: 'database', ms: 3000 },
    { event: 'health.passing', check: 'database', ms: 8000 },
  ];
  assert.deepEqual(
    events.filter(({ event }) => event.startsWith('health.')),
    expected,
  );
  assert.equal(health.whatFails, undefined);
  its.now = 15_000;
  assert.deepEqual([health.status('open')?.database?.state, health.status('open')?.database?.seconds], ['ok', 3]);
});

test('a new worker beside one that is blocked makes the check neither unknown nor fine', () => {
  const { health, its, start, report, remove } = pod();
  const [blocked, fresh] = [start(), start()];
  report(blocked, 0);
  its.now = 25_000;
  health.update();
  assert.equal(health.status('open')?.database?.state, 'ok', 'not older than it may be');
  its.now = 25_001;
  report(fresh, undefined);
  assert.equal(health.status('open')?.database?.state, 'ok');
  its.now = 60_000;
  health.update();
  assert.equal(health.status('open')?.database?.state, 'unknown');
  report(fresh, 1);
  for (const worker of [blocked, fresh]) remove(worker);
  health.update();
  assert.equal(health.status('open')?.database?.state, 'failing', 'without workers it keeps its state');
});

test('during a roll to a version without readiness for a check, that of the old workers still counts', () => {
  const { health, start, report } = pod();
  const [old, fresh] = [start(), start()];
  report(old, 3);
  report(fresh, 3, { readiness: false });
  assert.ok(health.whyNotReady);
});
