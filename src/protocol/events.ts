/**
 * The facts of a pod's life, each emitted once (primary/events.ts). The log, the history with `/events`, the totals and the shutdown
 * listen. An event's name is that of its log line, where it has one.
 */
import type { Policy } from '../config/config.ts';
import { reportOf } from './api.ts';
import type { Drain, ErrorReport, ExitCode, ExitReason, OpenRequest, Snapshot } from './messages.ts';

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
  /** It ended unexpectedly, or before it was ready, or did not end when it was told to. */
  isFailure: boolean;
  isFailedStart: boolean;
  /** It did not exit in time, and was killed before it reported its drain. */
  missedDeadline: boolean;
}

export type LifecycleEvent =
  | ({ event: 'worker.starting'; generation: number } & WorkerFields)
  | ({ event: 'worker.ready'; generation: number; ms: number } & WorkerFields)
  | ({ event: 'worker.cordoned' } & WorkerFields)
  | ({ event: 'worker.uncordoned' } & WorkerFields)
  | ({ event: 'worker.draining'; reason: ExitReason } & WorkerFields)
  | WorkerExit
  /** `stack` has a line per frame, or is `unavailable`. */
  | ({ event: 'worker.hung'; stack: string[] | string } & WorkerFields)
  /** A message of the worker was dropped; `isFirst`: of this worker. */
  | ({ event: 'worker.malformed-message'; error: string; isFirst: boolean } & WorkerFields)
  /** A worker that cannot start says why. */
  | { event: 'worker.failed'; worker: number; stage: 'app' | 'listen'; error: string; stack: string }
  /** The pool replaces a worker by its own decision. */
  | ({ event: 'worker.replace'; reason: ExitReason } & WorkerFields)
  | { event: 'worker.replace-failed'; worker: number; reason: ExitReason; error: string }
  /** A step of a replacement, in words for the operator. */
  | { event: 'replacement.step'; reason: ExitReason; text: string }
  | { event: 'recycling.pointless'; why: string }
  /** All wanted workers served at the same time for the first time, or some did and the others went on failing. */
  | { event: 'pool.started' }
  /** The pod is ready: it has started, and is connected to Redis where one is configured. */
  | { event: 'pool.ready'; workers: number; wanted: number; ms: number }
  | { event: 'pool.scale'; from: number; to: number }
  | { event: 'pool.scale-failed'; from: number; to: number; error: string }
  | { event: 'pool.scale-refused'; workers: number; warning: string }
  | { event: 'pool.backoff'; ms: number; failures: number }
  | { event: 'pool.restart'; generation: number; workers: number }
  | { event: 'pool.restarted'; generation: number }
  | { event: 'pool.restart-failed'; generation: number; error: string }
  | { event: 'pool.restart-refused'; why: string }
  | { event: 'reload.refused'; problems: readonly string[] }
  | {
      event: 'sizing.changed';
      workers: number;
      reason: string;
      heapPerWorkerMb: number | null;
      quota: number | null;
      memoryLimitBytes: number | null;
    }
  | { event: 'balancing.policy'; policy: Policy; before: Policy }
  | { event: 'session.keys-rotated'; keys: number }
  | { event: 'signal'; command: string }
  | { event: 'app.listening'; url: string }
  | { event: 'shutdown.delay'; ms: number }
  | { event: 'shutdown.drain'; workers: number; timeoutMs: number }
  | { event: 'drain.waiting'; worker: number; open: number; requests: OpenRequest[] }
  /** Connections that no worker has accepted. */
  | { event: 'shutdown.unserved'; connections: number }
  | { event: 'shutdown.unacknowledged'; connections: number; bytes: number }
  | { event: 'shutdown.cut'; requests: number }
  | { event: 'primary.abort'; code: ExitCode; error: string }
  | { event: 'primary.exit'; code: ExitCode };

export type EventName = LifecycleEvent['event'];
export type EventOf<Name extends EventName> = Extract<LifecycleEvent, { event: Name }>;

/** Reports a fact to everyone who listens. */
export type Emit = (event: LifecycleEvent) => void;

/** Called with each fact in order; `at` is milliseconds since the epoch. */
export type EventListener = (event: LifecycleEvent, at: number) => void;

type Level = 'debug' | 'info' | 'warn' | 'error' | 'fatal';

interface Logged<Name extends EventName> {
  /** Undefined: this one is not logged. */
  level: Level | ((event: EventOf<Name>) => Level | undefined);
  /** Makes the line; where it is missing, the line is the event itself. */
  line?: (event: EventOf<Name>) => object;
}

/** How each fact is logged; `false`: not at all. */
export const LOGGED: { readonly [Name in EventName]: Logged<Name> | false } = {
  'worker.starting': false,
  'worker.ready': { level: 'info' },
  'worker.cordoned': false,
  'worker.uncordoned': false,
  'worker.draining': false,
  'worker.exit': {
    level: ({ isFailure }) => (isFailure ? 'error' : 'info'),
    line: ({ event, worker, workerPid, reason, failure, fingerprint, drain }) => ({
      event,
      worker,
      workerPid,
      reason,
      failure,
      fingerprint,
      ...(drain && { drain: reportOf(drain) }),
    }),
  },
  'worker.hung': { level: 'error' },
  'worker.malformed-message': {
    level: ({ isFirst }) => (isFirst ? 'warn' : undefined),
    line: ({ isFirst: _, ...line }) => line,
  },
  'worker.failed': { level: 'error' },
  'worker.replace': { level: ({ reason }) => (reason === 'hung' ? 'error' : 'info') },
  'worker.replace-failed': { level: 'error' },
  'replacement.step': false,
  'recycling.pointless': { level: 'warn' },
  'pool.started': false,
  'pool.ready': { level: 'info' },
  'pool.scale': { level: 'info' },
  'pool.scale-failed': { level: 'error' },
  'pool.scale-refused': { level: 'warn' },
  'pool.backoff': { level: 'warn' },
  'pool.restart': { level: 'info' },
  'pool.restarted': { level: 'info' },
  'pool.restart-failed': { level: 'error' },
  'pool.restart-refused': { level: 'error' },
  'reload.refused': { level: 'error' },
  'sizing.changed': { level: 'info' },
  'balancing.policy': { level: 'info' },
  'session.keys-rotated': { level: 'info' },
  signal: { level: 'info' },
  'app.listening': { level: 'info' },
  'shutdown.delay': { level: 'info' },
  'shutdown.drain': { level: 'info' },
  'drain.waiting': { level: 'info' },
  'shutdown.unserved': { level: 'warn' },
  'shutdown.unacknowledged': { level: 'warn' },
  'shutdown.cut': { level: 'warn' },
  'primary.abort': { level: 'fatal' },
  'primary.exit': { level: 'info' },
};
