/**
 * Which worker has done its time: by requests, by memory, by age. The supervisor replaces it, the new one first.
 */
import type { Config } from '../../config.ts';
import type { ExitReason } from '../../messages.ts';
import type { Sizing } from '../../resources/sizing.ts';
import type { WorkerHandle } from './worker-handle.ts';

type Limits = Pick<Config, 'workerMaxRequests' | 'workerMaxRequestsJitter' | 'workerMaxRssMb' | 'workerMaxAgeMs'>;

const MIB = 2 ** 20;
/** Below this a share of the memory limit says nothing: an idle worker has 60 to 110 MiB, half of them shared. */
const LEAST_DERIVED_RSS_MIB = 160;

export class Recycling {
  #limits: Limits;
  #maxRssMb: number;
  readonly #maxRequests = new WeakMap<WorkerHandle, number>();

  constructor(limits: Limits, sizing: Sizing) {
    this.#limits = limits;
    this.#maxRssMb = maxRssMb(limits, sizing);
  }

  /** Takes other settings, or another sizing. Each worker keeps the number of requests that it has drawn. */
  change(limits: Limits, sizing: Sizing): void {
    this.#limits = limits;
    this.#maxRssMb = maxRssMb(limits, sizing);
  }

  /** Draws each worker's own limit of requests, so that not all go at the same time. */
  started(handle: WorkerHandle): void {
    const { workerMaxRequests: least, workerMaxRequestsJitter: jitter } = this.#limits;
    this.#maxRequests.set(handle, least === 0 ? 0 : least + Math.floor(Math.random() * (jitter + 1)));
  }

  /** Why this worker should be replaced now, if it should; `now` by the monotonic clock. */
  reasonFor(handle: WorkerHandle, now: number): ExitReason | undefined {
    const { snapshot, readyAt } = handle;
    const maxRequests = this.#maxRequests.get(handle) ?? 0;
    const { workerMaxAgeMs } = this.#limits;
    if (maxRequests > 0 && snapshot !== undefined && snapshot.requests >= maxRequests) return 'recycled-requests';
    if (this.#maxRssMb > 0 && snapshot !== undefined && snapshot.memory.rss > this.#maxRssMb * MIB) return 'recycled-rss';
    if (workerMaxAgeMs > 0 && readyAt !== undefined && now - readyAt >= workerMaxAgeMs) return 'recycled-age';
    return undefined;
  }
}

/** The resident size above which a worker is recycled, in MiB: as set, else its share of the memory limit; 0 for none. */
function maxRssMb({ workerMaxRssMb }: Limits, { workers, memory }: Sizing): number {
  if (workerMaxRssMb > 0 || memory.limitBytes === null) return workerMaxRssMb;
  const share = Math.floor((memory.limitBytes / MIB) * 0.92 - 64) / workers;
  return share >= LEAST_DERIVED_RSS_MIB ? Math.floor(share) : 0;
}
