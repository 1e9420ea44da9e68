/**
 * Collects answers and failures while a load runs: one histogram over all, and one per slice of time.
 */
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';
import type { Latency, LifecycleEvent, Run, Slice } from './result.ts';

const CURVE = [0, 10, 25, 50, 75, 90, 95, 97.5, 99, 99.5, 99.75, 99.9, 99.95, 99.99, 99.999];

export class Recorder {
  requests = 0;
  readonly failures: Record<string, number> = {};
  readonly events: LifecycleEvent[] = [];
  readonly #all = createHistogram();
  readonly #slices: Slice[] = [];
  readonly #sliceMs: number;
  #slice = createHistogram();
  #sliceFailures = 0;
  #startedAt = performance.now();
  #sliceStartedAt = this.#startedAt;
  /** Time before a pause, where there was one. */
  #earlierMs = 0;
  /** False while time does not pass. */
  running = true;

  constructor(sliceMs = 250) {
    this.#sliceMs = sliceMs;
  }

  answered(ms: number): void {
    this.#turn();
    this.requests++;
    const microseconds = Math.max(1, Math.round(ms * 1000));
    this.#all.record(microseconds);
    this.#slice.record(microseconds);
  }

  failed(kind: string): void {
    this.#turn();
    this.failures[kind] = (this.failures[kind] ?? 0) + 1;
    this.#sliceFailures++;
  }

  event(kind: LifecycleEvent['kind'], text: string): void {
    this.events.push({ atSeconds: this.seconds, kind, text });
  }

  get seconds(): number {
    return (this.#earlierMs + (this.running ? performance.now() - this.#startedAt : 0)) / 1000;
  }

  /** Of the last slice that is complete; for the progress line. */
  get latest(): Slice | undefined {
    this.#turn();
    return this.#slices.at(-1);
  }

  /** Time does not pass until `resume`: rounds of other runs come between. `reset` forgets the time so far. */
  pause(reset = false): void {
    this.#turn();
    this.#earlierMs = reset ? 0 : this.seconds * 1000;
    if (reset) this.#slices.length = 0;
    this.running = false;
  }

  resume(): void {
    this.#startedAt = performance.now();
    this.#sliceStartedAt = this.#startedAt;
    this.#slice = createHistogram();
    this.#sliceFailures = 0;
    this.running = true;
  }

  measured(): Pick<Run, 'seconds' | 'requests' | 'rate' | 'latencyMs' | 'curve' | 'failures' | 'slices' | 'events'> {
    const { seconds, requests, failures, events } = this;
    return {
      seconds: rounded(seconds),
      requests,
      rate: seconds > 0 ? rounded(requests / seconds) : 0,
      latencyMs: latencyOf(this.#all),
      curve: requests === 0 ? [] : CURVE.map(percentile => [percentile, at(this.#all, percentile)]),
      failures,
      slices: this.#slices,
      events: events.map(event => ({ ...event, atSeconds: rounded(event.atSeconds) })),
    };
  }

  /** Closes every slice whose time is over. */
  #turn(): void {
    if (!this.running) return;
    const now = performance.now();
    while (now - this.#sliceStartedAt >= this.#sliceMs) {
      const { count } = this.#slice;
      this.#slices.push({
        atSeconds: rounded((this.#earlierMs + this.#sliceStartedAt - this.#startedAt) / 1000),
        rate: (count * 1000) / this.#sliceMs,
        failures: this.#sliceFailures,
        p50Ms: count === 0 ? null : at(this.#slice, 50),
        p99Ms: count === 0 ? null : at(this.#slice, 99),
      });
      this.#slice = createHistogram();
      this.#sliceFailures = 0;
      this.#sliceStartedAt += this.#sliceMs;
    }
  }
}

function latencyOf(histogram: RecordableHistogram): Latency {
  if (histogram.count === 0) return { mean: 0, p50: 0, p90: 0, p99: 0, p99_9: 0, max: 0 };
  return {
    mean: rounded(histogram.mean / 1000),
    p50: at(histogram, 50),
    p90: at(histogram, 90),
    p99: at(histogram, 99),
    p99_9: at(histogram, 99.9),
    max: rounded(histogram.max / 1000),
  };
}

/** Milliseconds. A percentile of the histogram is the upper end of its bucket: never above the maximum. */
function at(histogram: RecordableHistogram, percentile: number): number {
  const microseconds = percentile === 0 ? histogram.min : Math.min(histogram.percentile(percentile), histogram.max);
  return rounded(microseconds / 1000);
}

export function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
}
