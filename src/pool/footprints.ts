/**
 * Memory use of the workers: the private pages of each when it became ready, after it has served for a while, and now. From these the pool
 * estimates what a new worker will use. Keeps numbers only; other modules read them and act on them. Times are of the
 * monotonic clock, in milliseconds; sizes are in bytes.
 */
import type { ProcessMemory } from '../resources/usage.ts';

/** By then an app has loaded what it loads on first use. */
export const SETTLED_AFTER_MS = 60_000;
/** A worker counts as growing after this many readings in a row, a second apart, that are each larger. */
const GROWING_FOR = 3;

export interface Footprint {
  /** Private pages in the first reading after it became ready. */
  readyBytes: number;
  /** With the shared ones. */
  readyResidentBytes: number;
  /** After SETTLED_AFTER_MS of requests; undefined before. */
  settledBytes: number | undefined;
  latestBytes: number;
  latestResidentBytes: number;
  /** Of steady growth; 0 without it. */
  growthPerSecond: number;
}

interface Tracked extends Footprint {
  trail: { at: number; bytes: number }[];
}

/** What a new worker uses. */
export interface Fresh {
  /** The least that any worker used when it became ready. */
  readyBytes: number;
  /** The most that any worker used after a while; until one has served that long, when it became ready. */
  settledBytes: number;
  /** At least that, what half of them take now, and as long as none has served so long, the most: for who must not take too much. */
  expectedBytes: number;
  isSettled: boolean;
}

export class Footprints<Worker extends object> {
  readonly #tracked = new Map<Worker, Tracked>();
  #lastKnown: Fresh | undefined;

  /** A reading of a worker that is ready, and answers requests since `busySince`: an idle one has not loaded all that it will. */
  note(worker: Worker, { privateBytes, sharedBytes }: ProcessMemory, busySince: number | undefined, now: number): void {
    const resident = privateBytes + sharedBytes;
    const before = this.#tracked.get(worker);
    const trail = [...(before?.trail ?? []), { at: now, bytes: privateBytes }].slice(-GROWING_FOR - 1);
    this.#tracked.set(worker, {
      readyBytes: before?.readyBytes ?? privateBytes,
      readyResidentBytes: before?.readyResidentBytes ?? resident,
      settledBytes: before?.settledBytes ?? (now - (busySince ?? now) >= SETTLED_AFTER_MS ? privateBytes : undefined),
      latestBytes: privateBytes,
      latestResidentBytes: resident,
      growthPerSecond: growthOf(trail),
      trail,
    });
  }

  of(worker: Worker): Footprint | undefined {
    return this.#tracked.get(worker);
  }

  /** Keeps only these workers; what the last of them took stays known. */
  keep(workers: readonly Worker[]): void {
    this.#lastKnown = this.fresh;
    for (const worker of this.#tracked.keys()) if (!workers.includes(worker)) this.#tracked.delete(worker);
  }

  /** Undefined before the first worker is ready. */
  get fresh(): Fresh | undefined {
    const all = [...this.#tracked.values()];
    if (all.length === 0) return this.#lastKnown;
    const settled = all.flatMap(({ settledBytes }) => settledBytes ?? []);
    const ready = all.map(({ readyBytes }) => readyBytes);
    const latest = all.map(({ latestBytes }) => latestBytes).toSorted((a, b) => a - b);
    const isSettled = settled.length > 0;
    const settledBytes = Math.max(...(isSettled ? settled : ready));
    const usual = latest.at(isSettled ? Math.floor((latest.length - 1) / 2) : -1) ?? 0;
    return {
      readyBytes: Math.min(...ready),
      settledBytes,
      expectedBytes: Math.max(settledBytes, usual),
      isSettled,
    };
  }
}

/** The lowest of the last rates: neither a jump nor a sawtooth is growth. */
function growthOf(trail: readonly { at: number; bytes: number }[]): number {
  if (trail.length <= GROWING_FOR) return 0;
  const rates = trail.slice(-GROWING_FOR).map(({ at, bytes }, index) => {
    const before = trail.at(index - GROWING_FOR - 1);
    return before === undefined ? 0 : ((bytes - before.bytes) / (at - before.at)) * 1000;
  });
  return Math.max(0, Math.min(...rates));
}
