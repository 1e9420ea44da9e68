/**
 * The last ten minutes of this pod, a sample a second, bounded: what a dashboard shows that is opened later.
 */

import type { Sample, ShownEvent, Status } from '../protocol/api.ts';
import type { Audience } from '../protocol/audience.ts';
import type { EventListener } from '../protocol/events.ts';
import { type Shown, shown } from './lifecycle.ts';
import { SAMPLE_EVERY_MS, Sampler } from './sampler.ts';
import { type Pod, statusOf } from './status.ts';
import { ownCpuSeconds } from './totals.ts';

const KEPT_SAMPLES = 600;
const KEPT_EVENTS = 200;

/** Told of each second and of each event. */
export interface HistoryListener {
  sampled(sample: Sample): void;
  happened(event: Shown): void;
}

export class History {
  readonly samples: Sample[] = [];
  readonly listeners = new Set<HistoryListener>();
  readonly #pod: () => Pod;
  readonly #events: Shown[] = [];
  readonly #sampler: Sampler;

  constructor(pod: () => Pod) {
    this.#pod = pod;
    const now = pod();
    this.#sampler = new Sampler(now, ownCpuSeconds(), performance.now());
    setInterval(() => this.#sample(), SAMPLE_EVERY_MS).unref();
  }

  events(audience: Audience): ShownEvent[] {
    return this.#events.map(event => event[audience]);
  }

  /** `/status` as it is now. */
  status(audience: Audience): Status {
    return statusOf(this.#pod(), audience);
  }

  readonly onEvent: EventListener = (event, at) => {
    const entry = shown(event, at);
    if (entry === undefined) return;
    this.#events.push(entry);
    if (this.#events.length > KEPT_EVENTS) this.#events.shift();
    this.#tell(listener => listener.happened(entry));
  };

  #sample(): void {
    const pod = this.#pod();
    const sample = this.#sampler.sample(pod, ownCpuSeconds(), performance.now());
    this.samples.push(sample);
    if (this.samples.length > KEPT_SAMPLES) this.samples.shift();
    this.#tell(listener => listener.sampled(sample));
  }

  #tell(tell: (listener: HistoryListener) => void): void {
    for (const listener of this.listeners) tell(listener);
  }
}
