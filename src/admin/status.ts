/**
 * The object of `/status`. Pure.
 */
import type { Policy } from '../config/config.ts';
import type { Supervisor } from '../pool/supervisor.ts';
import type { WorkerProcess } from '../pool/worker-process.ts';
import { type DevStatus, type Measured, type PodState, reportOf, type Status, type WorkerStatus } from '../protocol/api.ts';
import { type Audience, requestsFor } from '../protocol/audience.ts';
import type { ErrorStatus } from '../protocol/error-status.ts';
import type { MemoryStatus, Sizing } from '../protocol/sizing.ts';
import type { RedisCounters, RedisRefusal } from '../protocol/snapshot.ts';
import type { ErrorRates } from './error-rates.ts';
import type { Health } from './health.ts';
import type { Readiness } from './readiness.ts';
import type { RecentErrors } from './recent-errors.ts';
import type { RouteTimes } from './route-times.ts';
import type { Totals } from './totals.ts';

type Answering = { snapshot: { responseTimeMs: { p99: number } } | undefined };

/** Of the slowest of these workers, in milliseconds. */
export function slowestP99Ms(handles: readonly Answering[]): number {
  return Math.max(0, ...handles.map(({ snapshot }) => snapshot?.responseTimeMs.p99 ?? 0));
}

export interface Pod {
  service: Status['service'];
  version: string;
  /** The host name. */
  pod: string;
  policy: Policy;
  sizing: Sizing;
  state: PodState;
  readiness: Readiness;
  supervisor: Supervisor;
  totals: Totals;
  /** Connections that were moved to another worker, since the start. */
  moved: number;
  resizes: { up: number; down: number; heap: number };
  /** Of the primary's own connections; undefined where there is no Redis. */
  redis: RedisCounters | undefined;
  /** Of all processes of the pod. */
  redisRefusals: readonly RedisRefusal[];
  /** The app's health checks. */
  health: Pick<Health, 'status'>;
  /** Events of the app that went through this pod. */
  broadcasts: {
    sent: number;
    received: number;
    unsent: number;
    droppedCopies: number;
    missed: number;
    duplicates: number;
    malformed: number;
    unauthenticated: number;
    stale: number;
    ignoredHeartbeats: Readonly<Record<string, number>>;
  };
  /** By name; undefined while no worker has called `kit.leader`. */
  leader?: Status['leader'] | undefined;
  /** Undefined outside `bosun dev`. */
  dev?: DevStatus | undefined;
  /** The admin port is open to this machine only. */
  isLocal?: boolean;
  /** METRICS_BUCKETS. */
  bucketsS: readonly number[];
  /** Since the start, on both outputs. */
  droppedLogLines: number;
  /** null where it is unknown. */
  throttledSeconds: number | null;
  /** Of the container; empty where the kernel reports none. */
  pressure: NonNullable<Status['pressure']>;
  /** For autoscalers: 0 to 1; null while no worker is ready. */
  utilization: number | null;
  errorRates: Pick<ErrorRates, 'of' | 'pool'>;
  recentErrors: Pick<RecentErrors, 'kinds'>;
  /** Undefined without METRICS_ROUTES. */
  routeTimes?: RouteTimes | undefined;
  memory: () => MemoryStatus;
}

const NO_SNAPSHOT: Measured = {
  connections: 0,
  load: 0,
  inFlight: 0,
  requests: 0,
  responseTimeMs: { mean: 0, p50: 0, p99: 0 },
  eventLoopUtilization: 0,
  eventLoopDelayMs: 0,
  memory: { rss: 0, heapTotal: 0, heapUsed: 0 },
};

/** The object of `/status`. */
export function statusOf(
  {
    service,
    version,
    pod,
    policy,
    sizing,
    state,
    readiness: { reason },
    supervisor,
    totals,
    moved,
    utilization,
    pressure,
    errorRates,
    recentErrors,
    routeTimes,
    redisRefusals,
    health,
    memory,
    leader,
    dev,
    isLocal,
  }: Pod,
  audience: Audience,
): Status {
  const { last } = totals.drains;
  const checks = health.status(audience);
  const now = performance.now();
  const { handles } = supervisor;
  const counters = totals.countersWith(handles);
  return {
    version,
    pod,
    pid: process.pid,
    state,
    ...(reason && { reason }),
    generation: supervisor.generation,
    uptimeSeconds: Math.round(process.uptime() * 1000) / 1000,
    service,
    policy,
    sizing,
    utilization,
    ...(Object.keys(pressure).length > 0 && { pressure }),
    errors: errorRates.pool(handles, counters, now),
    recentErrors: recentErrors.kinds(audience),
    ...(routeTimes && { routes: routeTimes.shown(counters.http) }),
    workers: handles.map(handle => workerStatus(handle, errorRates.of(handle, now), audience)),
    restarts: { total: totals.exits, byReason: Object.fromEntries(totals.exitsByReason) },
    drains: { ...totals.drains, last: last && { ...reportOf(last), cut: requestsFor(audience, last.cut) } },
    moved,
    failedStarts: failedStartsOf(totals, audience),
    rollingRestarts: { ...supervisor.rolls, lastRefused: supervisor.lastRefusal ?? null },
    memory: memory(),
    ...(checks && { health: checks }),
    ...(leader && { leader }),
    ...(dev && { dev: isLocal ? dev : devStatusFor(audience, dev) }),
    // Only while there are any; the text of Redis may name keys.
    ...(redisRefusals.length > 0 && {
      redisRefusals: redisRefusals.map(({ message, ...open }) => (audience === 'open' ? open : { ...open, message })),
    }),
  };
}

function failedStartsOf({ failedStarts: { count, last } }: Totals, audience: Audience): Status['failedStarts'] {
  if (last === null || audience === 'operator') return { count, last };
  const { failure: _, ...open } = last;
  return { count, last: open };
}

function devStatusFor(audience: Audience, { error }: DevStatus): DevStatus {
  if (error === null || audience === 'operator') return { error };
  const { at, summary } = error;
  return { error: { at, ...(summary && { summary }) } };
}

function workerStatus(handle: WorkerProcess, errors: ErrorStatus, audience: Audience): WorkerStatus {
  const { open, oldest } = handle.waitingFor;
  const {
    connections,
    maxConnections,
    concurrency,
    load,
    inFlight,
    requests,
    responseTimeMs,
    eventLoopUtilization,
    eventLoopDelayMs,
    memory,
  } = handle.snapshot ?? NO_SNAPSHOT;
  return {
    id: handle.id,
    pid: handle.pid,
    state: handle.state,
    generation: handle.generation,
    uptimeSeconds: handle.uptimeSeconds,
    silentSeconds: Math.max(0, Math.round(performance.now() - handle.reportedAt) / 1000),
    connections,
    ...(maxConnections !== undefined && { maxConnections }),
    ...(concurrency && { concurrency }),
    inFlight,
    requests,
    errors,
    responseTimeMs,
    eventLoopUtilization,
    eventLoopDelayMs,
    memory,
    load,
    // Only while it drains: the oldest requests that it waits for, and how many there are.
    ...(open > 0 && { waitingFor: requestsFor(audience, oldest), waitingForCount: open }),
  };
}
