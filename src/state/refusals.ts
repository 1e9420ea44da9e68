/**
 * What Redis refuses although it answers: a replica refuses writes, memory is full, a snapshot has failed, permissions are missing. A retry
 * does not fix it, so it is logged once when it begins and once when it ends.
 */
import type { RedisRefusal } from '../protocol/messages.ts';

/** Codes of errors caused by the state or settings of Redis, not by the command. */
const STANDING =
  /^(?:ERR Error running script.*?-)?(READONLY|MASTERDOWN|NOREPLICAS|OOM|MISCONF|NOPERM|NOAUTH|WRONGPASS|BUSY|LOADING|CLUSTERDOWN)\b/s;
/** A new connection may reach the new master: a managed Redis changes its master under the same name while connections stay open. */
const FAILOVER = ['READONLY', 'MASTERDOWN'];
/** An answer to a blocking command whose server becomes a replica. */
const UNBLOCKED = /^UNBLOCKED\b/;

/** The limit for an app that uses many forbidden commands. */
const MAX_REFUSALS = 20;
const MAX_TEXT = 200;
/** A refusal ends when the same command has worked and was not refused for this long: at its memory limit Redis alternates between the two. */
const OVER_AFTER_MS = 5000;

/** The code of an error that counts as a refusal; undefined for others. */
export function refusalCode(message: string): string | undefined {
  return STANDING.exec(message)?.[1];
}

/** Whether the server is no longer the master. */
export function isFailover(message: string): boolean {
  return FAILOVER.includes(refusalCode(message) ?? '') || UNBLOCKED.test(message);
}

interface Entry extends RedisRefusal {
  lastAt: number;
  /** When the same command worked last. */
  workedAt: number;
}

/** The refusals of one process, by reason and command. */
export class Refusals {
  readonly #entries = new Map<string, Entry>();
  readonly #now: () => number;

  /** `now` is a monotonic clock in milliseconds. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  failed(command: string, message: string): void {
    const code = refusalCode(message);
    if (code === undefined) return;
    const key = `${code} ${command}`;
    const known = this.#entries.get(key);
    if (known === undefined && this.#entries.size >= MAX_REFUSALS) return;
    this.#entries.set(key, {
      code,
      command: printable(command, MAX_TEXT),
      message: printable(message, MAX_TEXT),
      count: (known?.count ?? 0) + 1,
      lastAt: this.#now(),
      workedAt: Number.NEGATIVE_INFINITY,
    });
  }

  worked(command: string): void {
    // The fast path: this is called for each command, and usually nothing is refused.
    if (this.#entries.size === 0) return;
    for (const [key, entry] of this.#entries) if (key.endsWith(` ${command}`)) entry.workedAt = this.#now();
  }

  get current(): RedisRefusal[] {
    for (const [key, { lastAt, workedAt }] of this.#entries)
      if (workedAt > lastAt && this.#now() - lastAt >= OVER_AFTER_MS) this.#entries.delete(key);
    return [...this.#entries.values()].map(({ code, command, message, count }) => ({ code, command, message, count }));
  }
}

/** Text of another system, for a terminal, a log line or a page: bounded, without control or bidirectional characters. */
export function printable(text: string, maxLength: number): string {
  const clean = text
    .slice(0, maxLength)
    .toWellFormed()
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '?');
  return text.length > maxLength ? `${clean}…` : clean;
}
