/**
 * What `/metrics` says of each process: prom-client's default names, with a `worker` label. Made in the primary from the pushed
 * snapshots and from /proc, since prom-client's own collectors would cost every worker their loading (14 ms) and a scrape its answer.
 */
import type { Counter, Gauge, Registry } from 'prom-client';
import type { WorkerProcess } from '../pool/worker-process.ts';
import { memoryUsage } from '../resources/usage.ts';
import { procFacts } from './proc.ts';
import { ownCpuSeconds, type Totals } from './totals.ts';

/** The `worker` label of the primary itself. */
const PRIMARY = 'primary';

/** prom-client's classes; it is loaded with the first scrape. */
interface Kinds {
  Counter: typeof Counter;
  Gauge: typeof Gauge;
}

export function addProcessMetrics(
  { Counter, Gauge }: Kinds,
  registry: Registry,
  handles: readonly WorkerProcess[],
  totals: Totals,
): void {
  const registers = [registry];
  const gauge = (name: string, help: string) => new Gauge({ name, help, labelNames: ['worker'], registers });
  const counter = (name: string, help: string) => new Counter({ name, help, labelNames: ['worker'], registers });

  const age = gauge('bosun_worker_snapshot_age_seconds', 'Age of what the worker last said about itself; above 2 it is late.');
  const lag = gauge('nodejs_eventloop_lag_seconds', 'Mean lateness of the event loop over the last second.');
  const utilization = gauge('nodejs_eventloop_utilization', 'Share of the last second that the event loop was busy, 0 to 1.');
  const resident = gauge('process_resident_memory_bytes', 'Resident memory size in bytes.');
  const heapTotal = gauge('nodejs_heap_size_total_bytes', 'Process heap size from Node.js in bytes.');
  const heapUsed = gauge('nodejs_heap_size_used_bytes', 'Process heap size used from Node.js in bytes.');
  const virtual = gauge('process_virtual_memory_bytes', 'Virtual memory size in bytes.');
  const heap = gauge('process_heap_bytes', 'Process heap size in bytes.');
  const openFds = gauge('process_open_fds', 'Number of open file descriptors.');
  const maxFds = gauge('process_max_fds', 'Maximum number of open file descriptors.');
  const startedAt = gauge('process_start_time_seconds', 'Start time of the process since unix epoch in seconds.');
  const now = performance.now();
  const setMemory = (worker: string, memory: { rss: number; heapTotal: number; heapUsed: number }) => {
    resident.set({ worker }, memory.rss);
    heapTotal.set({ worker }, memory.heapTotal);
    heapUsed.set({ worker }, memory.heapUsed);
  };
  const setProcFacts = (worker: string, pid: number) => {
    const facts = procFacts(pid);
    if (facts === undefined) return;
    virtual.set({ worker }, facts.virtualBytes);
    heap.set({ worker }, facts.heapBytes);
    openFds.set({ worker }, facts.openFds);
    maxFds.set({ worker }, facts.maxFds);
  };
  setProcFacts(PRIMARY, process.pid);
  setMemory(PRIMARY, memoryUsage());
  startedAt.set({ worker: PRIMARY }, performance.timeOrigin / 1000);
  for (const { id, pid, snapshot, heardAt, startedAt: forkedAt } of handles) {
    const worker = String(id);
    setProcFacts(worker, pid);
    age.set({ worker }, (now - heardAt) / 1000);
    startedAt.set({ worker }, (performance.timeOrigin + forkedAt) / 1000);
    if (snapshot === undefined) continue;
    lag.set({ worker }, snapshot.eventLoopDelayMs / 1000);
    utilization.set({ worker }, snapshot.eventLoopUtilization);
    setMemory(worker, snapshot.memory);
  }

  const user = counter('process_cpu_user_seconds_total', 'Total user CPU time spent in seconds.');
  const system = counter('process_cpu_system_seconds_total', 'Total system CPU time spent in seconds.');
  const both = counter('process_cpu_seconds_total', 'Total user and system CPU time spent in seconds.');
  // A worker id whose worker is gone keeps its value.
  for (const [worker, seconds] of [[PRIMARY, ownCpuSeconds()] as const, ...totals.cpuByWorker(handles)]) {
    user.inc({ worker }, seconds.user);
    system.inc({ worker }, seconds.system);
    both.inc({ worker }, seconds.user + seconds.system);
  }
  new Gauge({ name: 'nodejs_version_info', help: 'Node.js version info.', labelNames: ['version'], registers }).set(
    { version: process.version },
    1,
  );
}
