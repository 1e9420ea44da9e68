/**
 * Whether a worker should take the next connection, given what all workers say of their load. Pure: no file, no socket, no clock.
 */

/** What a worker says of itself on the board. */
export interface Load {
  /** Counts its reports; the same number twice: it has said nothing in between. */
  sequence: number;
  connections: number;
  /** Peak-sensitive moving average of its response times, in ms, as it was at `averagedAt`. */
  responseMs: number;
  /** On the machine's monotonic clock, in ms. */
  averagedAt: number;
}

/** The policies of workers that accept for themselves, by their number on the board; 0 is no board yet. */
export const GATED = ['none', 'least-connections', 'response-time'] as const;
export type Gated = (typeof GATED)[number];

/** A response time counts for e^-1 after this long. */
const FORGET_MS = 2000;
/** Differences of response times below this are noise. */
const NOISE_MS = 2;
const RESPONSE_TIME_MARGIN = 1.1;
/** With many connections a difference of one says nothing: one more is allowed for each that many. */
const CONNECTIONS_PER_MARGIN = 32;

/** True where others are so much better off that this worker should leave the next connection to them. */
export function shouldLeaveIt(policy: Gated, own: Load, others: readonly Load[], now: number): boolean {
  if (policy === 'none' || others.length === 0) return false;
  if (policy === 'least-connections') {
    const least = Math.min(...others.map(({ connections }) => connections));
    return own.connections > least + 1 + Math.floor(least / CONNECTIONS_PER_MARGIN);
  }
  return costOf(own, now) > Math.min(...others.map(other => costOf(other, now))) * RESPONSE_TIME_MARGIN;
}

/** How long one connection more would roughly wait at this worker, in ms. */
export function costOf(load: Load, now: number): number {
  return (faded(load, now) + NOISE_MS) * (load.connections + 1);
}

/** The average as it counts now: what lies back fades, so that a worker which gets nothing any more is tried again. */
export function faded({ responseMs, averagedAt }: Load, now: number): number {
  return responseMs * Math.exp(-Math.max(0, now - averagedAt) / FORGET_MS);
}

/** The average after another response time: a peak counts at once, better times come in slowly (peak-EWMA). */
export function averageWith(load: Load, milliseconds: number, now: number): number {
  if (milliseconds >= load.responseMs) return milliseconds;
  const weight = Math.exp(-Math.max(0, now - load.averagedAt) / FORGET_MS);
  return load.responseMs * weight + milliseconds * (1 - weight);
}
