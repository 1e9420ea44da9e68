/**
 * Reports of known workers, a second apart, and the utilization that follows by hand.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Utilization, type UtilizedWorker } from '../src/admin/utilization.ts';

/** What a worker used in one second: the share of time of its event loop, and CPU seconds of all its threads. */
type Second = { loop: number; cpu: number };
const IDLE: Second = { loop: 0, cpu: 0 };
const FULL: Second = { loop: 1, cpu: 1 };

class Pool {
  readonly #utilization = new Utilization();
  readonly workers: UtilizedWorker[] = [];
  cpus: number;
  now = 0;

  constructor(cpus: number, count: number) {
    this.cpus = cpus;
    for (let i = 0; i < count; i++) this.add();
  }

  /** A worker that has loaded its app with 3 s of CPU time, and reports for the first time. */
  add(state: UtilizedWorker['state'] = 'ready'): UtilizedWorker {
    const snapshot = { eventLoopUtilization: 1, cpuSeconds: { user: 2, system: 1 } };
    const worker = { state, reportedAt: this.now, snapshot };
    this.workers.push(worker);
    this.#sample();
    return worker;
  }

  /** `count` seconds in which worker i does what `seconds[i]` says; undefined: it reports nothing. */
  pass(count: number, ...seconds: (Second | undefined)[]): number | null {
    for (let i = 0; i < count; i++) {
      this.now += 1000;
      for (const [index, worker] of this.workers.entries()) {
        const second = seconds[index];
        if (second === undefined) continue;
        const { user, system } = worker.snapshot?.cpuSeconds ?? { user: 0, system: 0 };
        const snapshot = { eventLoopUtilization: second.loop, cpuSeconds: { user: user + second.cpu, system } };
        Object.assign(worker, { reportedAt: this.now, snapshot });
      }
      this.#sample();
    }
    return this.value;
  }

  get value(): number | null {
    return this.#utilization.value(this.workers, this.now);
  }

  #sample(): void {
    this.#utilization.sample(this.workers, this.cpus, this.now);
  }
}

test('utilization is the mean over the workers, idle ones included', () => {
  const pool = new Pool(4, 4);
  assert.equal(pool.pass(5, IDLE, IDLE, IDLE, IDLE), 0);
  assert.equal(new Pool(4, 4).pass(5, FULL, IDLE, IDLE, IDLE), 0.25);
  assert.equal(new Pool(2, 2).pass(5, { loop: 0.9, cpu: 0.8 }, { loop: 0.3, cpu: 0.2 }), 0.6);
});

test('it is the CPU time by the quota where native threads or the garbage collector use more than the event loops', () => {
  assert.equal(new Pool(2, 1).pass(5, { loop: 0.1, cpu: 1.6 }), 0.8);
  assert.equal(new Pool(4, 2).pass(5, { loop: 0.2, cpu: 2.4 }, { loop: 0.2, cpu: 0.4 }), 0.7);
});

test('a pool whose event loops are full is full, with CPUs to spare', () => {
  assert.equal(new Pool(4, 1).pass(5, FULL), 1);
});

test('a fraction of a CPU is full when its quota is used, and the value never exceeds 1', () => {
  assert.equal(new Pool(0.5, 1).pass(5, { loop: 0.3, cpu: 0.5 }), 1);
  assert.equal(new Pool(0.5, 1).pass(5, { loop: 0.3, cpu: 0.52 }), 1);
});

test('what a worker used while it loaded does not count', () => {
  const pool = new Pool(2, 2);
  assert.equal(pool.value, 0, 'ready, and nothing measured yet');
  assert.equal(pool.pass(1, IDLE, IDLE), 0);
});

test('a worker that starts, drains or is cordoned does not count', () => {
  const pool = new Pool(2, 2);
  for (const state of ['starting', 'draining', 'cordoned'] as const) pool.add(state);
  assert.equal(pool.pass(5, { loop: 0.4, cpu: 0.4 }, { loop: 0.4, cpu: 0.4 }, FULL, FULL, FULL), 0.4);
});

test('a cordoned worker counts again from its first report after it', () => {
  const pool = new Pool(1, 1);
  const [worker] = pool.workers;
  Object.assign(worker ?? {}, { state: 'cordoned' });
  assert.equal(pool.pass(20, FULL), null);
  Object.assign(worker ?? {}, { state: 'ready' });
  assert.equal(pool.pass(2, IDLE), 0);
});

test('without a ready worker there is no value', () => {
  assert.equal(new Pool(1, 0).value, null);
  const pool = new Pool(1, 0);
  pool.add('starting');
  assert.equal(pool.value, null);
});

test('it covers the last 15 seconds', () => {
  const pool = new Pool(1, 1);
  pool.pass(60, FULL);
  assert.equal(pool.pass(3, IDLE), 0.8);
  assert.equal(pool.pass(12, IDLE), 0);
});

test('a blocked event loop reports nothing, and counts as full until it does', () => {
  const pool = new Pool(2, 2);
  pool.pass(5, IDLE, IDLE);
  assert.equal(pool.pass(2, undefined, IDLE), 0, 'late by less than two reports');
  assert.equal(pool.pass(3, undefined, IDLE), 0.25, '5 of 20 worker seconds');
  assert.equal(pool.pass(20, undefined, IDLE), 0.5);
  assert.equal(pool.pass(1, { loop: 1, cpu: 26 }, IDLE), 0.5, 'its report covers the 26 s of silence');
  assert.equal(pool.pass(14, IDLE, IDLE), 0.341, '15 of 44 worker seconds');
});

test('a resized quota, and another number of workers, count from then on', () => {
  const pool = new Pool(1, 1);
  assert.equal(pool.pass(15, { loop: 0.1, cpu: 0.8 }), 0.8);
  pool.cpus = 2;
  pool.add();
  assert.equal(pool.pass(15, { loop: 0.1, cpu: 0.8 }, { loop: 0.1, cpu: 0 }), 0.4);
});
