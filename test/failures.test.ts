/**
 * When the next worker may start and when the primary gives up, in virtual time: seconds here, milliseconds in the rules.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type EndedWorker, Failures, isFailedStart, type Verdict, type WorkerTimes } from '../src/pool/failures.ts';
import type { ExitReason } from '../src/protocol/exit.ts';

const LIMITS = { restartIntensity: 10, restartPeriodMs: 60_000, startTimeoutMs: 60_000 };

/** A pool of one worker, beside those in `up`. */
class Pool {
  readonly failures: Failures;
  now = 0;
  up: WorkerTimes[] = [];

  constructor(limits: Partial<typeof LIMITS> = {}) {
    this.failures = new Failures({ ...LIMITS, ...limits }, 0);
  }

  /** Waits until a worker may start, which ends after `seconds`, before it is ready. */
  failsToStart(seconds = 0.1, more: Partial<EndedWorker> = {}): Verdict {
    const startedAt = this.#start();
    this.now += seconds * 1000;
    return this.#ends({ startedAt, readyAt: undefined, ...more });
  }

  /** A worker starts, serves for `seconds`, and ends. */
  serves(seconds: number, reason: ExitReason = 'crash'): Verdict {
    const startedAt = this.#start();
    this.failures.ready();
    this.now += seconds * 1000;
    return this.#ends({ startedAt, readyAt: startedAt, reason });
  }

  #start(): number {
    if (this.failures.mayStart(1, this.now) === 0) this.now = this.failures.nextTryAt ?? Number.NaN;
    assert.equal(this.failures.mayStart(1, this.now), 1, `nothing may start at ${this.now}`);
    this.failures.started(1);
    return this.now;
  }

  #ends(worker: Partial<EndedWorker> & WorkerTimes): Verdict {
    return this.failures.ended({ reason: 'crash', isPermanent: false, ...worker }, true, this.up, this.now);
  }
}

const PERMANENT: Verdict = { kind: 'give-up', why: 'permanent' };
const TOO_LATE: Verdict = { kind: 'give-up', why: 'start-timeout' };
const CRASH_LOOP: Verdict = { kind: 'give-up', why: 'crash-loop' };

/** Runs until a verdict ends the pool; for an hour at most. */
function untilGivenUp(pool: Pool, life: () => Verdict): Verdict | undefined {
  while (pool.now < 3_600_000) {
    const verdict = life();
    if (verdict.kind === 'give-up') return verdict;
  }
  return undefined;
}

test('failed starts wait 0, 0.1, 0.2 … 5 s', () => {
  const pool = new Pool();
  const waits = Array.from({ length: 9 }, () => pool.failsToStart()).map(verdict =>
    verdict.kind === 'back-off' ? verdict.ms : 0,
  );
  assert.deepEqual(waits, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
});

test('every end of a worker before it is ready is a failed start', () => {
  for (const reason of ['crash', 'oom', 'killed', 'start-timeout', 'hung'] as const) {
    const pool = new Pool();
    pool.failsToStart(0.1, { reason });
    assert.deepEqual(pool.failsToStart(0.1, { reason }), { kind: 'back-off', ms: 100 }, reason);
  }
});

test('a worker that the primary ends during its start has not failed, and the next one may start', () => {
  const pool = new Pool();
  pool.failsToStart();
  pool.failsToStart();
  for (const reason of ['scale-down', 'restart', 'shutdown'] as const)
    assert.deepEqual(pool.failsToStart(0.1, { reason }), { kind: 'go-on' });
  assert.equal(pool.failures.failuresInARow, 2);
});

test('a start that can never succeed ends the pool at once, but not after a worker has served', () => {
  assert.deepEqual(new Pool().failsToStart(0.1, { isPermanent: true }), PERMANENT);
  const served = new Pool();
  served.serves(1, 'restart');
  assert.deepEqual(served.failsToStart(0.1, { isPermanent: true }), { kind: 'go-on' });
});

test('any other first start is retried until START_TIMEOUT_MS, whatever RESTART_INTENSITY is', () => {
  const pool = new Pool({ restartIntensity: 0 });
  assert.deepEqual(
    untilGivenUp(pool, () => pool.failsToStart()),
    TOO_LATE,
  );
  assert.ok(pool.now >= 60_000 && pool.now < 66_000, `${pool.now}`);
  assert.equal(new Pool().failures.startDeadlineAt, undefined, 'nothing has failed');
  const failing = new Pool();
  failing.failsToStart();
  assert.equal(failing.failures.startDeadlineAt, 60_000);
  failing.serves(1, 'restart');
  assert.equal(failing.failures.startDeadlineAt, undefined, 'a worker has served');
});

test('starts that fail for hours beside a worker that serves only back off', () => {
  const pool = new Pool({ restartIntensity: 0 });
  pool.serves(1, 'restart');
  pool.up = [{ startedAt: 0, readyAt: 0 }];
  assert.equal(
    untilGivenUp(pool, () => pool.failsToStart()),
    undefined,
  );
});

test('a worker that crashes on its first requests beside a healthy one never ends the pool', () => {
  const pool = new Pool();
  pool.up = [{ startedAt: 0, readyAt: 0 }];
  assert.equal(
    untilGivenUp(pool, () => pool.serves(0.2)),
    undefined,
  );
});

test('the primary gives up when its only worker keeps dying 2 s after it is ready and the budget is spent', () => {
  const pool = new Pool();
  let lives = 0;
  const verdict = untilGivenUp(pool, () => {
    lives++;
    return pool.serves(2);
  });
  assert.deepEqual([verdict, lives], [CRASH_LOOP, 11]);
});

test('the primary does not give up before 10 s without a stable worker, however small the budget', () => {
  const pool = new Pool({ restartIntensity: 0 });
  assert.deepEqual(
    untilGivenUp(pool, () => pool.serves(0.5)),
    CRASH_LOOP,
  );
  assert.ok(pool.now >= 10_000 && pool.now < 20_000, `${pool.now}`);
});

test('a worker that has served for 10 s restores the budget', () => {
  const pool = new Pool({ restartIntensity: 1 });
  assert.equal(
    untilGivenUp(pool, () => pool.serves(15)),
    undefined,
  );
});

test('the primary of a pool that has served, and cannot start again, gives up after 10 s at the earliest', () => {
  const pool = new Pool({ restartIntensity: 3 });
  pool.serves(100);
  assert.deepEqual(
    untilGivenUp(pool, () => pool.failsToStart()),
    CRASH_LOOP,
  );
  assert.ok(pool.now >= 110_000 && pool.now < 120_000, `${pool.now}`);
});

test('crashes older than RESTART_PERIOD_MS do not count', () => {
  const pool = new Pool({ restartIntensity: 2, restartPeriodMs: 4000 });
  // Workers that live for 9 s are not stable, and never crash twice within 4 s.
  assert.equal(
    untilGivenUp(pool, () => pool.serves(9)),
    undefined,
  );
});

test('a failure of a stable worker starts a new series of back-offs', () => {
  const pool = new Pool();
  for (let count = 0; count < 5; count++) pool.failsToStart();
  assert.deepEqual(pool.serves(11), { kind: 'go-on' });
  assert.deepEqual(pool.failsToStart(), { kind: 'back-off', ms: 100 });
});

test('a failure after a later worker was stable starts a new series of back-offs', () => {
  const pool = new Pool();
  for (let count = 0; count < 5; count++) pool.failsToStart();
  pool.up = [{ startedAt: pool.now + 1, readyAt: pool.now + 1 }];
  pool.now += 11_000;
  assert.deepEqual(pool.failsToStart(), { kind: 'go-on' });
});

test('a single kill of a serving worker is not a crash and does not back off', () => {
  const pool = new Pool({ restartIntensity: 0 });
  for (let count = 0; count < 100; count++) assert.deepEqual(pool.serves(11, 'killed'), { kind: 'go-on' });
});

test('a worker that is killed repeatedly soon after it is ready backs off, and never ends the pool', () => {
  const pool = new Pool();
  for (let count = 0; count < 10; count++) assert.deepEqual(pool.serves(1, 'killed'), { kind: 'go-on' });
  assert.equal(
    untilGivenUp(pool, () => pool.serves(1, 'killed')),
    undefined,
  );
  assert.ok(pool.failures.failuresInARow > 10);
});

test('a worker missing for another reason does not wait for failing ones', () => {
  const { failures } = new Pool();
  const failed = (at: number) =>
    failures.ended({ startedAt: at, readyAt: undefined, reason: 'crash', isPermanent: false }, true, [], at);
  failed(0);
  failed(0);
  assert.equal(failures.mayStart(1, 0), 0, 'the failed one waits');
  assert.equal(failures.mayStart(2, 0), 1, 'the other one does not');
  assert.equal(failures.mayStart(2, 100), 2);
});

test('failing workers are retried one at a time, until one serves', () => {
  const { failures } = new Pool();
  const failed = () => failures.ended({ startedAt: 0, readyAt: undefined, reason: 'crash', isPermanent: false }, true, [], 0);
  for (let count = 0; count < 4; count++) failed();
  assert.equal(failures.mayStart(3, 1000), 1);
  failures.started(3);
  assert.equal(failures.mayStart(2, 1000), 0);
  assert.equal(failures.mayStart(3, 1000), 1, 'one more that is missing is not held back');
  failures.ready();
  assert.equal(failures.mayStart(2, 1000), 1);
  failures.started(2);
  failures.ready();
  failures.whole();
  assert.equal(failures.mayStart(2, 0), 2, 'what is missing later is not held back');
});

test('a worker that becomes ready does not shorten the wait of failed ones', () => {
  const { failures } = new Pool();
  const failed = () => failures.ended({ startedAt: 0, readyAt: undefined, reason: 'oom', isPermanent: false }, true, [], 0);
  for (let count = 0; count < 4; count++) failed();
  failures.ready();
  assert.equal(failures.mayStart(3, 399), 0);
  assert.equal(failures.mayStart(3, 400), 1);
});

test('workers killed one after the other for lack of memory back off, however long each has served', () => {
  const { failures } = new Pool();
  failures.ready();
  const killed = (at: number) =>
    failures.ended({ startedAt: 0, readyAt: 0, reason: 'oom', isPermanent: false }, true, [{ startedAt: 0, readyAt: 0 }], at);
  assert.deepEqual([100_000, 101_000, 102_000, 200_000].map(killed), [
    { kind: 'go-on' },
    { kind: 'back-off', ms: 100 },
    { kind: 'back-off', ms: 200 },
    { kind: 'go-on' },
  ]);
});

test('only workers killed within RESTART_PERIOD_MS make a series', () => {
  const killedEvery = (seconds: number) => {
    const pool = new Pool({ restartIntensity: 2, restartPeriodMs: 10_000 });
    return Array.from({ length: 4 }, () => {
      pool.now += (seconds - 1) * 1000;
      return pool.serves(1, 'killed').kind;
    });
  };
  assert.deepEqual(killedEvery(6), ['go-on', 'go-on', 'go-on', 'go-on']);
  assert.deepEqual(killedEvery(2), ['go-on', 'go-on', 'go-on', 'back-off']);
});

test('a worker that was stable before it was killed makes no series', () => {
  const pool = new Pool({ restartIntensity: 0 });
  for (let count = 0; count < 5; count++) assert.equal(pool.serves(11, 'killed').kind, 'go-on');
  assert.equal(pool.failures.failuresInARow, 0);
});

test('a pool does not give up while another worker is up, though none was stable', () => {
  const pool = new Pool({ restartIntensity: 1 });
  pool.up = [{ startedAt: 0, readyAt: 1e9 }];
  pool.now = 20_000;
  for (let count = 0; count < 10; count++) assert.notEqual(pool.serves(1).kind, 'give-up');
});

test('failures after a stable worker are a new series only if it started after the last failure', () => {
  const backOffOf = (startedAt: number) => {
    const { failures } = new Pool();
    failures.ready();
    const failed = (up: WorkerTimes[], at: number) =>
      failures.ended({ startedAt: at, readyAt: undefined, reason: 'crash', isPermanent: false }, true, up, at);
    for (let count = 0; count < 3; count++) failed([], 1000);
    return failed([{ startedAt, readyAt: 2000 }], 20_000);
  };
  assert.deepEqual(backOffOf(500), { kind: 'back-off', ms: 400 });
  assert.deepEqual(backOffOf(1000), { kind: 'back-off', ms: 400 });
  assert.deepEqual(backOffOf(1500), { kind: 'go-on' });
});

test('a worker that was ready has no failed start, and none waits to be tried without a failure', () => {
  assert.equal(isFailedStart({ readyAt: 1, reason: 'crash' }), false);
  assert.equal(isFailedStart({ readyAt: undefined, reason: 'crash' }), true);
  assert.equal(new Pool().failures.nextTryAt, undefined);
});

test('workers fail since the start of the first one that failed to start, or since one ended that had served', () => {
  const at = (readyAt: number | undefined) => {
    const { failures } = new Pool();
    failures.ended({ startedAt: 1000, readyAt, reason: 'crash', isPermanent: false }, true, [], 3000);
    return failures.failingSince;
  };
  assert.deepEqual([at(undefined), at(2000)], [1000, 3000]);
});

test('START_TIMEOUT_MS counts from the start of the pool', () => {
  const failures = new Failures({ ...LIMITS, startTimeoutMs: 10_000 }, 5000);
  const failed = (at: number) =>
    failures.ended({ startedAt: at, readyAt: undefined, reason: 'crash', isPermanent: false }, true, [], at);
  assert.notEqual(failed(14_999).kind, 'give-up');
  assert.deepEqual(failed(15_000), TOO_LATE);
});

test('a failed replacement does not hold back a missing worker', () => {
  const { failures } = new Pool();
  const failed = () => failures.ended({ startedAt: 0, readyAt: undefined, reason: 'crash', isPermanent: false }, false, [], 0);
  for (let count = 0; count < 4; count++) failed();
  assert.equal(failures.nextStartAt, 400);
  assert.equal(failures.mayStart(1, 0), 1);
});

test('a complete pool has no failing workers', () => {
  const pool = new Pool();
  pool.now = 5000;
  pool.failsToStart(1);
  pool.failsToStart(1);
  assert.equal(pool.failures.failingSince, 5000);
  pool.failures.whole();
  assert.equal(pool.failures.failingSince, undefined);
});

test('failures beside a stable worker do not count once their period is over', () => {
  const pool = new Pool({ restartIntensity: 1, restartPeriodMs: 1000 });
  pool.failures.ready();
  const healthy: EndedWorker = { startedAt: 0, readyAt: 0, reason: 'killed', isPermanent: false };
  pool.now = 20_000;
  pool.up = [healthy];
  for (let count = 0; count < 4; count++) pool.failsToStart();
  pool.up = [];
  pool.failures.ended(healthy, true, [], pool.now);
  pool.now += 15_000;
  assert.notEqual(pool.failsToStart().kind, 'give-up');
});

test('a crash that is reported and then seen as an exit counts once', () => {
  const { failures } = new Pool();
  const worker: EndedWorker = { startedAt: 0, readyAt: 0, reason: 'crash', isPermanent: false };
  failures.ended(worker, true, [], 1000);
  failures.ended(worker, true, [], 2000);
  assert.equal(failures.failuresInARow, 1);
});
