/**
 * What Redis refuses though it answers: a replica that takes no writes, a full memory, a snapshot that failed, rights that are missing. Another try
 * does not mend it, so it is told once, and once when it is over.
 */
import type { RedisRefusal } from '../messages.ts';

/** Codes of errors that lie with Redis and its settings, and not with the command. */
const STANDING =
  /^(?:ERR Error running script.*?-)?(READONLY|MASTERDOWN|NOREPLICAS|OOM|MISCONF|NOPERM|NOAUTH|WRONGPASS|BUSY|LOADING|CLUSTERDOWN)\b/s;
/** A new connection may lead to the new master: behind a name that stays, a managed Redis changes its master under connections that stay. */
const FAILOVER = ['READONLY', 'MASTERDOWN'];
/** An answer to a blocking command whose server becomes a replica. */
const UNBLOCKED = /^UNBLOCKED\b/;

/** Those of an app that asks for all kinds of things it may not have. */
const MAX_REFUSALS = 20;
const MAX_TEXT = 200;
/** The same command has worked since, and was not refused again for this long: at the limit of its memory Redis changes its mind with each command. */
const OVER_AFTER_MS = 5000;

/** The code of an error that is told as a refusal; undefined for others. */
export function refusalCode(message: string): string | undefined {
  return STANDING.exec(message)?.[1];
}

/** Whether the server is no master any more. */
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
    // Nothing is refused nearly always, and this is called for each command.
    if (this.#entries.size === 0) return;
    for (const [key, entry] of this.#entries) if (key.endsWith(` ${command}`)) entry.workedAt = this.#now();
  }

  get current(): RedisRefusal[] {
    for (const [key, { lastAt, workedAt }] of this.#entries)
      if (workedAt > lastAt && this.#now() - lastAt >= OVER_AFTER_MS) this.#entries.delete(key);
    return [...this.#entries.values()].map(({ code, command, message, count }) => ({ code, command, message, count }));
  }
}

/** Text of another system, for a terminal, a log line or a page: bounded, without control characters and marks that turn its direction. */
export function printable(text: string, maxLength: number): string {
  const clean = text
    .slice(0, maxLength)
    .toWellFormed()
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '?');
  return text.length > maxLength ? `${clean}…` : clean;
}
