/**
 * Retained events: of each name the last one is kept, so that a worker or a pod that comes later begins with it. All pods agree on which
 * one is the last, whatever the order in which they hear of them: the one with the highest stamp.
 */
import type { Broadcast } from '../protocol/messages.ts';

/** As many digits as milliseconds since the epoch have for the next 30,000 years: stamps compare as text. */
const STAMP_DIGITS = 15;
/** A stamp's: its digits, a dash, and those that tell pods apart. */
export const STAMP_LENGTH = STAMP_DIGITS + 13;
const STAMP = /^\d{15}-[\da-f]{12}$/;

/**
 * The largest accepted clock difference between pods (Kerberos' default, for the same reason). Clocks differ by milliseconds with NTP, by seconds without. An event
 * from further in the future would win over every other one until then.
 */
export const CLOCK_TOLERANCE_MS = 5 * 60_000;

/** The highest stamp that counts at this time, in milliseconds since the epoch. */
export const latestStamp = (now: number) => `${String(now + CLOCK_TOLERANCE_MS).padStart(STAMP_DIGITS, '0')}-ffffffffffff`;

export const isStamp = (stamp: string, now: number) => STAMP.test(stamp) && stamp <= latestStamp(now);

interface Kept extends Broadcast {
  stamp: string;
}

export class Retained {
  readonly #names: ReadonlySet<string>;
  /** Tells apart what two pods have sent in the same millisecond. */
  #suffix: string | undefined;
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
    // Loaded only here: it takes 8 ms, and the first worker is forked before.
    this.#suffix ??= process.getBuiltinModule('node:crypto').randomBytes(6).toString('hex');
    return `${String(Math.max(this.#now(), known + 1)).padStart(STAMP_DIGITS, '0')}-${this.#suffix}`;
  }

  /** Keeps an event; false if an equally new or newer one is kept already, its name is not retained, or its stamp is malformed. */
  offer({ event, json, stamp }: Kept): boolean {
    if (!this.has(event) || !isStamp(stamp, this.#now())) return false;
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
