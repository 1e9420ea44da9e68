/**
 * Whether a worker's connections are brief: opened for one short request each, and hundreds of them a second. Pure: the time is passed in.
 */
import { FAST_MS } from './policy.ts';

const WINDOW_MS = 100;
/** Connections that are brief stay so up to this average: where several are accepted at once, each waits for the others. */
const STILL_BRIEF_MS = 2 * FAST_MS;
/** In a window. With fewer, each decision is affordable, and connections that stay open may be the ones that count. */
const MANY = 20;

/** Looks at the connections that ended in the last window of 100 ms. */
export class BriefConnections {
  #windowAt = 0;
  #ended = 0;
  #openMs = 0;
  #areBrief = false;

  /** A connection has ended at `now` that was open for `ms`. */
  add(ms: number, now: number): void {
    this.#next(now);
    this.#ended++;
    this.#openMs += ms;
  }

  /** Whether at least 20 ended in the last window, after less than 4 ms on average, or 8 ms where they were brief before. */
  areBrief(now: number): boolean {
    this.#next(now);
    return this.#areBrief;
  }

  #next(now: number): void {
    const passed = now - this.#windowAt;
    if (passed < WINDOW_MS) return;
    this.#areBrief =
      passed < 2 * WINDOW_MS && this.#ended >= MANY && this.#openMs < this.#ended * (this.#areBrief ? STILL_BRIEF_MS : FAST_MS);
    this.#windowAt = now;
    this.#ended = 0;
    this.#openMs = 0;
  }
}
