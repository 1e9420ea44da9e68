/**
 * The metrics of what an app uses of the kit: health checks, leaders, sticky requests, events, and streams that a drain closes.
 */
import type { Registry } from 'prom-client';
import type { WorkerProcess } from '../pool/worker-process.ts';
import type { DrainTotals } from '../protocol/api.ts';
import type { Counters } from './counters.ts';
import type { Pod } from './status.ts';

type CounterClass = typeof import('prom-client').Counter;
type GaugeClass = typeof import('prom-client').Gauge;

export function addHealth(Gauge: GaugeClass, own: Registry, { health }: Pod): void {
  const checks = Object.entries(health.status('open') ?? {}).filter(([, { state }]) => state !== 'unknown');
  if (checks.length === 0) return;
  const registered = { labelNames: ['check'], registers: [own] };
  const failing = new Gauge({
    name: 'bosun_health_check_failing',
    help: 'Workers in which the last run of a health check of the app has failed.',
    ...registered,
  });
  const duration = new Gauge({
    name: 'bosun_health_check_duration_seconds',
    help: 'Duration of the last run of a health check of the app, in the slowest worker.',
    ...registered,
  });
  for (const [check, status] of checks) {
    failing.set({ check }, status.failing);
    duration.set({ check }, status.durationMs / 1000);
  }
}

export function addLeaders(Gauge: GaugeClass, own: Registry, { leader }: Pod): void {
  if (leader === undefined) return;
  const leads = new Gauge({
    name: 'bosun_leader',
    help: '1 for a name of kit.leader under which a worker of this pod leads, else 0.',
    labelNames: ['name'],
    registers: [own],
  });
  for (const [name, { holder }] of Object.entries(leader)) leads.set({ name }, holder?.isSelf ? 1 : 0);
}

export function addSticky(Counter: CounterClass, own: Registry, { sticky }: Counters): void {
  if (sticky === undefined) return;
  const requests = new Counter({
    name: 'bosun_sticky_requests_total',
    help: 'Requests of clients of another worker: passed on to it, served here because it was gone or blocked, or lost with it.',
    labelNames: ['result'],
    registers: [own],
  });
  for (const [result, count] of Object.entries(sticky)) requests.inc({ result }, count);
}

/** The gauges of ADAPTIVE_CONCURRENCY. */
const CONCURRENCY_GAUGES = [
  ['limit', 'bosun_concurrency_limit', 'Requests that the app in each worker may handle at once (ADAPTIVE_CONCURRENCY).'],
  ['inFlight', 'bosun_concurrency_in_flight', 'Requests that the app in each worker handles, and has not begun to answer.'],
  ['queued', 'bosun_concurrency_queued', 'Requests that wait in each worker until its app may have them.'],
] as const;

export function addConcurrency(
  { Counter, Gauge }: { Counter: CounterClass; Gauge: GaugeClass },
  own: Registry,
  handles: readonly Pick<WorkerProcess, 'id' | 'snapshot'>[],
  { concurrency: totals }: Counters,
): void {
  if (totals === undefined) return;
  for (const [key, name, help] of CONCURRENCY_GAUGES) {
    const gauge = new Gauge({ name, help, labelNames: ['worker'], registers: [own] });
    for (const { id, snapshot } of handles)
      if (snapshot?.concurrency !== undefined) gauge.set({ worker: String(id) }, snapshot.concurrency[key]);
  }
  new Counter({
    name: 'bosun_concurrency_rejected_total',
    help: 'Requests answered with 503 because the limit of ADAPTIVE_CONCURRENCY was reached.',
    registers: [own],
  }).inc(totals.rejected);
}

export function addStreams(Counter: CounterClass, own: Registry, { webSockets, eventStreams }: DrainTotals): void {
  const ends = new Counter({
    name: 'bosun_drained_streams_total',
    help: 'WebSockets and event streams that ended while their workers drained, by who closed them.',
    labelNames: ['type', 'by'],
    registers: [own],
  });
  for (const [type, { byKit, byApp }] of [
    ['websocket', webSockets],
    ['event-stream', eventStreams],
  ] as const) {
    ends.inc({ type, by: 'kit' }, byKit);
    ends.inc({ type, by: 'app' }, byApp);
  }
}

export function addBroadcasts(Counter: CounterClass, own: Registry, { broadcasts }: Pod): void {
  const counters = {
    bosun_broadcasts_total: {
      help: 'Events from workers and the operator of this pod (out), and from other pods (in).',
      labelNames: ['direction'],
      values: { out: broadcasts.sent, in: broadcasts.received },
    },
    bosun_broadcasts_lost_total: {
      help: 'Events that could not be sent to Redis (unsent), that never arrived from another pod (missed), and copies that a worker did not read (unread).',
      labelNames: ['reason'],
      values: { unsent: broadcasts.unsent, missed: broadcasts.missed, unread: broadcasts.droppedCopies },
    },
    bosun_broadcasts_ignored_total: {
      help: 'Events of other pods that were ignored: repeated (duplicate), malformed, not signed with our SESSION_KEYS (unauthenticated), or replayed or dated in the future (stale).',
      labelNames: ['reason'],
      values: {
        duplicate: broadcasts.duplicates,
        malformed: broadcasts.malformed,
        unauthenticated: broadcasts.unauthenticated,
        stale: broadcasts.stale,
      },
    },
    bosun_heartbeats_ignored_total: {
      help: 'Heartbeats of other pods that were ignored: malformed, unauthenticated, stale, or of more pods than are tracked (crowded).',
      labelNames: ['reason'],
      values: broadcasts.ignoredHeartbeats,
    },
  };
  for (const [name, { help, labelNames, values }] of Object.entries(counters)) {
    const counter = new Counter({ name, help, labelNames, registers: [own] });
    for (const [label, value] of Object.entries(values)) counter.inc({ [labelNames[0] ?? '']: label }, value);
  }
}
