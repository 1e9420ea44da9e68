/**
 * An enlargement of the pool by an operator: it ends when all workers serve, or at the first failure, when the pool returns to its
 * previous size. Keeping the workers that started would not be safe: if one failed for lack of memory, they use up the rest.
 */
import type { WorkerProcess } from './worker-process.ts';

/** The pool does not have the requested number of workers; the message has the reason. */
export class ScaleError extends Error {
  override readonly name: string = 'ScaleError';
}

/** Another number is wanted now: the earlier request is superseded. */
export class SupersededError extends ScaleError {}

/** A worker that ended unexpectedly. */
type Failed = Pick<WorkerProcess, 'id' | 'startedAt' | 'readyAt' | 'reason' | 'failure'>;

interface Current {
  from: number;
  to: number;
  since: number;
  done: PromiseWithResolvers<void>;
}

export class Enlargement {
  #current: Current | undefined;

  /**
   * Begins one at `now`; it takes the place of one that is under way.
   * @returns resolves when `to` workers are up @throws ScaleError
   */
  async begin(from: number, to: number, now: number): Promise<void> {
    const before = this.#current;
    const done = Promise.withResolvers<void>();
    this.#current = { from: before?.from ?? from, to, since: now, done };
    before?.done.reject(superseded(to));
    return done.promise;
  }

  /** Another number is wanted now. */
  supersede(wanted: number): void {
    this.#end()?.done.reject(superseded(wanted));
  }

  /** Nothing is started any more. */
  stop(): void {
    this.#end()?.done.reject(new ScaleError('the pod is draining'));
  }

  /** So many workers of the pool are up. */
  look(up: number): void {
    if (this.#current !== undefined && up >= this.#current.to) this.#end()?.done.resolve();
  }

  /**
   * A worker of the pool has failed.
   * @returns the number of workers to return to, and why; undefined if the failure does not concern an enlargement
   */
  failed({ id, startedAt, readyAt, reason, failure }: Failed): { wanted: number; why: string } | undefined {
    const isShortOfMemory = reason === 'oom';
    if (this.#current === undefined || (startedAt < this.#current.since && !isShortOfMemory)) return undefined;
    const { from, to, done } = this.#current;
    this.#current = undefined;
    const how = isShortOfMemory ? 'was killed for lack of memory' : readyAt === undefined ? 'failed to start' : 'crashed';
    const why = `worker ${id} ${how}: ${failure}`;
    done.reject(new ScaleError(`${why}; the pool returns from ${to} to ${from} workers`));
    return { wanted: from, why };
  }

  #end(): Current | undefined {
    const current = this.#current;
    this.#current = undefined;
    return current;
  }
}

function superseded(wanted: number): SupersededError {
  return new SupersededError(`superseded: the wanted number is now ${wanted} workers`);
}
