/**
 * Whether a worker should take the next connection or leave it to another, given what all workers say of their load.
 * Pure: no file, no socket, no clock.
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

/** Those of `others` that are so much better off that a worker with the load `own` should leave the next connection to them, best first. */
export function betterOff<Other extends Load>(policy: Gated, own: Load, others: readonly Other[], now: number): Other[] {
  if (policy === 'none') return [];
  if (policy === 'least-connections') {
    const better = others.filter(
      ({ connections }) => own.connections > connections + 1 + Math.floor(connections / CONNECTIONS_PER_MARGIN),
    );
    return better.sort((a, b) => a.connections - b.connections);
  }
  const cost = costOf(own, now);
  const better = others.filter(other => cost > costOf(other, now) * RESPONSE_TIME_MARGIN);
  return better.sort((a, b) => costOf(a, now) - costOf(b, now));
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
