/**
 * The requests that wait until the app may have them, first come, first served. A burst may wait for half a second. Where requests have kept waiting for
 * longer than that, the app is overloaded: more than half of the time that an answer takes would only make every answer late (as in CoDel). Pure.
 */

export const MAX_WAIT_MS = 500;
export const MIN_WAIT_MS = 10;
/** A burst is over once no request has waited for so long. */
const BURST_OVER_MS = 500;
/** Of the limit. */
const MAX_QUEUED_LIMITS = 10;
const MAX_QUEUED = 1000;

export class Waiting<Item> {
  /** With the time since which each waits, oldest first. */
  readonly #items = new Map<Item, number>();
  /** The first of the requests that have kept waiting. */
  #startedAt = Number.NEGATIVE_INFINITY;
  #lastAt = Number.NEGATIVE_INFINITY;

  get size(): number {
    return this.#items.size;
  }

  /** Returns false if too many wait already. */
  add(item: Item, limit: number, now: number): boolean {
    if (this.#items.size === 0 && now - this.#lastAt > BURST_OVER_MS) this.#startedAt = now;
    this.#lastAt = now;
    if (this.#items.size >= Math.min(MAX_QUEUED, MAX_QUEUED_LIMITS * limit)) return false;
    this.#items.set(item, now);
    return true;
  }

  delete(item: Item): void {
    this.#items.delete(item);
  }

  /** How long a request may wait, where an answer takes `latencyMs`. */
  maxWaitMs(latencyMs: number, now: number): number {
    if (now - this.#startedAt <= MAX_WAIT_MS) return MAX_WAIT_MS;
    return Math.min(MAX_WAIT_MS, Math.max(MIN_WAIT_MS, latencyMs / 2));
  }

  /** Removes and returns the first one; undefined if none waits. */
  take(): Item | undefined {
    const [first] = this.#items.keys();
    if (first !== undefined) this.#items.delete(first);
    return first;
  }

  /** Removes and returns those that have waited for `maxMs` or longer. */
  takeOverdue(maxMs: number, now: number): Item[] {
    const overdue: Item[] = [];
    for (const [item, since] of this.#items) {
      if (now - since < maxMs) break;
      this.#items.delete(item);
      overdue.push(item);
    }
    return overdue;
  }
}
