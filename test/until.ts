/**
 * Waiting for what a test can only look at.
 */
import { setTimeout as pause } from 'node:timers/promises';

/** What takes a second on an idle machine comes this soon on a busy one, and before what it must not wait for: deadlines of 20 s and more. */
export const SOON_MS = 10_000;
const LOOK_TIMEOUT_MS = 10_000;
const LOOK_EVERY_MS = 20;

/** Looks again and again until there is something; `otherwise` says what is there instead. */
export async function until<T>(
  look: () => Promise<T | undefined> | T | undefined,
  otherwise: () => string,
  timeoutMs = LOOK_TIMEOUT_MS,
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (performance.now() > deadline) throw new Error(otherwise());
    await pause(LOOK_EVERY_MS);
  }
}
