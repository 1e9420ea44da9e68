/**
 * The last ten minutes of this pod, a sample a second, bounded: what a dashboard shows that is opened later. Rates are differences of two
 * looks at what the workers have pushed; no worker is asked.
 */

import type { WorkerHandle } from '../pool/worker-handle.ts';
import { Lifecycle, type LifecycleEvent } from './lifecycle.ts';
import { type Pod, slowestP99Ms, statusOf } from './status.ts';

export const SAMPLE_EVERY_MS = 1000;
const KEPT_SAMPLES = 600;

/** One second of the pod. */
export interface Sample {
  /** Milliseconds since the epoch. */
  at: number;
  /** Per worker id: requests per second, event loop utilization from 0 to 1. */
  workers: Record<number, [requestsPerSecond: number, utilization: number]>;
  /** Milliseconds: the mean of the workers' medians by their requests, and the slowest worker's p99. */
  p50: number;
  p99: number;
  /** Resident memory of all processes, and the container's limit. */
  rssBytes: number;
  limitBytes: number | null;
  /** CPUs used by all processes, and what they may use. */
  cpus: number;
  cpuLimit: number;
  /** Seconds per second that the quota withheld CPUs; null where no file tells. */
  throttled: number | null;
}

/** Told of each second and of each event. */
export interface HistoryListener {
  sampled(sample: Sample): void;
  happened(event: LifecycleEvent): void;
}

interface Look {
  at: number;
  throttledSeconds: number | null;
  cpuSeconds: number;
}

export class History {
  readonly samples: Sample[] = [];
  readonly listeners = new Set<HistoryListener>();
  readonly #pod: () => Pod;
  readonly #lifecycle = new Lifecycle(event => this.#tell(listener => listener.happened(event)));
  readonly #requests = new WeakMap<WorkerHandle, { requests: number; heardAt: number; rate: number }>();
  #last: Look;

  constructor(pod: () => Pod) {
    this.#pod = pod;
    const now = pod();
    this.#last = { at: performance.now(), throttledSeconds: now.throttledSeconds, cpuSeconds: cpuSeconds(now) };
    setInterval(() => this.#sample(), SAMPLE_EVERY_MS).unref();
    this.#lifecycle.look(now.supervisor);
  }

  get events(): readonly LifecycleEvent[] {
    return this.#lifecycle.events;
  }

  /** `/status` as it is now. */
  status() {
    return statusOf(this.#pod());
  }

  changed(): void {
    this.#lifecycle.look(this.#pod().supervisor);
  }

  exited(handle: WorkerHandle): void {
    this.#lifecycle.exited(handle);
  }

  #sample(): void {
    const pod = this.#pod();
    this.#lifecycle.look(pod.supervisor);
    const look = { at: performance.now(), throttledSeconds: pod.throttledSeconds, cpuSeconds: cpuSeconds(pod) };
    const seconds = (look.at - this.#last.at) / 1000;
    const { handles } = pod.supervisor;
    const answering = handles.map(handle => ({ handle, rate: this.#rateOf(handle) }));
    const total = answering.reduce((sum, { rate }) => sum + rate, 0);
    const sample: Sample = {
      at: Date.now(),
      workers: Object.fromEntries(
        answering.map(({ handle, rate }) => [handle.id, [round(rate, 1), handle.snapshot?.eventLoopUtilization ?? 0]]),
      ),
      p50: round(
        answering.reduce((sum, { handle, rate }) => sum + (handle.snapshot?.responseTimeMs.p50 ?? 0) * rate, 0) / (total || 1),
        2,
      ),
      p99: slowestP99Ms(handles),
      rssBytes: handles.reduce((sum, { snapshot }) => sum + (snapshot?.memory.rss ?? 0), process.memoryUsage.rss()),
      limitBytes: pod.sizing.memory.limitBytes,
      cpus: round(Math.max(0, look.cpuSeconds - this.#last.cpuSeconds) / seconds, 3),
      cpuLimit: pod.sizing.cpus.effective,
      throttled: throttledBetween(this.#last, look, seconds),
    };
    this.#last = look;
    this.samples.push(sample);
    if (this.samples.length > KEPT_SAMPLES) this.samples.shift();
    this.#tell(listener => listener.sampled(sample));
  }

  /** Between its last two reports: ours and the worker's second don't begin together. */
  #rateOf(handle: WorkerHandle): number {
    const { snapshot, heardAt, startedAt } = handle;
    if (snapshot === undefined) return 0;
    const before = this.#requests.get(handle) ?? { requests: 0, heardAt: startedAt, rate: 0 };
    if (heardAt === before.heardAt) return performance.now() - heardAt > 2 * SAMPLE_EVERY_MS ? 0 : before.rate;
    const rate = (snapshot.requests - before.requests) / ((heardAt - before.heardAt) / 1000);
    this.#requests.set(handle, { requests: snapshot.requests, heardAt, rate });
    return rate;
  }

  #tell(tell: (listener: HistoryListener) => void): void {
    for (const listener of this.listeners) tell(listener);
  }
}

/** Of all processes that are and were. */
function cpuSeconds({ supervisor, totals }: Pod): number {
  const { user, system } = process.cpuUsage();
  const present = new Map(supervisor.handles.map(({ id, snapshot }) => [id, snapshot?.cpuSeconds]));
  return [...new Set([...present.keys(), ...totals.goneIds])].reduce(
    (sum, id) => {
      const of = totals.cpuSecondsOf(id, present.get(id));
      return sum + of.user + of.system;
    },
    (user + system) / 1e6,
  );
}

function throttledBetween(before: Look, now: Look, seconds: number): number | null {
  if (before.throttledSeconds === null || now.throttledSeconds === null) return null;
  return round(Math.max(0, now.throttledSeconds - before.throttledSeconds) / seconds, 3);
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
