/**
 * The counters that workers report, added up: over workers, and over time. Pure.
 */
import {
  type ConcurrencyStatus,
  type CpuSeconds,
  type Exemplar,
  type HttpSeries,
  MAX_EXEMPLARS,
  REDIS_BUCKETS_S,
  type RedisCounters,
  type RouteLimit,
  type Snapshot,
  type StickyCounters,
} from '../protocol/snapshot.ts';

/** The counters of a snapshot that add up over workers and time. */
export type Counters = Pick<
  Snapshot,
  'requests' | 'shed' | 'timedOut' | 'abandoned' | 'reclaimed' | 'sessionStoreErrors' | 'http' | 'redis' | 'sticky'
> & { concurrency?: Pick<ConcurrencyStatus, 'rejected'> };

export const NO_COUNTERS: Counters = {
  requests: 0,
  shed: 0,
  timedOut: 0,
  abandoned: 0,
  reclaimed: 0,
  sessionStoreErrors: 0,
  http: [],
};

/** Of two processes, or times. */
export function addCounters(a: Counters, b: Counters): Counters {
  return {
    requests: a.requests + b.requests,
    shed: a.shed + b.shed,
    timedOut: a.timedOut + b.timedOut,
    abandoned: a.abandoned + b.abandoned,
    reclaimed: a.reclaimed + b.reclaimed,
    sessionStoreErrors: a.sessionStoreErrors + b.sessionStoreErrors,
    http: addHttp([...a.http, ...b.http]),
    ...((a.concurrency ?? b.concurrency) && {
      concurrency: { rejected: (a.concurrency?.rejected ?? 0) + (b.concurrency?.rejected ?? 0) },
    }),
    ...((a.sticky ?? b.sticky) && { sticky: addSticky(a.sticky, b.sticky) }),
    ...((a.redis ?? b.redis) && { redis: addRedis(a.redis, b.redis) }),
  };
}

/** The same counters, with routes beyond `limit` as `other`: each worker has its own first ones. */
export function withinLimit(counters: Counters, limit: RouteLimit): Counters {
  const http = counters.http.map(series => {
    const route = limit.admit(series);
    return route === undefined || route === series.route ? series : { ...series, route };
  });
  return { ...counters, http };
}

/** One series for each method, status and route. */
export function addHttp(all: readonly HttpSeries[]): HttpSeries[] {
  const sums = new Map<string, HttpSeries>();
  for (const series of all) {
    const key = keyOf(series);
    const sum = sums.get(key);
    sums.set(key, sum ? { ...sum, ...addTimes(sum, series) } : series);
  }
  return [...sums.values()];
}

export const keyOf = ({ method, status, route = '' }: Pick<HttpSeries, 'method' | 'status' | 'route'>): string =>
  `${method} ${status} ${route}`;

/** The newest one of each bucket of a series, at most as many as one worker may have. */
export function newestExemplars(all: readonly Exemplar[]): Exemplar[] {
  const newest = new Map<string, Exemplar>();
  for (const exemplar of all.toSorted((a, b) => b.at - a.at)) {
    const key = `${exemplar.bucket} ${keyOf(exemplar)}`;
    if (newest.size < MAX_EXEMPLARS && !newest.has(key)) newest.set(key, exemplar);
  }
  return [...newest.values()];
}

function addSticky(a = NO_STICKY, b = NO_STICKY): StickyCounters {
  return {
    passed: a.passed + b.passed,
    gone: a.gone + b.gone,
    blocked: a.blocked + b.blocked,
    lost: a.lost + b.lost,
  };
}

const NO_STICKY: StickyCounters = { passed: 0, gone: 0, blocked: 0, lost: 0 };

/** Of two processes with one id, the one after the other. */
export function addCpu(a: CpuSeconds = NO_CPU, b: CpuSeconds = NO_CPU): CpuSeconds {
  return { user: a.user + b.user, system: a.system + b.system };
}

const NO_CPU: CpuSeconds = { user: 0, system: 0 };

/** Of two processes. */
export function addRedis(a: RedisCounters | undefined, b: RedisCounters | undefined): RedisCounters {
  const [x, y] = [a ?? NO_REDIS, b ?? NO_REDIS];
  return {
    commands: x.commands + y.commands,
    errors: x.errors + y.errors,
    reconnects: x.reconnects + y.reconnects,
    faults: x.faults + y.faults,
    ...addTimes(x, y),
  };
}

const NO_REDIS: RedisCounters = {
  commands: 0,
  errors: 0,
  reconnects: 0,
  faults: 0,
  sumSeconds: 0,
  counts: [...REDIS_BUCKETS_S.map(() => 0), 0],
};

type Times = Pick<HttpSeries, 'sumSeconds' | 'counts'>;

/** Of two histograms with the same buckets. */
function addTimes(a: Times, b: Times): Times {
  return {
    sumSeconds: a.sumSeconds + b.sumSeconds,
    counts: a.counts.map((count, bucket) => count + (b.counts[bucket] ?? 0)),
  };
}
