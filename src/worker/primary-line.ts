/**
 * From this worker to the primary.
 */
import type { ExitCode, ToPrimary } from '../messages.ts';

export function tell(message: ToPrimary): void {
  // Without a primary there is nobody to tell, and this process is about to end.
  if (process.connected) process.send?.(message, undefined, undefined, () => undefined);
}

/** What to tell of whatever was thrown. */
export const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error));

/** Ends this process once all that was told is in the pipe. */
export function sayByeAndExit(code: ExitCode): void {
  const { promise, resolve } = Promise.withResolvers<void>();
  if (process.connected) process.send?.({ type: 'bye' } satisfies ToPrimary, undefined, undefined, () => resolve());
  else resolve();
  void promise.then(() => process.exit(code));
}
