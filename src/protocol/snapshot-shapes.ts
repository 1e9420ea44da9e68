/**
 * The shape of a worker's snapshot, and how much of it is kept.
 */
import { MAX_BUCKETS } from '../config/parse.ts';
import { appMetrics } from './app-metric-shapes.ts';
import { integer, list, MalformedError, number, object, oneOf, optional, type Parser, string, text } from './shapes.ts';
import {
  type ConcurrencyStatus,
  type CpuSeconds,
  type Exemplar,
  HTTP_METHODS,
  type HttpSeries,
  MAX_EXEMPLARS,
  MAX_ROUTE,
  MAX_ROUTE_SERIES,
  REDIS_BUCKETS_S,
  type RedisCounters,
  type RedisRefusal,
  type Snapshot,
  type StickyCounters,
} from './snapshot.ts';

const MAX_NAME = 256;
const MIN_STATUS = 100;
const MAX_STATUS = 999;
const MAX_REFUSALS = 20;

const count = number(0);

/** Observations per bucket: one more than there are bounds. */
const buckets =
  (bounds: readonly number[]): Parser<number[]> =>
  (value, at) => {
    const counts = list(count, bounds.length + 1)(value, at);
    if (counts.length !== bounds.length + 1) throw new MalformedError(at, `an array of ${bounds.length + 1} elements`, value);
    return counts;
  };

/** A label of metrics, shown to anyone. */
export const route: Parser<string> = (value, at) => {
  const found = string(MAX_ROUTE)(value, at);
  if (!/^[\x20-\x7e]+$/.test(found)) throw new MalformedError(at, 'a route of printable characters', found);
  return found;
};

const httpSeries = object<HttpSeries>({
  method: oneOf(...HTTP_METHODS),
  status: integer(MIN_STATUS, MAX_STATUS),
  route: optional(route),
  sumSeconds: count,
  counts: list(count, MAX_BUCKETS + 1),
});

const traceId: Parser<string> = (value, at) => {
  const found = string(32)(value, at);
  if (!/^[\da-f]{32}$/.test(found)) throw new MalformedError(at, '32 hexadecimal digits', found);
  return found;
};

const exemplar = object<Exemplar>({
  method: oneOf(...HTTP_METHODS),
  status: integer(MIN_STATUS, MAX_STATUS),
  route: optional(route),
  bucket: integer(0, MAX_BUCKETS),
  traceId,
  seconds: count,
  at: count,
});

const cpuSeconds = object<CpuSeconds>({ user: count, system: count });

const redisCounters = object<RedisCounters>({
  commands: count,
  errors: count,
  reconnects: count,
  faults: count,
  sumSeconds: count,
  counts: buckets(REDIS_BUCKETS_S),
});

const refusal = object<RedisRefusal>({ code: string(32), command: text(MAX_NAME), message: text(MAX_NAME), count });

export const snapshot = object<Snapshot>({
  connections: count,
  maxConnections: optional(count),
  accepted: count,
  load: number(),
  inFlight: count,
  tasks: optional(count),
  requests: count,
  shed: count,
  timedOut: count,
  abandoned: count,
  reclaimed: count,
  sessionStoreErrors: count,
  concurrency: optional(
    object<ConcurrencyStatus>({ limit: count, inFlight: count, queued: count, rejected: count, rejectedPerSecond: count }),
  ),
  sticky: optional(object<StickyCounters>({ passed: count, gone: count, blocked: count, lost: count })),
  redis: optional(redisCounters),
  redisRefusals: optional(list(refusal, MAX_REFUSALS)),
  responseTimeMs: object({ mean: count, p50: count, p99: count }),
  eventLoopUtilization: number(),
  eventLoopDelayMs: number(),
  memory: object({ rss: count, heapTotal: count, heapUsed: count }),
  cpuSeconds,
  http: list(httpSeries, HTTP_METHODS.length * (MAX_STATUS - MIN_STATUS + 1) + MAX_ROUTE_SERIES),
  exemplars: optional(list(exemplar, MAX_EXEMPLARS)),
  appMetrics,
});
