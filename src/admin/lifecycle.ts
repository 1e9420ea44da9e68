/**
 * The pool's life as a bounded list: started, ready, draining, exited with its reason and ledger, resized, restarted. Found by comparing
 * what is with what was, so that nobody who changes something has to think of it.
 */

import { isCrash } from '../pool/failures.ts';
import type { Supervisor } from '../pool/supervisor.ts';
import type { WorkerProcess, WorkerState } from '../pool/worker-process.ts';
import type { Audience } from '../protocol/audience.ts';
import type { Drain, ExitReason } from '../protocol/messages.ts';

export type LifecycleKind =
  | 'starting'
  | 'ready'
  | 'cordoned'
  | 'draining'
  | 'exit'
  | 'resize'
  | 'restart'
  | 'restarted'
  | 'restart-failed'
  | 'restart-refused';

/** `at` is milliseconds since the epoch. `text` is for people. */
export interface LifecycleEvent {
  at: number;
  kind: LifecycleKind;
  worker?: number;
  reason?: ExitReason;
  text: string;
}

/** The parts of a worker that matter here. */
export type Life = Pick<WorkerProcess, 'id' | 'pid' | 'state' | 'reason' | 'failure' | 'openFailure' | 'drain'>;
/** What of the pool is looked at. */
export type PoolLife = Pick<Supervisor, 'wanted' | 'generation' | 'rolls' | 'lastRefusal'> & { handles: readonly Life[] };

const MOST_EVENTS = 200;

/** One event as each audience may see it. */
export type Shown = Readonly<Record<Audience, LifecycleEvent>>;

export class Lifecycle {
  readonly events: Shown[] = [];
  readonly #states = new Map<Life, WorkerState>();
  readonly #onEvent: (event: Shown) => void;
  #wanted: number | undefined;
  #generation = 1;
  #rolls = { success: 0, failure: 0, refused: 0 };

  constructor(onEvent: (event: Shown) => void) {
    this.#onEvent = onEvent;
  }

  /** Compares the pool with what it was at the last look. */
  look({ handles, wanted, generation, rolls, lastRefusal }: PoolLife): void {
    if (this.#wanted !== undefined && wanted !== this.#wanted)
      this.#add({ kind: 'resize', text: `pool of ${this.#wanted} is to have ${wanted} workers` });
    this.#wanted = wanted;
    if (generation > this.#generation) this.#add({ kind: 'restart', text: `rolling restart: generation ${generation}` });
    this.#generation = generation;
    if (rolls.success > this.#rolls.success) this.#add({ kind: 'restarted', text: `generation ${generation} serves` });
    if (rolls.failure > this.#rolls.failure) this.#add({ kind: 'restart-failed', text: 'rolling restart failed' });
    if (rolls.refused > this.#rolls.refused)
      this.#add({ kind: 'restart-refused', text: `restart refused: ${lastRefusal?.why ?? 'no worker was replaced'}` });
    this.#rolls = { ...rolls };
    for (const handle of handles) this.#lookAt(handle);
  }

  exited(handle: Life): void {
    const { id, reason, failure, openFailure, drain } = handle;
    this.#states.delete(handle);
    const isBadEnd = isCrash(reason) || reason === 'killed';
    const textWith = (words: string | undefined) => {
      const why = isBadEnd && words !== undefined ? `${reason}: ${words}` : reason;
      return `worker ${id} is gone (${why})${drain === undefined ? '' : `: ${ledger(drain)}`}`;
    };
    this.#add({ kind: 'exit', worker: id, ...(reason && { reason }), text: textWith(openFailure) }, textWith(failure));
  }

  #lookAt(handle: Life): void {
    const { id, state, pid, reason } = handle;
    if (this.#states.get(handle) === state || state === 'exited') return;
    this.#states.set(handle, state);
    const why = state === 'draining' && reason !== undefined ? `, ${reason}` : '';
    this.#add({ kind: state, worker: id, text: `worker ${id} (process ${pid}) is ${state}${why}` });
  }

  /** `operatorText` replaces the event's text for the operator. */
  #add(event: Omit<LifecycleEvent, 'at'>, operatorText = event.text): void {
    const open = { at: Date.now(), ...event };
    const shown = { open, operator: { ...open, text: operatorText } };
    this.events.push(shown);
    if (this.events.length > MOST_EVENTS) this.events.shift();
    this.#onEvent(shown);
  }
}

function ledger({ finished, cutRequests, handedOver, durationMs }: Drain): string {
  return `${finished} requests finished while draining, ${cutRequests} cut, ${handedOver} connections handed over, ${durationMs} ms`;
}
