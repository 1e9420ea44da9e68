/**
 * How often workers may crash: the waiting time before the next attempt, and the point where to give up (as Erlang's supervisors do).
 */
import type { Config } from '../../config.ts';
import type { ExitReason } from '../../messages.ts';
import type { WorkerHandle } from './worker-handle.ts';

/** The exits that are failures of the app, and count against RESTART_INTENSITY. Somebody's `kill` is none. */
const FAILURES: ReadonlySet<ExitReason> = new Set(['crash', 'oom', 'hung', 'start-timeout']);

/** The first failure costs no time; then 0.1 s, doubled up to 5 s. A worker that stayed up this long begins a new row. */
const BACKOFF_FIRST_MS = 100;
const BACKOFF_LONGEST_MS = 5000;
const STABLE_AFTER_MS = 10_000;

export function isFailure(reason: ExitReason | undefined): boolean {
  return reason !== undefined && FAILURES.has(reason);
}

export class CrashBudget {
  limits: Pick<Config, 'restartIntensity' | 'restartPeriodMs'>;
  readonly #counted = new WeakSet<WorkerHandle>();
  #inARow = 0;
  #failedAt: number[] = [];
  #nextForkAt = 0;

  constructor(limits: Pick<Config, 'restartIntensity' | 'restartPeriodMs'>) {
    this.limits = limits;
  }

  /** No worker is to be started before. */
  get nextForkAt(): number {
    return this.#nextForkAt;
  }

  get failuresInARow(): number {
    return this.#inARow;
  }

  /** More failures than RESTART_INTENSITY within RESTART_PERIOD_MS. */
  get isSpent(): boolean {
    return this.#failedAt.length > this.limits.restartIntensity;
  }

  /** Counts a worker that has failed, once: a crash is announced and then seen as an exit. Returns the back-off in ms, undefined where nothing is new. */
  count(handle: WorkerHandle, now: number): number | undefined {
    if (!isFailure(handle.reason) || this.#counted.has(handle)) return undefined;
    this.#counted.add(handle);
    const wasStable = handle.readyAt !== undefined && now - handle.readyAt >= STABLE_AFTER_MS;
    this.#inARow = wasStable ? 1 : this.#inARow + 1;
    this.#failedAt = [...this.#failedAt.filter(at => now - at < this.limits.restartPeriodMs), now];
    const backoffMs = this.#inARow === 1 ? 0 : Math.min(BACKOFF_FIRST_MS * 2 ** (this.#inARow - 2), BACKOFF_LONGEST_MS);
    this.#nextForkAt = now + backoffMs;
    return backoffMs;
  }
}
