/**
 * What the probes say, and why. Pure over the pod's state.
 */
import { type Config, describeRedis, usesRedis } from '../config/config.ts';
import type { WorkerProcess } from '../pool/worker-process.ts';
import type { PodState, Status } from '../protocol/api.ts';
import { describeSummary } from '../protocol/audience.ts';

export interface View {
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
  config: Config;
  /** With Redis: other pods hear this one, and it knows what they retain for its workers. */
  isJoined: boolean;
}

/** A probe's answer; it has a reason also for a ready pool with missing workers. */
export interface Readiness {
  isReady: boolean;
  reason?: string;
}

/** The answer of `/readyz`. */
export function readiness(view: View): Readiness {
  const objection = whyNotReady(view);
  if (objection !== undefined) return { isReady: false, reason: objection };
  const { serving, wanted, isFailing, isBridged } = view.pool;
  // Out of the endpoints, a client would be refused and lose its request; waiting in the listening socket costs it a second.
  if (serving.length === 0 && isBridged) return { isReady: true, reason: 'the only worker is being replaced; clients wait' };
  if (serving.length >= wanted || !isFailing) return { isReady: true };
  return { isReady: true, reason: `${serving.length} of ${wanted} workers serve; ${lastFailure(view.failedStarts)}` };
}

/** Without text of the app: the probe is open to everyone. */
function lastFailure({ last }: Status['failedStarts']): string {
  if (last === null) return 'the others have failed';
  return `the last start failed: ${[last.reason, ...(last.error ? [describeSummary(last.error)] : [])].join(', ')}`;
}

function whyNotReady(view: View): string | undefined {
  const { serving, isBridged } = view.pool;
  if (view.state === 'ready') return serving.length > 0 || isBridged ? undefined : 'no worker serves';
  return whyNotStarted(view);
}

/** Why `/startupz` says no. Redis is required to become ready, and not to stay so: without it every pod would leave at once. */
export function whyNotStarted({ state, pool, config, isJoined }: View): string | undefined {
  if (state === 'ready') return undefined;
  if (state === 'draining') return 'draining';
  const { serving, wanted, hasStarted } = pool;
  if (!hasStarted) return `starting: ${serving.length} of ${wanted} workers serve`;
  if (!usesRedis(config)) return undefined;
  const waiting = serving.find(({ redis }) => redis?.state !== 'ready');
  if (waiting === undefined) return isJoined ? undefined : 'waiting for Redis: the other pods are not joined yet';
  return `waiting for Redis: ${waiting.redis?.message ?? `no answer from ${describeRedis(config)} yet`}`;
}
