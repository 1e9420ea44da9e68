/**
 * What each route of the app takes while the worker has little to do: the latency that the limit compares with. Routes with 1 ms and with 2 s are
 * each compared with themselves. Pure: no clock, no request.
 */

/** The rest counts as one route. */
const MAX_ROUTES = 100;
/** A route that has had no request for so long makes room for others. */
const UNUSED_MS = 60_000;
const OTHERS = 'all others';

/** What is expected is the mean of the first answers, and then follows blocks of them. */
const BLOCK = 20;
const BLOCK_WEIGHT = 0.1;
/** How fast a route may become slower, per second: a downstream that becomes overloaded does so faster. */
const MAX_RISE_PER_SECOND = 0.1;
/** So many answers at half of the limit replace what is known. */
const PROBE_BLOCK = 10;
/** A slow answer counts as this many times the usual at most. */
const MAX_RATIO = 10;

/** Of one route. */
export class ExpectedLatency {
  #ms: number | undefined;
  #changedAt: number;
  #sumMs = 0;
  #count = 0;
  #probedSumMs = 0;
  #probedCount = 0;
  usedAt: number;

  constructor(now: number) {
    this.#changedAt = now;
    this.usedAt = now;
  }

  /** Mean latency while less than half of the limit is used, in milliseconds; undefined before there were enough answers. */
  get ms(): number | undefined {
    return this.#ms;
  }

  /** What a latency counts as: a single one must not decide. */
  bounded(latencyMs: number): number {
    return this.#ms === undefined ? latencyMs : Math.min(latencyMs, Math.max(1, this.#ms) * MAX_RATIO);
  }

  /** Adds a latency that was measured while less than half of the limit was used. */
  addUnloaded(latencyMs: number, now: number): void {
    this.#sumMs += this.bounded(latencyMs);
    this.#count++;
    if (this.#count < BLOCK) return;
    const mean = this.#sumMs / this.#count;
    this.#sumMs = 0;
    this.#count = 0;
    if (this.#ms === undefined) this.#ms = mean;
    else {
      const rise = 1 + (MAX_RISE_PER_SECOND * (now - this.#changedAt)) / 1000;
      const next = this.#ms + BLOCK_WEIGHT * (mean - this.#ms);
      this.#ms = Math.min(next, this.#ms * rise);
    }
    this.#changedAt = now;
  }

  /**
   * Adds a latency of a probe (limit.ts).
   * @returns the factor by which the expected latency has changed; undefined while more answers are needed
   */
  addProbed(latencyMs: number, now: number): number | undefined {
    this.#probedSumMs += latencyMs;
    if (++this.#probedCount < PROBE_BLOCK) return undefined;
    const mean = this.#probedSumMs / this.#probedCount;
    const factor = mean / (this.#ms ?? mean);
    this.#probedSumMs = 0;
    this.#probedCount = 0;
    this.#ms = mean;
    this.#changedAt = now;
    return factor;
  }
}

/** Of all routes. */
export class ExpectedLatencies {
  readonly #byRoute = new Map<string, ExpectedLatency>();
  #sweptAt = 0;

  /** That of a route, which is new unless the table is full. */
  get(route: string, now: number): ExpectedLatency {
    const known = this.#byRoute.get(route);
    if (known !== undefined) {
      known.usedAt = now;
      return known;
    }
    if (this.#byRoute.size < MAX_ROUTES) return this.#add(route, now);
    if (now - this.#sweptAt >= UNUSED_MS) {
      this.#sweptAt = now;
      for (const [each, { usedAt }] of this.#byRoute) if (now - usedAt >= UNUSED_MS) this.#byRoute.delete(each);
    }
    return this.#byRoute.get(OTHERS) ?? this.#add(OTHERS, now);
  }

  #add(route: string, now: number): ExpectedLatency {
    const expected = new ExpectedLatency(now);
    this.#byRoute.set(route, expected);
    return expected;
  }
}
