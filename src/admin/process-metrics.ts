/**
 * The memory, CPU time and descriptors of the pool's processes, from what workers report and from /proc: for `/metrics` and `/status`.
 * prom-client's own collectors would cost every worker their loading (14 ms), and each scrape an answer of every worker.
 */

import { readdirSync, readFileSync } from 'node:fs';
import type { Counter, Gauge, Registry } from 'prom-client';
import type { WorkerProcess } from '../pool/worker-process.ts';
import { PRESSURE_RESOURCES, type Pressure, type PressureResource } from '../protocol/pressure.ts';
import { memoryUsage, type ProcessMemory, readProcessMemory, readPss, type Usage } from '../resources/usage.ts';
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

  const age = gauge('bosun_worker_snapshot_age_seconds', 'Age of the last report of the worker; above 2 it does not report.');
  const lag = gauge('nodejs_eventloop_lag_seconds', 'Mean event loop delay over the last second.');
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
  for (const { id, pid, snapshot, reportedAt, startedAt: forkedAt } of handles) {
    const worker = String(id);
    setProcFacts(worker, pid);
    age.set({ worker }, (now - reportedAt) / 1000);
    startedAt.set({ worker }, (performance.timeOrigin + forkedAt) / 1000);
    if (snapshot === undefined) continue;
    lag.set({ worker }, snapshot.eventLoopDelayMs / 1000);
    utilization.set({ worker }, snapshot.eventLoopUtilization);
    setMemory(worker, snapshot.memory);
  }

  const user = counter('process_cpu_user_seconds_total', 'Total user CPU time spent in seconds.');
  const system = counter('process_cpu_system_seconds_total', 'Total system CPU time spent in seconds.');
  const both = counter('process_cpu_seconds_total', 'Total user and system CPU time spent in seconds.');
  // The value of a worker id remains when its worker has exited.
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

export interface ProcFacts {
  virtualBytes: number;
  /** Of its data segment, as prom-client understands "heap". */
  heapBytes: number;
  openFds: number;
  /** Infinity where there is no limit. */
  maxFds: number;
}

/** Undefined for a process that has exited, and where there is no /proc. */
export function procFacts(pid: number): ProcFacts | undefined {
  const folder = `/proc/${pid}`;
  try {
    const status = readFileSync(`${folder}/status`, 'latin1');
    const kib = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]);
    const limit = /^Max open files\s+(\S+)/m.exec(readFileSync(`${folder}/limits`, 'latin1'))?.[1] ?? '';
    return {
      virtualBytes: kib('VmSize') * 1024,
      heapBytes: kib('VmData') * 1024,
      openFds: readdirSync(`${folder}/fd`).length,
      maxFds: limit === 'unlimited' ? Number.POSITIVE_INFINITY : Number(limit),
    };
  } catch {
    return undefined;
  }
}

/** A reading takes 5 to 30 ms of a thread and locks the process' memory map; between two readings, changes of the private pages are added. */
const READ_PSS_EVERY_MS = 10_000;

/** A process, with its last known resident size, used if /proc hides it. */
export interface Measured {
  pid: number;
  rssBytes: number;
}

/** What the system reports about a process; tests replace it. */
export interface Sources {
  memoryOf: (pid: number) => ProcessMemory | undefined;
  pssOf: (pid: number) => Promise<number | undefined>;
}

export class MemorySum {
  readonly #sources: Sources;
  readonly #pss = new Map<number, { at: number; bytes: number | undefined; privateBytes: number }>();
  #isReading = false;

  constructor(sources: Sources = { memoryOf: readProcessMemory, pssOf: readPss }) {
    this.#sources = sources;
  }

  /** In bytes, `now` by the monotonic clock. Without proportional sizes: all private pages, plus the shared pages of one process. */
  of(processes: readonly Measured[], now: number): number {
    let [sum, shared] = [0, 0];
    for (const pid of this.#pss.keys()) if (!processes.some(process => process.pid === pid)) this.#pss.delete(pid);
    for (const { pid, rssBytes } of processes) {
      const memory = this.#sources.memoryOf(pid);
      if (memory === undefined) {
        sum += rssBytes;
        continue;
      }
      const pss = this.#pss.get(pid);
      if (pss === undefined || now - pss.at >= READ_PSS_EVERY_MS) void this.#read(pid, memory.privateBytes, now);
      if (pss?.bytes !== undefined) sum += Math.max(0, pss.bytes + memory.privateBytes - pss.privateBytes);
      else {
        sum += memory.privateBytes;
        shared = Math.max(shared, memory.sharedBytes);
      }
    }
    return sum + shared;
  }

  /** One process at a time. */
  async #read(pid: number, privateBytes: number, now: number): Promise<void> {
    if (this.#isReading) return;
    this.#isReading = true;
    try {
      const bytes = await this.#sources.pssOf(pid);
      this.#pss.set(pid, { at: now, bytes, privateBytes });
    } finally {
      this.#isReading = false;
    }
  }
}

/** The names are those of cAdvisor, with the prefix of the kit. */
const PRESSURE_METRICS = {
  cpu: {
    waiting: ['bosun_pressure_cpu_waiting_seconds_total', 'Time for which a process of the container waited for a CPU.'],
    stalled: [
      'bosun_pressure_cpu_stalled_seconds_total',
      'Time for which all processes of the container that had work waited for a CPU.',
    ],
  },
  memory: {
    waiting: ['bosun_pressure_memory_waiting_seconds_total', 'Time for which a process of the container waited for memory.'],
    stalled: [
      'bosun_pressure_memory_stalled_seconds_total',
      'Time for which all processes of the container that had work waited for memory.',
    ],
  },
  io: {
    waiting: ['bosun_pressure_io_waiting_seconds_total', 'Time for which a process of the container waited for a disk.'],
    stalled: [
      'bosun_pressure_io_stalled_seconds_total',
      'Time for which all processes of the container that had work waited for a disk.',
    ],
  },
} satisfies Record<PressureResource, Record<keyof Pressure, [name: string, help: string]>>;

/** Nothing where the kernel reports nothing. */
export function addPressure({ Counter }: Pick<Kinds, 'Counter'>, registry: Registry, pressure: Usage['pressure']): void {
  for (const resource of PRESSURE_RESOURCES)
    for (const kind of ['waiting', 'stalled'] as const) {
      const stall = pressure[resource]?.[kind];
      const [name, help] = PRESSURE_METRICS[resource][kind];
      if (stall !== undefined) new Counter({ name, help, registers: [registry] }).inc(stall.totalSeconds);
    }
}
