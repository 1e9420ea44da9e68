/**
 * Wake-up signals: a worker that gets one reads the scoreboard and reports. And the workers that have not answered theirs, for which an accept gate
 * does not wait.
 */
import type { Entry } from './scoreboard.ts';

/** A process that does not handle it ignores it, so a stale pid on the scoreboard does no harm. It costs 10 µs and no descriptor. */
export const WAKE_UP_SIGNAL = 'SIGURG';

export function sendWakeUp(pid: number): void {
  // 0 and below mean process groups, and 1 may be any program.
  if (!(Number.isSafeInteger(pid) && pid > 1)) return;
  try {
    process.kill(pid, WAKE_UP_SIGNAL);
  } catch {
    /* it has exited, or this platform has no such signal */
  }
}

const MIN_SUSPECTED_MS = 50;
const MAX_SUSPECTED_MS = 2000;

/**
 * Workers that look better off and have not answered their wake-up. Each is suspected until it reports, or for a time that doubles each time. Pure:
 * the time is passed in.
 */
export class Suspects {
  readonly #suspected = new Map<number, { sequence: number; forMs: number; until: number }>();
  /** By worker id: the number of its last report, at the last check. */
  #remembered = new Map<number, number>();

  remember(entries: readonly Entry[]): void {
    this.#remembered = new Map(entries.map(({ id, sequence }) => [id, sequence]));
  }

  /** Those that have not reported since `remember`. */
  silentAmong(entries: readonly Entry[]): Entry[] {
    return entries.filter(({ id, sequence }) => this.#remembered.get(id) === sequence);
  }

  add({ id, sequence }: Entry, now: number): void {
    const before = this.#suspected.get(id);
    const forMs = before?.sequence === sequence ? Math.min(MAX_SUSPECTED_MS, before.forMs * 2) : MIN_SUSPECTED_MS;
    this.#suspected.set(id, { sequence, forMs, until: now + forMs });
  }

  has({ id, sequence }: Entry, now: number): boolean {
    const suspected = this.#suspected.get(id);
    return suspected !== undefined && suspected.sequence === sequence && now < suspected.until;
  }
}
