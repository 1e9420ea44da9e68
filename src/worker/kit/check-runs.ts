/**
 * Runs one health check again and again, never twice at the same time, and reports each result. Clock and random numbers are passed in.
 */
import type { CheckFailure, HealthReport } from '../../protocol/health.ts';
import { messageOf, reportOf } from '../error-report.ts';
import { type RegisteredCheck, validMsOf } from './health.ts';

/** Milliseconds, from any start. */
export interface Clock {
  now(): number;
  /** Calls back later. The returned function prevents that. */
  after(ms: number, callback: () => void): () => void;
}

/** Its timers keep no process alive. */
const CLOCK: Clock = {
  now: () => performance.now(),
  after: (ms, callback) => {
    const timer = setTimeout(callback, ms).unref();
    return () => clearTimeout(timer);
  },
};

/** The checks of many workers and pods must not reach a database in the same moment: each interval is up to this share longer or shorter. */
const JITTER = 0.2;

/** A run of the check. */
interface Run {
  startedAt: number;
  hasTimedOut: boolean;
  controller: AbortController;
}

export class ScheduledCheck {
  readonly #check: RegisteredCheck;
  readonly #send: (report: HealthReport) => void;
  readonly #clock: Clock;
  readonly #random: () => number;
  #failures = 0;
  /** Until it settles, also after it has timed out. */
  #run: Run | undefined;
  #cancelTurn: () => void = () => undefined;
  #cancelTimeout: () => void = () => undefined;
  #isStopped = false;

  constructor(check: RegisteredCheck, send: (report: HealthReport) => void, clock = CLOCK, random = Math.random) {
    this.#check = check;
    this.#send = send;
    this.#clock = clock;
    this.#random = random;
  }

  /** Runs it now, and then at intervals until `stop`. */
  start(): void {
    if (!this.#isStopped) this.#turn();
  }

  /** The signal of a run in progress aborts, and its result is ignored. */
  stop(): void {
    this.#isStopped = true;
    this.#cancelTurn();
    this.#cancelTimeout();
    this.#run?.controller.abort();
  }

  #turn(): void {
    const jitter = 1 + JITTER * (2 * this.#random() - 1);
    this.#cancelTurn = this.#clock.after(this.#check.intervalMs * jitter, () => this.#turn());
    if (this.#run === undefined) void this.#begin();
    // A second run would take one more connection of what the first one waits for.
    else if (this.#run.hasTimedOut) this.#reportTimeout(this.#elapsed(this.#run));
  }

  async #begin(): Promise<void> {
    const run: Run = { startedAt: this.#clock.now(), hasTimedOut: false, controller: new AbortController() };
    this.#run = run;
    this.#cancelTimeout = this.#clock.after(this.#check.timeoutMs, () => this.#timeOut(run));
    const failure = await this.#failureOf(run.controller.signal);
    this.#run = undefined;
    if (this.#isStopped || run.hasTimedOut) return;
    this.#cancelTimeout();
    this.#report(failure, this.#elapsed(run));
  }

  #timeOut(run: Run): void {
    run.hasTimedOut = true;
    const { name, timeoutMs } = this.#check;
    this.#reportTimeout(timeoutMs);
    run.controller.abort(new DOMException(`the health check "${name}" took longer than ${timeoutMs} ms`, 'TimeoutError'));
  }

  #elapsed = ({ startedAt }: Run): number => Math.round(this.#clock.now() - startedAt);

  async #failureOf(signal: AbortSignal): Promise<CheckFailure | undefined> {
    try {
      return failureIn(await this.#check.check({ signal }));
    } catch (error) {
      return thrown(error);
    }
  }

  #reportTimeout(durationMs: number): void {
    this.#report({ kind: 'timed-out', afterMs: this.#check.timeoutMs }, durationMs);
  }

  #report(failure: CheckFailure | undefined, durationMs: number): void {
    this.#failures = failure === undefined ? 0 : this.#failures + 1;
    const { name, readiness } = this.#check;
    const result = { failures: this.#failures, durationMs, ...(failure && { failure }) };
    this.#send({ name, readiness, validMs: validMsOf(this.#check), result });
  }
}

/** Most checks return what a client has answered, such as "PONG" or rows: that passes. */
function failureIn(value: unknown): CheckFailure | undefined {
  if (value === false) return { kind: 'returned', value: 'false', message: 'false' };
  if (value instanceof Error) return thrown(value);
  if (typeof value !== 'object' || value === null) return undefined;
  discardBody(value);
  return Reflect.get(value, 'ok') === false ? { kind: 'returned', value: 'ok: false', message: messageOf(value) } : undefined;
}

/** An unread body of a Response would keep its connection until the next garbage collection. */
function discardBody(value: object): void {
  const body: unknown = Reflect.get(value, 'body');
  if (typeof body === 'object' && body !== null && 'cancel' in body && typeof body.cancel === 'function')
    Promise.resolve(body.cancel()).catch(() => undefined);
}

function thrown(error: unknown): CheckFailure {
  const { message, summary } = reportOf(error);
  const { own: _, ...place } = summary;
  return { kind: 'threw', message, summary: place };
}
