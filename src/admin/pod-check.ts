/**
 * One health check over all workers of a pod: what their results add up to, and whether it keeps the pod out of rotation. Pure; times are
 * milliseconds of the monotonic clock, passed in.
 */
import type { CheckStatus } from '../protocol/api.ts';
import { type Audience, describeSummary } from '../protocol/audience.ts';
import type { LifecycleEvent } from '../protocol/events.ts';
import type { CheckFailure, HealthReport, HealthResult } from '../protocol/health.ts';

/** Consecutive failures, in each worker, after which the pod is not ready. A short outage of a database must not take out every pod. */
const MAX_FAILURES = 3;

/** The last report of a worker that serves. */
export interface Received extends HealthReport {
  receivedAt: number;
}

/** The last reports of the workers that serve, added up. */
interface Tally {
  readiness: boolean;
  /** Workers that run it. */
  workers: number;
  /** Of their last runs, if those are not too old: a blocked worker reports nothing. */
  results: readonly HealthResult[];
  /** Those that have failed, the one with the most failures in a row first. */
  failing: readonly HealthResult[];
  /** A worker is about to run it for the first time. */
  isPending: boolean;
}

const NO_REPORTS: Tally = { readiness: false, workers: 0, results: [], failing: [], isPending: false };

export class PodCheck {
  readonly name: string;
  #tally = NO_REPORTS;
  #state: CheckStatus['state'] = 'unknown';
  #stateSince: number;
  #failingSince: number | undefined;
  /** It has failed in every worker, and has not passed since. New workers alone do not change that. */
  #isDown = false;
  /** Until the first success: registered with `readiness` before the pod was ready. */
  #mustPass: boolean;
  #unreadySince: number | undefined;
  #lastFailure: CheckFailure | undefined;

  constructor(name: string, mustPass: boolean, now: number) {
    this.name = name;
    this.#mustPass = mustPass;
    this.#stateSince = now;
  }

  get isFailing(): boolean {
    return this.#failingSince !== undefined;
  }

  /** It keeps the pod out of rotation. */
  get isUnready(): boolean {
    return this.#isDown || this.#mustPass;
  }

  /** Takes the reports of the workers that serve. @returns what has changed */
  update(reports: readonly Received[], now: number): LifecycleEvent[] {
    const tally = tallyOf(reports, now);
    const { workers, results, failing, isPending } = tally;
    this.#tally = tally;
    this.#lastFailure = failing[0]?.failure ?? this.#lastFailure;
    if (results.length > 0) this.#setState(failing.length > 0 ? 'failing' : 'ok', now);
    else if (workers > 0 && !isPending) this.#setState('unknown', now);
    this.#decide();
    return [...this.#failingChanged(now), ...this.#unreadyChanged(now)];
  }

  /** The app no longer has it. @returns what has changed */
  remove(now: number): LifecycleEvent[] {
    this.#isDown = false;
    this.#mustPass = false;
    return this.#unreadyChanged(now);
  }

  /** How it fails, without text of the app. */
  describe(): string {
    const { workers, failing } = this.#tally;
    const [worst] = failing;
    if (worst?.failure !== undefined) {
      const often = worst.failures === 1 ? '' : `, ${worst.failures} times in a row`;
      return `check ${this.name}: ${describeFailure(worst.failure)} in ${failing.length} of ${workers} workers${often}`;
    }
    return this.#lastFailure === undefined
      ? `check ${this.name} has not passed yet`
      : `check ${this.name}: ${describeFailure(this.#lastFailure)}, and no worker has passed it since`;
  }

  status(audience: Audience, now: number): CheckStatus {
    const { readiness, workers, results, failing } = this.#tally;
    const failure = failing[0]?.failure;
    const message = failure && messageOf(failure);
    return {
      state: this.#state,
      readiness,
      isUnready: this.isUnready,
      workers,
      failing: failing.length,
      failures: failing[0]?.failures ?? 0,
      durationMs: Math.max(0, ...results.map(({ durationMs }) => durationMs)),
      seconds: Math.round((now - this.#stateSince) / 1000),
      ...(failure && { failure: describeFailure(failure) }),
      ...(message !== undefined && audience === 'operator' && { message }),
    };
  }

  #setState(state: CheckStatus['state'], now: number): void {
    if (state !== this.#state) this.#stateSince = now;
    this.#state = state;
  }

  #decide(): void {
    const { readiness, workers, results, isPending } = this.#tally;
    const hasPassed = results.some(({ failures }) => failures === 0);
    if (hasPassed || (workers > 0 && !readiness)) {
      this.#isDown = false;
      this.#mustPass = false;
      return;
    }
    const isDownNow = results.length > 0 && !isPending && results.every(({ failures }) => failures >= MAX_FAILURES);
    this.#isDown ||= isDownNow;
  }

  #failingChanged(now: number): LifecycleEvent[] {
    const { workers, failing } = this.#tally;
    const [worst] = failing;
    if (worst?.failure !== undefined) {
      if (this.#failingSince !== undefined) return [];
      this.#failingSince = now;
      const error = this.#error(worst.failure);
      return [{ event: 'health.failing', check: this.name, failing: failing.length, workers, error }];
    }
    if (this.#failingSince === undefined || this.#state !== 'ok') return [];
    const ms = Math.round(now - this.#failingSince);
    this.#failingSince = undefined;
    return [{ event: 'health.passing', check: this.name, ms }];
  }

  #unreadyChanged(now: number): LifecycleEvent[] {
    // Before its first run there is nothing to report.
    if (this.isUnready && this.#unreadySince === undefined && this.#lastFailure !== undefined) {
      this.#unreadySince = now;
      return [{ event: 'health.unready', check: this.name, error: this.#error(this.#lastFailure) }];
    }
    if (this.isUnready || this.#unreadySince === undefined) return [];
    const ms = Math.round(now - this.#unreadySince);
    this.#unreadySince = undefined;
    return [{ event: 'health.ready', check: this.name, ms }];
  }

  /** For the log, with the text of the app. */
  #error(failure: CheckFailure): string {
    const message = messageOf(failure);
    return message === undefined ? describeFailure(failure) : `${describeFailure(failure)}: ${message}`;
  }
}

function tallyOf(reports: readonly Received[], now: number): Tally {
  const recent = reports.filter(({ receivedAt, validMs }) => now - receivedAt <= validMs);
  const results = recent.flatMap(({ result }) => result ?? []);
  return {
    readiness: reports.some(({ readiness }) => readiness),
    workers: reports.length,
    results,
    failing: results.filter(({ failures }) => failures > 0).toSorted((a, b) => b.failures - a.failures),
    isPending: recent.some(({ result }) => result === undefined),
  };
}

/** Without the text of the app. */
function describeFailure(failure: CheckFailure): string {
  switch (failure.kind) {
    case 'timed-out':
      return `timed out after ${failure.afterMs} ms`;
    case 'threw':
      return describeSummary(failure.summary);
    case 'returned':
      return `returned ${failure.value}`;
    default:
      return failure satisfies never;
  }
}

const messageOf = (failure: CheckFailure): string | undefined =>
  failure.kind === 'threw' || (failure.kind === 'returned' && failure.message !== failure.value) ? failure.message : undefined;
