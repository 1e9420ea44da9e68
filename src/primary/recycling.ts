/**
 * Which worker has done its time: by requests, by memory, by age. Pure; the supervisor replaces it, the new one first.
 */
import type { Config } from '../config.ts';
import type { ExitReason } from '../messages.ts';
import type { Sizing } from '../resources/sizing.ts';
import type { WorkerHandle } from './worker-handle.ts';

type Limits = Pick<Config, 'workerMaxRequests' | 'workerMaxRequestsJitter' | 'workerMaxRssMb' | 'workerMaxAgeMs'>;

const MIB = 2 ** 20;
/** Below this a share of the memory limit says nothing: an idle worker has 60 to 110 MiB, half of them shared. */
const LEAST_DERIVED_RSS_MIB = 160;

/** The resident size above which a worker is recycled, in MiB: as set, else its share of the memory limit; 0 for none. */
export function maxRssMb({ workerMaxRssMb }: Limits, { workers, memory }: Sizing): number {
  if (workerMaxRssMb > 0 || memory.limitBytes === null) return workerMaxRssMb;
  const share = Math.floor((memory.limitBytes / MIB) * 0.92 - 64) / workers;
  return share >= LEAST_DERIVED_RSS_MIB ? Math.floor(share) : 0;
}

/** Each worker's own limit of requests, so that not all go at the same time; `random` gives 0 to below 1. */
export function drawMaxRequests({ workerMaxRequests, workerMaxRequestsJitter }: Limits, random: () => number): number {
  return workerMaxRequests === 0 ? 0 : workerMaxRequests + Math.floor(random() * (workerMaxRequestsJitter + 1));
}

/** Why this worker should be replaced now, if it should. */
export function recycleReason(
  { snapshot, readyAt }: Pick<WorkerHandle, 'snapshot' | 'readyAt'>,
  limits: { maxRequests: number; maxRssMb: number; maxAgeMs: number },
  now: number,
): ExitReason | undefined {
  if (limits.maxRequests > 0 && snapshot !== undefined && snapshot.requests >= limits.maxRequests) return 'recycled-requests';
  if (limits.maxRssMb > 0 && snapshot !== undefined && snapshot.memory.rss > limits.maxRssMb * MIB) return 'recycled-rss';
  if (limits.maxAgeMs > 0 && readyAt !== undefined && now - readyAt >= limits.maxAgeMs) return 'recycled-age';
  return undefined;
}
