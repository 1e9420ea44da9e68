/**
 * What has happened in this pod, bounded, for a dashboard that opens later: a sample a second for ten minutes, thinned samples of an hour and of
 * a day, and the lifecycle events in words.
 */

import type { Peer, Sample, ShownEvent, Status, StreamedEvents } from '../protocol/api.ts';
import type { Audience } from '../protocol/audience.ts';
import { closingInWords } from '../protocol/closing.ts';
import type { EventListener, EventName, EventOf, LifecycleEvent, WorkerExit } from '../protocol/events.ts';
import { isFailure } from '../protocol/exit.ts';
import type { Drain } from '../protocol/messages.ts';
import type { ErrorRates } from './error-rates.ts';
import { Sampler } from './sampler.ts';
import { type Pod, statusOf } from './status.ts';
import { Thinned } from './thinning.ts';
import { ownCpuSeconds } from './totals.ts';
import type { Utilization } from './utilization.ts';

const SAMPLE_INTERVAL_MS = 1000;
const MAX_SAMPLES = 600;
/** A day with a rolling restart of eight workers every hour. */
const MAX_EVENTS = 600;

/** One event as each audience may see it. */
export type Shown = Readonly<Record<Audience, ShownEvent>>;

export interface HistoryListener {
  onSample(sample: Sample, longer: StreamedEvents['longer']): void;
  onEvent(event: Shown): void;
}

export interface HistoryOptions {
  pod: () => Pod;
  /** Sampled, too. */
  utilization: Utilization;
  /** Sampled, too. */
  errorRates: ErrorRates;
  /** This pod and the others. */
  peers: () => readonly Peer[];
}

export class History {
  readonly samples: Sample[] = [];
  readonly listeners = new Set<HistoryListener>();
  readonly #options: HistoryOptions;
  readonly #events: Shown[] = [];
  readonly #sampler: Sampler;
  readonly #hour = new Thinned(10_000, 360);
  readonly #day = new Thinned(300_000, 288);
  #fleet: readonly Peer[] | undefined;

  constructor(options: HistoryOptions) {
    this.#options = options;
    this.#sampler = new Sampler(options.pod(), ownCpuSeconds(), performance.now());
    setInterval(() => this.#sample(), SAMPLE_INTERVAL_MS).unref();
  }

  events(audience: Audience): ShownEvent[] {
    return this.#events.map(event => event[audience]);
  }

  /** For a new reader. */
  past(audience: Audience): StreamedEvents['history'] {
    return { samples: this.samples, hour: this.#hour.samples, day: this.#day.samples, events: this.events(audience) };
  }

  /** `/status` as it is now. */
  status(audience: Audience): Status {
    return statusOf(this.#options.pod(), audience);
  }

  /** The pods as of the last sample: this one's rate is that of the time between two calls. */
  get fleet(): readonly Peer[] {
    this.#fleet ??= this.#options.peers();
    return this.#fleet;
  }

  readonly onEvent: EventListener = (event, at) => {
    const entry = shown(event, at);
    if (entry === undefined) return;
    this.#events.push(entry);
    if (this.#events.length > MAX_EVENTS) this.#events.shift();
    for (const listener of this.listeners) listener.onEvent(entry);
  };

  #sample(): void {
    const pod = this.#options.pod();
    const now = performance.now();
    this.#options.utilization.sample(pod.supervisor.handles, pod.sizing.cpus.effective, now);
    this.#options.errorRates.sample(pod.supervisor.handles);
    pod.routeTimes?.sample(() => pod.totals.countersWith(pod.supervisor.handles).http, now);
    this.#fleet = this.#options.peers();
    const sample = this.#sampler.sample(pod, ownCpuSeconds(), now, this.#fleet);
    this.samples.push(sample);
    if (this.samples.length > MAX_SAMPLES) this.samples.shift();
    const hour = this.#hour.add(sample);
    const day = this.#day.add(sample);
    for (const listener of this.listeners) listener.onSample(sample, { ...(hour && { hour }), ...(day && { day }) });
  }
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
  'pool.rebalanced': ({ connections, from, to }) => ({
    kind: 'rebalanced',
    text: `${connections} connections moved from worker ${from.join(', ')} to worker ${to.join(', ')}`,
  }),
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

function ledger(drain: Drain): string {
  const { finished, cutRequests, webSockets, eventStreams, closedGracefully, moved, durationMs, closing } = drain;
  const streams = webSockets.byKit + eventStreams.byKit;
  const closed = streams === 0 ? '' : `, ${streams} WebSockets and event streams closed by the kit`;
  const after = closing === undefined ? '' : `; ${closingInWords(closing)}`;
  return `${finished} requests finished while draining, ${cutRequests} cut${closed}, ${closedGracefully} connections closed gracefully, ${moved} moved, ${durationMs} ms${after}`;
}
