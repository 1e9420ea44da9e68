/**
 * When missing workers may start, and when the primary gives up. Pure, with the clock passed in (milliseconds, monotonic).
 * The rules for workers that fail:
 *
 * - Before any worker has served, an error that a retry cannot fix ends the start at once, and any other after START_TIMEOUT_MS.
 * - Afterwards failed starts only back off, as long as any worker serves.
 * - The primary gives up when more than RESTART_INTENSITY workers failed within RESTART_PERIOD_MS, none is up, and none has served for 10 s
 *   without a break in the last 10 s.
 * - Under `bosun dev` none of these holds: a worker that failed is missing until the next reload.
 */
import type { Config } from '../config/config.ts';
import { type ExitReason, isCrash, isFailure } from '../protocol/exit.ts';
import type { Sizing } from '../protocol/sizing.ts';

/** The first failure costs no time; then 0.1 s, doubled up to 5 s. */
const BACKOFF_FIRST_MS = 100;
const BACKOFF_MAX_MS = 5000;
/** A worker that has served this long is stable: its failure starts a new series of back-offs. */
const STABLE_AFTER_MS = 10_000;

type Limits = Pick<Config, 'restartIntensity' | 'restartPeriodMs' | 'startTimeoutMs' | 'dev'>;

/** The times of a worker that matter here. */
export interface WorkerTimes {
  readonly startedAt: number;
  readonly readyAt: number | undefined;
}

/** A worker that has ended, or is about to. */
export interface EndedWorker extends WorkerTimes {
  readonly reason: ExitReason | undefined;
  /** It reported that a retry would fail in the same way. */
  readonly isPermanent: boolean;
}

/** Why the primary gives up: a first start that can't succeed, one that took longer than START_TIMEOUT_MS, or RESTART_INTENSITY. */
export type GiveUpReason = 'permanent' | 'start-timeout' | 'crash-loop';

export type Verdict =
  /** Nothing failed, or nothing that delays the next start. */
  | { kind: 'go-on' }
  /** The next start waits. */
  | { kind: 'back-off'; ms: number }
  | { kind: 'give-up'; why: GiveUpReason };

const GO_ON: Verdict = { kind: 'go-on' };

/** Whether this worker ended unexpectedly before it was ready. */
export function isFailedStart({ readyAt, reason }: Pick<EndedWorker, 'readyAt' | 'reason'>): boolean {
  return readyAt === undefined && isFailure(reason);
}

export class Failures {
  limits: Limits;
  readonly #since: number;
  readonly #counted = new WeakSet<EndedWorker>();
  #hasServed = false;
  #inARow = 0;
  #lastFailedAt = Number.NEGATIVE_INFINITY;
  #nextStartAt = 0;
  /** Missing workers that failed to start, or failed soon after: they come back one at a time. */
  #heldBack = 0;
  #isTrying = false;
  #failedAt: number[] = [];
  #killedAt: number[] = [];
  /** More than RESTART_INTENSITY failures within the period, and no worker was stable since. */
  #isSpent = false;
  #stableUntil: number;
  #failingSince: number | undefined;

  /** For a pool that begins to start at `now`. */
  constructor(limits: Limits, now: number) {
    this.limits = limits;
    this.#since = now;
    this.#stableUntil = now;
  }

  /** Replacements, which are no missing workers, are not to be started before. */
  get nextStartAt(): number {
    return this.#nextStartAt;
  }

  get failuresInARow(): number {
    return this.#inARow;
  }

  /** Since when workers fail: the start of the first one since all wanted workers served; undefined where none has failed. */
  get failingSince(): number | undefined {
    return this.#failingSince;
  }

  /** The deadline of a failing first start; undefined if nothing has failed, or a worker has served. */
  get startDeadlineAt(): number | undefined {
    return this.#hasServed || this.#inARow === 0 || this.#waitsForReload ? undefined : this.#since + this.limits.startTimeoutMs;
  }

  get #waitsForReload(): boolean {
    return this.limits.dev !== undefined;
  }

  /** `bosun dev` has seen a change: workers that failed may start. */
  reload(): void {
    if (this.#waitsForReload) this.#heldBack = 0;
  }

  /** A worker serves: the next worker that is held back may start after its back-off. */
  ready(): void {
    this.#hasServed = true;
    this.#isTrying = false;
  }

  /** All wanted workers serve. */
  whole(): void {
    this.#failingSince = undefined;
    this.#heldBack = 0;
  }

  /** How many of the `missing` workers may start now. */
  mayStart(missing: number, now: number): number {
    const heldBack = Math.min(this.#heldBack, missing);
    const isTryDue = heldBack > 0 && !this.#isTrying && now >= this.#nextStartAt && !this.#waitsForReload;
    return missing - heldBack + (isTryDue ? 1 : 0);
  }

  /** One of the `missing` workers was started, as `mayStart` allowed. */
  started(missing: number): void {
    if (this.#heldBack < missing) return;
    this.#heldBack--;
    this.#isTrying = true;
  }

  /** When the next worker that is held back may start; undefined if none is, or an attempt is running. */
  get nextTryAt(): number | undefined {
    return this.#heldBack > 0 && !this.#isTrying && !this.#waitsForReload ? this.#nextStartAt : undefined;
  }

  /**
   * Counts the end of a worker, once: a crash is announced and then seen as an exit.
   * @param isMissing false for a worker that ran beside the one it was to replace
   * @param up the workers that are ready, or cordoned
   */
  ended(worker: EndedWorker, isMissing: boolean, up: readonly WorkerTimes[], now: number): Verdict {
    if ([worker, ...up].some(other => isStable(other, now))) {
      this.#stableUntil = now;
      this.#isSpent = false;
    }
    if (worker.readyAt === undefined) this.#isTrying = false;
    if (this.#counted.has(worker)) return GO_ON;
    if (worker.reason === 'killed' && worker.readyAt !== undefined) return this.#killed(worker, isMissing, up, now);
    if (!isCrash(worker.reason) && !isFailedStart(worker)) return GO_ON;
    this.#counted.add(worker);
    this.#failingSince ??= worker.readyAt === undefined ? worker.startedAt : now;
    if (this.#waitsForReload) {
      if (isMissing) this.#heldBack++;
      return GO_ON;
    }
    const backOff = this.#backOff(worker, isMissing, up, now);
    this.#failedAt = [...this.#failedAt.filter(at => now - at < this.limits.restartPeriodMs), now];
    if (this.#failedAt.length > this.limits.restartIntensity) this.#isSpent = true;
    if (!this.#hasServed) return this.#firstStart(worker, now) ?? backOff;
    if (this.#isSpent && up.length === 0 && now - this.#stableUntil >= STABLE_AFTER_MS)
      return { kind: 'give-up', why: 'crash-loop' };
    return backOff;
  }

  /** Replaced at once, except workers that are repeatedly killed soon after they began to serve. */
  #killed(worker: EndedWorker, isMissing: boolean, up: readonly WorkerTimes[], now: number): Verdict {
    if (isStable(worker, now)) return GO_ON;
    this.#counted.add(worker);
    this.#killedAt = [...this.#killedAt.filter(at => now - at < this.limits.restartPeriodMs), now];
    if (this.#killedAt.length <= this.limits.restartIntensity) return GO_ON;
    return this.#backOff(worker, isMissing, up, now);
  }

  #firstStart({ isPermanent }: EndedWorker, now: number): Verdict | undefined {
    if (isPermanent) return { kind: 'give-up', why: 'permanent' };
    return now - this.#since >= this.limits.startTimeoutMs ? { kind: 'give-up', why: 'start-timeout' } : undefined;
  }

  #backOff(worker: EndedWorker, isMissing: boolean, up: readonly WorkerTimes[], now: number): Verdict {
    // The pool shares its memory: for each worker that starts, the kernel may kill one that did nothing wrong.
    const isShortOfMemory = worker.reason === 'oom' && now - this.#lastFailedAt < STABLE_AFTER_MS;
    // This worker or a later one was stable: earlier failures no longer count.
    const isOver = isStable(worker, now) || up.some(other => other.startedAt > this.#lastFailedAt && isStable(other, now));
    this.#inARow = isOver && !isShortOfMemory ? 1 : this.#inARow + 1;
    this.#lastFailedAt = now;
    const ms = this.#inARow === 1 ? 0 : Math.min(BACKOFF_FIRST_MS * 2 ** (this.#inARow - 2), BACKOFF_MAX_MS);
    this.#nextStartAt = now + ms;
    if (ms === 0) return GO_ON;
    if (isMissing) this.#heldBack++;
    return { kind: 'back-off', ms };
  }
}

function isStable({ readyAt }: WorkerTimes, now: number): boolean {
  return readyAt !== undefined && now - readyAt >= STABLE_AFTER_MS;
}

/** At the start one worker has the CPUs to itself until it serves, for at most this long, so that the first answer comes sooner. */
const HEAD_START_MS = 250;
/** Forking blocks the primary: connections waiting for the first worker are handled before. */
const AFTER_FIRST_READY_MS = 20;
/**
 * At least this many start at the same time: while one waits for its database, the other one loads. Loading needs CPU: more starts
 * than CPUs would only share them until all time out, and would need the memory of all at once.
 */
const MIN_STARTS = 2;
/** A start that takes longer waits for something, and no longer counts as loading: hanging starts do not delay a replacement. */
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

/** How many of the missing workers may start now, and from when on the pool counts as started. */
export class Starts {
  readonly #failures: Failures;
  #maxLoading: number;
  #headStartUntil: number;
  #hasStarted = false;

  /** For a pool that begins to start at `now`. */
  constructor(failures: Failures, sizing: Pick<Sizing, 'cpus'>, now: number) {
    this.#failures = failures;
    this.#maxLoading = maxLoadingOf(sizing);
    this.#headStartUntil = now + HEAD_START_MS;
  }

  /** True once all wanted workers serve at the same time, or some do and the others have failed for `giveOthersMs`. */
  get hasStarted(): boolean {
    return this.#hasStarted;
  }

  resized(sizing: Pick<Sizing, 'cpus'>): void {
    this.#maxLoading = maxLoadingOf(sizing);
  }

  ready(now: number): void {
    this.#headStartUntil = Math.min(this.#headStartUntil, now + AFTER_FIRST_READY_MS);
    this.#failures.ready();
  }

  /** The number of missing workers that start now; they count as started. */
  take({ pool, wanted, starting }: Count, now: number): number {
    const missing = Math.max(0, Math.min(wanted, now < this.#headStartUntil ? 1 : wanted) - pool);
    const loading = starting.filter(at => now - at < LOADING_MS).length;
    const count = Math.max(0, Math.min(this.#failures.mayStart(missing, now), this.#maxLoading - loading));
    for (let started = 0; started < count; started++) this.#failures.started(missing - started);
    return count;
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

function maxLoadingOf({ cpus }: Pick<Sizing, 'cpus'>): number {
  return Math.max(MIN_STARTS, Math.ceil(cpus.effective));
}
