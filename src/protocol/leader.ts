/**
 * What workers, primaries and pods send each other about the leaders of `kit.leader`, with its shapes.
 */
import { boolean, integer, MalformedError, number, object, oneOf, optional, type Parser, string, text } from './shapes.ts';

/** `fleet`: one worker of all pods. `pod`: one worker of each pod. */
export type LeaderScope = 'fleet' | 'pod';

/** Names of one worker: each costs a request to Redis per second. */
export const MAX_LEADERS = 100;
const LEADER_NAME = /^[\w.-]{1,64}$/;
export const LEADER_NAME_RULE = '1 to 64 letters, digits, "_", "-" and "."';

export const isLeaderName = (value: unknown): value is string => typeof value === 'string' && LEADER_NAME.test(value);

/** Who leads. */
export interface LeaderHolder {
  /** The host name: a pod's, or a container's id. */
  pod: string;
  worker: number;
  /** Grows with every leader of that name, and never repeats. Microseconds since the epoch, as long as no clock jumps. */
  token: number;
  /** Milliseconds since the epoch. */
  since: number;
}

/** Under one name, in `/status`. */
export interface LeaderStatus {
  /** `fleet`: one leader of all pods. `pod`: one in each pod. */
  scope: LeaderScope;
  /** As this pod knows it; null if nobody leads. */
  holder: (LeaderHolder & { isSelf: boolean }) | null;
}

/** Why a worker leads no more: `exit` is found by the primary. */
export const LEADER_ENDS = ['drain', 'request', 'failed', 'expired', 'taken', 'exit'] as const;
export type LeaderEnd = (typeof LEADER_ENDS)[number];

/** Of a worker to its primary. In the scope `pod`, `waits` requests the lead, and `released` also ends the wait. */
export type LeaderReport = { name: string; scope: LeaderScope } & (
  | { step: 'waits'; holder?: LeaderHolder }
  /** `owner` has the lock in Redis. */
  | { step: 'leads'; token: number; owner?: string }
  | { step: 'released' | 'lost'; token?: number; why: LeaderEnd }
);

/** An event of the kit's own, to every worker of every pod. */
export const LEADER_EVENT = 'bosun:leader';

export type LeaderNotice =
  /** The highest token so far; `isFree`: nobody leads now. */
  | { type: 'seen'; name: string; token: number; isFree: boolean }
  /** An operator wants another worker to lead than the one with that token. */
  | { type: 'give-up'; name: string; token: number };

export const leaderName: Parser<string> = (value, at) => {
  if (isLeaderName(value)) return value;
  throw new MalformedError(at, `a name of ${LEADER_NAME_RULE}`, value);
};

export const leaderToken = integer(1, Number.MAX_SAFE_INTEGER);

export const leaderHolder = object<LeaderHolder>({ pod: text(253), worker: number(0), token: leaderToken, since: number(0) });

const scope = oneOf('fleet', 'pod');
const steps = {
  waits: object<{ holder?: LeaderHolder }>({ holder: optional(leaderHolder) }),
  leads: object<{ token: number; owner?: string }>({ token: leaderToken, owner: optional(string(64)) }),
  released: object<{ token?: number; why: LeaderEnd }>({
    token: optional(leaderToken),
    why: oneOf(...LEADER_ENDS),
  }),
};

/** @throws MalformedError */
export const leaderReport: Parser<LeaderReport> = (value, at) => {
  const { step, ...who } = object<Pick<LeaderReport, 'name' | 'scope' | 'step'>>({
    name: leaderName,
    scope,
    step: oneOf('waits', 'leads', 'released', 'lost'),
  })(value, at);
  if (step === 'waits') return { ...who, step, ...steps.waits(value, at) };
  if (step === 'leads') return { ...who, step, ...steps.leads(value, at) };
  return { ...who, step, ...steps.released(value, at) };
};

/** @throws MalformedError */
export const leaderNotice: Parser<LeaderNotice> = (value, at) => {
  const { type, ...which } = object<{ type: LeaderNotice['type']; name: string; token: number }>({
    type: oneOf('seen', 'give-up'),
    name: leaderName,
    token: leaderToken,
  })(value, at);
  if (type === 'give-up') return { type, ...which };
  return { type, ...which, ...object<{ isFree: boolean }>({ isFree: boolean })(value, at) };
};
