/**
 * A worker as plain data: starting → ready ⇄ cordoned → draining → exited, and all that the primary knows of it; and how its reports and
 * its exit change that. Only this file and workers.ts write a record. Pure: times are milliseconds of the monotonic clock, passed in.
 */
import { describeOpenly, fingerprintOf } from '../protocol/audience.ts';
import type { WorkerExit } from '../protocol/events.ts';
import { type ExitReason, isCrash, isFailure } from '../protocol/exit.ts';
import {
  type Drain,
  type ErrorReport,
  EXIT_SLACK_MS,
  type OpenRequest,
  type RedisState,
  type ToPrimary,
} from '../protocol/messages.ts';
import type { Snapshot } from '../protocol/snapshot.ts';
import type { Heap } from '../resources/heap.ts';
import { isFailedStart } from './failures.ts';

export type WorkerState = 'starting' | 'ready' | 'cordoned' | 'draining' | 'exited';

/** Requests without an answer: how many, and the oldest of them. */
export interface OpenRequests {
  open: number;
  oldest: OpenRequest[];
}

/** A crashing worker drains for at most 5 seconds (worker/shutdown.ts). */
const CRASH_DEADLINE_MS = 5000 + EXIT_SLACK_MS;
/** The exit codes of Node.js if it rejects an option or a debugger port before it runs any code. */
const REJECTED_BY_NODE: ReadonlySet<number | null> = new Set([9, 12]);
const NOTHING: OpenRequests = { open: 0, oldest: [] };

export interface WorkerRecord {
  readonly id: number;
  readonly generation: number;
  /** With which it was started. */
  readonly heap: Heap;
  readonly startedAt: number;
  /** Answered requests after which it is recycled; 0 for none. */
  readonly maxRequests: number;
  /** 0 before the fork, and if the system has refused it. */
  pid: number;
  /** Of the app, since it is ready. */
  port: number;
  state: WorkerState;
  readyAt: number | undefined;
  /** Why it ends; undefined while nothing has decided on its end. */
  reason: ExitReason | undefined;
  /** Why it failed, as reported by the worker or found by the primary; may contain text of the app. */
  failure: string | undefined;
  /** Of its process; undefined before its exit, and where a signal ended it. */
  exitCode: number | undefined;
  error: ErrorReport | undefined;
  /** The error is the app's; the text of others is the kit's own. */
  isAppError: boolean;
  /** A retry would fail in the same way. */
  isPermanent: boolean;
  snapshot: Snapshot | undefined;
  /** When the snapshot arrived; the start of the worker before. */
  reportedAt: number;
  redis: { state: RedisState; message: string; evictionPolicy: string | undefined } | undefined;
  /** The last change of the session keys that it has read. */
  keysRead: string | undefined;
  /** The result of its drain. */
  drain: Drain | undefined;
  /** What its drain waits for, by its last report. */
  waitingFor: OpenRequests;
  /** The requests lost when its app ended the process. */
  lost: OpenRequests | undefined;
  /** Since when it answers requests. */
  busySince: number | undefined;
  /** Since its last message, in the time that the primary was awake. */
  silentMs: number;
  hasReported: boolean;
  /** A diagnosis runs: silence is no sign of a hang. */
  isDiagnosed: boolean;
  /** A debugger may pause it: silence does not mean that it hangs. */
  isInspected: boolean;
  /** An operator wants no new connections for it. */
  wantsCordon: boolean;
  /** When it is killed unless it has exited. */
  killAt: number;
  /** The deadline before killAt, for the message. */
  exitTimeoutMs: number;
  /** Killed by the primary. */
  isKilled: boolean;
  /** It did not exit in time and was killed before it reported its drain. */
  missedDeadline: boolean;
  /** Its replacement was refused: not requested again before. */
  refusedUntil: number;
}

export type NewWorker = Pick<WorkerRecord, 'id' | 'generation' | 'heap' | 'maxRequests' | 'startedAt'>;

export function newWorker(worker: NewWorker): WorkerRecord {
  return {
    ...worker,
    pid: 0,
    port: 0,
    state: 'starting',
    readyAt: undefined,
    reason: undefined,
    failure: undefined,
    exitCode: undefined,
    error: undefined,
    isAppError: false,
    isPermanent: false,
    snapshot: undefined,
    reportedAt: worker.startedAt,
    redis: undefined,
    keysRead: undefined,
    drain: undefined,
    waitingFor: NOTHING,
    lost: undefined,
    busySince: undefined,
    silentMs: 0,
    hasReported: false,
    isDiagnosed: false,
    isInspected: false,
    wantsCordon: false,
    killAt: Number.POSITIVE_INFINITY,
    exitTimeoutMs: 0,
    isKilled: false,
    missedDeadline: false,
    refusedUntil: 0,
  };
}

type View<Key extends keyof WorkerRecord> = Readonly<Pick<WorkerRecord, Key>>;

/** Neither ending nor exited. */
export const isActive = ({ state }: View<'state'>): boolean => state !== 'draining' && state !== 'exited';

/** Ready, or cordoned. */
export const isUp = ({ state }: View<'state'>): boolean => state === 'ready' || state === 'cordoned';

export const isServing = ({ state }: View<'state'>): boolean => state === 'ready';

/** `failure` for those who may not see the text of the app. */
export function openFailureOf({ isAppError, error, failure }: View<'isAppError' | 'error' | 'failure'>): string | undefined {
  return isAppError && error !== undefined ? describeOpenly(error) : failure;
}

/** Records what the worker has reported. */
export function receive(worker: WorkerRecord, message: ToPrimary, now: number): void {
  worker.silentMs = 0;
  worker.hasReported = true;
  switch (message.type) {
    case 'ready':
      // One that was killed may have sent it before.
      if (worker.state !== 'starting' || worker.isKilled) break;
      worker.state = 'ready';
      worker.readyAt = now;
      worker.port = message.port;
      break;
    case 'named-port':
      if (worker.state === 'starting') leave(worker, 'named-port', EXIT_SLACK_MS, now);
      break;
    case 'failed':
      reportError(worker, message, message.stage === 'app');
      break;
    case 'load-again':
      worker.reason ??= 'load-again';
      break;
    case 'crashing':
      reportError(worker, message, true);
      // One that drains goes on with its drain and its deadline.
      if (isActive(worker)) leave(worker, 'crash', CRASH_DEADLINE_MS, now);
      break;
    case 'app-exit':
      worker.failure = message.message;
      worker.lost = { open: message.open, oldest: message.oldest };
      break;
    case 'stats':
      worker.snapshot = message.snapshot;
      if (message.snapshot.requests > 0) worker.busySince ??= now;
      worker.reportedAt = now;
      break;
    case 'redis':
      worker.redis = { state: message.state, message: message.message, evictionPolicy: message.evictionPolicy };
      break;
    case 'keys-read':
      worker.keysRead = message.change;
      break;
    case 'waiting':
      worker.waitingFor = message;
      break;
    case 'drained':
      worker.drain = message.drain;
      worker.waitingFor = NOTHING;
      break;
    case 'closed':
      if (worker.drain !== undefined) worker.drain = { ...worker.drain, closing: message.closing };
      break;
    case 'uncordoned':
      if (worker.state === 'cordoned' && !worker.wantsCordon) worker.state = 'ready';
      break;
    case 'health':
    case 'cordoned':
    case 'took-all':
    case 'move':
    case 'taken':
    case 'diagnosed':
    case 'errors':
    case 'loaded':
    case 'leader':
    case 'snapshot-wanted':
    case 'broadcast':
    case 'exiting':
      break;
    default:
      message satisfies never;
  }
}

/** It is to exit within `timeoutMs`. */
export function leave(worker: WorkerRecord, reason: ExitReason, timeoutMs: number, now: number): void {
  worker.reason ??= reason;
  worker.state = 'draining';
  worker.exitTimeoutMs = timeoutMs;
  worker.killAt = now + timeoutMs;
}

/** How the process of a worker ended. */
export type ProcessExit =
  /** The system did not start it. */
  | { error: string }
  /** `killer` has sent a SIGKILL that was not the primary's. */
  | {
      code: number | null;
      signal: string | null;
      killer: 'oom' | 'killed' | undefined;
      /** Open when the primary killed it. */
      lost: OpenRequests | undefined;
    };

export function exit(worker: WorkerRecord, how: ProcessExit): void {
  worker.state = 'exited';
  worker.killAt = Number.POSITIVE_INFINITY;
  if ('error' in how) {
    worker.reason ??= 'crash';
    worker.failure ??= `cannot be started: ${how.error}`;
    return;
  }
  const { code, signal, killer, lost } = how;
  worker.lost ??= lost;
  // Overrides earlier requests: the kill is final.
  if (killer !== undefined) worker.reason = killer;
  if (killer === 'oom') worker.failure = 'killed by the kernel for lack of memory';
  worker.reason ??= signal === 'SIGTERM' ? 'killed' : 'crash';
  const isRejected = REJECTED_BY_NODE.has(code) && !worker.hasReported;
  if (isRejected) worker.isPermanent = true;
  const hint = isRejected ? ': Node.js rejects its options, see the log (NODE_OPTIONS, WORKER_NODE_OPTIONS)' : '';
  worker.exitCode = code ?? undefined;
  if (code === 0 && !isFailure(worker.reason)) return;
  worker.failure ??= signal === null ? `exit code ${code}${hint}` : `signal ${signal}`;
}

function reportError(worker: WorkerRecord, report: ErrorReport, isAppError: boolean): void {
  worker.failure = report.message;
  worker.error = report;
  worker.isAppError = isAppError;
  worker.isPermanent = report.isPermanent;
}

/** All that others keep of a worker that has exited. */
export function exitEvent(worker: WorkerRecord): WorkerExit {
  const { id, pid, reason = 'crash', failure, exitCode, error, drain, lost, snapshot, missedDeadline } = worker;
  return {
    event: 'worker.exit',
    worker: id,
    workerPid: pid,
    reason,
    failure,
    code: exitCode,
    openFailure: openFailureOf(worker),
    fingerprint: error && fingerprintOf(error.message),
    error,
    drain,
    lost,
    snapshot,
    isFailure: isCrash(reason) || isFailedStart(worker) || missedDeadline,
    isFailedStart: isFailedStart(worker),
    missedDeadline,
  };
}
