/**
 * Counts the pool's generations: each rolling restart makes one, and a failed one gives its number back.
 */
import type { LogSource } from '../../log.ts';

export class Generations {
  readonly #log: LogSource;
  /** Rolling restarts so far. */
  readonly rolls = { success: 0, failure: 0 };
  #current = 1;

  constructor(log: LogSource) {
    this.#log = log;
  }

  get current(): number {
    return this.#current;
  }

  /** The next generation, for which `replace` replaces `workers` workers. @throws what `replace` throws */
  async next(workers: number, replace: () => Promise<void>): Promise<void> {
    const before = this.#current++;
    const generation = this.#current;
    this.#log().info({ event: 'pool.restart', generation, workers });
    try {
      await replace();
      this.rolls.success++;
      this.#log().info({ event: 'pool.restarted', generation: this.#current });
    } catch (error) {
      this.rolls.failure++;
      // Unless a later roll has begun meanwhile.
      if (this.#current === generation) this.#current = before;
      this.#log().error({ event: 'pool.restart-failed', generation: before, error: (error as Error).message });
      throw error;
    }
  }
}
