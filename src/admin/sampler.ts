/**
 * One second of a pod, from what the workers have pushed: rates are differences of two looks, and no worker is asked.
 */

import type { WorkerProcess } from '../pool/worker-process.ts';
import type { Sample } from '../protocol/api.ts';
import type { CpuSeconds, Snapshot } from '../protocol/messages.ts';
import { type Pod, slowestP99Ms } from './status.ts';
import type { Totals } from './totals.ts';

export const SAMPLE_EVERY_MS = 1000;

/** What of a worker is sampled. */
export type SampledWorker = Pick<WorkerProcess, 'id' | 'startedAt' | 'heardAt'> & {
  snapshot:
    | (Pick<Snapshot, 'requests' | 'eventLoopUtilization' | 'cpuSeconds'> & {
        responseTimeMs: Pick<Snapshot['responseTimeMs'], 'p50' | 'p99'>;
      })
    | undefined;
};

/** What of a pod is sampled. */
export type SampledPod = Pick<Pod, 'throttledSeconds'> & {
  sizing: { memory: Pick<Pod['sizing']['memory'], 'limitBytes'>; cpus: Pick<Pod['sizing']['cpus'], 'effective'> };
  supervisor: { handles: readonly SampledWorker[] };
  totals: Pick<Totals, 'cpuByWorker'>;
  memory: () => Pick<ReturnType<Pod['memory']>, 'usedBytes'>;
};

interface Look {
  at: number;
  throttledSeconds: number | null;
  cpuSeconds: number;
}

export class Sampler {
  readonly #requests = new WeakMap<SampledWorker, { requests: number; heardAt: number; rate: number }>();
  #last: Look;

  /** `own` is the CPU time of the primary itself; `now` is of the monotonic clock, in milliseconds. */
  constructor(pod: SampledPod, own: CpuSeconds, now: number) {
    this.#last = lookAt(pod, own, now);
  }

  /** Since the sample before. */
  sample(pod: SampledPod, own: CpuSeconds, now: number): Sample {
    const look = lookAt(pod, own, now);
    const seconds = (look.at - this.#last.at) / 1000;
    const { handles } = pod.supervisor;
    const rates = handles.map(handle => ({ snapshot: handle.snapshot, id: handle.id, rate: this.#rateOf(handle, now) }));
    const total = rates.reduce((sum, { rate }) => sum + rate, 0);
    const weighted = rates.reduce((sum, { snapshot, rate }) => sum + (snapshot?.responseTimeMs.p50 ?? 0) * rate, 0);
    const sample: Sample = {
      at: Date.now(),
      workers: Object.fromEntries(
        rates.map(({ id, snapshot, rate }) => [id, [round(rate, 1), snapshot?.eventLoopUtilization ?? 0]]),
      ),
      p50: round(weighted / (total || 1), 2),
      p99: slowestP99Ms(handles),
      memoryBytes: pod.memory().usedBytes,
      limitBytes: pod.sizing.memory.limitBytes,
      cpus: round((look.cpuSeconds - this.#last.cpuSeconds) / seconds, 3),
      cpuLimit: pod.sizing.cpus.effective,
      throttled: throttledBetween(this.#last, look, seconds),
    };
    this.#last = look;
    return sample;
  }

  /** Between its last two reports: ours and the worker's second don't begin together. */
  #rateOf(handle: SampledWorker, now: number): number {
    const { snapshot, heardAt, startedAt } = handle;
    if (snapshot === undefined) return 0;
    const before = this.#requests.get(handle) ?? { requests: 0, heardAt: startedAt, rate: 0 };
    if (heardAt === before.heardAt) return now - heardAt > 2 * SAMPLE_EVERY_MS ? 0 : before.rate;
    const rate = (snapshot.requests - before.requests) / ((heardAt - before.heardAt) / 1000);
    this.#requests.set(handle, { requests: snapshot.requests, heardAt, rate });
    return rate;
  }
}

function lookAt({ supervisor, totals, throttledSeconds }: SampledPod, own: CpuSeconds, at: number): Look {
  const workers = [...totals.cpuByWorker(supervisor.handles).values()];
  const all = [own, ...workers].reduce((sum, { user, system }) => sum + user + system, 0);
  return { at, throttledSeconds, cpuSeconds: all };
}

function throttledBetween(before: Look, now: Look, seconds: number): number | null {
  if (before.throttledSeconds === null || now.throttledSeconds === null) return null;
  return round(Math.max(0, now.throttledSeconds - before.throttledSeconds) / seconds, 3);
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
