/**
 * What an operator who asked for more workers is waiting for: all of them serve, or at the first failure the pool goes back to the number
 * that it had. It would not be safe to keep those that came up: where one has failed for lack of memory, they have taken the rest.
 */

/** The pool has not the number of workers that was asked for, and the message says why. */
export class ScaleError extends Error {
  override readonly name: string = 'ScaleError';
}

/** Another number is wanted: what was asked for before is over. */
export class SupersededError extends ScaleError {}

interface Current {
  from: number;
  to: number;
  done: PromiseWithResolvers<void>;
}

export class Enlargement {
  #current: Current | undefined;

  /**
   * Begins one; it takes the place of one that is under way.
   * @returns resolves when `to` workers are up @throws ScaleError
   */
  async begin(from: number, to: number): Promise<void> {
    const before = this.#current;
    const done = Promise.withResolvers<void>();
    this.#current = { from: before?.from ?? from, to, done };
    before?.done.reject(superseded(to));
    return done.promise;
  }

  /** Another number is wanted now. */
  supersede(wanted: number): void {
    this.#end()?.done.reject(superseded(wanted));
  }

  /** Nothing is started any more. */
  stop(): void {
    this.#end()?.done.reject(new ScaleError('the pod drains'));
  }

  /** So many workers of the pool are up. */
  look(up: number): void {
    if (this.#current !== undefined && up >= this.#current.to) this.#end()?.done.resolve();
  }

  /** A worker failed. @returns the number of workers to go back to; undefined where there is nothing to take back */
  failed(why: string): number | undefined {
    const ended = this.#end();
    ended?.done.reject(new ScaleError(`${why}; the pool goes back from ${ended.to} to ${ended.from} workers`));
    return ended?.from;
  }

  #end(): Current | undefined {
    const current = this.#current;
    this.#current = undefined;
    return current;
  }
}

function superseded(wanted: number): SupersededError {
  return new SupersededError(`another number is wanted meanwhile: ${wanted} workers`);
}
