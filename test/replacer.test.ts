/**
 * The order of steps in a replacement, in virtual time: workers are fakes, and change when the test says so.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Now, type Replaceable, ReplacementRefusedError, Replacer, RequestsLostError } from '../src/pool/replacer.ts';
import type { Plan } from '../src/pool/surge.ts';

type Fake = { -readonly [Key in keyof Replaceable]: Replaceable[Key] } & { isHung: boolean };

const LEDGER = { finished: 1, cutRequests: 0, cut: [], closedGracefully: 0, longestRequestMs: 1, durationMs: 5 };
const OLD_FIRST: Plan = { kind: 'old-first', why: 'no room' };

/** A pool of fakes, in place of the supervisor. */
class Pool {
  readonly workers: Fake[] = [];
  readonly steps: string[] = [];
  plan: Plan = { kind: 'surge' };
  now = 0;
  readonly wanted: number;
  readonly replacer: Replacer<Fake>;

  constructor(wanted: number) {
    this.wanted = wanted;
    this.replacer = new Replacer<Fake>({
      isHung: ({ isHung }) => isHung,
      endHung: worker => this.gone(worker, { reason: 'hung' }),
      mayLeave: worker => this.workers.some(other => other !== worker && other.state === 'ready'),
      isAlone: () => wanted === 1,
      plan: () => this.plan,
    });
    for (let id = 1; id <= wanted; id++) this.ready(this.fork());
  }

  fork(): Fake {
    const id = this.workers.length + 1;
    const worker: Fake = {
      id,
      pid: 100 + id,
      state: 'starting',
      get isActive() {
        return this.state !== 'draining' && this.state !== 'exited';
      },
      startedAt: this.now,
      readyAt: undefined,
      reason: undefined,
      failure: undefined,
      drain: undefined,
      snapshot: { inFlight: 3 },
      isHung: false,
      beginDrain(reason) {
        this.reason ??= reason;
        this.state = 'draining';
      },
    };
    this.workers.push(worker);
    return worker;
  }

  ready(worker: Fake): void {
    worker.state = 'ready';
    worker.readyAt = this.now;
  }

  gone(worker: Fake, change: Partial<Fake> = { drain: LEDGER }): void {
    Object.assign(worker, { state: 'exited', ...change });
  }

  of(id: number): Fake {
    const worker = this.workers[id - 1];
    assert.ok(worker, `there is no worker ${id}; so far: ${this.steps.join('; ')}`);
    return worker;
  }

  restart(reason: 'restart' | 'hung' = 'restart'): Promise<void> {
    const done = this.replacer.request([...this.workers], reason, step => this.steps.push(step));
    done.catch(() => undefined);
    return done;
  }

  /** Looks once after so many milliseconds. */
  tick(ms: number): void {
    this.now += ms;
    const active = () => this.workers.filter(worker => worker.isActive && !this.replacer.isExtra(worker)).length;
    for (let missing = this.wanted - active() - this.replacer.leaving; missing > 0; missing--) this.replacer.started(this.fork());
    const circumstances: Now<Fake> = {
      now: this.now,
      mayForkAt: 0,
      drainTimeoutMs: 1000,
      fork: () => this.fork(),
      isShort: active() < this.wanted,
    };
    this.replacer.look(circumstances);
  }
}

test('with surge the new worker serves for a second before the old one drains', () => {
  const pool = new Pool(1);
  void pool.restart();
  pool.tick(0);
  assert.deepEqual([pool.of(1).state, pool.of(2).state], ['ready', 'starting']);
  pool.ready(pool.of(2));
  pool.tick(999);
  assert.equal(pool.of(1).state, 'ready');
  pool.tick(1);
  assert.equal(pool.of(1).state, 'draining');
});

test('without surge each old worker ends before its new one starts, one after the other', async () => {
  const pool = new Pool(2);
  pool.plan = OLD_FIRST;
  const done = pool.restart();
  pool.tick(0);
  assert.equal(pool.of(1).state, 'draining');
  for (let count = 0; count < 10; count++) pool.tick(1000);
  assert.equal(pool.workers.length, 2, 'none starts while the old one exists');
  pool.gone(pool.of(1));
  pool.tick(1);
  assert.equal(pool.of(3).state, 'starting');
  assert.equal(pool.replacer.isExtra(pool.of(3)), false);
  pool.tick(5000);
  assert.equal(pool.of(2).state, 'ready', 'the other one serves as long as the new one does not');
  pool.ready(pool.of(3));
  pool.tick(1);
  pool.tick(900);
  assert.equal(pool.of(2).state, 'ready', 'nor before it has proved itself');
  for (let count = 0; count < 4; count++) pool.tick(1000);
  assert.equal(pool.of(2).state, 'draining');
  pool.gone(pool.of(2));
  pool.tick(1);
  pool.ready(pool.of(4));
  for (let count = 0; count < 4; count++) pool.tick(1000);
  await done;
  assert.deepEqual(pool.steps, [
    'draining worker 1 before its successor starts (no room); connections wait',
    'worker 1 is gone: 1 requests finished, 0 cut, 5 ms',
    'starting worker 3 in its place',
    'worker 3 (process 103) serves after 5000 ms',
    'draining worker 2 before its successor starts (no room); connections wait',
    'worker 2 is gone: 1 requests finished, 0 cut, 5 ms',
    'starting worker 4 in its place',
    'worker 4 (process 104) serves after 0 ms',
  ]);
});

test('without surge the last worker that serves stays until another one does', () => {
  const pool = new Pool(2);
  pool.plan = OLD_FIRST;
  pool.of(2).state = 'starting';
  void pool.replacer.request([pool.of(1)], 'restart');
  pool.tick(0);
  assert.equal(pool.of(1).state, 'ready');
  assert.equal(pool.replacer.dueAt(0), Number.POSITIVE_INFINITY, 'it waits for no time');
  pool.ready(pool.of(2));
  pool.tick(1);
  assert.equal(pool.of(1).state, 'draining');
});

test('without surge a new worker that fails to start ends the roll, and the pool starts another one', async () => {
  const pool = new Pool(2);
  pool.plan = OLD_FIRST;
  const done = pool.restart();
  pool.tick(0);
  pool.gone(pool.of(1));
  pool.tick(1);
  pool.gone(pool.of(3), { reason: 'crash', failure: 'Error: no database' });
  pool.tick(1);
  await assert.rejects(done, /worker 3, to replace worker 1, failed to start: Error: no database/);
  pool.tick(1);
  assert.deepEqual([pool.of(2).state, pool.of(4).state], ['ready', 'starting']);
});

test('a refused replacement changes nothing and has a reason', async () => {
  const pool = new Pool(2);
  pool.plan = { kind: 'refuse', why: 'no room at all' };
  const done = pool.restart();
  pool.tick(0);
  await assert.rejects(done, new ReplacementRefusedError('worker 1 is not replaced: no room at all'));
  assert.deepEqual([pool.workers.length, pool.steps], [2, []]);
});

test('an old worker killed by the kernel is reported, and the roll goes on and fails at its end', async () => {
  for (const wasDraining of [false, true]) {
    const pool = new Pool(2);
    const done = pool.restart();
    pool.tick(0);
    pool.ready(pool.of(3));
    if (wasDraining) pool.tick(1000);
    assert.equal(pool.of(1).state, wasDraining ? 'draining' : 'ready');
    pool.gone(pool.of(1), { reason: 'oom', failure: 'killed by the kernel for lack of memory' });
    for (let count = 0; count < 4; count++) pool.tick(1000);
    pool.ready(pool.of(4));
    pool.tick(1000);
    pool.gone(pool.of(2));
    pool.tick(1000);
    pool.tick(1);
    const words = 'worker 1 was killed by the kernel for lack of memory (oom) and lost its open requests (3 in its last report)';
    await assert.rejects(done, new RequestsLostError(words));
    assert.ok(pool.steps.includes(words));
    assert.doesNotMatch(pool.steps.join('\n'), /worker 1 is gone/);
  }
});

test('a new worker killed by the kernel is reported as such', async () => {
  const pool = new Pool(1);
  const done = pool.restart();
  pool.tick(0);
  pool.gone(pool.of(2), { reason: 'oom', failure: 'killed by the kernel for lack of memory' });
  pool.tick(1);
  await assert.rejects(done, /worker 2, to replace worker 1, failed to start: oom: killed by the kernel/);
  assert.equal(pool.of(1).state, 'ready');
});

test('a hung worker is killed at once if its successor does not fit beside it', () => {
  const pool = new Pool(2);
  pool.plan = OLD_FIRST;
  pool.of(1).isHung = true;
  void pool.replacer.request([pool.of(1)], 'hung');
  pool.tick(0);
  assert.deepEqual([pool.of(1).state, pool.of(1).reason], ['exited', 'hung']);
  pool.tick(1);
  assert.equal(pool.of(3).state, 'starting');
});

test('a roll ends if fewer workers are wanted than have ended', async () => {
  const pool = new Pool(1);
  pool.plan = OLD_FIRST;
  const done = pool.restart();
  pool.tick(0);
  Object.assign(pool, { wanted: 0 });
  pool.gone(pool.of(1));
  pool.tick(1);
  pool.tick(1);
  await done;
});

test('a new worker that a later restart ends before it has proved itself did not fail to start', async () => {
  const pool = new Pool(1);
  pool.plan = OLD_FIRST;
  const done = pool.restart('hung');
  pool.of(1).isHung = true;
  pool.tick(0);
  pool.tick(1);
  pool.ready(pool.of(2));
  pool.tick(1);
  pool.of(2).beginDrain('restart', 1000);
  pool.tick(1);
  pool.tick(1);
  await done;
});

test('if the pool gives up a new worker beside its old one, the old one is replaced by another', () => {
  const pool = new Pool(2);
  void pool.replacer.request([pool.of(1)], 'restart');
  pool.tick(0);
  pool.ready(pool.of(3));
  pool.of(3).beginDrain('scale-down', 1000);
  pool.gone(pool.of(3));
  for (let count = 0; count < 4; count++) pool.tick(1000);
  assert.equal(pool.of(4).state, 'starting');
  assert.equal(pool.of(1).state, 'ready');
});
