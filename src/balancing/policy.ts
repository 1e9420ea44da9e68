/**
 * The balancing policies, a row of rules for each: whether a worker should take the next connection or leave it to another, given the
 * loads that all workers report. Pure: no file, no socket, no clock.
 */
import type { Policy } from '../config/variables.ts';

/** What a worker reports on the scoreboard. Times are on the machine's monotonic clock, in ms. */
export interface Load {
  /** Number of the report. If it is unchanged, the worker has not reported in between. */
  sequence: number;
  connections: number;
  /** Peak-sensitive moving average of its response times, in ms, as of `averagedAt`. */
  responseMs: number;
  averagedAt: number;
  /** When it last accepted a connection. */
  takenAt: number;
  /** Connections accepted, for `rr`: see `turnsAfter`. */
  turns: number;
}

/** @returns those of `others` that should take the next connection instead of a worker with the load `own`, the best first */
type BetterOff = <Other extends Load>(own: Load, others: readonly Other[], now: number, margins: number) => Other[];
/** @returns how much work one of `all` would have with one more connection */
type Weigh = (all: readonly Load[], now: number) => (load: Load) => number;

/** All that differs between the policies. */
interface PolicyRules {
  /** `shared`: the workers accept from one listener, each behind an accept gate. `own`: each worker has its own listener and no gate. */
  listener: 'shared' | 'own';
  betterOff: BetterOff;
  weigh: Weigh;
  /** What a worker accepts while it wakes a slightly better one: new connections, or only those that are queued already. */
  whileWaking: 'new' | 'queued';
  /** Whether a worker keeps accepting although others have a few connections less, while its connections are brief. */
  ignoresBriefLead: boolean;
  /**
   * When kept connections move to a worker that has fewer (REBALANCE_KEEPALIVE): whenever the loads differ by much, or, where the policy promises
   * no even loads, only once it has joined those that serve.
   */
  rebalances: 'always' | 'joined';
}

/** A response time counts for e^-1 after this long. */
const FORGET_MS = 2000;
/** A worker is slow if its response times exceed the median worker's by this factor; smaller differences are noise. */
const SLOW_FACTOR = 2.5;
/** Response times below this count as equal. */
export const FAST_MS = 4;
/** With many connections a difference of one is noise: the margin grows by one for each this many. */
const CONNECTIONS_PER_MARGIN = 32;
/** Up to this many, every connection counts, and equal workers are ranked too. */
export const FEW = 4;
/** With `rr`, a blocked worker catches up on at most this many missed turns. */
const MAX_MISSED_TURNS = 3;

const weighConnections: Weigh =
  () =>
  ({ connections }) =>
    connections + 1;

/** The connections of a slow worker are weighted by its slowness relative to the median worker. */
const weighResponseTimes: Weigh = (all, now) => {
  const times = all.map(load => faded(load, now)).sort((a, b) => a - b);
  const medianMs = Math.max(FAST_MS, times[(times.length - 1) >> 1] ?? 0);
  return load => {
    const factor = faded(load, now) / medianMs;
    return (load.connections + 1) * (factor > SLOW_FACTOR ? factor : 1);
  };
};

const nobody: BetterOff = () => [];

/** Whose turn comes before this worker's; with two `margins`, by more than one turn. */
const withFewerTurns: BetterOff = (own, others, _now, margins) =>
  others.filter(other => (margins > 1 ? other.turns + 1 < own.turns : compareTurns(other, own) < 0)).sort(compareTurns);

const withLessWeight =
  (weigh: Weigh): BetterOff =>
  (own, others, now, margins) => {
    const weightOf = weigh([own, ...others], now);
    const ownWeight = weightOf(own);
    const better = others.filter(other => {
      const weight = weightOf(other);
      if (own.connections <= FEW && margins === 1) return weight < ownWeight || (weight === ownWeight && comesBefore(other, own));
      return ownWeight > weight + margins * (1 + Math.floor(weight / CONNECTIONS_PER_MARGIN));
    });
    return better.sort((a, b) => weightOf(a) - weightOf(b) || Number(comesBefore(b, a)) - Number(comesBefore(a, b)));
  };

/** The order gives the gated policies their numbers on the scoreboard. `none` comes first: an empty scoreboard holds zeros. */
export const RULES = {
  none: {
    listener: 'shared',
    betterOff: nobody,
    weigh: weighConnections,
    whileWaking: 'new',
    ignoresBriefLead: true,
    rebalances: 'joined',
  },
  'least-connections': {
    listener: 'shared',
    betterOff: withLessWeight(weighConnections),
    weigh: weighConnections,
    whileWaking: 'new',
    ignoresBriefLead: true,
    rebalances: 'always',
  },
  'response-time': {
    listener: 'shared',
    betterOff: withLessWeight(weighResponseTimes),
    weigh: weighResponseTimes,
    whileWaking: 'new',
    ignoresBriefLead: true,
    rebalances: 'always',
  },
  rr: {
    listener: 'shared',
    betterOff: withFewerTurns,
    weigh: weighConnections,
    whileWaking: 'queued',
    ignoresBriefLead: false,
    rebalances: 'joined',
  },
  reuseport: {
    listener: 'own',
    betterOff: nobody,
    weigh: weighConnections,
    whileWaking: 'new',
    ignoresBriefLead: true,
    rebalances: 'joined',
  },
} as const satisfies Record<Policy, PolicyRules>;

/** The policies that the workers' accept gates apply, and that can be changed while the pool runs. */
export type GatedPolicy = { [P in Policy]: (typeof RULES)[P]['listener'] extends 'shared' ? P : never }[Policy];

export const isGated = (policy: string): policy is GatedPolicy =>
  Object.hasOwn(RULES, policy) && RULES[policy as Policy].listener === 'shared';

export const GATED_POLICIES: readonly GatedPolicy[] = Object.keys(RULES).filter(isGated);

/**
 * The peers that should take the next connection instead of `own`, the best first.
 * @param margins the required difference, in multiples of the usual one
 */
export function betterOff<Other extends Load>(
  policy: GatedPolicy,
  own: Load,
  others: readonly Other[],
  now: number,
  margins = 1,
): Other[] {
  return RULES[policy].betterOff(own, others, now, margins);
}

/**
 * Ranks two workers of the same weight. Idle workers take turns. Of busy ones, the one that responded last comes first: the other may be in the
 * middle of a long wait. With turns instead, short requests of `make bench-balancing`'s pool had a p99 twice as high (simulated: 314 and 140 ms).
 */
function comesBefore(a: Load, b: Load): boolean {
  return a.connections === 0 || b.connections === 0 ? a.takenAt < b.takenAt : a.averagedAt > b.averagedAt;
}

function compareTurns(a: Load, b: Load): number {
  return a.turns - b.turns || a.takenAt - b.takenAt;
}

/** `turns` of a worker that accepts one more connection. */
export function turnsAfter(own: Load, others: readonly Load[]): number {
  return Math.max(own.turns, lastTurn(others) - MAX_MISSED_TURNS) + 1;
}

/** The highest `turns` of all workers. */
export function lastTurn(loads: readonly Load[]): number {
  return Math.max(0, ...loads.map(({ turns }) => turns));
}

/** The average response time as it counts now. Old averages fade, so that a worker without connections is tried again. */
export function faded({ responseMs, averagedAt }: Load, now: number): number {
  return responseMs * decay(now - averagedAt);
}

/** The average after another response time: a peak counts at once, better times gradually (peak-EWMA). */
export function averageWith(load: Load, responseMs: number, now: number): number {
  if (responseMs >= load.responseMs) return responseMs;
  const weight = decay(now - load.averagedAt);
  return load.responseMs * weight + responseMs * (1 - weight);
}

/** The part of an average that is left after `ms`. Clocks of two processes may differ slightly: a negative time counts as none. */
function decay(ms: number): number {
  return Math.exp(-Math.max(0, ms) / FORGET_MS);
}
