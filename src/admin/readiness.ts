/**
 * The answers of the probes, and why a pod is not ready: in the kit's own words, because probes are open to everyone. Pure.
 */
import type { Config } from '../config/config.ts';
import { describeRedis, usesRedis } from '../config/redis-address.ts';
import type { WorkerProcess } from '../pool/worker-process.ts';
import type { PodState, Status } from '../protocol/api.ts';
import type { Failure } from './totals.ts';

/** What the probes need to know of the pod. */
export interface ProbeView {
  state: PodState;
  pool: {
    wanted: number;
    hasStarted: boolean;
    isFailing: boolean;
    /** No worker serves for a short time, and clients wait. */
    isBridged: boolean;
    serving: readonly WorkerProcess[];
  };
  failedStarts: Status['failedStarts'];
  /** The last worker that failed, also after it was ready. */
  lastFailure: Failure | undefined;
  config: Config;
  /** With Redis: the events of this pod reach other pods, and it has received the retained ones. */
  isJoined: boolean;
  /** The app's health checks that keep the pod out of rotation, and those that fail. */
  checks: { whyNotReady?: string | undefined; whatFails?: string | undefined };
  /** What a connection of this pod to Redis reports while it is not ready. */
  redisFault: string | undefined;
  /** Why the pod is not ready, while BEFORE_START runs. */
  beforeStart?: string | undefined;
}

/** A probe's answer; it has a reason also for a ready pool with missing workers. */
export interface Readiness {
  isReady: boolean;
  reason?: string;
}

/** The answer of `/readyz`. */
export function readiness(view: ProbeView): Readiness {
  const reason = whyNotReady(view);
  if (reason !== undefined) return { isReady: false, reason };
  const { serving, wanted, isFailing, isBridged } = view.pool;
  const { whatFails } = view.checks;
  // Without an endpoint, clients would be refused; in the listening socket they wait for a second.
  if (serving.length === 0 && isBridged) return { isReady: true, reason: 'the only worker is being replaced; clients wait' };
  if (serving.length >= wanted || !isFailing) return { isReady: true, ...(whatFails && { reason: whatFails }) };
  const why = lastFailedStart(view.failedStarts) ?? 'the others have failed';
  return { isReady: true, reason: all([`${serving.length} of ${wanted} workers serve; ${why}`, whatFails]) };
}

function whyNotReady(view: ProbeView): string | undefined {
  const { serving, isBridged } = view.pool;
  if (view.state !== 'ready') return whyNotStarted(view);
  if (serving.length > 0 || isBridged) return view.checks.whyNotReady;
  const { lastFailure: last } = view;
  return all(['no worker serves', last && `the last one failed: ${all([last.reason, last.openFailure], ', ')}`]);
}

/** Why `/startupz` returns 503. Redis is required to become ready, not to stay ready: otherwise an outage would remove every pod at once. */
export function whyNotStarted(view: ProbeView): string | undefined {
  const { state, pool, config, isJoined, failedStarts, redisFault, beforeStart } = view;
  if (state === 'ready') return undefined;
  if (state === 'draining') return 'draining';
  if (beforeStart !== undefined) return beforeStart;
  const { serving, wanted, hasStarted } = pool;
  if (!hasStarted)
    return all([`starting: ${serving.length} of ${wanted} workers serve`, lastFailedStart(failedStarts), redisFault]);
  if (!usesRedis(config)) return undefined;
  const isConnected = serving.every(({ redis }) => redis?.state === 'ready');
  if (isConnected && isJoined) return undefined;
  const unknown = isConnected ? 'not connected to the other pods yet' : `no answer from ${describeRedis(config)} yet`;
  return `waiting for Redis: ${redisFault ?? unknown}`;
}

function lastFailedStart({ last }: Status['failedStarts']): string | undefined {
  return last === null ? undefined : `the last start failed: ${last.reason}, ${last.why}`;
}

const all = (parts: readonly (string | undefined)[], separator = '; '): string =>
  parts.filter(part => part !== undefined).join(separator);
