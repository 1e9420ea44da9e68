/**
 * Which worker is recycled for its memory, and how one is replaced when memory is short: in virtual time, with made-up sizes.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Footprints, planReplacement, type Replacement, SETTLED_AFTER_MS } from '../src/pool/memory.ts';
import { Recycling } from '../src/pool/recycling.ts';
import type { Headroom } from '../src/resources/usage.ts';

const MIB = 2 ** 20;
const SECOND = 1000;
const LIMITS = { workerMaxRequests: 0, workerMaxRequestsJitter: 0, workerMaxRssMb: 0, workerMaxAgeMs: 0 };
/** What all processes share, and the primary itself. */
const SHARED = 55;
const PRIMARY = 50;

interface Worker {
  id: number;
  readyAt: number;
  snapshot: undefined;
  maxRequests: 0;
  sizeMib: number;
}

/** A pool in a container, a second a step; sizes are private MiB. */
class Pool {
  readonly footprints = new Footprints<Worker>();
  readonly recycling: Recycling<Worker>;
  readonly limitMib: number | undefined;
  workers: Worker[] = [];
  now = 0;
  /** No request comes before. */
  idleUntil = 0;
  readonly recycled: number[] = [];
  /** The size of a worker when it becomes ready. */
  readonly freshMib: number;

  constructor(workers: number, freshMib: number, limitMib: number | undefined, workerMaxRssMb = 0) {
    this.recycling = new Recycling({ ...LIMITS, workerMaxRssMb }, this.footprints);
    this.freshMib = freshMib;
    this.limitMib = limitMib;
    this.workers = Array.from({ length: workers }, (_, index) => this.#fresh(index + 1));
  }

  get headroom(): Headroom | undefined {
    if (this.limitMib === undefined) return undefined;
    const used = PRIMARY + SHARED + this.workers.reduce((sum, { sizeMib }) => sum + sizeMib, 0);
    return { bytes: (this.limitMib - used) * MIB, limitBytes: this.limitMib * MIB, file: '/memory.max' };
  }

  /** Each worker has `sizeAt` of the seconds that it serves. */
  run(seconds: number, sizeAt: (servedS: number, worker: Worker) => number): void {
    for (let second = 0; second < seconds; second++) {
      this.now += SECOND;
      this.footprints.keep(this.workers);
      for (const worker of this.workers) {
        const servedS = (this.now - worker.readyAt) / SECOND;
        worker.sizeMib = servedS <= 1 ? this.freshMib : sizeAt(servedS, worker);
        const memory = { privateBytes: worker.sizeMib * MIB, sharedBytes: SHARED * MIB };
        this.footprints.note(worker, memory, this.#busySince(worker), this.now);
      }
      const due = this.recycling.due(this.workers, () => false, { headroom: this.headroom, now: this.now });
      for (const { worker, reason } of due) {
        assert.equal(reason, 'recycled-rss');
        this.recycled.push(this.now / SECOND);
        this.workers = this.workers.map(other => (other === worker ? this.#fresh(worker.id) : other));
      }
    }
  }

  #busySince({ readyAt }: Worker): number | undefined {
    return this.now < this.idleUntil ? undefined : Math.max(readyAt, this.idleUntil);
  }

  #fresh(id: number): Worker {
    return { id, readyAt: this.now, snapshot: undefined, maxRequests: 0, sizeMib: this.freshMib };
  }
}

describe('recycling by the headroom', () => {
  test('an app that fills its container and does not grow is never recycled', () => {
    // The case of the issue: 512 MiB, two workers with 150 MiB of data each.
    const pool = new Pool(2, 175, 512);
    pool.run(3600, () => 175);
    assert.deepEqual(pool.recycled, []);
    const tight = new Pool(2, 190, 512);
    tight.run(3600, servedS => 190 + Math.min(servedS / 10, 10));
    assert.deepEqual(tight.recycled, [], 'not with 7 MiB left either');
  });

  test('an app that loads its data at the first requests and fits is never recycled', () => {
    const steps = (servedS: number) => (servedS < 5 ? 45 : 180);
    for (const sizeAt of [steps, (servedS: number) => Math.min(45 + servedS * 40, 180)]) {
      const pool = new Pool(2, 45, 512);
      pool.run(3600, sizeAt);
      assert.deepEqual(pool.recycled, []);
    }
  });

  test('an app that is idle before its first requests is never recycled', () => {
    const pool = new Pool(2, 45, 512);
    pool.idleUntil = 600 * SECOND;
    pool.run(600, () => 45);
    pool.run(3600, () => 195);
    assert.deepEqual(pool.recycled, []);
  });

  test('a leak is recycled while there is room for a new worker beside the old one', () => {
    for (const perSecond of [10, 1, 0.05]) {
      const pool = new Pool(1, 45, 256);
      const recycledWith: number[] = [];
      while (pool.recycled.length < 3) {
        pool.run(1, servedS => 45 + servedS * perSecond);
        const { headroom } = pool;
        if (pool.recycled.length > recycledWith.length) recycledWith.push((headroom?.bytes ?? 0) / MIB);
        assert.ok((headroom?.bytes ?? 0) > 0, `${perSecond} MiB/s: killed after ${pool.now / SECOND} s`);
        assert.ok(pool.now < 100 * 3600 * SECOND, 'never recycled');
      }
      // With the fresh one only; the old one was 45 MiB above it at least.
      for (const mib of recycledWith) assert.ok(mib < 256 - PRIMARY - SHARED, `${mib}`);
    }
  });

  test('only the leaking worker is recycled', () => {
    const pool = new Pool(3, 50, 512);
    const others = pool.workers.slice(1);
    pool.run(600, (servedS, { id }) => (id === 1 ? 50 + servedS : 60));
    assert.ok(pool.recycled.length > 0);
    assert.deepEqual(pool.workers.slice(1), others);
  });

  test('a growing app without room for a second worker is recycled only just before memory runs out', () => {
    const pool = new Pool(2, 175, 512);
    let least = Number.POSITIVE_INFINITY;
    while (pool.recycled.length === 0) {
      least = (pool.headroom?.bytes ?? 0) / MIB;
      pool.run(1, servedS => 175 + servedS / 20);
      assert.ok((pool.headroom?.bytes ?? 0) > 0, 'killed');
    }
    assert.ok(least < 25, `${least} MiB were free`);
  });

  test('recycling that helps only briefly becomes rare instead of a loop', () => {
    // 60 MiB at each start, 170 after 90 s, whatever happens; the container holds one such worker and not much more.
    const pool = new Pool(1, 60, 290);
    pool.run(6 * 3600, servedS => 60 + Math.min(servedS, 110) * (servedS > 61 ? 1 : 0));
    const perHour = Array.from({ length: 6 }, (_, hour) => pool.recycled.filter(at => Math.floor(at / 3600) === hour).length);
    assert.ok((perHour[0] ?? 0) <= 10, String(perHour));
    assert.ok((perHour.at(-1) ?? 0) <= 1, String(perHour));
  });

  test('no worker is recycled without a limit, without data, or for memory that others in the container use', () => {
    const unlimited = new Pool(2, 45, undefined);
    unlimited.run(600, servedS => 45 + servedS * 10);
    assert.deepEqual(unlimited.recycled, []);
    const crowded = new Pool(2, 45, 180);
    crowded.run(600, () => 45);
    assert.deepEqual(crowded.recycled, []);
  });
});

describe('recycling by WORKER_MAX_RSS_MB', () => {
  test('a worker above WORKER_MAX_RSS_MB is recycled, with its shared pages counted', () => {
    const pool = new Pool(1, 45, undefined, 200);
    pool.run(10, servedS => 45 + servedS * 10);
    assert.deepEqual(pool.recycled, []);
    pool.run(1, servedS => 45 + servedS * 10);
    assert.equal(pool.recycled.length, 1);
  });

  test('a new worker above WORKER_MAX_RSS_MB is never recycled, and the reason is reported', () => {
    const pool = new Pool(2, 160, 512, 100);
    pool.run(3600, () => 160);
    assert.deepEqual(pool.recycled, []);
    assert.match(
      pool.recycling.pointless ?? '',
      /^a new worker uses 215 MiB when it starts, above WORKER_MAX_RSS_MB=100: no worker is recycled$/,
    );
    pool.recycling.change({ ...LIMITS, workerMaxRssMb: 300 });
    pool.run(60, () => 160);
    assert.equal(pool.recycling.pointless, undefined);
  });

  test('workers above WORKER_MAX_RSS_MB soon after each start are recycled rarely, and the reason is reported', () => {
    const pool = new Pool(2, 45, undefined, 150);
    pool.run(3600, servedS => Math.min(45 + servedS * 20, 160));
    assert.ok(pool.recycled.length <= 14, `${pool.recycled.length} in an hour`);
    assert.ok(pool.recycled.filter(at => at <= 60).length <= 2, 'each of the two once');
    assert.match(pool.recycling.pointless ?? '', /soon after its start/);
  });

  test('a leak that takes a quarter of an hour is recycled each time', () => {
    const pool = new Pool(1, 45, undefined, 190);
    pool.run(4 * 3600, servedS => 45 + servedS / 10);
    assert.ok(pool.recycled.length >= 15, String(pool.recycled.length));
    assert.equal(pool.recycling.pointless, undefined);
  });
});

describe('the memory of a new worker', () => {
  const [one, two] = [{ id: 1 }, { id: 2 }];
  const memory = (mib: number) => ({ privateBytes: mib * MIB, sharedBytes: SHARED * MIB });

  test('the memory of a new worker is that of others after a minute, before that theirs at the start, or now', () => {
    const footprints = new Footprints<object>();
    assert.equal(footprints.fresh, undefined);
    footprints.note(one, memory(40), 0, 0);
    footprints.note(two, memory(50), 0, 0);
    footprints.note(one, memory(90), 0, 5 * SECOND);
    const mib = () => Object.values(footprints.fresh ?? {}).map(value => (typeof value === 'number' ? value / MIB : value));
    assert.deepEqual(mib(), [40, 50, 90, false]);
    footprints.note(two, memory(70), 0, SETTLED_AFTER_MS);
    footprints.note(two, memory(300), 0, 2 * SETTLED_AFTER_MS);
    assert.deepEqual(mib(), [40, 70, 90, true], 'what one of two has now counts, if it is more');
    footprints.keep([]);
    assert.deepEqual(mib(), [40, 70, 90, true], 'known also when the last worker has gone');
  });

  test('the memory of a new worker is not known from workers without a request', () => {
    const footprints = new Footprints<object>();
    for (const now of [0, SETTLED_AFTER_MS, 10 * SETTLED_AFTER_MS]) footprints.note(one, memory(40), undefined, now);
    assert.equal(footprints.fresh?.isSettled, false);
  });

  test('only steady growth counts as growth, not a jump', () => {
    const footprints = new Footprints<object>();
    const at = (second: number, mib: number) => footprints.note(one, memory(mib), 0, second * SECOND);
    for (const [second, mib] of [40, 50, 60, 70, 80].entries()) at(second, mib);
    assert.equal((footprints.of(one)?.growthPerSecond ?? 0) / MIB, 10);
    for (const second of [5, 6, 7]) at(second, 80);
    assert.equal(footprints.of(one)?.growthPerSecond, 0);
  });
});

describe('RESTART_SURGE', () => {
  const limitBytes = 512 * MIB;
  const BASE: Replacement = {
    surge: 'auto',
    headroom: { bytes: 300 * MIB, limitBytes, file: '/memory.max' },
    fresh: { readyBytes: 160 * MIB, expectedBytes: 175 * MIB },
    oldBytes: 175 * MIB,
    isHung: false,
  };
  const free = (mib: number) => ({ headroom: { bytes: mib * MIB, limitBytes, file: '/memory.max' } });
  for (const [name, change, kind] of [
    ['auto: a surge where a worker fits beside the others', {}, 'surge'],
    ['auto: a surge without a limit', { headroom: undefined }, 'surge'],
    ['auto: a surge while no worker is known', { fresh: undefined, ...free(1) }, 'surge'],
    ['auto: the old one first where a worker fits, with nothing to spare', free(180), 'old-first'],
    ['auto: the old one first where a worker does not fit', free(100), 'old-first'],
    ['auto: refused where a new one does not fit in place of the old one either', { ...free(20), oldBytes: 60 * MIB }, 'refuse'],
    ['auto: a hung one goes nonetheless', { ...free(20), oldBytes: 60 * MIB, isHung: true }, 'old-first'],
    ['always: a surge in any case', { surge: 'always', ...free(-10) }, 'surge'],
    ['never: the old one first in any case', { surge: 'never' }, 'old-first'],
    ['never: also where memory is short', { surge: 'never', ...free(1), oldBytes: 0 }, 'old-first'],
  ] as const) {
    test(name, () => {
      assert.equal(planReplacement({ ...BASE, ...change }).kind, kind);
    });
  }

  test('the reason of RESTART_SURGE has the figures', () => {
    const plan = planReplacement({ ...BASE, ...free(100) });
    assert.deepEqual(plan, {
      kind: 'old-first',
      why: 'a new worker needs 195 MiB beside the others, but only 100 MiB of 512 MiB are free (/memory.max)',
    });
  });
});
