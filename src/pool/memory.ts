/**
 * The memory of the pool: what each worker used when it became ready, after it has served for a while, and uses now; what a new one
 * will use by that; and whether it fits beside the one that it replaces. Pure: readings and the clock (monotonic milliseconds) are
 * passed in. Sizes are in bytes.
 */
import type { Config } from '../config/config.ts';
import type { ExitReason } from '../protocol/exit.ts';
import type { Headroom, ProcessMemory } from '../resources/usage.ts';

const MIB = 2 ** 20;
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
  /** A cautious estimate: the highest of `settledBytes` and the median of the current sizes; until one has settled, the largest size. */
  expectedBytes: number;
  isSettled: boolean;
}

export class Footprints<Worker extends object> {
  readonly #tracked = new Map<Worker, Tracked>();
  #lastKnown: Fresh | undefined;

  /** Records a reading of a worker that is ready, and answers requests since `busySince`: an idle worker has not loaded everything yet. */
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

  /** What matters for the replacement of this worker. */
  replacementOf(worker: Worker, reason: ExitReason): Pick<Replacement, 'fresh' | 'oldBytes' | 'isHung'> {
    const { fresh } = this;
    // The current size of leaking workers does not predict that of a new one.
    const expected = reason === 'recycled-rss' ? fresh?.settledBytes : fresh?.expectedBytes;
    return {
      fresh: fresh && { readyBytes: fresh.readyBytes, expectedBytes: expected ?? fresh.expectedBytes },
      oldBytes: this.of(worker)?.latestBytes ?? 0,
      isHung: reason === 'hung',
    };
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

export type Plan =
  /** The new one starts first. */
  | { kind: 'surge' }
  /** The old one ends first: connections wait in the queue of the listening socket meanwhile. */
  | { kind: 'old-first'; why: string }
  /** The old one stays. */
  | { kind: 'refuse'; why: string };

/** The pool's memory, for people. */
export interface MemoryView {
  /** Of the container; undefined without a limit. */
  headroom: Headroom | undefined;
  /** What a worker takes that has served for a while; undefined before the first one is ready. */
  freshWorkerBytes: number | undefined;
  /** How a restart would begin now. */
  restart: Plan;
  /** Why WORKER_MAX_RSS_MB can't be kept; undefined as long as it can. */
  pointlessRecycling: string | undefined;
}

export interface Replacement {
  surge: Config['restartSurge'];
  /** Undefined without a limit, and if the use is unknown. */
  headroom: Headroom | undefined;
  /** Undefined before the first worker is ready. */
  fresh: Pick<Fresh, 'readyBytes' | 'expectedBytes'> | undefined;
  /** What the end of the old one frees. */
  oldBytes: number;
  /** A hung worker is replaced in any case. */
  isHung: boolean;
}

/** Kept free beside a starting worker, for growth of the others in the meantime. */
export function reserveOf({ limitBytes }: Headroom): number {
  return Math.min(64 * MIB, Math.max(16 * MIB, limitBytes * 0.04));
}

export function planReplacement({ surge, headroom, fresh, oldBytes, isHung }: Replacement): Plan {
  if (surge === 'always') return { kind: 'surge' };
  if (surge === 'never') return { kind: 'old-first', why: 'RESTART_SURGE=never' };
  if (headroom === undefined || fresh === undefined) return { kind: 'surge' };
  const needed = fresh.expectedBytes + reserveOf(headroom);
  if (headroom.bytes >= needed) return { kind: 'surge' };
  const freed = { ...headroom, bytes: headroom.bytes + oldBytes };
  if (freed.bytes < fresh.readyBytes && !isHung) {
    return { kind: 'refuse', why: lacks(freed, fresh.readyBytes, 'in place of the old one') };
  }
  return { kind: 'old-first', why: lacks(headroom, needed, 'beside the others') };
}

function lacks({ bytes, limitBytes, file }: Headroom, needed: number, where: string): string {
  return `a new worker needs ${mib(needed)} MiB ${where}, but only ${mib(Math.max(0, bytes))} MiB of ${mib(limitBytes)} MiB are free (${file})`;
}

const mib = (bytes: number) => Math.round(bytes / MIB);
