/**
 * The last ten minutes of this pod, a sample a second, bounded: what a dashboard shows that is opened later.
 */

import type { WorkerProcess } from '../pool/worker-process.ts';
import type { Audience } from '../protocol/audience.ts';
import { Lifecycle, type LifecycleEvent, type Shown } from './lifecycle.ts';
import { SAMPLE_EVERY_MS, type Sample, Sampler } from './sampler.ts';
import { type Pod, statusOf } from './status.ts';
import { ownCpuSeconds } from './totals.ts';

const KEPT_SAMPLES = 600;

/** Told of each second and of each event. */
export interface HistoryListener {
  sampled(sample: Sample): void;
  happened(event: Shown): void;
}

export class History {
  readonly samples: Sample[] = [];
  readonly listeners = new Set<HistoryListener>();
  readonly #pod: () => Pod;
  readonly #lifecycle = new Lifecycle(event => this.#tell(listener => listener.happened(event)));
  readonly #sampler: Sampler;

  constructor(pod: () => Pod) {
    this.#pod = pod;
    const now = pod();
    this.#sampler = new Sampler(now, ownCpuSeconds(), performance.now());
    setInterval(() => this.#sample(), SAMPLE_EVERY_MS).unref();
    this.#lifecycle.look(now.supervisor);
  }

  events(audience: Audience): LifecycleEvent[] {
    return this.#lifecycle.events.map(event => event[audience]);
  }

  /** `/status` as it is now. */
  status(audience: Audience) {
    return statusOf(this.#pod(), audience);
  }

  changed(): void {
    this.#lifecycle.look(this.#pod().supervisor);
  }

  exited(handle: WorkerProcess): void {
    this.#lifecycle.exited(handle);
  }

  #sample(): void {
    const pod = this.#pod();
    this.#lifecycle.look(pod.supervisor);
    const sample = this.#sampler.sample(pod, ownCpuSeconds(), performance.now());
    this.samples.push(sample);
    if (this.samples.length > KEPT_SAMPLES) this.samples.shift();
    this.#tell(listener => listener.sampled(sample));
  }

  #tell(tell: (listener: HistoryListener) => void): void {
    for (const listener of this.listeners) tell(listener);
  }
}
