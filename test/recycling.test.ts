/**
 * Which worker is recycled for its memory, and how one is replaced when memory is short: in virtual time, with made-up sizes.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Footprints, planReplacement, type Replacement, SETTLED_AFTER_MS } from '../src/pool/memory.ts';
import { type Recyclable, Recycling } from '../src/pool/recycling.ts';
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

describe('which worker is recycled when memory is short', () => {
  const MINUTE = 60 * SECOND;
  const LIMIT_MIB = 500;
  const RESERVE = LIMIT_MIB * 0.04;
  /** Two workers, settled at 100 MiB, that now take `sizes`, with `freeMib` left; the numbers of those that are recycled. */
  function recycled(sizes: readonly [number, number], freeMib: number, isConcerned = false): number[] {
    const footprints = new Footprints<Worker>();
    const workers = sizes.map(
      (sizeMib, index) => ({ id: index + 1, readyAt: 0, snapshot: undefined, maxRequests: 0, sizeMib }) as const,
    );
    const note = (worker: Worker, mib: number, now: number) =>
      footprints.note(worker, { privateBytes: mib * MIB, sharedBytes: SHARED * MIB }, 0, now);
    for (const worker of workers) for (const now of [0, MINUTE]) note(worker, 100, now);
    for (const worker of workers) note(worker, worker.sizeMib, 10 * MINUTE);
    const headroom = { bytes: freeMib * MIB, limitBytes: LIMIT_MIB * MIB, file: '/memory.max' };
    return new Recycling<Worker>(LIMITS, footprints)
      .due(workers, () => isConcerned, { headroom, now: 10 * MINUTE })
      .map(({ worker }) => worker.id);
  }

  test('the one that has grown most, as soon as a new worker and the reserve no longer fit', () => {
    assert.deepEqual(recycled([200, 210], 100 + RESERVE), []);
    assert.deepEqual(recycled([200, 210], 99.9 + RESERVE), [2]);
    assert.deepEqual(recycled([210, 200], 99.9 + RESERVE), [1]);
  });

  test('none if it has grown by less than 16 MiB and a quarter of a new worker', () => {
    assert.deepEqual(recycled([140.9, 140.9], 60), []);
    assert.deepEqual(recycled([100, 141], 80), [2]);
  });

  test('with less than the reserve left, a growth of 16 MiB is enough', () => {
    assert.deepEqual(recycled([100, 116], RESERVE - 0.1), [2]);
    assert.deepEqual(recycled([100, 115.9], RESERVE - 0.1), []);
    assert.deepEqual(recycled([100, 116], RESERVE), []);
  });

  test('none while new workers would leave no room for one more, until the reserve is used up', () => {
    assert.deepEqual(recycled([145, 100], 74.9), []);
    assert.deepEqual(recycled([145, 100], 75), [1]);
    assert.deepEqual(recycled([145, 100], RESERVE), []);
    assert.deepEqual(recycled([145, 100], RESERVE - 0.1), [1]);
  });

  test('a worker smaller than a new one makes no room', () => {
    assert.deepEqual(recycled([145, 20], 75), [1]);
  });

  test('none while another one is being replaced', () => {
    assert.deepEqual(recycled([200, 210], 10, true), []);
  });
});

describe('recycling by requests and age', () => {
  const served = (id: number, requests: number | undefined, readyAt: number | undefined = 0, maxRequests = 100) => ({
    id,
    readyAt,
    maxRequests,
    snapshot: requests === undefined ? undefined : { requests },
  });
  type Served = Recyclable & { id: number };
  function due(limits: Partial<typeof LIMITS>, pool: readonly Served[], now: number, isConcerned = (_: Served) => false) {
    const recycling = new Recycling<Served>({ ...LIMITS, ...limits }, new Footprints<Served>());
    return recycling.due(pool, isConcerned, { headroom: undefined, now }).map(({ worker, reason }) => [worker.id, reason]);
  }

  test('a worker is due at its limit of requests, if it has one', () => {
    const pool = [served(1, 99), served(2, 100), served(3, undefined), served(4, 1000, 0, 0)];
    assert.deepEqual(due({}, pool, 0), [[2, 'recycled-requests']]);
  });

  test('a worker is due at WORKER_MAX_AGE_MS after it was ready', () => {
    const pool = [served(1, 0, 1000), served(2, 0, 1001), { ...served(3, 0), readyAt: undefined }];
    assert.deepEqual(due({ workerMaxAgeMs: 5000 }, pool, 6000), [[1, 'recycled-age']]);
    assert.deepEqual(due({}, pool, 6000), []);
  });

  test('a worker that is already being replaced is not due again', () => {
    const pool = [served(1, 100), served(2, 100)];
    assert.deepEqual(
      due({}, pool, 0, ({ id }) => id === 1),
      [[2, 'recycled-requests']],
    );
  });

  test('the jitter adds up to WORKER_MAX_REQUESTS_JITTER requests', () => {
    const draw = (workerMaxRequests: number, random: number) =>
      new Recycling({ ...LIMITS, workerMaxRequests, workerMaxRequestsJitter: 10 }, new Footprints<Served>()).drawMaxRequests(
        () => random,
      );
    assert.deepEqual([draw(100, 0), draw(100, 0.5), draw(100, 0.999), draw(0, 0.999)], [100, 105, 110, 0]);
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

  test('recycling that never helps waits 1 min, then twice as long each time, up to an hour', () => {
    const pool = new Pool(1, 45, undefined, 150);
    pool.run(5 * 3600, servedS => (servedS < 5 ? 45 : 160));
    const gaps = pool.recycled.map((at, index) => at - (pool.recycled[index - 1] ?? 0));
    assert.deepEqual(gaps, [5, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]);
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

  test('growth is the least of the last three rates, and known after four readings', () => {
    const rateOf = (...sizes: number[]) => {
      const footprints = new Footprints<object>();
      for (const [second, mib] of sizes.entries()) footprints.note(one, memory(mib), 0, second * SECOND);
      return (footprints.of(one)?.growthPerSecond ?? 0) / MIB;
    };
    assert.equal(rateOf(40, 50, 60), 0);
    assert.equal(rateOf(40, 50, 70, 75), 5);
    assert.equal(rateOf(40, 41, 51, 61, 71), 10, 'older readings no longer count');
  });

  test('the replacement of a worker is planned with what it takes and what a new one will take', () => {
    const footprints = new Footprints<object>();
    assert.deepEqual(footprints.replacementOf(one, 'restart'), { fresh: undefined, oldBytes: 0, isHung: false });
    footprints.note(one, memory(40), 0, 0);
    footprints.note(one, memory(90), 0, SECOND);
    const planned = (reason: 'restart' | 'recycled-rss' | 'hung') => {
      const { fresh, oldBytes, isHung } = footprints.replacementOf(one, reason);
      return [(fresh?.readyBytes ?? 0) / MIB, (fresh?.expectedBytes ?? 0) / MIB, oldBytes / MIB, isHung];
    };
    assert.deepEqual(planned('restart'), [40, 90, 90, false]);
    assert.deepEqual(planned('hung'), [40, 90, 90, true]);
    assert.deepEqual(planned('recycled-rss'), [40, 40, 90, false], 'a leak says nothing about a new one');
  });

  test('the memory of workers that have gone no longer counts', () => {
    const footprints = new Footprints<object>();
    footprints.note(one, memory(90), 0, 0);
    footprints.note(two, memory(50), 0, 0);
    footprints.keep([two]);
    assert.equal((footprints.fresh?.settledBytes ?? 0) / MIB, 50);
    assert.equal(footprints.of(one), undefined);
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

  test('a worker that fits exactly is started beside the others, or in place of the old one', () => {
    const small = { limitBytes: 100 * MIB, file: '/memory.max' };
    const kindWith = (bytes: number) => planReplacement({ ...BASE, headroom: { ...small, bytes } }).kind;
    assert.deepEqual(
      [kindWith((175 + 16) * MIB), kindWith((175 + 16) * MIB - 1)],
      ['surge', 'old-first'],
      'at least 16 MiB stay free',
    );
    assert.deepEqual([kindWith(-15 * MIB), kindWith(-15 * MIB - 1)], ['old-first', 'refuse']);
  });

  test('the reason of RESTART_SURGE has the figures', () => {
    const plan = planReplacement({ ...BASE, ...free(100) });
    assert.deepEqual(plan, {
      kind: 'old-first',
      why: 'a new worker needs 195 MiB beside the others, but only 100 MiB of 512 MiB are free (/memory.max)',
    });
  });
});
