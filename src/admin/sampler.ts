/**
 * Makes a sample of a pod out of what its workers have reported. Rates are differences of two readings; no worker is queried.
 */
import type { WorkerProcess } from '../pool/worker-process.ts';
import type { Peer, Sample } from '../protocol/api.ts';
import { type CpuSeconds, round, type Snapshot } from '../protocol/snapshot.ts';
import { type Classes, classesOf } from './error-rates.ts';
import { type Pod, slowestP99Ms } from './status.ts';
import type { Totals } from './totals.ts';

/** Workers report every second: one that has not for twice as long does nothing. */
const MAX_SILENCE_MS = 2000;
/** A pod that has sent no heartbeat for longer may have a successor of the same host name. */
const MAX_SILENCE_S = 3;
/** Pods that get a line of their own; the others are summed up. */
const MAX_PODS = 20;

/** The parts of a worker that a sample needs. */
export type SampledWorker = Pick<WorkerProcess, 'id' | 'startedAt' | 'reportedAt'> & {
  snapshot:
    | (Pick<Snapshot, 'requests' | 'eventLoopUtilization' | 'cpuSeconds' | 'http'> & {
        responseTimeMs: Pick<Snapshot['responseTimeMs'], 'p50' | 'p99'>;
      })
    | undefined;
};

export type SampledPod = Pick<Pod, 'throttledSeconds'> & {
  sizing: { memory: Pick<Pod['sizing']['memory'], 'limitBytes'>; cpus: Pick<Pod['sizing']['cpus'], 'effective'> };
  supervisor: { handles: readonly SampledWorker[] };
  totals: Pick<Totals, 'cpuByWorker'>;
  memory: () => Pick<ReturnType<Pod['memory']>, 'usedBytes'>;
};

/** Counters at one time. */
interface Reading {
  at: number;
  throttledSeconds: number | null;
  cpuSeconds: number;
}

/** A worker's counts at its last report, and the rates since the one before. */
interface Rated {
  requests: number;
  classes: Classes;
  reportedAt: number;
  rate: number;
  statuses: Classes;
}

const NONE: Classes = [0, 0, 0, 0];

export class Sampler {
  readonly #rated = new WeakMap<SampledWorker, Rated>();
  #last: Reading;

  /** `own` is the CPU time of the primary itself; `now` is of the monotonic clock, in milliseconds. */
  constructor(pod: SampledPod, own: CpuSeconds, now: number) {
    this.#last = readingOf(pod, own, now);
  }

  /** Of the time since the last sample. `fleet` has this pod and the others. */
  sample(pod: SampledPod, own: CpuSeconds, now: number, fleet: readonly Peer[] = []): Sample {
    const reading = readingOf(pod, own, now);
    const seconds = (reading.at - this.#last.at) / 1000;
    const { handles } = pod.supervisor;
    const rates = handles.map(handle => ({ snapshot: handle.snapshot, id: handle.id, ...this.#ratesOf(handle, now) }));
    const total = rates.reduce((sum, { rate }) => sum + rate, 0);
    const weighted = rates.reduce((sum, { snapshot, rate }) => sum + (snapshot?.responseTimeMs.p50 ?? 0) * rate, 0);
    const sample: Sample = {
      at: Date.now(),
      workers: Object.fromEntries(
        rates.map(({ id, snapshot, rate }) => [id, [round(rate, 1), snapshot?.eventLoopUtilization ?? 0]]),
      ),
      statuses: rates.reduce((sum, { statuses }) => mapped(sum, (rate, index) => rate + (statuses[index] ?? 0)), NONE),
      p50: round(weighted / (total || 1), 2),
      p99: slowestP99Ms(handles),
      memoryBytes: pod.memory().usedBytes,
      limitBytes: pod.sizing.memory.limitBytes,
      cpus: round((reading.cpuSeconds - this.#last.cpuSeconds) / seconds, 3),
      cpuLimit: pod.sizing.cpus.effective,
      throttled: throttledBetween(this.#last, reading, seconds),
      ...(fleet.length > 1 && { pods: podFigures(fleet) }),
    };
    this.#last = reading;
    return sample;
  }

  /** Per second, between its last two reports: the worker's seconds do not begin with ours. */
  #ratesOf(handle: SampledWorker, now: number): Pick<Rated, 'rate' | 'statuses'> {
    const { snapshot, reportedAt, startedAt } = handle;
    if (snapshot === undefined) return { rate: 0, statuses: NONE };
    const before = this.#rated.get(handle) ?? { requests: 0, classes: NONE, reportedAt: startedAt, rate: 0, statuses: NONE };
    if (reportedAt === before.reportedAt) return now - reportedAt > MAX_SILENCE_MS ? { rate: 0, statuses: NONE } : before;
    const perSecond = (count: number) => count / ((reportedAt - before.reportedAt) / 1000);
    const classes = classesOf(snapshot.http);
    const rated = {
      requests: snapshot.requests,
      classes,
      reportedAt,
      rate: perSecond(snapshot.requests - before.requests),
      statuses: mapped(classes, (count, index) => round(perSecond(count - (before.classes[index] ?? 0)), 2)),
    };
    this.#rated.set(handle, rated);
    return rated;
  }
}

const mapped = ([a, b, c, d]: Classes, map: (value: number, index: number) => number): Classes => [
  map(a, 0),
  map(b, 1),
  map(c, 2),
  map(d, 3),
];

/**
 * By host name, from the last heartbeats; of those after the twentieth one sum, under the name `others`. Where several pods have one host name,
 * the end of its origin is added.
 */
function podFigures(fleet: readonly Peer[]): NonNullable<Sample['pods']> {
  const isSilent = ({ silentSeconds }: Peer) => silentSeconds > MAX_SILENCE_S;
  const living = new Map<string, number>();
  for (const peer of fleet) if (!isSilent(peer)) living.set(peer.pod, (living.get(peer.pod) ?? 0) + 1);
  const nameOf = ({ pod, origin }: Peer) => ((living.get(pod) ?? 0) > 1 ? `${pod} (${origin.slice(-4)})` : pod);
  const shown = fleet.filter(peer => !isSilent(peer) || !living.has(peer.pod));
  const named = shown.slice(0, MAX_PODS).map(peer => [nameOf(peer), figuresOf([peer])] as const);
  const others = shown.slice(MAX_PODS);
  return Object.fromEntries(others.length === 0 ? named : [...named, ['others', figuresOf(others)] as const]);
}

function figuresOf(pods: readonly Peer[]): NonNullable<Sample['pods']>[string] {
  const sum = (pick: (pod: Peer) => number | undefined) => pods.reduce((total, pod) => total + (pick(pod) ?? 0), 0);
  const requests = sum(({ requestsPerSecond }) => requestsPerSecond);
  const errors = sum(pod => pod.errors?.['5xx']);
  const cpus = sum(pod => pod.cpus);
  const memoryBytes = sum(pod => pod.memoryBytes);
  return [round(requests, 1), round(errors, 1), Math.max(...pods.map(({ p99Ms }) => p99Ms)), round(cpus, 3), memoryBytes];
}

function readingOf({ supervisor, totals, throttledSeconds }: SampledPod, own: CpuSeconds, at: number): Reading {
  const workers = [...totals.cpuByWorker(supervisor.handles).values()];
  const all = [own, ...workers].reduce((sum, { user, system }) => sum + user + system, 0);
  return { at, throttledSeconds, cpuSeconds: all };
}

function throttledBetween(before: Reading, now: Reading, seconds: number): number | null {
  if (before.throttledSeconds === null || now.throttledSeconds === null) return null;
  return round(Math.max(0, now.throttledSeconds - before.throttledSeconds) / seconds, 3);
}
