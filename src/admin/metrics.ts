/**
 * `/metrics`: the metrics of this pod in Prometheus' text format, by prom-client. No worker is queried: the last snapshot of each is at
 * most a second old.
 */

import { type Exemplar, type HttpSeries, REDIS_BUCKETS_S, type RedisCounters } from '../protocol/snapshot.ts';
import { addRedis, keyOf } from './counters.ts';
import { addBroadcasts, addConcurrency, addHealth, addLeaders, addSticky, addStreams } from './kit-metrics.ts';
import { withoutCollisions } from './metric-names.ts';
import { exemplarOf, type OpenMetric, openMetrics } from './open-metrics.ts';
import { addPressure, addProcessMetrics } from './process-metrics.ts';
import type { MetricsFormat } from './server.ts';
import type { Pod } from './status.ts';

const WORKER_STATES = ['starting', 'ready', 'cordoned', 'draining'] as const;

/**
 * All metrics of this pod, as plain text or as OpenMetrics, which has exemplars. Loads prom-client with the first scrape. `onRenamed` is called with the app
 * metrics whose names the kit uses.
 */
export async function metricsText(
  pod: Pod,
  onRenamed: (names: string[]) => void,
  format: MetricsFormat = 'text',
): Promise<{ contentType: string; text: string }> {
  const { AggregatorRegistry, Counter, Gauge, Registry } = await import('prom-client');
  const own = new Registry();
  const gauge = (name: string, help: string, value: number) => new Gauge({ name, help, registers: [own] }).set(value);
  const counter = (name: string, help: string, value: number) => new Counter({ name, help, registers: [own] }).inc(value);
  const { supervisor, totals, sizing } = pod;
  const handles = supervisor.handles;
  const sum = (pick: (handle: (typeof handles)[number]) => number | undefined) =>
    handles.reduce((total, handle) => total + (pick(handle) ?? 0), 0);
  const counters = totals.countersWith(handles);

  gauge(
    'http_requests_in_flight',
    'Requests that are not answered yet.',
    sum(({ snapshot }) => snapshot?.inFlight),
  );
  gauge(
    'http_connections',
    'Open client connections.',
    sum(({ snapshot }) => snapshot?.connections),
  );
  gauge(
    'bosun_max_connections',
    'Connections that the workers together may have (MAX_CONNECTIONS); 0 if there is no limit.',
    sum(({ snapshot }) => snapshot?.maxConnections),
  );
  gauge(
    'bosun_tasks_in_progress',
    'Promises of kit.task that have not settled.',
    sum(({ snapshot }) => snapshot?.tasks),
  );
  gauge('bosun_workers_wanted', 'Wanted number of workers.', supervisor.wanted);
  const workers = new Gauge({ name: 'bosun_workers', help: 'Workers by state.', labelNames: ['state'], registers: [own] });
  for (const state of WORKER_STATES) workers.set({ state }, handles.filter(handle => handle.state === state).length);
  const exits = new Counter({
    name: 'bosun_worker_exits_total',
    help: 'Ended workers by reason.',
    labelNames: ['reason'],
    registers: [own],
  });
  for (const [reason, count] of totals.exitsByReason) exits.inc({ reason }, count);
  counter('bosun_failed_starts_total', 'Workers that ended before they were ready.', totals.failedStarts.count);
  counter('bosun_drained_requests_total', 'Requests that draining workers answered.', totals.drains.finishedRequests);
  counter(
    'bosun_handed_over_connections_total',
    'Connections that draining workers closed between two requests.',
    totals.drains.handedOverConnections,
  );
  counter('bosun_moved_connections_total', 'Live connections that were moved to another worker.', pod.moved);
  counter(
    'bosun_cut_requests_total',
    'Requests that ended without an answer: cut by a deadline, or lost with their worker.',
    totals.drains.cutRequests,
  );
  counter(
    'bosun_unacknowledged_connections_total',
    'Connections whose clients had not acknowledged the end of their answers at the exit.',
    totals.drains.unacknowledgedConnections,
  );
  addStreams(Counter, own, totals.drains);
  counter('bosun_shed_requests_total', 'Requests refused because of the event loop delay.', counters.shed);
  counter('bosun_timed_out_requests_total', 'Requests answered with 503 because of HANDLER_TIMEOUT_MS.', counters.timedOut);
  counter(
    'bosun_abandoned_requests_total',
    'Requests whose client closed the connection before the answer began; they have no status.',
    counters.abandoned,
  );
  counter('bosun_reclaimed_connections_total', 'Idle connections closed because of MAX_CONNECTIONS.', counters.reclaimed);
  counter('bosun_malformed_messages_total', 'Messages of workers that were dropped as malformed.', totals.malformedMessages);
  counter('bosun_dropped_log_lines_total', 'Log lines dropped because the reader was too slow.', pod.droppedLogLines);
  counter('bosun_session_store_errors_total', 'Requests that the session store failed.', counters.sessionStoreErrors);
  const dispatched = new Counter({
    name: 'bosun_dispatched_connections_total',
    help: 'Connections given to each worker.',
    labelNames: ['worker'],
    registers: [own],
  });
  for (const id of new Set([...totals.goneIds, ...handles.map(handle => handle.id)])) {
    const accepted = handles.find(handle => handle.id === id)?.snapshot?.accepted;
    dispatched.inc({ worker: String(id) }, totals.acceptedBy(id, accepted));
  }
  const rolls = new Counter({
    name: 'bosun_rolling_restarts_total',
    help: 'Rolling restarts by result.',
    labelNames: ['result'],
    registers: [own],
  });
  for (const [result, count] of Object.entries(supervisor.rolls)) rolls.inc({ result }, count);
  const resized = new Counter({
    name: 'bosun_resizes_total',
    help: 'Changes of the limits that changed the pool.',
    labelNames: ['direction'],
    registers: [own],
  });
  for (const [direction, count] of Object.entries(pod.resizes)) resized.inc({ direction }, count);
  addConcurrency({ Counter, Gauge }, own, handles, counters);
  addSticky(Counter, own, counters);
  addBroadcasts(Counter, own, pod);
  addLeaders(Gauge, own, pod);
  if (pod.throttledSeconds !== null)
    counter('bosun_cpu_throttled_seconds_total', 'Time for which the CPU quota withheld CPUs.', pod.throttledSeconds);
  gauge(
    'bosun_cpu_limit_cores',
    'CPUs that the container may use: the least of its CPU quota, its CPU set and those of the machine.',
    sizing.cpus.effective,
  );
  if (sizing.memory.limitBytes !== null)
    gauge('bosun_memory_limit_bytes', 'Memory limit of the container.', sizing.memory.limitBytes);

  if (pod.utilization !== null)
    gauge(
      'bosun_utilization',
      'The larger of event loop utilization and CPU time by quota, averaged over the ready workers and 15 s. For autoscalers.',
      pod.utilization,
    );

  addHealth(Gauge, own, pod);
  addPressure({ Counter }, own, pod.pressure);
  addProcessMetrics({ Counter, Gauge }, own, handles, totals);

  const redis = (counters.redis ?? pod.redis) && addRedis(counters.redis, pod.redis);
  if (redis !== undefined) {
    counter('bosun_redis_commands_total', 'Commands of this pod to Redis.', redis.commands);
    counter('bosun_redis_errors_total', 'Commands that failed, or that Redis refused.', redis.errors);
    counter('bosun_redis_reconnects_total', 'Attempts to connect to Redis again.', redis.reconnects);
    counter(
      'bosun_redis_faults_total',
      'Connections to Redis replaced because a reply broke the protocol or was too large.',
      redis.faults,
    );
    const refusals = new Gauge({
      name: 'bosun_redis_refusals',
      help: 'Commands that Redis currently refuses, by error code (READONLY, OOM, MISCONF, NOPERM, ...).',
      labelNames: ['code'],
      registers: [own],
    });
    for (const { code } of pod.redisRefusals) refusals.inc({ code });
  }

  const exemplars = format === 'openmetrics' ? totals.exemplarsWith(handles) : [];
  const histograms = [histogramOf(counters.http, pod.bucketsS, exemplars), ...(redis ? [redisHistogramOf(redis)] : [])];
  const apps = [...handles.map(({ snapshot }) => snapshot?.appMetrics ?? []), await totals.appMetrics];
  const { byWorker, renamed } = withoutCollisions(apps, [...own.getMetricsAsArray(), ...histograms]);
  onRenamed(renamed);
  if (format === 'openmetrics') {
    const ofApp = await AggregatorRegistry.aggregate(byWorker).getMetricsAsJSON();
    return openMetrics([...(await own.getMetricsAsJSON()), ...histograms, ...ofApp] as OpenMetric[], Registry);
  }
  const fromWorkers = AggregatorRegistry.aggregate([histograms, ...byWorker]);
  return { contentType: own.contentType, text: `${await own.metrics()}\n${await fromWorkers.metrics()}` };
}

/** `http_request_duration_seconds` as prom-client would have collected it. */
function histogramOf(http: readonly HttpSeries[], boundsS: readonly number[], exemplars: readonly Exemplar[]) {
  const name = 'http_request_duration_seconds';
  const bySeries = Map.groupBy(exemplars, keyOf);
  const values = http.flatMap(({ sumSeconds, counts, ...labels }) =>
    seriesOf(name, labels, boundsS, { sumSeconds, counts }, bySeries.get(keyOf(labels))),
  );
  const help = 'Time from the headers of a request to the end of its answer; by route with METRICS_ROUTES.';
  return { name, help, type: 'histogram', aggregator: 'sum', values };
}

function redisHistogramOf(redis: RedisCounters) {
  const name = 'bosun_redis_command_duration_seconds';
  const values = seriesOf(name, {}, REDIS_BUCKETS_S, redis);
  return { name, help: 'Time from a command to the answer of Redis.', type: 'histogram', aggregator: 'sum', values };
}

function seriesOf(
  name: string,
  labels: Record<string, string | number>,
  boundsS: readonly number[],
  { sumSeconds, counts }: { sumSeconds: number; counts: readonly number[] },
  exemplars: readonly Exemplar[] = [],
) {
  let cumulative = 0;
  const buckets = [...boundsS, '+Inf'].map((le, index) => {
    cumulative += counts[index] ?? 0;
    const exemplar = exemplars.find(({ bucket }) => bucket === index);
    return { metricName: `${name}_bucket`, labels: { le, ...labels }, value: cumulative, ...(exemplar && exemplarOf(exemplar)) };
  });
  return [
    ...buckets,
    { metricName: `${name}_sum`, labels, value: sumSeconds },
    { metricName: `${name}_count`, labels, value: cumulative },
  ];
}
