/**
 * When a worker logs that it turns requests away: once at the beginning, and once when it has not for a minute. Pure.
 */

const QUIET_MS = 60_000;

/** Since it began. */
export interface EpisodeEnd {
  rejected: number;
  seconds: number;
}

export class Episode {
  #startedAt: number | undefined;
  #lastAt = 0;
  #rejected = 0;

  /** A request was turned away. Returns whether that begins an episode. */
  add(now: number): boolean {
    const isFirst = this.#startedAt === undefined;
    if (isFirst) this.#rejected = 0;
    this.#startedAt ??= now;
    this.#lastAt = now;
    this.#rejected++;
    return isFirst;
  }

  /** Returns what has ended; undefined if nothing has. */
  endedBy(now: number): EpisodeEnd | undefined {
    if (this.#startedAt === undefined || now - this.#lastAt < QUIET_MS) return undefined;
    const seconds = Math.round((this.#lastAt - this.#startedAt) / 100) / 10;
    this.#startedAt = undefined;
    return { rejected: this.#rejected, seconds };
  }
}
