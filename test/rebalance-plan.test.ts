/**
 * When connections move between workers that serve, over random loads: never from the less loaded one, never too many, and never to and fro.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type Candidate,
  LASTING_MS,
  MAX_PER_STEP,
  RebalancePlanner,
  type Rebalances,
  type Rebalancing,
  SILENT_MS,
  type Transfer,
} from '../src/pool/rebalance-plan.ts';

/** How often workers report. */
const REPORT_MS = 1000;

interface Worker {
  readonly name: number;
  connections: number;
  readonly maxConnections?: number | undefined;
  /** By how much `response-time` weights its connections. */
  readonly factor?: number;
  /** How many of its connections cannot move. */
  readonly fixed?: number;
  isSilent?: boolean;
}

/** Workers whose connections move as planned, in virtual time. */
class Pool {
  now = 0;
  readonly ended: Rebalancing<Worker>[] = [];
  readonly given = new Map<Worker, number>();
  readonly taken = new Map<Worker, number>();
  readonly planner = new RebalancePlanner<Worker>(rebalancing => this.ended.push(rebalancing));
  readonly workers: Worker[] = [];

  constructor(workers: readonly (number | Omit<Worker, 'name'>)[] = []) {
    for (const worker of workers) this.join(worker);
    // They have served for long.
    const before = this.workers.map(worker => ({ ...worker }));
    for (const worker of this.workers) Object.assign(worker, { connections: 0, isSilent: false });
    this.report('always');
    for (const [index, worker] of this.workers.entries()) Object.assign(worker, before[index]);
  }

  join(worker: number | Omit<Worker, 'name'>): void {
    const name = this.workers.length + 1;
    this.workers.push(typeof worker === 'number' ? { name, connections: worker } : { name, ...worker });
  }

  get connections(): number[] {
    return this.workers.map(({ connections }) => connections);
  }

  /** All report at once. What is planned then moves before the next report. */
  report(rebalances: Rebalances): Transfer<Worker>[] {
    this.now += REPORT_MS;
    const candidates: Candidate<Worker>[] = this.workers.map(worker => ({
      worker,
      connections: worker.connections,
      load: Math.round(worker.connections * (worker.factor ?? 1)),
      maxConnections: worker.maxConnections,
      reportedAt: worker.isSilent ? this.now - SILENT_MS : this.now,
    }));
    const transfers = this.planner.next(candidates, rebalances, this.now);
    for (const transfer of transfers) this.#move(transfer);
    return transfers;
  }

  #move({ from, to, count }: Transfer<Worker>): void {
    for (let moved = 0; moved < count; moved++) {
      if (from.connections <= (from.fixed ?? 0)) return;
      from.connections--;
      to.connections++;
      this.given.set(from, (this.given.get(from) ?? 0) + 1);
      this.taken.set(to, (this.taken.get(to) ?? 0) + 1);
      this.planner.onMoved(from, to, this.now + 1);
    }
  }

  reports(count: number, rebalances: Rebalances = 'always'): Transfer<Worker>[][] {
    return Array.from({ length: count }, () => this.report(rebalances));
  }
}

const total = (counts: Iterable<number>) => [...counts].reduce((sum, count) => sum + count, 0);
const aRule = fc.constantFrom<Rebalances>('always', 'joined');
const aWorker = fc.record({
  connections: fc.oneof(fc.nat(4), fc.nat(100), fc.nat(3000)),
  maxConnections: fc.option(fc.integer({ min: 1, max: 1500 }), { nil: undefined }),
  factor: fc.constantFrom(1, 1, 1, 3),
  isSilent: fc.constantFrom(false, false, false, true),
});

test('connections move only from a worker with more to one with fewer that may take them, at most 200 a second, and come to rest', () => {
  fc.assert(
    fc.property(
      fc.array(aWorker, { maxLength: 6 }),
      fc.array(aWorker, { minLength: 1, maxLength: 3 }),
      aRule,
      (old, joined, rule) => {
        const pool = new Pool(old);
        for (const worker of joined) pool.join({ ...worker });
        const steps = pool.workers.map(({ connections }) => connections).reduce((a, b) => a + b, 0) / MAX_PER_STEP + 1;
        for (let left = 2 * (steps + LASTING_MS / REPORT_MS + 2); left > 0; left--) {
          const before = new Map(pool.workers.map(worker => [worker, worker.connections]));
          const transfers = pool.report(rule);
          assert.ok(total(transfers.map(({ count }) => count)) <= MAX_PER_STEP);
          for (const { from, to, count } of transfers) {
            assert.ok(count > 0 && (before.get(from) ?? 0) - (before.get(to) ?? 0) >= 2);
            assert.ok(from.connections >= to.connections - 1, 'the receiver has more afterwards');
            assert.ok(to.connections <= (to.maxConnections ?? Number.POSITIVE_INFINITY));
            assert.ok(!to.isSilent && !from.isSilent);
            assert.ok((before.get(to) ?? 0) * ((to.factor ?? 1) - 1) === 0, 'to a slow worker');
            assert.ok(rule === 'always' || to.name > old.length, 'to a worker that has not joined');
          }
        }
        assert.deepEqual(pool.reports(10, rule).flat(), [], 'it has come to rest');
        for (const worker of pool.given.keys()) assert.ok(!pool.taken.has(worker), 'to and fro');
      },
    ),
    { numRuns: 1000 },
  );
});

test('workers that are free to take any number end within a fifth of the mean of each other, or one more', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(2000), { minLength: 2, maxLength: 8 }), counts => {
      const pool = new Pool(counts);
      const mean = total(counts) / counts.length;
      pool.reports(LASTING_MS / REPORT_MS + 2 + Math.ceil(total(counts) / MAX_PER_STEP) * 2);
      const difference = Math.max(...pool.connections) - Math.min(...pool.connections);
      assert.ok(difference < Math.max(2, 1 + Math.ceil(0.2 * mean)), pool.connections.join());
      assert.equal(total(pool.connections), total(counts));
    }),
    { numRuns: 300 },
  );
});

test('once even, workers stay so while their numbers change by less than a tenth', () => {
  const noise = fc.array(fc.array(fc.float({ min: -1, max: 1, noNaN: true }), { minLength: 4, maxLength: 4 }), {
    minLength: 30,
    maxLength: 60,
  });
  fc.assert(
    fc.property(fc.integer({ min: 10, max: 2000 }), noise, (mean, changes) => {
      const pool = new Pool([mean, mean, mean, mean]);
      for (const change of changes) {
        for (const [index, worker] of pool.workers.entries())
          worker.connections = mean + Math.round(0.09 * mean * (change[index] ?? 0));
        assert.deepEqual(pool.report('always'), []);
      }
    }),
    { numRuns: 200 },
  );
});

test('a worker that has joined gets its share at once, whatever the policy', () => {
  for (const rule of ['always', 'joined'] as const) {
    const pool = new Pool([64]);
    pool.join(0);
    assert.deepEqual(
      pool.report(rule).map(({ count }) => count),
      [32],
    );
    assert.deepEqual([pool.connections, pool.reports(10, rule).flat()], [[32, 32], []]);
    assert.deepEqual(
      pool.ended.map(({ moved, from, to, durationMs }) => [moved, [...from][0]?.name, [...to][0]?.name, durationMs]),
      [[32, 1, 2, 1]],
    );
  }
});

test('what takes several steps is one rebalancing', () => {
  const pool = new Pool([1000]);
  pool.join(0);
  const steps = pool.reports(10).flatMap(transfers => transfers.map(({ count }) => count));
  assert.deepEqual(
    [steps, pool.connections],
    [
      [200, 200, 100],
      [500, 500],
    ],
  );
  assert.deepEqual(
    pool.ended.map(({ moved }) => moved),
    [500],
  );
});

test('a few busy connections do not go to and fro', () => {
  const moves = (...counts: number[]) => {
    const pool = new Pool(counts);
    pool.reports(20);
    return pool.connections;
  };
  assert.deepEqual(moves(2, 1), [2, 1]);
  assert.deepEqual(moves(3, 0), [2, 1]);
  assert.deepEqual(moves(2, 0), [1, 1]);
  assert.deepEqual(moves(1, 0, 0), [1, 0, 0]);
});

test('without a worker that has joined, workers must be uneven for three seconds, and the policy must have a better-off one', () => {
  const pool = new Pool([40, 10]);
  assert.deepEqual(pool.reports(3).flat(), []);
  assert.equal(total(pool.report('always').map(({ count }) => count)), 15);
  assert.deepEqual(new Pool([40, 10]).reports(30, 'joined').flat(), []);
});

test('an unevenness that ends within three seconds moves nothing', () => {
  const pool = new Pool([40, 10]);
  const [first] = pool.workers;
  assert.ok(first);
  for (let seconds = 0; seconds < 30; seconds++) {
    first.connections = seconds % 3 === 0 ? 10 : 40;
    assert.deepEqual(pool.report('always'), []);
  }
});

test('if fewer than a tenth of them can move, the next try comes later and later, until another worker joins', () => {
  const pool = new Pool([{ connections: 100, fixed: 100 }]);
  pool.join(0);
  const triedAt = Array.from({ length: 200 }, () => (pool.report('always').length > 0 ? [pool.now / REPORT_MS] : [])).flat();
  const pauses = triedAt.slice(1).map((at, index) => at - (triedAt[index] ?? 0));
  assert.deepEqual(pauses, [3, 5, 9, 17, 33, 61, 61]);
  assert.deepEqual(pool.ended, []);
  pool.join(0);
  assert.equal(pool.report('always').length, 2);
});

test('a worker that has joined while another one was silent gets its share when that reports again', () => {
  const pool = new Pool([64]);
  const [busy] = pool.workers;
  assert.ok(busy);
  busy.isSilent = true;
  pool.join(0);
  assert.deepEqual(pool.reports(5, 'joined').flat(), []);
  busy.isSilent = false;
  assert.equal(pool.report('joined').length, 1);
});

test('reports from before the last move are not acted upon', () => {
  const pool = new Pool([64]);
  pool.join(0);
  pool.planner.onDrained(pool.now + REPORT_MS + 1);
  assert.deepEqual(pool.report('always'), []);
  assert.equal(pool.report('always').length, 1);
});
