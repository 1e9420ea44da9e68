/**
 * How one worker wakes another to look at the board: SIGURG, which means nothing to a process that does not ask for it, so that a
 * number on the board which has come to be another process's does no harm. It costs 10 µs, and no descriptor.
 */
const BELL = 'SIGURG';

export function wakeWhenRung(listener: () => void): void {
  process.on(BELL, listener);
}

/** Without effect where there is no such process (any more), or this platform has no such signal. */
export function wakeUp(pid: number): void {
  // 0 and below mean groups of processes, and 1 may be anybody's.
  if (!(Number.isSafeInteger(pid) && pid > 1)) return;
  try {
    process.kill(pid, BELL);
  } catch {
    /* gone meanwhile: it has left the pool, or will be cleared from the board by the primary */
  }
}
