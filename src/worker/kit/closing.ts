/**
 * The app's close handlers, which run after the last answer of this worker: in reverse order, one after another, as Fastify's `onClose` hooks
 * and Go's `defer` do. What was opened later may use what was opened before it, and must end first.
 */
import type { CloseOptions } from '../../index.ts';
import type { LogSource } from '../../log/log.ts';
import { type CloseResult, type CloseTotals, MAX_CLOSE_RESULTS } from '../../protocol/closing.ts';
import { callApp, within } from './app-call.ts';
import { checkFunction, checkOptions, typeName } from './arguments.ts';

/** Of a handler without `timeoutMs`. */
const DEFAULT_TIMEOUT_MS = 5000;
/** All handlers together have at least this, also after the deadline of the drain (part of EXIT_SLACK_MS). */
const RESERVE_MS = 1000;
const MAX_TIMEOUT_MS = 3_600_000;
const OPTIONS: Readonly<Record<keyof CloseOptions, true>> = { timeoutMs: true };

type Close = () => unknown;

interface Handler {
  close: Close;
  /** For the log. */
  name: string;
  timeoutMs: number;
}

export class CloseHandlers {
  readonly #log: LogSource;
  readonly #handlers: Handler[] = [];
  /** The time is over: one that adds itself again would keep the worker running. */
  #isOver = false;

  constructor(log: LogSource) {
    this.#log = log;
  }

  /** @throws TypeError, RangeError */
  add(close: Close, options: CloseOptions = {}): void {
    checkFunction('the handler of kit.onClose', close);
    if (this.#isOver) return;
    this.#handlers.push({ close, name: nameOf(close), timeoutMs: timeoutOf(options) });
  }

  /**
   * Runs the handlers, `closeApp` first. Each has its time, at most what is left until `deadline` (of `performance.now()`), or of the second
   * that all have after it. Those that are left then are called, and not waited for; later ones are dropped.
   */
  async run(deadline: number, closeApp?: Close): Promise<CloseTotals> {
    const startedAt = performance.now();
    const end = Math.max(deadline, startedAt + RESERVE_MS);
    if (closeApp !== undefined) this.add(closeApp);
    const totals: CloseTotals = { count: 0, failed: 0, timedOut: 0, ms: 0, first: [] };
    for (let handler = this.#handlers.pop(); handler !== undefined; handler = this.#handlers.pop()) {
      this.#isOver = performance.now() >= end;
      const result = await this.#call(handler, Math.max(0, end - performance.now()));
      totals.count++;
      if (result.result === 'failed') totals.failed++;
      if (result.result === 'timed-out') totals.timedOut++;
      if (totals.first.length < MAX_CLOSE_RESULTS) totals.first.push(result);
    }
    return { ...totals, ms: Math.round(performance.now() - startedAt) };
  }

  async #call({ close, name, timeoutMs }: Handler, leftMs: number): Promise<CloseResult> {
    const startedAt = performance.now();
    const closing = callApp(this.#log, { event: 'worker.close-handler-failed', name }, close).then(error => ({ error }));
    const closed = await within(Math.min(timeoutMs, leftMs), closing);
    const ms = Math.round(performance.now() - startedAt);
    if (closed === undefined) {
      this.#log().warn({ event: 'worker.close-handler-timed-out', name, ms });
      return { name, ms, result: 'timed-out' };
    }
    return closed.error === undefined ? { name, ms, result: 'done' } : { name, ms, result: 'failed', error: closed.error };
  }
}

/** Read when it is given: code of the app may make the name anything, and then the error is at its call. */
function nameOf({ name }: { name: unknown }): string {
  return typeof name === 'string' ? name.replace(/^(?:bound )+/, '').slice(0, 64) : '';
}

function timeoutOf(options: CloseOptions): number {
  checkOptions('kit.onClose', options, OPTIONS);
  const { timeoutMs = DEFAULT_TIMEOUT_MS } = options;
  if (typeof timeoutMs !== 'number') throw new TypeError(`kit.onClose: timeoutMs must be a number, got ${typeName(timeoutMs)}`);
  if (timeoutMs >= 1 && timeoutMs <= MAX_TIMEOUT_MS) return timeoutMs;
  throw new RangeError(`kit.onClose: timeoutMs must be from 1 to ${MAX_TIMEOUT_MS}, got ${timeoutMs}`);
}
