/**
 * Longer ranges of samples in bounded memory: of the samples within a step one is kept. Pure.
 */
import type { Sample } from '../protocol/api.ts';
import { round } from '../protocol/snapshot.ts';

/** Samples of one range, the oldest first. */
export class Thinned {
  readonly samples: Sample[] = [];
  readonly #stepMs: number;
  readonly #count: number;
  /** Of the current step. */
  #open: Sample[] = [];

  /** Keeps `count` samples, one for each step of `stepMs` milliseconds of the clock. */
  constructor(stepMs: number, count: number) {
    this.#stepMs = stepMs;
    this.#count = count;
  }

  /** @returns the sample of the step that has ended with this one, if one has */
  add(sample: Sample): Sample | undefined {
    const [first, ...others] = this.#open;
    if (first === undefined || this.#stepOf(first) === this.#stepOf(sample)) {
      this.#open.push(sample);
      return undefined;
    }
    const ended = merged([first, ...others]);
    this.#open = [sample];
    this.samples.push(ended);
    if (this.samples.length > this.#count) this.samples.shift();
    return ended;
  }

  #stepOf({ at }: Sample): number {
    return Math.floor(at / this.#stepMs);
  }
}

/** Rates as means, and what may become too much as its highest value. @param samples at least one */
export function merged(samples: readonly [Sample, ...Sample[]]): Sample {
  const { at, limitBytes, cpuLimit } = samples.at(-1) ?? samples[0];
  const throttled = samples.flatMap(sample => sample.throttled ?? []);
  const pods = samples.map(sample => sample.pods).filter(each => each !== undefined);
  return {
    at,
    limitBytes,
    cpuLimit,
    workers: byKey<Sample['workers'][number]>(
      samples.map(({ workers }) => workers),
      all => [mean(all.map(([rate]) => rate)), mean(all.map(([, busy]) => busy))],
    ),
    statuses: [
      mean(samples.map(({ statuses: [success] }) => success)),
      mean(samples.map(({ statuses: [, redirect] }) => redirect)),
      mean(samples.map(({ statuses: [, , clientError] }) => clientError)),
      mean(samples.map(({ statuses: [, , , serverError] }) => serverError)),
    ],
    p50: mean(samples.map(({ p50 }) => p50)),
    p99: Math.max(...samples.map(({ p99 }) => p99)),
    memoryBytes: Math.max(...samples.map(({ memoryBytes }) => memoryBytes)),
    cpus: mean(samples.map(({ cpus }) => cpus)),
    throttled: throttled.length === 0 ? null : mean(throttled),
    ...(pods.length > 0 && { pods: byKey<PodFigures>(pods, mergedPod) }),
  };
}

type PodFigures = NonNullable<Sample['pods']>[string];

function mergedPod(all: readonly PodFigures[]): PodFigures {
  return [
    mean(all.map(([requests]) => requests)),
    mean(all.map(([, errors]) => errors)),
    Math.max(...all.map(([, , p99]) => p99)),
    mean(all.map(([, , , cpus]) => cpus)),
    Math.max(...all.map(([, , , , memory]) => memory)),
  ];
}

/** The values of each key, of the records that have it, as one. */
function byKey<Value>(records: readonly Readonly<Record<string, Value>>[], merge: (values: readonly Value[]) => Value) {
  const keys = new Set(records.flatMap(record => Object.keys(record)));
  return Object.fromEntries(
    [...keys].map(key => [key, merge(records.flatMap(record => (Object.hasOwn(record, key) ? [record[key] as Value] : [])))]),
  );
}

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
const mean = (values: readonly number[]) => round(sum(values) / values.length, 3);
