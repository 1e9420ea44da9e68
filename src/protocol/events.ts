/**
 * The facts of a pool's life, each emitted once (primary/events.ts). The log, the history with `/events`, the totals and the shutdown
 * listen. An event with a name of log-events.ts is logged, with the fields that it has there.
 */

import type { LogEvent } from './event-log.ts';
import type { ExitReason } from './exit.ts';
import type { Drain, ErrorReport, OpenRequest } from './messages.ts';
import type { Snapshot } from './snapshot.ts';

/** A worker by its number and its process. */
interface WorkerFields {
  worker: number;
  workerPid: number;
}

/** Everything that the primary keeps of a worker that has exited. */
export interface WorkerExit extends WorkerFields {
  event: 'worker.exit';
  reason: ExitReason;
  /** Why it failed; may contain text of the app. */
  failure: string | undefined;
  /** Undefined where a signal ended it, or where it could not be started. */
  code: number | undefined;
  /** `failure` for everyone. */
  openFailure: string | undefined;
  /** Of the error's message. */
  fingerprint: string | undefined;
  error: ErrorReport | undefined;
  /** Undefined where it did not report one. */
  drain: Drain | undefined;
  /** Requests lost when its app ended the process, or the primary killed it. */
  lost: { open: number; oldest: OpenRequest[] } | undefined;
  snapshot: Snapshot | undefined;
  /** It ended unexpectedly, or before it was ready, or missed the deadline of its drain. */
  isFailure: boolean;
  isFailedStart: boolean;
  /** It did not exit in time, and was killed before it reported its drain. */
  missedDeadline: boolean;
}

export type LifecycleEvent =
  | ({ event: 'worker.starting'; generation: number } & WorkerFields)
  | LogEvent<'worker.ready'>
  | ({ event: 'worker.cordoned' } & WorkerFields)
  | ({ event: 'worker.uncordoned' } & WorkerFields)
  | ({ event: 'worker.draining'; reason: ExitReason } & WorkerFields)
  | WorkerExit
  | LogEvent<'worker.hung'>
  /** `isFirst`: of this worker. */
  | (LogEvent<'worker.malformed-message'> & { isFirst: boolean })
  | LogEvent<'worker.failed'>
  | LogEvent<'worker.replace'>
  | LogEvent<'worker.replace-failed'>
  | LogEvent<'recycling.pointless'>
  /** All wanted workers served at the same time for the first time, or some did and the others went on failing. */
  | { event: 'pool.started' }
  | LogEvent<'pool.ready'>
  | LogEvent<'pool.scale'>
  | LogEvent<'pool.scale-failed'>
  | LogEvent<'pool.scale-refused'>
  | LogEvent<'pool.backoff'>
  | LogEvent<'pool.rebalanced'>
  | LogEvent<'pool.restart'>
  | LogEvent<'pool.restarted'>
  | LogEvent<'pool.restart-failed'>
  | LogEvent<'pool.restart-refused'>
  | LogEvent<'reload.refused'>
  | LogEvent<'sizing.changed'>
  | LogEvent<'balancing.policy'>
  | LogEvent<'leader.acquired'>
  | LogEvent<'leader.released'>
  | LogEvent<'leader.lost'>
  | LogEvent<'session.keys-rotated'>
  | LogEvent<'service.migrated'>
  | LogEvent<'health.failing'>
  | LogEvent<'health.passing'>
  | LogEvent<'health.unready'>
  | LogEvent<'health.ready'>
  | LogEvent<'signal'>
  | LogEvent<'app.listening'>
  | LogEvent<'shutdown.delay'>
  | LogEvent<'shutdown.drain'>
  | LogEvent<'drain.waiting'>
  | LogEvent<'shutdown.unserved'>
  | LogEvent<'shutdown.unacknowledged'>
  | LogEvent<'shutdown.cut'>
  | LogEvent<'primary.abort'>
  | LogEvent<'primary.exit'>;

export type EventName = LifecycleEvent['event'];
export type EventOf<Name extends EventName> = Extract<LifecycleEvent, { event: Name }>;

/** Reports a fact to everyone who listens. */
export type Emit = (event: LifecycleEvent) => void;

/** Called with each fact in order; `at` is milliseconds since the epoch. */
export type EventListener = (event: LifecycleEvent, at: number) => void;
