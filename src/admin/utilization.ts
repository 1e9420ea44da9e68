/**
 * `bosun_utilization`: how much of what this pod can do is in use, from 0 to 1, for autoscalers. It reads what the workers have
 * reported; the clock (monotonic, in milliseconds) is passed in.
 *
 * It is the larger of two shares, each averaged over the ready workers and over the last 15 s:
 *
 * - the event loop utilization of a worker: JavaScript has one thread in each, and a pool is full when they are, with CPUs to spare or not;
 * - the CPU time of a worker, all its threads (garbage collection, native code), by its share of the CPUs: those that the pool is sized
 *   for, which is the quota where there is one, divided by the number of ready workers.
 *
 * An idle worker counts as 0. A worker that starts, drains or is cordoned does not count, and neither does what a ready one used while it
 * loaded: its first report, sent when it becomes ready, is only the start of the measurement. A blocked event loop reports nothing: a ready
 * worker that is silent for longer than two reports counts as 1 for that time.
 */
import type { WorkerProcess } from '../pool/worker-process.ts';
import type { Snapshot } from '../protocol/snapshot.ts';

/** One interval of a usual scrape: no load between two scrapes is missed. */
const WINDOW_MS = 15_000;
/** Workers report every second. */
const MAX_SILENCE_MS = 2000;

/** The parts of a worker that count. */
export type UtilizedWorker = Pick<WorkerProcess, 'state' | 'reportedAt'> & {
  snapshot: Pick<Snapshot, 'eventLoopUtilization' | 'cpuSeconds'> | undefined;
};

interface Report {
  reportedAt: number;
  cpuMs: number;
}

/** Sums over the workers that have reported in one sample, in milliseconds. */
interface Used {
  at: number;
  workerMs: number;
  loopMs: number;
  cpuMs: number;
  capacityMs: number;
}

export class Utilization {
  readonly #reports = new WeakMap<UtilizedWorker, Report>();
  #window: Used[] = [];

  /** Keeps what was reported since the last call, a second ago. `cpus` are those that the pool is sized for. */
  sample(workers: readonly UtilizedWorker[], cpus: number, now: number): void {
    const ready = readyOf(workers);
    for (const worker of workers) if (!ready.includes(worker)) this.#reports.delete(worker);
    const used = { at: now, workerMs: 0, loopMs: 0, cpuMs: 0, capacityMs: 0 };
    for (const worker of ready) {
      const { snapshot, reportedAt } = worker;
      if (snapshot === undefined) continue;
      const before = this.#reports.get(worker);
      const report = { reportedAt, cpuMs: (snapshot.cpuSeconds.user + snapshot.cpuSeconds.system) * 1000 };
      this.#reports.set(worker, report);
      const ms = reportedAt - (before?.reportedAt ?? reportedAt);
      if (before === undefined || ms === 0) continue;
      const countedMs = Math.min(ms, WINDOW_MS); // the first report after a silence covers all of it
      used.workerMs += countedMs;
      used.loopMs += snapshot.eventLoopUtilization * countedMs;
      used.cpuMs += (report.cpuMs - before.cpuMs) * (countedMs / ms);
      used.capacityMs += (countedMs * cpus) / ready.length;
    }
    this.#window = this.#window.filter(({ at }) => now - at < WINDOW_MS);
    if (used.workerMs > 0) this.#window.push(used);
  }

  /** 0 to 1; null if no worker is ready. */
  value(workers: readonly UtilizedWorker[], now: number): number | null {
    const ready = readyOf(workers);
    if (ready.length === 0) return null;
    const silentMs = ready
      .map(worker => (this.#reports.has(worker) ? now - worker.reportedAt : 0))
      .reduce((total, ms) => total + (ms > MAX_SILENCE_MS ? Math.min(ms, WINDOW_MS) : 0), 0);
    const sum = (key: keyof Used) => this.#window.reduce((total, used) => total + used[key], 0);
    const loop = (sum('loopMs') + silentMs) / (sum('workerMs') + silentMs || 1);
    const cpu = sum('cpuMs') / (sum('capacityMs') || 1);
    return Number(Math.min(1, Math.max(loop, cpu)).toFixed(3));
  }
}

function readyOf(workers: readonly UtilizedWorker[]): UtilizedWorker[] {
  return workers.filter(({ state }) => state === 'ready');
}
