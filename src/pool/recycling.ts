/**
 * Which worker is due for recycling: by requests, age or memory. Pure, with the clock passed in.
 *
 * By memory there are two ways. WORKER_MAX_RSS_MB is a fixed limit. Without it the container's headroom decides: the worker that
 * has grown most over a new one is replaced before memory runs out, and early enough for its successor to start beside it, if
 * there is room at all. A worker no larger than a new one is never recycled: its successor would be as large.
 */
import type { Config } from '../config/config.ts';
import type { ExitReason } from '../protocol/exit.ts';
import type { Headroom } from '../resources/usage.ts';
import { type Footprint, type Footprints, type Fresh, reserveOf } from './memory.ts';

type Limits = Pick<Config, 'workerMaxRequests' | 'workerMaxRequestsJitter' | 'workerMaxRssMb' | 'workerMaxAgeMs'>;

/** The parts of a worker that matter here. */
export interface Recyclable {
  readonly readyAt: number | undefined;
  readonly snapshot: { requests: number } | undefined;
  /** 0 for none. */
  readonly maxRequests: number;
}

export interface Circumstances {
  /** Undefined if unknown, and while workers start or end, because it is about to change. */
  headroom: Headroom | undefined;
  /** By the monotonic clock. */
  now: number;
}

const MIB = 2 ** 20;
/** Replacing a worker frees memory only if it is this much larger than a new one. */
const GROWN_SHARE = 0.25;
const GROWN_BYTES = 16 * MIB;
/** How long a replacement takes on a busy machine, and on an idle one. */
const REPLACEMENT_S = 5;
const MIN_REPLACEMENT_S = 2;
/** A leak that uses up the headroom within this time is handled before more readings are known. */
const SOON_S = 60;

/** Recycling counts as useful if a worker needs it again only after this time. */
const LATE_MS = 10 * 60_000;
const MIN_SERVED_MS = 60_000;
const MAX_SERVED_MS = 60 * 60_000;
/** How often each worker may be recycled early. For headroom it is more: the alternative is a kill by the kernel. */
const FREE_ROUNDS = { asSet: 1, byHeadroom: 3 };

export class Recycling<Worker extends Recyclable> {
  #limits: Limits;
  readonly #footprints: Footprints<Worker>;
  #earlyInARow = 0;
  #pointless: string | undefined;
  #taken: string | undefined;

  constructor(limits: Limits, footprints: Footprints<Worker>) {
    this.#limits = limits;
    this.#footprints = footprints;
  }

  /** Applies new settings. Each worker keeps its own limit of requests. */
  change(limits: Limits): void {
    if (limits.workerMaxRssMb !== this.#limits.workerMaxRssMb) {
      this.#earlyInARow = 0;
      this.#pointless = undefined;
    }
    this.#limits = limits;
  }

  /** Why WORKER_MAX_RSS_MB cannot be met; undefined as long as it can. */
  get pointless(): string | undefined {
    return this.#pointless;
  }

  /** The same, once for each time that it changes. */
  takePointless(): string | undefined {
    const isNew = this.#pointless !== this.#taken;
    this.#taken = this.#pointless;
    return isNew ? this.#pointless : undefined;
  }

  /** The limit of requests for one new worker: each has its own, so that not all end at the same time. */
  drawMaxRequests(random: () => number): number {
    const { workerMaxRequests: min, workerMaxRequestsJitter: jitter } = this.#limits;
    return min === 0 ? 0 : min + Math.floor(random() * (jitter + 1));
  }

  /** The workers of `pool` to replace now, and why. `isConcerned` is true for those already being replaced or queued. */
  due(
    pool: readonly Worker[],
    isConcerned: (worker: Worker) => boolean,
    circumstances: Circumstances,
  ): { worker: Worker; reason: ExitReason }[] {
    const free = pool.filter(worker => !isConcerned(worker));
    const byWork = free.flatMap(worker => {
      const reason = this.#byWork(worker, circumstances.now);
      return reason === undefined ? [] : [{ worker, reason }];
    });
    // One at a time for memory: what the first frees may be enough.
    const worker = free.length < pool.length || byWork.length > 0 ? undefined : this.#byMemory(pool, circumstances);
    if (worker === undefined) return byWork;
    this.#recycledAfter(servedMs(worker, circumstances.now), pool.length);
    return [{ worker, reason: 'recycled-rss' }];
  }

  #byWork(worker: Worker, now: number): ExitReason | undefined {
    const { snapshot, readyAt, maxRequests } = worker;
    const { workerMaxAgeMs } = this.#limits;
    if (maxRequests > 0 && snapshot !== undefined && snapshot.requests >= maxRequests) return 'recycled-requests';
    if (workerMaxAgeMs > 0 && readyAt !== undefined && now - readyAt >= workerMaxAgeMs) return 'recycled-age';
    return undefined;
  }

  #byMemory(pool: readonly Worker[], { headroom, now }: Circumstances): Worker | undefined {
    const maxRssBytes = this.#limits.workerMaxRssMb * MIB;
    if (maxRssBytes > 0) return this.#above(maxRssBytes, pool, now);
    const { fresh } = this.#footprints;
    if (headroom === undefined || fresh === undefined) return undefined;
    const minServedMs = this.#minServedMs(FREE_ROUNDS.byHeadroom, pool.length);
    const worker = mostGrown(pool, this.#footprints, fresh, headroom);
    return worker !== undefined && servedMs(worker, now) >= minServedMs ? worker : undefined;
  }

  #above(maxBytes: number, pool: readonly Worker[], now: number): Worker | undefined {
    const minServedMs = this.#minServedMs(FREE_ROUNDS.asSet, pool.length);
    for (const worker of pool) {
      const footprint = this.#footprints.of(worker);
      if (footprint === undefined || footprint.latestResidentBytes <= maxBytes) continue;
      const isFreshAbove = footprint.readyResidentBytes > maxBytes;
      if (!isFreshAbove && servedMs(worker, now) >= minServedMs) return worker;
      const bytes = isFreshAbove ? footprint.readyResidentBytes : footprint.latestResidentBytes;
      const when = isFreshAbove ? 'when it starts' : 'soon after its start';
      this.#pointless ??= `a new worker uses ${mib(bytes)} MiB ${when}, above WORKER_MAX_RSS_MB=${mib(maxBytes)}: no worker is recycled`;
    }
    return undefined;
  }

  /** Recycling that helps only briefly becomes rare: after one minute, two, four, up to an hour. */
  #minServedMs(freeRounds: number, workers: number): number {
    const rounds = Math.floor(this.#earlyInARow / Math.max(1, workers)) - freeRounds;
    return rounds < 0 ? 0 : Math.min(MAX_SERVED_MS, MIN_SERVED_MS * 2 ** rounds);
  }

  #recycledAfter(ms: number, workers: number): void {
    const freeRounds = this.#limits.workerMaxRssMb > 0 ? FREE_ROUNDS.asSet : FREE_ROUNDS.byHeadroom;
    const isOfUse = ms >= Math.max(LATE_MS, 2 * this.#minServedMs(freeRounds, workers));
    this.#earlyInARow = isOfUse ? 0 : this.#earlyInARow + 1;
  }
}

/** The worker that has grown most over a new one, if memory is short and replacing it would free some. */
function mostGrown<Worker extends object>(
  pool: readonly Worker[],
  footprints: Footprints<Worker>,
  fresh: Fresh,
  headroom: Headroom,
): Worker | undefined {
  const known = pool.flatMap(worker => {
    const footprint = footprints.of(worker);
    return footprint === undefined ? [] : [{ worker, ...footprint }];
  });
  const growth = ({ latestBytes }: Footprint) => Math.max(0, latestBytes - fresh.settledBytes);
  const [largest] = known.toSorted((a, b) => b.latestBytes - a.latestBytes);
  if (largest === undefined) return undefined;
  const reserve = reserveOf(headroom);
  // If even new workers leave no room for one more, waiting costs nothing.
  const roomOfFresh = headroom.bytes + known.reduce((sum, footprint) => sum + growth(footprint), 0);
  const surge = roomOfFresh >= fresh.settledBytes + reserve ? fresh.settledBytes : 0;
  const perSecond = known.reduce((sum, { growthPerSecond }) => sum + growthPerSecond, 0);
  if (headroom.bytes >= reserve + surge + perSecond * REPLACEMENT_S) return undefined;
  // With little memory left, a smaller gain is enough.
  const gain = GROWN_BYTES + (headroom.bytes < reserve ? 0 : fresh.settledBytes * GROWN_SHARE);
  if (largest.latestBytes - fresh.settledBytes < gain) return undefined;
  if (fresh.isSettled) return largest.worker;
  // Before any worker has served for a while, loading data looks like a leak. A real leak continues, and there is time to replace it later.
  const isLeak = largest.growthPerSecond > 0 && headroom.bytes <= largest.growthPerSecond * SOON_S;
  return isLeak && headroom.bytes >= perSecond * MIN_REPLACEMENT_S ? largest.worker : undefined;
}

function servedMs({ readyAt }: Recyclable, now: number): number {
  return readyAt === undefined ? 0 : now - readyAt;
}

const mib = (bytes: number) => Math.round(bytes / MIB);
