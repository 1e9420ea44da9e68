/**
 * What a worker measures about itself and pushes to the primary: numbers, and the fixed buckets and labels that they are counted by.
 */
import type { Registry } from 'prom-client';

/** What a worker measures about itself; pushed every second and kept by its handle. */
export interface Snapshot {
  connections: number;
  /** Their limit (MAX_CONNECTIONS); undefined if there is none. */
  maxConnections?: number;
  /** Connections that this worker has been given since it started. */
  accepted: number;
  /** What its balancing policy compares: connections, or milliseconds of waiting with `response-time`. */
  load: number;
  inFlight: number;
  /** Promises of `kit.task` that have not settled; undefined before the app has given one. */
  tasks?: number;
  /** Requests answered since the worker started. */
  requests: number;
  /** Requests refused with 503 because of the event loop delay (MAX_EVENT_LOOP_DELAY_MS). */
  shed: number;
  /** Requests that the app has not answered in time (HANDLER_TIMEOUT_MS). */
  timedOut: number;
  /** Requests whose client closed the connection before the answer began. */
  abandoned: number;
  /** Idle connections closed because of MAX_CONNECTIONS. */
  reclaimed: number;
  sessionStoreErrors: number;
  /** Undefined without ADAPTIVE_CONCURRENCY. */
  concurrency?: ConcurrencyStatus;
  /** Undefined without NODE_CLUSTER_STICKY. */
  sticky?: StickyCounters;
  /** Undefined where no Redis is configured. */
  redis?: RedisCounters;
  /** What Redis currently refuses; undefined if no Redis is configured. */
  redisRefusals?: RedisRefusal[];
  /** Over the last 5 to 10 seconds; all 0 where nothing was answered. */
  responseTimeMs: { mean: number; p50: number; p99: number };
  /** 0 to 1, over the last second. */
  eventLoopUtilization: number;
  /** Mean event loop delay over the last second. */
  eventLoopDelayMs: number;
  memory: { rss: number; heapTotal: number; heapUsed: number };
  /** CPU time since the worker started. */
  cpuSeconds: CpuSeconds;
  http: HttpSeries[];
  /** Undefined before a sampled trace. */
  exemplars?: Exemplar[];
  /** The app's own metrics in prom-client's JSON; empty where it has none. */
  appMetrics: AppMetric[];
}

/** The limit of ADAPTIVE_CONCURRENCY in one worker. */
export interface ConcurrencyStatus {
  /** Requests that the app may handle at once. */
  limit: number;
  /** Requests that it handles, and has not begun to answer. */
  inFlight: number;
  /** Requests that wait. */
  queued: number;
  /** Requests that got 503, since the worker started. */
  rejected: number;
  /** Over the last second. */
  rejectedPerSecond: number;
}

/** Requests of clients that belong to another worker of the pod, since this worker started. */
export interface StickyCounters {
  /** Passed on to that worker. */
  passed: number;
  /** Served here, since that worker has ended or drains. */
  gone: number;
  /** Served here, since the event loop of that worker is blocked. */
  blocked: number;
  /** Passed on, and not answered: that worker has ended meanwhile. */
  lost: number;
}

/** Commands of one process to Redis since it started: `counts` per bucket of REDIS_BUCKETS_S of those that were answered, the last one above all. */
export interface RedisCounters {
  commands: number;
  errors: number;
  reconnects: number;
  /** Connections replaced because a reply broke the Redis protocol or was too large. */
  faults: number;
  sumSeconds: number;
  counts: number[];
}

/** A command that Redis refuses because of its own state or settings. `code` is the first word of its answer: READONLY, OOM, MISCONF, NOPERM. */
export interface RedisRefusal {
  code: string;
  command: string;
  /** The answer, bounded and without control characters. */
  message: string;
  /** How many times in a row. */
  count: number;
}

/** Upper bounds in seconds; the command timeout is 0.5. */
export const REDIS_BUCKETS_S = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5];

export interface CpuSeconds {
  user: number;
  system: number;
}

/** A metric of the app, as prom-client's registry gives it to be merged. */
export type AppMetric = Awaited<ReturnType<Registry['getMetricsAsJSON']>>[number];

/** From a fixed list, so that a client can't make up label values. */
export const HTTP_METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'other'] as const;

/** Of a route, in characters. */
export const MAX_ROUTE = 120;
/** What is no path, and every route above the limits. */
export const OTHER_ROUTE = 'other';
/** Values of the label `route`, `other` among them. */
export const MAX_ROUTES = 100;
/** Series of methods, statuses and routes besides those of `other`. */
export const MAX_ROUTE_SERIES = 1000;

/** The routes that are counted by their names: the first ones. It forgets none, so that no counter ever decreases. */
export class RouteLimit {
  readonly #routes = new Set<string>();
  readonly #series = new Set<string>();

  /** The route by which this series is counted: its own, or `other`. Always the same for the same series. */
  admit({ method, status, route }: Pick<HttpSeries, 'method' | 'status' | 'route'>): string | undefined {
    if (route === undefined || route === OTHER_ROUTE) return route;
    const key = `${method} ${status} ${route}`;
    if (this.#series.has(key)) return route;
    const isNew = !this.#routes.has(route);
    if (this.#series.size >= MAX_ROUTE_SERIES || (isNew && this.#routes.size >= MAX_ROUTES - 1)) return OTHER_ROUTE;
    this.#routes.add(route);
    this.#series.add(key);
    return route;
  }
}

/** Answered requests of one method, status and route since the worker started: `counts` per bucket of METRICS_BUCKETS, the last one above all. */
export interface HttpSeries {
  method: (typeof HTTP_METHODS)[number];
  status: number;
  /** Only with METRICS_ROUTES. */
  route?: string;
  sumSeconds: number;
  counts: number[];
}

/** Of one worker: those of the series and buckets that were used last. */
export const MAX_EXEMPLARS = 300;

/** The last answered request with a sampled trace in one bucket of a series (OpenMetrics 1.0, "Exemplars"). */
export interface Exemplar extends Pick<HttpSeries, 'method' | 'status' | 'route'> {
  /** Index in the `counts` of the series. */
  bucket: number;
  /** 32 hexadecimal digits. */
  traceId: string;
  seconds: number;
  /** When it was answered, in milliseconds since the epoch. */
  at: number;
}

/** For figures that are sent and shown. */
export function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
