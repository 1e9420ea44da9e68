/**
 * The last ten minutes of this pod, bounded, for a dashboard that opens later: a sample a second, and the lifecycle events in words.
 */

import type { WorkerProcess } from '../pool/worker-process.ts';
import type { Sample, ShownEvent, Status } from '../protocol/api.ts';
import type { Audience } from '../protocol/audience.ts';
import { closingInWords } from '../protocol/closing.ts';
import type { EventListener, EventName, EventOf, LifecycleEvent, WorkerExit } from '../protocol/events.ts';
import { isFailure } from '../protocol/exit.ts';
import type { Drain } from '../protocol/messages.ts';
import type { CpuSeconds, Snapshot } from '../protocol/snapshot.ts';
import { type Pod, slowestP99Ms, statusOf } from './status.ts';
import { ownCpuSeconds, type Totals } from './totals.ts';
import type { Utilization } from './utilization.ts';

const SAMPLE_INTERVAL_MS = 1000;
const MAX_SAMPLES = 600;
const MAX_EVENTS = 200;

/** One event as each audience may see it. */
export type Shown = Readonly<Record<Audience, ShownEvent>>;

export interface HistoryListener {
  onSample(sample: Sample): void;
  onEvent(event: Shown): void;
}

export class History {
  readonly samples: Sample[] = [];
  readonly listeners = new Set<HistoryListener>();
  readonly #pod: () => Pod;
  readonly #events: Shown[] = [];
  readonly #sampler: Sampler;
  readonly #utilization: Utilization;

  /** Samples `utilization`, too. */
  constructor(pod: () => Pod, utilization: Utilization) {
    this.#pod = pod;
    this.#utilization = utilization;
    const now = pod();
    this.#sampler = new Sampler(now, ownCpuSeconds(), performance.now());
    setInterval(() => this.#sample(), SAMPLE_INTERVAL_MS).unref();
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
    if (this.#events.length > MAX_EVENTS) this.#events.shift();
    for (const listener of this.listeners) listener.onEvent(entry);
  };

  #sample(): void {
    const pod = this.#pod();
    const now = performance.now();
    this.#utilization.sample(pod.supervisor.handles, pod.sizing.cpus.effective, now);
    const sample = this.#sampler.sample(pod, ownCpuSeconds(), now);
    this.samples.push(sample);
    if (this.samples.length > MAX_SAMPLES) this.samples.shift();
    for (const listener of this.listeners) listener.onSample(sample);
  }
}

/** The parts of a worker that a sample needs. */
export type SampledWorker = Pick<WorkerProcess, 'id' | 'startedAt' | 'reportedAt'> & {
  snapshot:
    | (Pick<Snapshot, 'requests' | 'eventLoopUtilization' | 'cpuSeconds'> & {
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

/** Makes a sample of what the workers have reported: rates are differences of two readings; no worker is queried. */
export class Sampler {
  readonly #requests = new WeakMap<SampledWorker, { requests: number; reportedAt: number; rate: number }>();
  #last: Reading;

  /** `own` is the CPU time of the primary itself; `now` is of the monotonic clock, in milliseconds. */
  constructor(pod: SampledPod, own: CpuSeconds, now: number) {
    this.#last = readingOf(pod, own, now);
  }

  /** The time since the last sample. */
  sample(pod: SampledPod, own: CpuSeconds, now: number): Sample {
    const reading = readingOf(pod, own, now);
    const seconds = (reading.at - this.#last.at) / 1000;
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
      cpus: round((reading.cpuSeconds - this.#last.cpuSeconds) / seconds, 3),
      cpuLimit: pod.sizing.cpus.effective,
      throttled: throttledBetween(this.#last, reading, seconds),
    };
    this.#last = reading;
    return sample;
  }

  /** Between its last two reports: the worker's seconds do not begin with ours. */
  #rateOf(handle: SampledWorker, now: number): number {
    const { snapshot, reportedAt, startedAt } = handle;
    if (snapshot === undefined) return 0;
    const before = this.#requests.get(handle) ?? { requests: 0, reportedAt: startedAt, rate: 0 };
    if (reportedAt === before.reportedAt) return now - reportedAt > 2 * SAMPLE_INTERVAL_MS ? 0 : before.rate;
    const rate = (snapshot.requests - before.requests) / ((reportedAt - before.reportedAt) / 1000);
    this.#requests.set(handle, { requests: snapshot.requests, reportedAt, rate });
    return rate;
  }
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

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}

/** `operatorText` replaces the text for the operator. */
type Words = Omit<ShownEvent, 'at'> & { operatorText?: string };

const stateOf = (
  state: 'starting' | 'ready' | 'cordoned' | 'draining',
  { worker, workerPid }: { worker: number; workerPid: number },
) => ({
  kind: state,
  worker,
  text: `worker ${worker} (process ${workerPid}) is ${state}`,
});

const resizeOf = ({ from, to }: { from: number; to: number }): Words | undefined =>
  from === to ? undefined : { kind: 'resize', text: `pool resizes from ${from} to ${to} workers` };

/** Events that are not shown: details of others, and what the status shows anyway. */
type Hidden =
  | 'worker.hung'
  | 'worker.malformed-message'
  | 'worker.failed'
  | 'worker.replace'
  | 'worker.replace-failed'
  | 'recycling.pointless'
  | 'pool.started'
  | 'pool.ready'
  | 'pool.scale-refused'
  | 'pool.backoff'
  | 'reload.refused'
  | 'sizing.changed'
  | 'signal'
  | 'app.listening'
  | 'drain.waiting'
  | `shutdown.${string}`
  | `primary.${string}`;

const WORDS: { readonly [Name in Exclude<EventName, Hidden>]: (event: EventOf<Name>) => Words | undefined } = {
  'worker.starting': event => stateOf('starting', event),
  'worker.ready': event => stateOf('ready', event),
  'worker.cordoned': event => stateOf('cordoned', event),
  'worker.uncordoned': event => stateOf('ready', event),
  'worker.draining': event => {
    const state = stateOf('draining', event);
    return { ...state, text: `${state.text}, ${event.reason}` };
  },
  'worker.exit': exitOf,
  'pool.scale': resizeOf,
  'pool.scale-failed': resizeOf,
  'pool.restart': ({ generation }) => ({ kind: 'restart', text: `rolling restart: generation ${generation}` }),
  'pool.restarted': ({ generation }) => ({ kind: 'restarted', text: `generation ${generation} serves` }),
  'pool.restart-failed': () => ({ kind: 'restart-failed', text: 'rolling restart failed' }),
  'balancing.policy': ({ policy, before }) => ({ kind: 'policy', text: `policy ${policy} instead of ${before}` }),
  'leader.acquired': ({ name, worker }) => ({ kind: 'leader', worker, text: `worker ${worker} leads ${name}` }),
  'leader.released': ({ name, worker, why }) => ({
    kind: 'leader',
    worker,
    text: `worker ${worker} has given up ${name} (${why})`,
  }),
  'leader.lost': ({ name, worker, why }) => ({ kind: 'leader', worker, text: `worker ${worker} has lost ${name} (${why})` }),
  'service.migrated': ({ service }) => ({ kind: 'keys', text: `the names in Redis are those of ${service}` }),
  'health.failing': ({ check, failing, workers }) => ({
    kind: 'check-failing',
    text: `check ${check} fails in ${failing} of ${workers} workers`,
  }),
  'health.passing': ({ check, ms }) => ({ kind: 'check', text: `check ${check} passes again after ${ms} ms` }),
  'health.unready': ({ check }) => ({ kind: 'check-failing', text: `the pod is not ready because of check ${check}` }),
  'health.ready': ({ check, ms }) => ({ kind: 'check', text: `the pod is ready again for check ${check} after ${ms} ms` }),
  'session.keys-rotated': ({ keys }) => ({ kind: 'keys', text: `session keys rotated: ${keys} are valid` }),
  'pool.restart-refused': ({ why }) => ({ kind: 'restart-refused', text: `restart refused: ${why}` }),
};

/** Undefined where an event is not shown. */
export function shown(event: LifecycleEvent, at: number): Shown | undefined {
  const words = wordsOf(event);
  if (words === undefined) return undefined;
  const { operatorText = words.text, ...rest } = words;
  const open = { at, ...rest };
  return { open, operator: { ...open, text: operatorText } };
}

function wordsOf<Name extends EventName>(event: EventOf<Name>): Words | undefined {
  const words: { readonly [N in EventName]?: (event: EventOf<N>) => Words | undefined } = WORDS;
  return words[event.event as Name]?.(event);
}

function exitOf({ worker, reason, failure, openFailure, drain }: WorkerExit): Words {
  const textWith = (words: string | undefined) => {
    const why = isFailure(reason) && words !== undefined ? `${reason}: ${words}` : reason;
    return `worker ${worker} is gone (${why})${drain === undefined ? '' : `: ${ledger(drain)}`}`;
  };
  return { kind: 'exit', worker, reason, text: textWith(openFailure), operatorText: textWith(failure) };
}

function ledger({ finished, cutRequests, webSockets, eventStreams, closedGracefully, durationMs, closing }: Drain): string {
  const streams = webSockets.byKit + eventStreams.byKit;
  const closed = streams === 0 ? '' : `, ${streams} WebSockets and event streams closed by the kit`;
  const after = closing === undefined ? '' : `; ${closingInWords(closing)}`;
  return `${finished} requests finished while draining, ${cutRequests} cut${closed}, ${closedGracefully} connections closed gracefully, ${durationMs} ms${after}`;
}
