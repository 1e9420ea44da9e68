/**
 * What remains of workers that have exited: their counters, so that no total ever decreases, and the counts of their drains.
 */

import type { WorkerProcess } from '../pool/worker-process.ts';
import type { DrainTotals, Status } from '../protocol/api.ts';
import type { Closing } from '../protocol/closing.ts';
import type { EventListener, WorkerExit } from '../protocol/events.ts';
import { type ExitReason, isFailure } from '../protocol/exit.ts';
import type { Drain, StreamEnds } from '../protocol/messages.ts';
import { type AppMetric, type CpuSeconds, type Exemplar, RouteLimit, type Snapshot } from '../protocol/snapshot.ts';
import { addCounters, addCpu, type Counters, NO_COUNTERS, newestExemplars, withinLimit } from './counters.ts';

const NOTHING_THROWN = 'nothing was thrown';

type CpuUser = Pick<WorkerProcess, 'id'> & { snapshot: Pick<Snapshot, 'cpuSeconds'> | undefined };

/** Of this process. */
export function ownCpuSeconds(): CpuSeconds {
  const { user, system } = process.cpuUsage();
  return { user: user / 1e6, system: system / 1e6 };
}

export type Failure = Pick<WorkerExit, 'worker' | 'reason' | 'failure' | 'openFailure'>;

export class Totals {
  readonly exitsByReason = new Map<ExitReason, number>();
  readonly drains: DrainTotals & { last: (Drain & { worker: number; reason: ExitReason }) | null } = {
    count: 0,
    finishedRequests: 0,
    cutRequests: 0,
    webSockets: { byKit: 0, byApp: 0 },
    eventStreams: { byKit: 0, byApp: 0 },
    handedOverConnections: 0,
    unacknowledgedConnections: 0,
    longestRequestMs: 0,
    tasks: { finished: 0, failed: 0, timedOut: 0 },
    closeHandlers: { count: 0, failed: 0, timedOut: 0 },
    last: null,
  };
  /** Malformed messages of workers, which were dropped. */
  malformedMessages = 0;
  readonly failedStarts: Status['failedStarts'] = { count: 0, last: null };
  /** The last worker that ended because of a failure, before or after it was ready; `failure` is for operators. */
  lastFailure: Failure | undefined;
  /** Counters and histograms of the apps in workers that have exited; gauges are dropped. */
  appMetrics: Promise<AppMetric[]> = Promise.resolve([]);
  #exemplars: Exemplar[] = [];
  /** CPU time of those that exited, by the id that they had: a successor goes on counting where they ended. */
  readonly #cpu = new Map<number, CpuSeconds>();
  /** Connections of those that exited, likewise. */
  readonly #accepted = new Map<number, number>();
  #counters = NO_COUNTERS;
  /** Of all workers that ever were. */
  readonly #routes = new RouteLimit();

  get exits(): number {
    return [...this.exitsByReason.values()].reduce((sum, count) => sum + count, 0);
  }

  /** Of those that have exited and the `present` together. */
  countersWith(present: readonly WorkerProcess[]): Counters {
    return present.reduce(
      (sum, { snapshot }) => (snapshot ? addCounters(sum, withinLimit(snapshot, this.#routes)) : sum),
      this.#counters,
    );
  }

  /** Of those that have exited and the `present` together: Prometheus refuses one that is older than the last one of its bucket. */
  exemplarsWith(present: readonly WorkerProcess[]): Exemplar[] {
    return newestExemplars([...this.#exemplars, ...present.flatMap(({ snapshot }) => snapshot?.exemplars ?? [])]);
  }

  /** Of every worker id that ever was: of its predecessors, and of the worker that is `present`, as far as it has reported. */
  cpuByWorker(present: readonly CpuUser[]): Map<number, CpuSeconds> {
    const all = new Map(this.#cpu);
    for (const { id, snapshot } of present) {
      all.set(id, addCpu(all.get(id), snapshot?.cpuSeconds));
    }
    return all;
  }

  /** Connections that worker `id` and its predecessors were given. */
  acceptedBy(id: number, present = 0): number {
    return (this.#accepted.get(id) ?? 0) + present;
  }

  /** Every id that ever was. */
  get goneIds(): number[] {
    return [...this.#cpu.keys()];
  }

  readonly onEvent: EventListener = (event, at) => {
    switch (event.event) {
      case 'worker.exit':
        this.#exited(event, at);
        break;
      case 'worker.malformed-message':
        this.malformedMessages++;
        break;
      // Established connections that no worker has accepted.
      case 'shutdown.unserved':
        this.drains.cutRequests += event.connections;
        break;
      case 'shutdown.unacknowledged':
        this.drains.unacknowledgedConnections += event.connections;
        break;
    }
  };

  #exited(exit: WorkerExit, at: number): void {
    const { worker, reason, snapshot, drain, lost, error, failure, openFailure, isFailedStart } = exit;
    if (isFailedStart) {
      this.failedStarts.count++;
      this.failedStarts.last = { at, worker, reason, error: error?.summary, why: openFailure ?? NOTHING_THROWN, failure };
    }
    if (isFailure(reason)) this.lastFailure = { worker, reason, failure, openFailure };
    this.exitsByReason.set(reason, (this.exitsByReason.get(reason) ?? 0) + 1);
    if (snapshot !== undefined) {
      this.#counters = addCounters(this.#counters, withinLimit(snapshot, this.#routes));
      if (snapshot.exemplars !== undefined) this.#exemplars = newestExemplars([...this.#exemplars, ...snapshot.exemplars]);
      this.#accepted.set(worker, this.acceptedBy(worker, snapshot.accepted));
      this.#cpu.set(worker, addCpu(this.#cpu.get(worker), snapshot.cpuSeconds));
      this.appMetrics = this.appMetrics.then(sum => addAppMetrics(sum, snapshot.appMetrics));
    }
    if (drain !== undefined) this.#drained(drain, worker, reason);
    // They were lost with it. If it could not report them, its last report is at most a second old.
    else this.drains.cutRequests += lost?.open ?? snapshot?.inFlight ?? 0;
  }

  #drained(drain: Drain, worker: number, reason: ExitReason): void {
    this.drains.count++;
    this.drains.finishedRequests += drain.finished;
    this.drains.cutRequests += drain.cutRequests;
    this.drains.webSockets = addEnds(this.drains.webSockets, drain.webSockets);
    this.drains.eventStreams = addEnds(this.drains.eventStreams, drain.eventStreams);
    this.drains.handedOverConnections += drain.closedGracefully;
    this.drains.longestRequestMs = Math.max(this.drains.longestRequestMs, drain.longestRequestMs);
    if (drain.closing !== undefined) this.#closed(drain.closing);
    this.drains.last = { ...drain, worker, reason };
  }

  #closed({ tasks, handlers }: Closing): void {
    const { tasks: allTasks, closeHandlers } = this.drains;
    allTasks.finished += tasks.finished;
    allTasks.failed += tasks.failed;
    allTasks.timedOut += tasks.timedOut;
    closeHandlers.count += handlers.count;
    closeHandlers.failed += handlers.failed;
    closeHandlers.timedOut += handlers.timedOut;
  }
}

function addEnds(a: StreamEnds, b: StreamEnds): StreamEnds {
  return { byKit: a.byKit + b.byKit, byApp: a.byApp + b.byApp };
}

/** By prom-client's own rules for clusters; loaded only where an app has metrics. Where it can't, they are added up with the next ones. */
async function addAppMetrics(sum: AppMetric[], gone: AppMetric[]): Promise<AppMetric[]> {
  const lasting = gone.flatMap(lastingOf);
  if (lasting.length === 0) return sum;
  try {
    const { AggregatorRegistry } = await import('prom-client');
    return await AggregatorRegistry.aggregate([sum, lasting]).getMetricsAsJSON();
  } catch {
    return [...sum, ...lasting];
  }
}

/** The values of a metric that outlive its worker: counts. Gauges are dropped, and so are the quantiles of a summary, which have no own name. */
function lastingOf(metric: AppMetric): AppMetric[] {
  const type = String(metric.type);
  if (type === 'counter' || type === 'histogram') return [metric];
  return type === 'summary' ? [{ ...metric, values: metric.values.filter(value => 'metricName' in value) }] : [];
}
