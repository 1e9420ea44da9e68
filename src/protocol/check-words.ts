/**
 * A health check in words, for `bosun status` and `bosun doctor`.
 */
import type { CheckStatus } from './api.ts';

/** With the message of the app, if the status has it. */
export function checkInWords(
  name: string,
  { state, workers, failing, failures, failure, message, ...rest }: CheckStatus,
): string {
  if (state === 'ok') return `${name} passes in ${workers} ${workers === 1 ? 'worker' : 'workers'}, ${rest.durationMs} ms`;
  const unready = rest.isUnready ? '; the pod is not ready because of it' : '';
  if (failure === undefined) return `${name} has no result of a worker that serves${unready}`;
  const often = failures === 1 ? '' : `, ${failures} times in a row`;
  const text = message === undefined ? failure : `${failure}: ${message}`;
  return `${name} fails in ${failing} of ${workers} workers${often}${unready}: ${text}`;
}
