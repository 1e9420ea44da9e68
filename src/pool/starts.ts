/**
 * How many of the missing workers may start now, and from when on the pool counts as started. Pure, with the clock passed in
 * (milliseconds, monotonic).
 */
import type { Sizing } from '../protocol/api.ts';
import type { Failures } from './failures.ts';

/** At the start one worker has the CPUs to itself until it serves, for at most this long, so that the first answer comes sooner. */
const HEAD_START_MS = 250;
/** Forking blocks the primary: connections waiting for the first worker are handled before. */
const AFTER_FIRST_READY_MS = 20;
/**
 * At least this many start at the same time: while one waits for its database, the other one loads. Loading needs CPU: more starts
 * than CPUs would only share them until all time out, and would need the memory of all at once.
 */
const MIN_STARTS = 2;
/** One that takes longer waits for something, and leaves the CPU to others: two that hang do not keep a killed worker from being replaced. */
const LOADING_MS = 5000;

/** A snapshot of the pool. */
export interface Count {
  /** The workers that make up the wanted number. */
  pool: number;
  wanted: number;
  /** Those of the pool that are ready, or cordoned. */
  up: number;
  serving: number;
  /** The start times of workers that are not ready yet, replacements included. */
  starting: readonly number[];
}

export class Starts {
  readonly #failures: Failures;
  #max: number;
  #headStartUntil: number;
  #hasStarted = false;

  /** For a pool that begins to start at `now`. */
  constructor(failures: Failures, sizing: Pick<Sizing, 'cpus'>, now: number) {
    this.#failures = failures;
    this.#max = maxOf(sizing);
    this.#headStartUntil = now + HEAD_START_MS;
  }

  /** True once all wanted workers serve at the same time, or some do and the others have failed for `giveOthersMs`. */
  get hasStarted(): boolean {
    return this.#hasStarted;
  }

  /** Applies new limits. */
  resized(sizing: Pick<Sizing, 'cpus'>): void {
    this.#max = maxOf(sizing);
  }

  ready(now: number): void {
    this.#headStartUntil = Math.min(this.#headStartUntil, now + AFTER_FIRST_READY_MS);
    this.#failures.ready();
  }

  /** Has `start` start as many of the missing as may start now. */
  look({ pool, wanted, starting }: Count, now: number, start: () => void): void {
    let missing = Math.max(0, Math.min(wanted, now < this.#headStartUntil ? 1 : wanted) - pool);
    const loading = starting.filter(at => now - at < LOADING_MS).length;
    const count = Math.min(this.#failures.mayStart(missing, now), this.#max - loading);
    for (let started = 0; started < count; started++) {
      this.#failures.started(missing--);
      start();
    }
  }

  /** Records which workers serve; returns true once, when the pool has started. */
  note({ wanted, up, serving }: Count, now: number, giveOthersMs: number): boolean {
    if (up >= wanted) this.#failures.whole();
    if (this.#hasStarted) return false;
    // Either the last one is ready, or fewer are wanted.
    this.#hasStarted = serving >= wanted || (serving > 0 && now >= this.#startsWithoutAt(giveOthersMs));
    return this.#hasStarted;
  }

  /** When the next action is due by time alone. Waiting for a start to end needs no timer. */
  dueAt({ starting }: Pick<Count, 'starting'>, now: number, giveOthersMs: number): number {
    const { nextTryAt = now, startDeadlineAt = Number.POSITIVE_INFINITY } = this.#failures;
    const loaded = starting.map(at => at + LOADING_MS);
    const later = [nextTryAt, this.#headStartUntil, this.#startsWithoutAt(giveOthersMs), ...loaded].filter(at => at > now);
    return Math.min(startDeadlineAt, ...later);
  }

  #startsWithoutAt(giveOthersMs: number): number {
    const { failingSince } = this.#failures;
    return this.#hasStarted || failingSince === undefined ? Number.POSITIVE_INFINITY : failingSince + giveOthersMs;
  }
}

function maxOf({ cpus }: Pick<Sizing, 'cpus'>): number {
  return Math.max(MIN_STARTS, Math.ceil(cpus.effective));
}
