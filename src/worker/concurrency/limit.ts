/**
 * How many requests the app of a worker may handle at once: a limit that follows their latency, as in Netflix's concurrency-limits and Envoy's
 * adaptive concurrency filter. Pure: the time is passed in, in milliseconds.
 *
 * Every 200 ms the limit is multiplied by (expected latency ÷ measured latency), and its square root is added. What is expected of a route is
 * measured while less than half of the limit is used. While requests have to wait in every window, the limit is halved for a moment to measure
 * that (a probe): a downstream that has become slower for good does not keep the limit low.
 */
import { ExpectedLatencies } from './expected.ts';

/** Before anything is measured. It falls faster than it rises. */
const INITIAL_LIMIT = 50;
const MAX_STARTING_LIMIT = 1000;
export const MIN_LIMIT = 2;
export const MAX_LIMIT = 10_000;
/** So low a limit may rest on a wrong measurement, and a probe costs little. */
const LOW_LIMIT = 8;

export const WINDOW_MS = 200;
/** A window lasts until it has so many answers. */
const MIN_ANSWERS = 10;
/** A limit falls by half at most. */
const MIN_GRADIENT = 0.5;
/** So much above the expected latency is not overload: Envoy's buffer of 25 %, and some time that requests wait for the event loop. */
const TOLERANCE = 1.25;
const TOLERANCE_MS = 2;

/** After so many windows in which requests waited a probe begins; then, as long as probes change nothing, each time after twice as many. */
const WINDOWS_BEFORE_PROBE = 5;
const MAX_WINDOWS_BEFORE_PROBE = 50;
/** A probe lets so many requests begin. */
const PROBE_REQUESTS = 10;
/** It lasts at most twice as long as they need. */
const PROBE_PATIENCE = 2;
const MAX_PROBE_MS = 5000;
/** A probe that changes what is expected by less changes nothing. */
const PROBE_AGREES = 1.2;

/** A request that the app has not answered by then waits for something else, as long polls do: it no longer counts. */
export const MAX_LATENCY_MS = 10_000;

/** A request that the app handles. */
export interface Handled {
  /** Called once, when it is answered. */
  readonly routeOf: () => string;
  /** When its time began; undefined while its body arrives. */
  since: number | undefined;
  /** At most half of the limit was used when it began. */
  isUnloaded: boolean;
  /** It began during a probe. */
  isProbe: boolean;
  /** The number of times that the limit had fallen. */
  falls: number;
}

export class ConcurrencyLimit {
  readonly #expected = new ExpectedLatencies();
  #limit: number;
  /** Those that count as in flight, oldest first. */
  readonly #inFlight = new Set<Handled>();
  /** The most of them at once in this window. */
  #peak = 0;
  #falls = 0;
  /** Of the answers in this window. */
  #measuredMs = 0;
  #expectedMs = 0;
  #answers = 0;
  /** A request had to wait in this window. */
  #hasWaiting = false;
  #windowsWithWaiting = 0;
  #windowsBeforeProbe = WINDOWS_BEFORE_PROBE;
  #probe: { left: number; until: number } | undefined;
  /** Of all answers, over about the last window. */
  #latencyMs = 0;

  constructor(limit = INITIAL_LIMIT) {
    this.#limit = limit;
  }

  get limit(): number {
    const limit = this.#probe === undefined ? this.#limit : this.#limit / 2;
    return Math.max(MIN_LIMIT, Math.floor(limit));
  }

  get inFlight(): number {
    return this.#inFlight.size;
  }

  /** Mean latency of the last window with answers, in milliseconds. */
  get latencyMs(): number {
    return this.#latencyMs;
  }

  /** Whether a request has to wait. */
  get isFull(): boolean {
    return this.inFlight >= this.limit;
  }

  /** To be called when a request has to wait. */
  onWaiting(): void {
    this.#hasWaiting = true;
  }

  /** The app gets a request; `since` is when it could have. */
  begin(routeOf: () => string, since: number): Handled {
    const handled: Handled = {
      routeOf,
      since,
      isUnloaded: false,
      isProbe: false,
      falls: this.#falls,
    };
    this.resume(handled, since);
    return handled;
  }

  /** It waits for its client, and does not count meanwhile. */
  suspend(handled: Handled): void {
    this.release(handled);
    handled.since = undefined;
  }

  /** The client has sent the rest. */
  resume(handled: Handled, now: number): void {
    handled.since = now;
    handled.falls = this.#falls;
    this.#inFlight.add(handled);
    this.#peak = Math.max(this.#peak, this.inFlight);
    handled.isUnloaded = this.inFlight <= Math.max(MIN_LIMIT, this.#limit / 2);
    if (this.#probe === undefined || !handled.isUnloaded) return;
    handled.isProbe = true;
    if (--this.#probe.left === 0) this.#endProbe();
  }

  /** The app has begun to answer. Of an error, or where the client has left, the time counts only if it is long. */
  answered(handled: Handled, isGood: boolean, now: number): void {
    const { since, isUnloaded, isProbe, falls } = handled;
    if (since === undefined) return;
    const latencyMs = Math.min(MAX_LATENCY_MS, now - since);
    handled.since = undefined;
    const expected = this.#expected.get(handled.routeOf(), now);
    const { ms } = expected;
    if (!isGood && !(ms !== undefined && latencyMs > ms)) return;
    if (isGood && isProbe) this.#onProbed(expected.addProbed(latencyMs, now));
    else if (isGood && isUnloaded) expected.addUnloaded(latencyMs, now);
    // What began before the limit fell says nothing about the new one.
    if (ms === undefined || falls !== this.#falls) return;
    this.#measuredMs += expected.bounded(latencyMs);
    this.#expectedMs += ms;
    this.#answers++;
  }

  /** It no longer counts as in flight. */
  release(handled: Handled): void {
    this.#inFlight.delete(handled);
  }

  /** To be called every WINDOW_MS. */
  tick(now: number): void {
    this.#expire(now);
    if (this.#probe !== undefined) {
      if (now >= this.#probe.until) this.#endProbe();
      return;
    }
    const isUsed = this.#peak >= this.#limit / 2;
    if (this.#answers >= MIN_ANSWERS) {
      this.#latencyMs = this.#measuredMs / this.#answers;
      if (isUsed) this.#follow();
    } else if (this.#answers === 0) this.#limit += this.#startingRise;
    if (this.#hasWaiting) this.#windowsWithWaiting++;
    this.#hasWaiting = false;
    if (this.#answers >= MIN_ANSWERS || !isUsed) this.#beginWindow();
    if (this.#windowsWithWaiting >= this.#windowsBeforeProbe) this.#beginProbe(now);
  }

  /** Requests that the app does not answer must not hold their places for ever. */
  #expire(now: number): void {
    for (const handled of this.#inFlight) {
      if (handled.since === undefined) continue;
      if (now - handled.since < MAX_LATENCY_MS) return;
      this.answered(handled, true, now);
      this.release(handled);
    }
  }

  /** Until it falls for the first time, a limit above which requests wait doubles: a new worker must not turn away what the one before it handled. */
  get #startingRise(): number {
    return this.#falls === 0 && this.#hasWaiting ? Math.max(0, Math.min(this.#limit, MAX_STARTING_LIMIT - this.#limit)) : 0;
  }

  #follow(): void {
    const expectedMs = TOLERANCE * this.#expectedMs + TOLERANCE_MS * this.#answers;
    const gradient = Math.max(MIN_GRADIENT, Math.min(1, expectedMs / this.#measuredMs));
    const headroom = gradient < 1 ? Math.sqrt(this.#limit) : Math.max(Math.sqrt(this.#limit), this.#startingRise);
    const next = Math.max(MIN_LIMIT, Math.min(MAX_LIMIT, this.#limit * gradient + headroom));
    if (next < this.#limit) this.#falls++;
    this.#limit = next;
  }

  #beginWindow(): void {
    this.#measuredMs = 0;
    this.#expectedMs = 0;
    this.#answers = 0;
    this.#peak = this.inFlight;
  }

  #beginProbe(now: number): void {
    this.#windowsWithWaiting = 0;
    this.#windowsBeforeProbe = Math.min(MAX_WINDOWS_BEFORE_PROBE, 2 * this.#windowsBeforeProbe);
    if (this.#limit <= LOW_LIMIT) this.#windowsBeforeProbe = WINDOWS_BEFORE_PROBE;
    this.#probe = { left: PROBE_REQUESTS, until: 0 };
    const ms = PROBE_PATIENCE * this.#latencyMs * (1 + PROBE_REQUESTS / this.limit);
    this.#probe.until = now + Math.min(MAX_PROBE_MS, Math.max(WINDOW_MS, ms));
  }

  #endProbe(): void {
    this.#probe = undefined;
    this.#beginWindow();
  }

  /** Ends a probe as soon as enough requests have begun, and probes again soon if it has changed something. */
  #onProbed(factor: number | undefined): void {
    if (factor === undefined || (factor < PROBE_AGREES && factor > 1 / PROBE_AGREES)) return;
    this.#windowsBeforeProbe = WINDOWS_BEFORE_PROBE;
  }
}
