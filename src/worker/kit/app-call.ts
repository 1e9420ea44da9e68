/**
 * Runs code that the app has given to the kit: what it throws is logged and goes no further, and a wait for it has an end.
 */
import type { LogSource } from '../../log/log.ts';
import type { ErrorSummary } from '../../protocol/messages.ts';
import { loggable, reportOf } from '../error-report.ts';

/** The event that is logged when code of the app throws. */
export type Failed =
  | { event: 'upgrade.handler-failed' | 'task.failed' }
  | { event: 'broadcast.handler-failed' | 'worker.close-handler-failed'; name: string };

/** Runs code of the app, at once. If it throws or rejects, logs `failed` and resolves with a summary of the error. */
export async function callApp(log: LogSource, failed: Failed, run: () => unknown): Promise<ErrorSummary | undefined> {
  try {
    await run();
    return undefined;
  } catch (error) {
    log().error({ ...failed, err: loggable(error) });
    return reportOf(error).summary;
  }
}

/** What `work` resolves with; undefined if it has not after `ms`. */
export async function within<T>(ms: number, work: Promise<T>): Promise<T | undefined> {
  const { promise: tooLate, resolve } = Promise.withResolvers<undefined>();
  const timer = setTimeout(resolve, ms, undefined);
  try {
    return await Promise.race([work, tooLate]);
  } finally {
    clearTimeout(timer);
  }
}
