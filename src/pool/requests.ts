/**
 * What an operator has requested of the pool: more workers, the restart of one, a rolling restart of all. Each request is answered once:
 * it has succeeded, was refused, or has failed, with the reason. Pure, with the clock passed in.
 */
import type { LifecycleEvent } from '../protocol/events.ts';
import type { ExitReason } from '../protocol/exit.ts';
import { type Heap, isSameHeap } from '../resources/heap.ts';
import type { Effect, RequestEvent } from './effects.ts';
import type { Batch, Purpose } from './replacement.ts';
import type { WorkerRecord } from './worker-state.ts';

/** A replacement failed: the new worker did not start, or the old one was killed with open requests. */
export class ReplacementError extends Error {
  override readonly name: string = 'ReplacementError';
}

/** The worker cannot be replaced without losing requests: it goes on. */
export class ReplacementRefusedError extends ReplacementError {
  override readonly name = 'ReplacementRefusedError';
}

/** All workers were replaced, and requests were lost on the way. */
export class RequestsLostError extends ReplacementError {
  override readonly name = 'RequestsLostError';
}

/** No failure: the pod shuts down, or a later change was saved while the new worker started, and the next restart loads it. */
export class AbandonedError extends ReplacementError {
  override readonly name = 'AbandonedError';
}

/** The pool does not have the requested number of workers; the message has the reason. */
export class ScaleError extends Error {
  override readonly name: string = 'ScaleError';
}

/** Another number is wanted now: the earlier request is superseded. */
export class SupersededError extends ScaleError {
  constructor(wanted: number) {
    super(`superseded: the wanted number is now ${wanted} workers`);
  }
}

const DRAINING = 'the pod is draining';
const NONE_UP = 'no worker is up; the next ones start with the new settings';
/** A worker that cannot be replaced is checked again after this time. */
const REFUSED_FOR_MS = 60_000;

/** A refused restart: all workers kept serving. */
export interface Refusal {
  /** In milliseconds: since the epoch outside the pool, of the monotonic clock inside. */
  at: number;
  why: string;
}

/** Queues these workers to be replaced. */
type Replace = (workers: readonly WorkerRecord[], reason: ExitReason, purpose: Purpose) => void;

export class Requests {
  readonly #push: (effect: Effect) => void;
  readonly #replace: Replace;
  /** A rolling restart starts the workers that are missing, too: under `bosun dev` they wait for it. */
  readonly #startsMissing: boolean;
  #wanted: number;
  #enlargement: { from: number; to: number; since: number; request: number } | undefined;
  #generation = 1;
  /** Rolling restarts so far, and refused restarts. */
  readonly rolls = { success: 0, failure: 0, refused: 0 };
  lastRefusal: Refusal | undefined;
  #isStopping = false;

  constructor(wanted: number, push: (effect: Effect) => void, replace: Replace, startsMissing = false) {
    this.#startsMissing = startsMissing;
    this.#wanted = wanted;
    this.#push = push;
    this.#replace = replace;
  }

  /** The number of workers. */
  get wanted(): number {
    return this.#wanted;
  }

  /** Counted up by each rolling restart; a failed one gives its number back. */
  get generation(): number {
    return this.#generation;
  }

  /** No worker is started any more. */
  stop(): void {
    this.#isStopping = true;
    this.#endEnlargement(new ScaleError(DRAINING));
  }

  /** `active` are the workers that neither end nor have exited. */
  handle(event: RequestEvent, active: readonly WorkerRecord[], now: number): void {
    if (this.#isStopping && event.type !== 'refused') {
      if (event.type !== 'scale') this.#answer(event.request, new ReplacementError(DRAINING));
      return;
    }
    switch (event.type) {
      case 'scale':
        this.#endEnlargement(new SupersededError(event.wanted));
        this.#scale(event.wanted);
        break;
      case 'enlarge':
        this.#enlarge(event.wanted, event.request, now);
        break;
      case 'restart':
        this.#replace([event.worker], 'restart', { kind: 'one', request: event.request });
        break;
      case 'roll':
        this.#roll(event.request, active, event.exceptHeap, now);
        break;
      case 'refused':
        this.#refused(event.why, now);
        break;
      default:
        event satisfies never;
    }
  }

  /** Notes how many workers of the pool are up. */
  noteUp(up: number): void {
    if (this.#enlargement !== undefined && up >= this.#enlargement.to) this.#endEnlargement();
  }

  /** A worker of the pool has failed: an enlargement that it concerns has failed, too. */
  failed({ id, startedAt, readyAt, reason, failure }: WorkerRecord): void {
    const isShortOfMemory = reason === 'oom';
    if (this.#enlargement === undefined || (startedAt < this.#enlargement.since && !isShortOfMemory)) return;
    const { from, to } = this.#enlargement;
    const how = isShortOfMemory ? 'was killed for lack of memory' : readyAt === undefined ? 'failed to start' : 'crashed';
    const why = `worker ${id} ${how}: ${failure}`;
    this.#endEnlargement(new ScaleError(`${why}; the pool returns from ${to} to ${from} workers`));
    this.#emit({ event: 'pool.scale-failed', from: to, to: from, error: why });
    this.#wanted = from;
  }

  progress({ purpose }: Pick<Batch, 'purpose'>, text: string): void {
    if (purpose.request !== undefined) this.#push({ type: 'progress', request: purpose.request, text });
  }

  /** A replacement has ended; `error` where not all workers were replaced, or requests were lost. */
  replaced({ purpose, reason }: Pick<Batch, 'purpose' | 'reason'>, error: ReplacementError | undefined, now: number): void {
    switch (purpose.kind) {
      case 'own':
        if (error === undefined || this.#isStopping) return;
        // Requested again after this time.
        if (error instanceof ReplacementRefusedError) purpose.worker.refusedUntil = now + REFUSED_FOR_MS;
        this.#emit({ event: 'worker.replace-failed', worker: purpose.worker.id, reason, error: error.message });
        return;
      case 'one':
        if (error instanceof ReplacementRefusedError) this.#refused(error.message, now);
        break;
      case 'roll':
        this.#rolled(purpose.generation, error, now);
        break;
      default:
        purpose satisfies never;
    }
    this.#answer(purpose.request, error);
  }

  #scale(wanted: number): void {
    this.#emit({ event: 'pool.scale', from: this.#wanted, to: wanted });
    this.#wanted = wanted;
  }

  /**
   * An enlargement replaces one that is in progress. It ends when `to` workers are up, or at the first failure, when the pool
   * returns to its previous size. Keeping the workers that started would not be safe: if one failed for lack of memory, they use up
   * the rest.
   */
  #enlarge(to: number, request: number, now: number): void {
    const from = this.#enlargement?.from ?? this.#wanted;
    this.#endEnlargement(new SupersededError(to));
    this.#enlargement = { from, to, since: now, request };
    this.#scale(to);
  }

  /** Begins a generation. Workers that replace another one have started before, and are replaced, too. */
  #roll(request: number | undefined, active: readonly WorkerRecord[], exceptHeap: Heap | undefined, now: number): void {
    const outdated = active.filter(({ heap }) => exceptHeap === undefined || !isSameHeap(heap, exceptHeap));
    if (outdated.length === 0 && exceptHeap !== undefined) return;
    const generation = ++this.#generation;
    this.#emit({ event: 'pool.restart', generation, workers: outdated.length });
    const purpose: Purpose = { kind: 'roll', generation, request };
    if (outdated.length > 0 || this.#startsMissing) this.#replace(outdated, 'restart', purpose);
    else this.replaced({ purpose, reason: 'restart' }, new ReplacementError(NONE_UP), now);
  }

  #rolled(generation: number, error: ReplacementError | undefined, now: number): void {
    // Unless a later roll has begun meanwhile, or all workers were replaced.
    if (error !== undefined && this.#generation === generation && !(error instanceof RequestsLostError)) this.#generation--;
    if (error === undefined) {
      this.rolls.success++;
      this.#emit({ event: 'pool.restarted', generation: this.#generation });
    } else if (error instanceof AbandonedError) return;
    else if (error instanceof ReplacementRefusedError) this.#refused(error.message, now);
    else {
      this.rolls.failure++;
      this.#emit({ event: 'pool.restart-failed', generation: this.#generation, error: error.message });
    }
  }

  #refused(why: string, now: number): void {
    this.rolls.refused++;
    this.lastRefusal = { at: now, why };
    this.#emit({ event: 'pool.restart-refused', why });
  }

  #endEnlargement(error?: ScaleError): void {
    const request = this.#enlargement?.request;
    this.#enlargement = undefined;
    this.#answer(request, error);
  }

  #answer(request: number | undefined, error: Error | undefined): void {
    if (request !== undefined) this.#push({ type: 'answer', request, error });
  }

  #emit(event: LifecycleEvent): void {
    this.#push({ type: 'emit', event });
  }
}
