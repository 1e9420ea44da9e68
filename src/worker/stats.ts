/**
 * What a worker measures about itself, cheap enough for every request: buckets in typed arrays, which become objects only in a snapshot.
 */
import { createHistogram, type EventLoopUtilization, monitorEventLoopDelay, performance } from 'node:perf_hooks';
import type { Config } from '../config/config.ts';
import {
  type AppMetric,
  type Exemplar,
  HTTP_METHODS,
  type HttpSeries,
  MAX_EXEMPLARS,
  RouteLimit,
  round,
  type Snapshot,
} from '../protocol/snapshot.ts';
import { memoryUsage } from '../resources/usage.ts';

/** Percentiles cover the last one to two windows. */
const WINDOW_MS = 5000;
const LOOP_RESOLUTION_MS = 20;

const REPORT_EVERY_MS = 1000;
/** A report is also the heartbeat: a few must fit into WORKER_HEARTBEAT_TIMEOUT_MS. */
const REPORTS_PER_TIMEOUT = 4;

export function reportEveryMs({ workerHeartbeatTimeoutMs }: Config): number {
  if (workerHeartbeatTimeoutMs === 0) return REPORT_EVERY_MS;
  return Math.min(REPORT_EVERY_MS, workerHeartbeatTimeoutMs / REPORTS_PER_TIMEOUT);
}

/** What a worker serves at the moment. */
export type Load = Pick<Snapshot, 'connections' | 'maxConnections' | 'accepted' | 'load' | 'inFlight' | 'sticky' | 'concurrency'>;

/** Answers of one method, status and route. */
interface Series extends Pick<HttpSeries, 'method' | 'status' | 'route'> {
  sumMs: number;
  counts: Float64Array;
}

export class Stats {
  readonly #bucketsMs: readonly number[];
  #requests = 0;
  #shed = 0;
  #timedOut = 0;
  #abandoned = 0;
  #reclaimed = 0;
  #sessionStoreErrors = 0;
  /** By route, method and status; without METRICS_ROUTES the route is undefined. */
  readonly #series = new Map<string | undefined, Map<string, Map<number, Series>>>();
  readonly #routes = new RouteLimit();
  #last: { method: string; status: number; route: string | undefined; series: Series } | undefined;
  /** By series and bucket; the one that was replaced last is at the end. */
  readonly #exemplars = new Map<string, Exemplar>();
  #recent = createHistogram();
  #before = createHistogram();
  #windowStartedAt = performance.now();
  /** Undefined until the first snapshot: what lies before is the start, when the event loop loads the app. */
  #utilization: EventLoopUtilization | undefined;
  readonly #loopDelay = monitorEventLoopDelay({ resolution: LOOP_RESOLUTION_MS });

  /** Takes the upper bounds of the buckets of response times. */
  constructor(bucketsS: readonly number[]) {
    this.#bucketsMs = bucketsS.map(seconds => seconds * 1000);
    this.#loopDelay.enable();
  }

  /** `route` only with METRICS_ROUTES, `traceId` only of a sampled trace. */
  onResponse(method: string, status: number, milliseconds: number, route?: string, traceId?: string): void {
    this.#requests++;
    // Most responses have the method and status of the one before.
    if (this.#last?.method !== method || this.#last.status !== status || this.#last.route !== route)
      this.#last = {
        method,
        status,
        route,
        series: this.#seriesOf(HTTP_METHODS.find(name => name === method) ?? 'other', status, route),
      };
    const { series } = this.#last;
    series.sumMs += milliseconds;
    const buckets = this.#bucketsMs;
    let bucket = 0;
    while (bucket < buckets.length && milliseconds > (buckets[bucket] ?? 0)) bucket++;
    series.counts[bucket] = (series.counts[bucket] ?? 0) + 1;
    if (traceId !== undefined) this.#setExemplar(series, bucket, traceId, milliseconds / 1000);
    this.#recent.record(Math.max(1, Math.round(milliseconds * 1000)));
  }

  shedOne(): void {
    this.#shed++;
  }

  timedOutOne(): void {
    this.#timedOut++;
  }

  abandonedOne(): void {
    this.#abandoned++;
  }

  reclaimedOne(): void {
    this.#reclaimed++;
  }

  sessionStoreFailed(): void {
    this.#sessionStoreErrors++;
  }

  /**
   * Event loop figures cover the time since the last call, so there may be only one caller. Those of the first snapshot, which a worker sends
   * when it becomes ready, are 0.
   */
  snapshot(load: Load, appMetrics: AppMetric[]): Snapshot {
    const utilization = performance.eventLoopUtilization();
    const isFirst = this.#utilization === undefined;
    const { utilization: since } = performance.eventLoopUtilization(utilization, this.#utilization);
    this.#utilization = utilization;
    // The monitor measures from one timer to the next, its own resolution included. NaN if none fired.
    const delayMs = isFirst ? 0 : Math.max(0, this.#loopDelay.mean / 1e6 - LOOP_RESOLUTION_MS);
    this.#loopDelay.reset();
    const { rss, heapTotal, heapUsed } = memoryUsage();
    const { user, system } = process.cpuUsage();
    return {
      ...load,
      requests: this.#requests,
      shed: this.#shed,
      timedOut: this.#timedOut,
      abandoned: this.#abandoned,
      reclaimed: this.#reclaimed,
      sessionStoreErrors: this.#sessionStoreErrors,
      responseTimeMs: this.#responseTimes(),
      eventLoopUtilization: isFirst ? 0 : round(since, 3),
      eventLoopDelayMs: round(Number.isNaN(delayMs) ? 0 : delayMs, 1),
      memory: { rss, heapTotal, heapUsed },
      cpuSeconds: { user: user / 1e6, system: system / 1e6 },
      http: this.#http(),
      ...(this.#exemplars.size > 0 && { exemplars: [...this.#exemplars.values()] }),
      appMetrics,
    };
  }

  #setExemplar({ method, status, route }: Series, bucket: number, traceId: string, seconds: number): void {
    const key = `${bucket} ${method} ${status} ${route}`;
    this.#exemplars.delete(key);
    this.#exemplars.set(key, { method, status, ...(route !== undefined && { route }), bucket, traceId, seconds, at: Date.now() });
    if (this.#exemplars.size <= MAX_EXEMPLARS) return;
    for (const oldest of this.#exemplars.keys()) return void this.#exemplars.delete(oldest);
  }

  #seriesOf(method: HttpSeries['method'], status: number, wanted: string | undefined): Series {
    const route = wanted === undefined ? undefined : this.#routes.admit({ method, status, route: wanted });
    const byMethod = this.#series.get(route) ?? new Map<string, Map<number, Series>>();
    const byStatus = byMethod.get(method) ?? new Map<number, Series>();
    const series = byStatus.get(status) ?? {
      method,
      status,
      ...(route !== undefined && { route }),
      sumMs: 0,
      counts: new Float64Array(this.#bucketsMs.length + 1),
    };
    this.#series.set(route, byMethod.set(method, byStatus.set(status, series)));
    return series;
  }

  #responseTimes(): Snapshot['responseTimeMs'] {
    const now = performance.now();
    if (now - this.#windowStartedAt >= WINDOW_MS) {
      [this.#before, this.#recent] = [this.#recent, this.#before];
      this.#recent.reset();
      this.#windowStartedAt = now;
    }
    const both = createHistogram();
    both.add(this.#before);
    both.add(this.#recent);
    if (both.count === 0) return { mean: 0, p50: 0, p99: 0 };
    const ms = (microseconds: number) => round(microseconds / 1000, 2);
    return { mean: ms(both.mean), p50: ms(both.percentile(50)), p99: ms(both.percentile(99)) };
  }

  #http(): HttpSeries[] {
    return [...this.#series.values()].flatMap(byMethod =>
      [...byMethod.values()].flatMap(byStatus =>
        [...byStatus.values()].map(({ sumMs, counts, ...labels }) => ({
          ...labels,
          sumSeconds: sumMs / 1000,
          counts: [...counts],
        })),
      ),
    );
  }
}
