/**
 * The reference of `/metrics` in Markdown: from the text that a pod with everything in it prints, so that no metric and no label is missing.
 */

import { ErrorRates } from '../../src/admin/error-rates.ts';
import { metricsText } from '../../src/admin/metrics.ts';
import { RecentErrors } from '../../src/admin/recent-errors.ts';
import type { Pod } from '../../src/admin/status.ts';
import { Totals } from '../../src/admin/totals.ts';
import { EXIT_REASONS, type ExitReason } from '../../src/protocol/exit.ts';
import { HTTP_METHODS, type Snapshot } from '../../src/protocol/snapshot.ts';
import { exitOf, snapshotOf } from '../exited.ts';
import { table } from './generated.ts';

/** In this order on the page. */
const GROUPS = [
  [
    'Requests and connections',
    /^http_|_concurrency_|_(?:shed_requests|sticky_requests|timed_out_requests|abandoned_requests|reclaimed_connections|dispatched_connections)_|_max_connections|_tasks_/,
  ],
  ['Drains', /_(?:drained|handed_over|moved|cut|unacknowledged)_/],
  ['The pool', /^bosun_(?:workers|worker_exits|failed_starts|rolling_restarts|malformed_messages|dropped_log_lines)/],
  ['Limits, and use of them', /_(?:cpu_limit|memory_limit|cpu_throttled|resizes|pressure)_|^bosun_utilization$/],
  ['Health checks of the app', /_health_check_/],
  ['Processes', /^(?:process|nodejs)_|_snapshot_age_/],
  ['Sessions and Redis', /_(?:redis|session)_/],
  ['Leaders of the app', /^bosun_leader$/],
  ['Events', /_(?:broadcasts|heartbeats)_/],
] as const;

/** Labels whose values are not a fixed list. */
const OPEN_LABELS = ['worker', 'status', 'route', 'code', 'version', 'check', 'name'];

interface Metric {
  name: string;
  type: string;
  help: string;
  labels: Map<string, Set<string>>;
}

/** Every metric of the kit, in the order of the page. */
export async function metrics(): Promise<Metric[]> {
  const { text } = await metricsText(fullPod(), () => undefined);
  const found = [...text.matchAll(/^# HELP (\w+) (.*)\n# TYPE \w+ (\w+)\n((?:[^#\n].*\n?)*)/gm)];
  return found.map(([, name = '', help = '', type = '', samples = '']) => ({ name, help, type, labels: labelsOf(samples) }));
}

/** A section per group, a row per metric. */
export async function metricsReference(): Promise<string> {
  const grouped = Map.groupBy(await metrics(), groupOf);
  return GROUPS.map(([title]) => {
    const rows = (grouped.get(title) ?? []).map(({ name, type, help, labels }) => [
      `\`${name}\``,
      type,
      unitOf(name, type),
      [...labels].map(([label, values]) => shownLabel(label, [...values])).join('; '),
      help,
    ]);
    return `## ${title}\n\n${table(['metric', 'type', 'unit', 'labels', 'meaning'], rows)}`;
  }).join('\n\n');
}

function groupOf({ name }: Metric): string {
  const group = GROUPS.find(([, pattern]) => pattern.test(name));
  if (group === undefined)
    throw new Error(`every metric must match a group of test/docs/metrics-reference.ts, ${name} matches none`);
  return group[0];
}

const shownLabel = (label: string, values: string[]) =>
  OPEN_LABELS.includes(label) ? `\`${label}\`` : `\`${label}\`: ${values.map(value => `\`${value}\``).join(', ')}`;

/** By Prometheus' rules the name ends in it. */
function unitOf(name: string, type: string): string {
  const [unit] = /(?:seconds|bytes|cores)(?=_total$|$)/.exec(name) ?? [];
  if (unit !== undefined) return unit;
  if (name.endsWith('_utilization')) return '0 to 1';
  return type === 'counter' ? 'count' : 'number';
}

function labelsOf(samples: string): Map<string, Set<string>> {
  const labels = new Map<string, Set<string>>();
  for (const [, name = '', value = ''] of samples.matchAll(/[{,](\w+)="([^"]*)"/g)) {
    if (name === 'le') continue;
    labels.set(name, (labels.get(name) ?? new Set()).add(value));
  }
  return labels;
}

const STALLS = { waiting: { percent: 1, totalSeconds: 1 }, stalled: { percent: 1, totalSeconds: 1 } };

/** A pod with a limit of everything, with Redis, and with one of each event: nothing is left out of its metrics. */
export function fullPod(more: Partial<Snapshot> = {}): Pod {
  const totals = new Totals();
  for (const reason of Object.keys(EXIT_REASONS) as ExitReason[]) totals.onEvent(exitOf(1, { reason }), 0);
  const redis = { commands: 1, errors: 1, reconnects: 1, faults: 1, sumSeconds: 1, counts: [1] };
  const concurrency = { limit: 1, inFlight: 1, queued: 1, rejected: 1, rejectedPerSecond: 1 };
  const sticky = { passed: 1, gone: 1, blocked: 1, lost: 1 };
  const http = HTTP_METHODS.map(method => ({ method, status: 200, route: '/', sumSeconds: 1, counts: [1] }));
  const worker = {
    id: 1,
    pid: process.pid,
    state: 'ready',
    reportedAt: 0,
    startedAt: 0,
    snapshot: snapshotOf({ http, redis, sticky, concurrency, ...more }),
  };
  const supervisor = { handles: [worker], wanted: 1, rolls: { success: 1, failure: 1, refused: 1 } };
  return {
    service: { name: '' },
    version: '',
    pod: '',
    policy: 'none',
    sizing: {
      workers: 1,
      wanted: 1,
      reason: '',
      cpus: { quota: 1, cpuset: 1, effective: 1, source: '' },
      memory: { limitBytes: 1, source: '', heapPerWorkerMb: 1, semiSpaceMb: 1 },
      warnings: [],
    },
    state: 'ready',
    readiness: { isReady: true },
    supervisor: supervisor as unknown as Pod['supervisor'],
    totals,
    moved: 0,
    resizes: { up: 1, down: 1, heap: 1 },
    redis,
    health: { status: () => ({ database: { state: 'ok', failing: 0, durationMs: 1 } }) as never },
    leader: { cron: { scope: 'fleet', holder: null } },
    redisRefusals: [{ code: 'OOM', command: 'set', message: '', count: 1 }],
    broadcasts: {
      sent: 1,
      received: 1,
      unsent: 1,
      droppedCopies: 1,
      missed: 1,
      duplicates: 1,
      malformed: 1,
      unauthenticated: 1,
      stale: 1,
      ignoredHeartbeats: { malformed: 1, unauthenticated: 1, stale: 1, crowded: 1 },
    },
    bucketsS: [1],
    droppedLogLines: 1,
    throttledSeconds: 1,
    pressure: { cpu: STALLS, memory: STALLS, io: STALLS },
    utilization: 1,
    errorRates: new ErrorRates(),
    recentErrors: new RecentErrors(),
    memory: () => {
      throw new Error('not a metric');
    },
  };
}
