/**
 * What leaves the pod as JSON, declared once for those who make it and those who read it: `/status`, `/events`,
 * and the heartbeats of the pods.
 */
import type { Policy } from '../config/config.ts';
import type { CloseTotals, TaskTotals } from './closing.ts';
import type { ErrorStatus, RouteStatus, WorkerError } from './error-status.ts';
import type { ExitReason } from './exit.ts';
import type { LeaderStatus } from './leader.ts';
import type { Drain, ErrorSummary, OpenRequest, StreamEnds } from './messages.ts';
import type { Pressure } from './pressure.ts';
import type { MemoryStatus, Sizing } from './sizing.ts';
import type { Snapshot } from './snapshot.ts';

export type PodState = 'starting' | 'ready' | 'draining';
export type WorkerState = 'starting' | 'ready' | 'cordoned' | 'draining' | 'exited';

export type Measured = Pick<
  Snapshot,
  | 'connections'
  | 'maxConnections'
  | 'concurrency'
  | 'load'
  | 'inFlight'
  | 'requests'
  | 'responseTimeMs'
  | 'eventLoopUtilization'
  | 'eventLoopDelayMs'
  | 'memory'
>;

/** An open request; only operators see its path. */
export type ShownRequest = Omit<OpenRequest, 'path'> & { path?: string };

/** A worker, and what it last reported, at most a second ago. */
export interface WorkerStatus extends Measured {
  /** Its number, from 1; a replaced worker's number is used again. */
  id: number;
  pid: number;
  state: WorkerState;
  /** Of the rolling restart that started it. */
  generation: number;
  uptimeSeconds: number;
  /** Since its last report, one a second; before the first one, since it was started. */
  silentSeconds: number;
  errors: ErrorStatus;
  /** The oldest requests that it waits for while it drains. */
  waitingFor?: ShownRequest[];
  /** How many there are. */
  waitingForCount?: number;
}

/** A worker's drain in `/status` and in the log. */
export type DrainReport = Omit<Drain, 'closedGracefully' | 'cut'> & {
  /** Connections that the worker closed between two requests. */
  handedOver: number;
  cut: readonly ShownRequest[];
};

export function reportOf<D extends Drain>({ closedGracefully: handedOver, ...drain }: D) {
  return { ...drain, handedOver };
}

/** The drains of this pod, added up. */
export interface DrainTotals {
  count: number;
  /** Requests that were open when a drain began, or came after, and were answered in full. */
  finishedRequests: number;
  /** Requests, or upgraded connections, that ended without an answer. */
  cutRequests: number;
  webSockets: StreamEnds;
  /** Streams of server-sent events. */
  eventStreams: StreamEnds;
  /** Closed between two requests. */
  handedOverConnections: number;
  /** Whose clients had not acknowledged the end of their answers when the primary exited. */
  unacknowledgedConnections: number;
  longestRequestMs: number;
  /** Promises of `kit.task` that a drain has waited for. */
  tasks: Pick<TaskTotals, 'finished' | 'failed' | 'timedOut'>;
  /** Handlers of `kit.onClose`. */
  closeHandlers: Pick<CloseTotals, 'count' | 'failed' | 'timedOut'>;
}

/** The last worker that exited before it was ready. */
export interface FailedStart {
  /** Milliseconds since the epoch. */
  at: number;
  worker: number;
  reason: ExitReason;
  /** Undefined if nothing was thrown: killed, or timed out. */
  error: ErrorSummary | undefined;
  /** Class, code, file and line of the error, or what else has happened, in the kit's own words. */
  why: string;
  /** For operators: may contain text of the app. */
  failure?: string | undefined;
}

/** The pod and its workers. */
export interface Status {
  /** Of koa-bosun. */
  version: string;
  /** The host name: a pod's, or a container's id. */
  pod: string;
  /** Of the primary. */
  pid: number;
  state: PodState;
  /** As `/readyz` gives it: why the pod is not ready, which workers are missing, or which checks fail. */
  reason?: string;
  /** Counts the rolling restarts, from 1. */
  generation: number;
  uptimeSeconds: number;
  /** The name of the service; `before` while its names in Redis are those of an earlier one, or `none`. */
  service: { name: string; before?: string };
  /** The balancing policy. */
  policy: Policy;
  sizing: Sizing;
  /** Of the ready workers, over the last 15 s: the larger of event loop utilization and CPU time by quota. 0 to 1; null while none is ready. */
  utilization: number | null;
  /** How processes of the container wait for resources (PSI); missing without cgroup v2, or where the kernel does not report it. */
  pressure?: { cpu?: Pressure; memory?: Pressure; io?: Pressure };
  errors: ErrorStatus;
  /** The last error of each kind, the newest first, at most 50; `count` since the primary started. */
  recentErrors: WorkerError[];
  /** By their share of the time, at most 20; only with METRICS_ROUTES. */
  routes?: RouteStatus[];
  workers: WorkerStatus[];
  /** All exits, planned ones too. */
  restarts: { total: number; byReason: { [R in ExitReason]?: number } };
  drains: DrainTotals & { last: (DrainReport & { worker: number; reason: ExitReason }) | null };
  /** Connections that were moved to another worker. */
  moved: number;
  /** Workers that exited before they were ready. */
  failedStarts: { count: number; last: FailedStart | null };
  rollingRestarts: { success: number; failure: number; refused: number; lastRefused: { at: number; why: string } | null };
  memory: MemoryStatus;
  /** Missing while there are none; `message` for operators. */
  redisRefusals?: { code: string; command: string; count: number; message?: string }[];
  /** The app's health checks by name, over all workers; missing while there are none. */
  health?: Record<string, CheckStatus>;
  /** Who leads, by the names of `kit.leader`; missing while no worker of this pod has called it. */
  leader?: Record<string, LeaderStatus>;
  /** Only under `bosun dev`. */
  dev?: DevStatus;
}

/** A health check of the app (`kit.health`), as the workers that serve report it. */
export interface CheckStatus {
  /** `failing`: its last run has failed in at least one worker; `unknown`: it has not run, or not for too long. */
  state: 'ok' | 'failing' | 'unknown';
  /** How long it has had this state. */
  seconds: number;
  /** It decides whether the pod is ready. */
  readiness: boolean;
  /** The pod is not ready because of it. */
  isUnready: boolean;
  /** How many workers run it. */
  workers: number;
  /** In how many the last run has failed. */
  failing: number;
  /** In a row, in the worker with the most. */
  failures: number;
  /** Of the slowest of the last runs. */
  durationMs: number;
  /** How it fails: class, code, file and line of the error, or in the kit's own words. */
  failure?: string;
  /** For operators: text of the app. */
  message?: string;
}

export interface DevStatus {
  /** Of the last reload, or of a crash since then; null once a reload has succeeded. `message` and `stack` only for operators. */
  error: { at: number; summary?: ErrorSummary; message?: string; stack?: string } | null;
}

/** One second of the pod; in `hour` and `day` of the history ten seconds and five minutes: rates as means, p99 and memory as the highest. */
export interface Sample {
  /** Milliseconds since the epoch. */
  at: number;
  /** Per worker id: requests per second, event loop utilization from 0 to 1. */
  workers: Record<number, [requestsPerSecond: number, utilization: number]>;
  /** Answers per second by status class: 2xx, 3xx, 4xx, 5xx. */
  statuses: [number, number, number, number];
  /** Milliseconds: the mean of the workers' medians by their requests. */
  p50: number;
  /** Milliseconds, of the slowest worker. */
  p99: number;
  /** Of all processes, shared pages counted once. */
  memoryBytes: number;
  /** Of the container; null without a limit. */
  limitBytes: number | null;
  /** CPUs that all processes used. */
  cpus: number;
  /** CPUs that they may use. */
  cpuLimit: number;
  /** Seconds per second that the quota withheld CPUs; null where it is unknown. */
  throttled: number | null;
  /** By pod, this one and up to 19 others, and the sum of further ones under `others`; missing while there is no other. */
  pods?: Record<string, [requestsPerSecond: number, errorsPerSecond: number, p99Ms: number, cpus: number, memoryBytes: number]>;
}

/** A lifecycle event in words. */
export interface ShownEvent {
  /** Milliseconds since the epoch. */
  at: number;
  kind:
    | 'starting'
    | 'ready'
    | 'cordoned'
    | 'draining'
    | 'exit'
    | 'resize'
    | 'restart'
    | 'restarted'
    | 'restart-failed'
    | 'restart-refused'
    | 'policy'
    | 'rebalanced'
    | 'leader'
    | 'keys'
    | 'check'
    | 'check-failing';
  worker?: number;
  reason?: ExitReason;
  text: string;
}

/** The messages of `/events` by their names; `message` has none. */
export interface StreamedEvents {
  /** `samples` are ten minutes, a second each. */
  history: {
    samples: readonly Sample[];
    hour: readonly Sample[];
    day: readonly Sample[];
    events: readonly ShownEvent[];
  };
  message: Status;
  sample: Sample;
  /** The next sample of `hour`, or of `day`. */
  longer: { hour?: Sample; day?: Sample };
  lifecycle: ShownEvent;
  fleet: readonly Peer[];
}

/** What a pod publishes about itself once a second. */
export interface Heartbeat {
  /** The start of a primary. */
  origin: string;
  /** The host name: a pod's, or a container's id. */
  pod: string;
  version: string;
  state: PodState | 'gone';
  generation: number;
  /** Workers that serve. */
  workers: number;
  /** Workers that are wanted. */
  wanted: number;
  requestsPerSecond: number;
  /** Of its slowest worker, milliseconds. */
  p99Ms: number;
  /** Open requests. This and the next ones are missing from versions that do not send them. */
  inFlight?: number;
  /** Answers per second. */
  errors?: { '4xx': number; '5xx': number };
  /** CPUs that its processes use. */
  cpus?: number;
  /** CPUs that they may use. */
  cpuLimit?: number;
  /** Of all its processes. */
  memoryBytes?: number;
  /** Missing without a limit. */
  limitBytes?: number;
  /** 0 to 1; missing while no worker is ready. */
  utilization?: number;
  /** The last change of the session keys, or of the service's names, that the pod has read. */
  keysRead?: string;
  /** The name of its service; missing from version 0.1.0. */
  service?: string;
  /** What its app calls itself: the name in its package.json, else its module. */
  app?: string;
  /** It writes to the names of SERVICE_NAME_BEFORE, too. */
  isChangingName?: boolean;
}

/** A pod as this one knows it, from its last heartbeat. */
export interface Peer extends Heartbeat {
  /** Since its last heartbeat. */
  silentSeconds: number;
  isSelf: boolean;
}
