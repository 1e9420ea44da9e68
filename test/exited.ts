/**
 * Events of workers that have exited, for tests of their listeners.
 */
import type { WorkerExit } from '../src/protocol/events.ts';
import type { Snapshot } from '../src/protocol/snapshot.ts';

/** A worker that was killed while it was idle. */
export const exitOf = (worker: number, more: Partial<WorkerExit> = {}): WorkerExit => ({
  event: 'worker.exit',
  worker,
  workerPid: 100 + worker,
  reason: 'killed',
  failure: undefined,
  code: undefined,
  openFailure: undefined,
  fingerprint: undefined,
  error: undefined,
  drain: undefined,
  lost: undefined,
  snapshot: undefined,
  isFailure: false,
  isFailedStart: false,
  missedDeadline: false,
  ...more,
});

export const snapshotOf = (more: Partial<Snapshot> = {}): Snapshot => ({
  connections: 0,
  accepted: 0,
  load: 0,
  inFlight: 0,
  requests: 0,
  shed: 0,
  timedOut: 0,
  abandoned: 0,
  reclaimed: 0,
  sessionStoreErrors: 0,
  responseTimeMs: { mean: 0, p50: 0, p99: 0 },
  eventLoopUtilization: 0,
  eventLoopDelayMs: 0,
  memory: { rss: 0, heapTotal: 0, heapUsed: 0 },
  cpuSeconds: { user: 0, system: 0 },
  http: [],
  appMetrics: [],
  ...more,
});
