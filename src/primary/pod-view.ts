/**
 * The state of this pod, and the views of it: for the probes, for `/status`, `/metrics` and `/events`, and for the other pods.
 */
import { createRequire } from 'node:module';
import { hostname } from 'node:os';
import type { ErrorRates } from '../admin/error-rates.ts';
import type { Health } from '../admin/health.ts';
import { MemorySum } from '../admin/process-metrics.ts';
import { type ProbeView, type Readiness, readiness, whyNotStarted } from '../admin/readiness.ts';
import type { RecentErrors } from '../admin/recent-errors.ts';
import type { RouteTimes } from '../admin/route-times.ts';
import { type Pod, slowestP99Ms } from '../admin/status.ts';
import type { Totals } from '../admin/totals.ts';
import type { Utilization } from '../admin/utilization.ts';
import type { Pool } from '../pool/pool.ts';
import type { DevStatus, PodState, Sample, Status } from '../protocol/api.ts';
import type { MemoryStatus } from '../protocol/sizing.ts';
import { readerBelow } from '../resources/cgroup.ts';
import { memoryUsage, readUsage } from '../resources/usage.ts';
import type { EventBus } from '../state/event-bus.ts';
import type { OwnPod } from '../state/peers.ts';
import type { LeaderMonitor } from './leader-monitor.ts';
import type { RedisMonitor } from './redis-monitor.ts';
import type { Shutdown } from './shutdown.ts';

// Not imported: the package does not compile that file.
export const VERSION = (createRequire(import.meta.url)('../../package.json') as { version: string }).version;

/** Nobody but the users of this machine can reach the admin port there. */
const LOOPBACK: ReadonlySet<string> = new Set(['127.0.0.1', '::1', 'localhost']);

export interface PodViewContext {
  pool: Pool;
  totals: Totals;
  shutdown: Shutdown;
  eventBus: EventBus;
  redis: RedisMonitor;
  health: Health;
  leaders: LeaderMonitor;
  utilization: Utilization;
  /** Undefined in the first second. */
  lastSample: () => Sample | undefined;
  errorRates: ErrorRates;
  recentErrors: RecentErrors;
  /** Undefined outside `bosun dev`. */
  dev: () => DevStatus | undefined;
  /** Why the pod is not ready, while BEFORE_START runs. */
  beforeStart: () => string | undefined;
}

function figuresOf({
  statuses: [, , clientErrors, serverErrors],
  cpus,
  cpuLimit,
  memoryBytes,
  limitBytes,
}: Sample): Partial<OwnPod> {
  return {
    errors: { '4xx': clientErrors, '5xx': serverErrors },
    cpus,
    cpuLimit,
    memoryBytes,
    ...(limitBytes !== null && { limitBytes }),
  };
}

export class PodView {
  readonly #context: PodViewContext;
  readonly #memorySum = new MemorySum();
  #hasBeenReady = false;
  /** Undefined without METRICS_ROUTES. */
  #routeTimes: RouteTimes | undefined;

  constructor(context: PodViewContext) {
    this.#context = context;
    if (context.pool.settings.config.metricsRoutes) void this.#loadRouteTimes();
  }

  async #loadRouteTimes(): Promise<void> {
    const { RouteTimes } = await import('../admin/route-times.ts');
    this.#routeTimes = new RouteTimes(performance.now());
  }

  get state(): PodState {
    if (this.#context.shutdown.hasBegun) return 'draining';
    return this.#hasBeenReady ? 'ready' : 'starting';
  }

  /** Call it after every change: the pod becomes ready once nothing is missing, and stays so until the shutdown. */
  checkReady(): void {
    if (this.state !== 'starting' || this.whyNotStarted() !== undefined) return;
    this.#hasBeenReady = true;
    const { supervisor, emit } = this.#context.pool;
    const ms = Math.round(process.uptime() * 1000);
    emit({ event: 'pool.ready', workers: supervisor.serving.length, wanted: supervisor.wanted, ms });
  }

  /** The answer of `/readyz`. */
  readiness(): Readiness {
    this.#context.health.update();
    return readiness(this.#view());
  }

  /** Why `/startupz` returns 503; undefined if it returns 200. */
  whyNotStarted(): string | undefined {
    return whyNotStarted(this.#view());
  }

  /** For `/status`, `/metrics` and `/events`. */
  pod(): Pod {
    const { pool, totals, eventBus, redis, health, leaders, utilization, errorRates, recentErrors, dev } = this.#context;
    const { balancing, moves, resizer, settings, supervisor, outputs } = pool;
    const { throttledSeconds, pressure } = readUsage(readerBelow(), resizer.limits.usage);
    return {
      service: this.#service,
      version: VERSION,
      pod: hostname(),
      policy: balancing.policy,
      sizing: resizer.sizing,
      state: this.state,
      readiness: this.readiness(),
      supervisor,
      totals,
      moved: moves.moved,
      resizes: resizer.resizes,
      broadcasts: eventBus.counts,
      redis: eventBus.redisCounters,
      redisRefusals: redis.refusals,
      health,
      leader: leaders.view,
      dev: dev(),
      isLocal: LOOPBACK.has(settings.config.adminHost),
      bucketsS: settings.config.metricsBuckets,
      droppedLogLines: outputs.droppedLines,
      utilization: utilization.value(supervisor.handles, performance.now()),
      errorRates,
      recentErrors,
      routeTimes: this.#routeTimes,
      memory: () => this.#memory(),
      throttledSeconds,
      pressure,
    };
  }

  /** For the heartbeat to the other pods. */
  ownPod(): OwnPod {
    const { pool, totals, utilization, lastSample } = this.#context;
    const { generation, serving, wanted, handles } = pool.supervisor;
    const { requests } = totals.countersWith(handles);
    const p99Ms = slowestP99Ms(handles);
    const { names } = this.#context.eventBus;
    const sample = lastSample();
    const used = utilization.value(handles, performance.now());
    return {
      version: VERSION,
      state: this.state,
      generation,
      workers: serving.length,
      wanted,
      requests,
      p99Ms,
      inFlight: handles.reduce((sum, { snapshot }) => sum + (snapshot?.inFlight ?? 0), 0),
      ...(sample && figuresOf(sample)),
      ...(used !== null && { utilization: used }),
      service: this.#service.name,
      app: pool.settings.service.app,
      ...(names?.isChanging && { isChangingName: true }),
    };
  }

  get #service(): Status['service'] {
    const { pool, eventBus } = this.#context;
    const { name = pool.settings.service.name, inUse } = eventBus.names ?? {};
    return { name, ...(inUse !== undefined && inUse.name !== name && { before: inUse.name }) };
  }

  #view(): ProbeView {
    const { pool, totals, eventBus, redis, health: checks } = this.#context;
    const { config } = pool.settings;
    const { failedStarts, lastFailure } = totals;
    const isJoined = eventBus.hasBeenConnected;
    return {
      state: this.state,
      pool: pool.supervisor,
      config,
      isJoined,
      failedStarts,
      lastFailure,
      checks,
      redisFault: redis.fault,
      beforeStart: this.#context.beforeStart(),
    };
  }

  #memory(): MemoryStatus {
    const { handles, memoryView } = this.#context.pool.supervisor;
    const workers = handles.map(({ pid, snapshot }) => ({ pid, rssBytes: snapshot?.memory.rss ?? 0 }));
    const processes = [{ pid: process.pid, rssBytes: memoryUsage().rss }, ...workers];
    return {
      usedBytes: this.#memorySum.of(processes, performance.now()),
      headroomBytes: memoryView.headroom?.bytes ?? null,
      freshWorkerBytes: memoryView.freshWorkerBytes ?? null,
      restart: memoryView.restart.kind,
    };
  }
}
