/**
 * How long to wait before the next connection after a fault that a new connection may or may not fix: the first time not at all, then
 * longer each time.
 */

const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 5000;
/** After this long without a fault the next one counts as the first. */
const FORGET_AFTER_MS = 60_000;

export class Backoff {
  readonly #now: () => number;
  readonly #random: () => number;
  #faults = 0;
  #lastAt = Number.NEGATIVE_INFINITY;

  /** `now` is a monotonic clock in milliseconds. */
  constructor(now: () => number = () => performance.now(), random: () => number = Math.random) {
    this.#now = now;
    this.#random = random;
  }

  /** Call it for each fault. @returns milliseconds */
  next(): number {
    if (this.#now() - this.#lastAt > FORGET_AFTER_MS) this.#faults = 0;
    this.#lastAt = this.#now();
    const fault = this.#faults++;
    if (fault === 0) return 0;
    // Spread out: many workers have the same fault at the same moment.
    return Math.min(FIRST_WAIT_MS * 2 ** (fault - 1), LONGEST_WAIT_MS) * (0.5 + this.#random() / 2);
  }
}
