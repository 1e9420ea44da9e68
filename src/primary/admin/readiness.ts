/**
 * What the probes say, and why. Pure over the pod's state.
 */
import { type Config, describeRedis, usesRedis } from '../../config.ts';
import type { WorkerHandle } from '../pool/worker-handle.ts';
import type { PodState } from './status.ts';

export interface View {
  state: PodState;
  pool: { wanted: number; allServedOnce: boolean; serving: readonly WorkerHandle[] };
  config: Config;
  /** With Redis: other pods hear this one, and it knows what they retain for its workers. */
  isJoined: boolean;
}

/** Why `/readyz` says no; undefined where it says yes. */
export function whyNotReady(view: View): string | undefined {
  if (view.state === 'ready') return view.pool.serving.length > 0 ? undefined : 'no worker serves';
  return whyNotStarted(view);
}

/** Why `/startupz` says no. Redis is required to become ready, and not to stay so: without it every pod would leave at once. */
export function whyNotStarted({ state, pool, config, isJoined }: View): string | undefined {
  if (state === 'ready') return undefined;
  if (state === 'draining') return 'draining';
  const { serving, wanted, allServedOnce } = pool;
  if (!allServedOnce) return `starting: ${serving.length} of ${wanted} workers serve`;
  if (!usesRedis(config)) return undefined;
  const waiting = serving.find(({ redis }) => redis?.state !== 'ready');
  if (waiting === undefined) return isJoined ? undefined : 'waiting for Redis: the other pods are not joined yet';
  return `waiting for Redis: ${waiting.redis?.message ?? `no answer from ${describeRedis(config)} yet`}`;
}
