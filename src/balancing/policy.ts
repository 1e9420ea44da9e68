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
  /** When it last took a connection, by that clock. */
  takenAt: number;
  /** Connections accepted, for `rr`: see `turnsAfter`. */
  turns: number;
}

/** The policies that use a gate, by their number on the board; 0 means no board yet. */
export const GATED = ['none', 'least-connections', 'response-time', 'rr'] as const;
export type Gated = (typeof GATED)[number];

/** A response time counts for e^-1 after this long. */
const FORGET_MS = 2000;
/** A worker is slow where its response times exceed the typical worker's by this factor: less is noise, above all in a burst. */
const SLOW_FACTOR = 2.5;
/** Response times below this are all the same. */
const FAST_MS = 4;
/** With many connections a difference of one says nothing: one more is allowed for each that many. */
const CONNECTIONS_PER_MARGIN = 32;
/** With this few every single one counts, and equals are told apart, too. */
const FEW = 4;
/** With `rr`, a blocked worker that has missed more turns than this does not make up for them. */
const MAX_MISSED_TURNS = 3;

/**
 * Those of `others` that are so much better off that a worker with the load `own` should leave the next connection to them, best first;
 * by at least so many `margins`.
 */
export function betterOff<Other extends Load>(
  policy: Gated,
  own: Load,
  others: readonly Other[],
  now: number,
  margins = 1,
): Other[] {
  if (policy === 'none') return [];
  if (policy === 'rr') return others.filter(other => isNext(other, own, margins)).sort(byTurn);
  const weightOf = weigher(policy, [own, ...others], now);
  const ownWeight = weightOf(own);
  const better = others.filter(other => {
    const weight = weightOf(other);
    if (own.connections <= FEW && margins === 1) return weight < ownWeight || (weight === ownWeight && comesBefore(other, own));
    return ownWeight > weight + margins * (1 + Math.floor(weight / CONNECTIONS_PER_MARGIN));
  });
  return better.sort((a, b) => weightOf(a) - weightOf(b) || Number(comesBefore(b, a)) - Number(comesBefore(a, b)));
}

/**
 * Of two with the same weight. Idle ones take turns. Of busy ones it is the one that has answered last, since the other may be waiting for
 * something long: with turns, the short requests of `make bench-balancing`'s pool would have a p99 twice as high (simulated: 314 and 140 ms).
 */
function comesBefore(a: Load, b: Load): boolean {
  return a.connections === 0 || b.connections === 0 ? a.takenAt < b.takenAt : a.averagedAt > b.averagedAt;
}

/** Whether the next turn is `other`'s and not `own`'s; by more than one turn with two `margins`. */
function isNext(other: Load, own: Load, margins: number): boolean {
  return margins > 1 ? other.turns + 1 < own.turns : byTurn(other, own) < 0;
}

const byTurn = (a: Load, b: Load) => a.turns - b.turns || a.takenAt - b.takenAt;

/** `turns` of a worker that takes one more connection. */
export function turnsAfter(own: Load, others: readonly Load[]): number {
  return Math.max(own.turns, lastTurn(others) - MAX_MISSED_TURNS) + 1;
}

/** The highest `turns` of all workers. */
export function lastTurn(loads: readonly Load[]): number {
  return Math.max(0, ...loads.map(({ turns }) => turns));
}

/** How much one of `all` would have to do with the next connection: their number, at a slow worker as often as it is slower than the typical one. */
export function weigher(policy: Gated, all: readonly Load[], now: number): (load: Load) => number {
  if (policy !== 'response-time') return ({ connections }) => connections + 1;
  const times = all.map(load => faded(load, now)).sort((a, b) => a - b);
  const typicalMs = Math.max(FAST_MS, times[(times.length - 1) >> 1] ?? 0);
  return load => {
    const factor = faded(load, now) / typicalMs;
    return (load.connections + 1) * (factor > SLOW_FACTOR ? factor : 1);
  };
}

/** A worker that has this much more than its fair share, and one connection besides, has too many. */
const UNFAIR_FACTOR = 1.2;
const MOST_GIVEN_AWAY = 0.1;

/** How many of its connections a worker should end in the next second, so that others get them. */
export function surplus(own: Load, others: readonly Load[]): number {
  const fair = [own, ...others].reduce((sum, { connections }) => sum + connections, 0) / (others.length + 1);
  const tooMany = Math.floor(own.connections - fair * UNFAIR_FACTOR - 1);
  return Math.max(0, Math.min(tooMany, Math.ceil(own.connections * MOST_GIVEN_AWAY)));
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
