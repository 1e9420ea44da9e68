/**
 * Runs code that the app has given to the kit: what it throws is logged and goes no further, and a wait for it has an end.
 */
import type { LogSource } from '../../log/log.ts';
import { loggable } from '../error-report.ts';

/** The event that is logged when code of the app throws. */
export type Failed =
  | { event: 'upgrade.handler-failed' | 'worker.close-handler-failed' }
  | { event: 'broadcast.handler-failed'; name: string };

/** Runs code of the app, at once. Logs `failed` and resolves with false if it throws or rejects. */
export async function callApp(log: LogSource, failed: Failed, run: () => unknown): Promise<boolean> {
  try {
    await run();
    return true;
  } catch (error) {
    log().error({ ...failed, err: loggable(error) });
    return false;
  }
}

/** Resolves when `work` has, or after `ms`. */
export async function settledWithin(ms: number, work: Promise<unknown>): Promise<void> {
  await Promise.race([work, new Promise(resolve => setTimeout(resolve, ms))]);
}

/** @throws TypeError that begins with `what` unless the app has given a function */
export function checkFunction(what: string, given: unknown): asserts given is (...args: never) => unknown {
  if (typeof given === 'function') return;
  throw new TypeError(`${what} must be a function, got ${given === null ? 'null' : typeof given}`);
}
