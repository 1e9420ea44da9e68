/**
 * Wake-up signals: a worker that gets one reads the scoreboard and reports. And the workers that have not answered theirs, for which an accept gate
 * does not wait.
 */
import { readdirSync, readFileSync } from 'node:fs';
import type { Entry } from './scoreboard.ts';

/** A process that does not handle it ignores it, so a stale id on the scoreboard does no harm. It costs 10 µs and no descriptor. */
export const WAKE_UP_SIGNAL = 'SIGURG';

/** SIGURG in the bit mask of signals that a thread blocks, in /proc. */
const WAKE_UP_BIT = 1n << 22n;

/**
 * The id to send this process' wake-up signals to: that of its first thread after the main one that takes signals, a sleeping one of Node.js.
 * Linux gives the signal to the thread with that id. In the main thread it would interrupt the wait for events, and libuv counts an
 * interrupted wait as time in which the event loop was busy: a few signals a second make an idle worker look busy. Elsewhere, the process id.
 */
export function wakeUpThread(): number {
  try {
    for (const thread of readdirSync('/proc/self/task').map(Number)) {
      const blocked = /^SigBlk:\s*([0-9a-f]+)$/m.exec(readFileSync(`/proc/self/task/${thread}/status`, 'latin1'))?.[1];
      if (thread === process.pid || blocked === undefined || (BigInt(`0x${blocked}`) & WAKE_UP_BIT) !== 0n) continue;
      process.kill(thread, 0); // throws if this system takes only ids of processes
      return thread;
    }
  } catch {
    /* not Linux, or a sandbox without these files */
  }
  return process.pid;
}

/** @param thread as its process has got it from `wakeUpThread` */
export function sendWakeUp(thread: number): void {
  // 0 and below mean process groups, and 1 may be any program.
  if (!(Number.isSafeInteger(thread) && thread > 1)) return;
  try {
    process.kill(thread, WAKE_UP_SIGNAL);
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
