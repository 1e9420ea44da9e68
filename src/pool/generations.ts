/**
 * Counts the pool's generations: each rolling restart makes one, and a failed one gives its number back.
 */
import type { Emit } from '../protocol/events.ts';
import { ReplacementRefusedError, RequestsLostError } from './replacer.ts';

/** A refused restart: every worker went on. */
export interface Refusal {
  /** Milliseconds since the epoch. */
  at: number;
  why: string;
}

export class Generations {
  readonly #emit: Emit;
  /** Rolling restarts so far. */
  readonly rolls = { success: 0, failure: 0, refused: 0 };
  lastRefusal: Refusal | undefined;
  #current = 1;

  constructor(emit: Emit) {
    this.#emit = emit;
  }

  get current(): number {
    return this.#current;
  }

  /** The next generation, for which `replace` replaces `workers` workers. @throws what `replace` throws */
  async next(workers: number, replace: () => Promise<void>): Promise<void> {
    const before = this.#current++;
    const generation = this.#current;
    this.#emit({ event: 'pool.restart', generation, workers });
    try {
      await replace();
      this.rolls.success++;
      this.#emit({ event: 'pool.restarted', generation: this.#current });
    } catch (error) {
      // Unless a later roll has begun meanwhile, or all workers were replaced.
      if (this.#current === generation && !(error instanceof RequestsLostError)) this.#current = before;
      const { message } = error as Error;
      if (error instanceof ReplacementRefusedError) this.refused(message);
      else {
        this.rolls.failure++;
        this.#emit({ event: 'pool.restart-failed', generation: this.#current, error: message });
      }
      throw error;
    }
  }

  /** Records a restart that was refused. */
  refused(why: string): void {
    this.rolls.refused++;
    this.lastRefusal = { at: Date.now(), why };
    this.#emit({ event: 'pool.restart-refused', why });
  }
}
