/**
 * Retained events: of each name the last one is kept, so that a worker or a pod that comes later begins with it. All pods agree on which
 * one is the last, whatever the order in which they hear of them: the one with the highest stamp.
 */
import { randomBytes } from 'node:crypto';
import type { Broadcast } from '../messages.ts';

/** As many digits as milliseconds since the epoch have for the next 30,000 years: stamps compare as text. */
const STAMP_DIGITS = 15;

interface Kept extends Broadcast {
  stamp: string;
}

export class Retained {
  readonly #names: ReadonlySet<string>;
  /** Tells apart what two pods have sent in the same millisecond. */
  readonly #suffix = randomBytes(6).toString('hex');
  readonly #now: () => number;
  readonly #kept = new Map<string, Kept>();

  /** `now` is in milliseconds since the epoch. */
  constructor(names: readonly string[], now: () => number = Date.now) {
    this.#names = new Set(names);
    this.#now = now;
  }

  /** Whether events of this name are kept. */
  has(event: string): boolean {
    return this.#names.has(event);
  }

  /** A stamp above every one of that name that we know of, also where the other's clock is ahead. */
  nextStamp(event: string): string {
    const known = Number(this.#kept.get(event)?.stamp.slice(0, STAMP_DIGITS) ?? 0);
    return `${String(Math.max(this.#now(), known + 1)).padStart(STAMP_DIGITS, '0')}-${this.#suffix}`;
  }

  /** Keeps an event; false where one that is as new, or newer, is kept already, or its name is none of ours. */
  offer({ event, json, stamp }: Kept): boolean {
    if (!this.has(event)) return false;
    const kept = this.#kept.get(event);
    if (kept !== undefined && kept.stamp >= stamp) return false;
    this.#kept.set(event, { event, json, stamp });
    return true;
  }

  get all(): Kept[] {
    return [...this.#kept.values()];
  }

  /** What a worker begins with: `null` as data takes an event back. */
  get forWorkers(): Broadcast[] {
    return this.all.filter(({ json }) => json !== 'null').map(({ event, json }) => ({ event, json }));
  }
}
