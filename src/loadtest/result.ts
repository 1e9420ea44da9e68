/**
 * What a load test measures: the recorder, which collects responses and failures in one histogram over all and one per slice of time, and
 * the result, plain data as it is in result.json. The renderers use nothing else.
 */
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';

export interface Result {
  /** The version of this shape. */
  format: 1;
  scenario: string;
  command: string;
  startedAt: string;
  target: string;
  environment: Record<string, string>;
  runs: Run[];
  /** Why the test failed; empty where it passed. */
  problems: string[];
  /** Ended early by Ctrl-C. */
  interrupted: boolean;
}

/** One measurement; `policies` has one per policy, combined from its rounds. */
export interface Run {
  label: string;
  seconds: number;
  /** Answered with a 2xx status. */
  requests: number;
  rate: number;
  latencyMs: Latency;
  /** Percentile (0 to 100) and milliseconds, rising. */
  curve: [number, number][];
  failures: Record<string, number>;
  slices: Slice[];
  events: Mark[];
  workers: WorkerShare[];
  restarts: Record<string, number>;
  drains: { count: number; finishedRequests: number; cutRequests: number };
  usage: Usage[];
  /** CPU time withheld by the quota; null without a quota. */
  throttledSeconds: number | null;
  /** 0 to 1; near 1 the generator was the limit, not the server. */
  generatorUtilization: number;
  notes: string[];
}

export interface Latency {
  mean: number;
  p50: number;
  p90: number;
  p99: number;
  p99_9: number;
  max: number;
}

/** A slice of time; latencies are null if nothing was answered in it. */
export interface Slice {
  atSeconds: number;
  rate: number;
  failures: number;
  p50Ms: number | null;
  p99Ms: number | null;
}

export interface Mark {
  atSeconds: number;
  kind: 'restart' | 'ready' | 'draining' | 'exited' | 'killed' | 'load';
  text: string;
}

/** The connections of a worker are not visible from outside; its responses are. */
export interface WorkerShare {
  id: number;
  pid: number;
  generation: number;
  requests: number;
}

export interface Usage {
  atSeconds: number;
  /** CPU cores used by primary and workers; null if they run on another machine. */
  cores: number | null;
  /** Mean event loop utilization of the workers, 0 to 1. */
  loop: number;
}

export function failuresOf(run: Pick<Run, 'failures'>): number {
  return Object.values(run.failures).reduce((sum, count) => sum + count, 0);
}

const CURVE = [0, 10, 25, 50, 75, 90, 95, 97.5, 99, 99.5, 99.75, 99.9, 99.95, 99.99, 99.999];

export class Recorder {
  requests = 0;
  readonly failures: Record<string, number> = {};
  readonly events: Mark[] = [];
  readonly #all = createHistogram();
  readonly #slices: Slice[] = [];
  readonly #sliceMs: number;
  #slice = createHistogram();
  #sliceFailures = 0;
  #startedAt = performance.now();
  #sliceStartedAt = this.#startedAt;
  /** The time before the last pause. */
  #earlierMs = 0;
  /** False while paused. */
  running = true;

  constructor(sliceMs = 250) {
    this.#sliceMs = sliceMs;
  }

  answered(ms: number): void {
    this.#closeSlices();
    this.requests++;
    const microseconds = Math.max(1, Math.round(ms * 1000));
    this.#all.record(microseconds);
    this.#slice.record(microseconds);
  }

  failed(kind: string): void {
    this.#closeSlices();
    this.failures[kind] = (this.failures[kind] ?? 0) + 1;
    this.#sliceFailures++;
  }

  mark(kind: Mark['kind'], text: string): void {
    this.events.push({ atSeconds: this.seconds, kind, text });
  }

  get seconds(): number {
    return (this.#earlierMs + (this.running ? performance.now() - this.#startedAt : 0)) / 1000;
  }

  /** The last complete slice, for the progress line. */
  get latest(): Slice | undefined {
    this.#closeSlices();
    return this.#slices.at(-1);
  }

  /** Stops the clock until `resume`, for rounds of other runs. `reset` sets it back to 0. */
  pause(reset = false): void {
    this.#closeSlices();
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

  /** Closes every slice that is over. */
  #closeSlices(): void {
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

/** Milliseconds. The histogram reports the upper end of a bucket, which can be above the maximum. */
function at(histogram: RecordableHistogram, percentile: number): number {
  const microseconds = percentile === 0 ? histogram.min : Math.min(histogram.percentile(percentile), histogram.max);
  return rounded(microseconds / 1000);
}

export function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
}
