/**
 * Whom not to wait for: a worker that was rung for and says nothing, though it looks better off on the board.
 */
import type { Entry } from './scoreboard.ts';

/** How long it is not waited for; doubled while it says nothing. */
const SHORTEST_MS = 50;
const LONGEST_MS = 2000;

interface Distrusted {
  sequence: number;
  forMs: number;
  until: number;
}

export class Distrust {
  readonly #distrusted = new Map<number, Distrusted>();
  /** Of the last look: who had said what. */
  #seen = new Map<number, number>();

  remember(entries: readonly Entry[]): void {
    this.#seen = new Map(entries.map(({ id, sequence }) => [id, sequence]));
  }

  /** Those that have said nothing since the last look. */
  silentAmong(entries: readonly Entry[]): Entry[] {
    return entries.filter(({ id, sequence }) => this.#seen.get(id) === sequence);
  }

  add({ id, sequence }: Entry, now: number): void {
    const before = this.#distrusted.get(id);
    const forMs = before?.sequence === sequence ? Math.min(LONGEST_MS, before.forMs * 2) : SHORTEST_MS;
    this.#distrusted.set(id, { sequence, forMs, until: now + forMs });
  }

  trusts({ id, sequence }: Entry, now: number): boolean {
    const distrusted = this.#distrusted.get(id);
    return distrusted === undefined || distrusted.sequence !== sequence || now >= distrusted.until;
  }
}
