/**
 * The lifecycle events that are shown to people, in words: on the dashboard, in `/events` and in `bosun top`. Pure.
 */
import type { ShownEvent } from '../protocol/api.ts';
import type { Audience } from '../protocol/audience.ts';
import type { EventName, EventOf, LifecycleEvent, WorkerExit } from '../protocol/events.ts';
import { isFailure } from '../protocol/exit.ts';
import type { Drain } from '../protocol/messages.ts';

/** One event as each audience may see it. */
export type Shown = Readonly<Record<Audience, ShownEvent>>;

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
  from === to ? undefined : { kind: 'resize', text: `pool of ${from} is to have ${to} workers` };

const WORDS: { readonly [Name in EventName]?: (event: EventOf<Name>) => Words | undefined } = {
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
  return WORDS[event.event as Name]?.(event);
}

function exitOf({ worker, reason, failure, openFailure, drain }: WorkerExit): Words {
  const textWith = (words: string | undefined) => {
    const why = isFailure(reason) && words !== undefined ? `${reason}: ${words}` : reason;
    return `worker ${worker} is gone (${why})${drain === undefined ? '' : `: ${ledger(drain)}`}`;
  };
  return { kind: 'exit', worker, reason, text: textWith(openFailure), operatorText: textWith(failure) };
}

function ledger({ finished, cutRequests, closedGracefully, durationMs }: Drain): string {
  return `${finished} requests finished while draining, ${cutRequests} cut, ${closedGracefully} connections closed gracefully, ${durationMs} ms`;
}
