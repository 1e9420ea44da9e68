/**
 * Broadcast events: their format, which ones of other pods to accept, and the retained ones. Pure: the event bus delivers them.
 */
import { LEADER_EVENT } from '../protocol/leader.ts';
import { type Broadcast, KEYS_EVENT, MAX_BROADCAST_CHARACTERS, OWN_EVENTS } from '../protocol/messages.ts';
import { integer, MalformedError, object, optional, string } from '../protocol/shapes.ts';

/** Of an event's data as JSON. Every worker of every pod gets a copy: put larger data into a store, and its key into the event. */
export const MAX_BROADCAST_BYTES = MAX_BROADCAST_CHARACTERS;
const MAX_NAME_LENGTH = 256;

/**
 * An event that can be sent.
 * @throws TypeError if the name is invalid or the data is not JSON, RangeError if the data is too large
 */
export function broadcastOf(event: string, data: unknown): Broadcast {
  checkEventName(event);
  const json = jsonOf(event, data);
  if (json === undefined) throw new TypeError(`the data of event "${event}" must be JSON, got a ${typeof data}`);
  const bytes = Buffer.byteLength(json);
  if (bytes > MAX_BROADCAST_BYTES)
    throw new RangeError(`the data of event "${event}" must be at most ${MAX_BROADCAST_BYTES} bytes of JSON, got ${bytes}`);
  return { event, json };
}

/** Undefined for a function or a symbol. @throws TypeError */
function jsonOf(event: string, data: unknown): string | undefined {
  try {
    return JSON.stringify(data ?? null);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new TypeError(`the data of event "${event}" must be JSON: ${reason}`, { cause });
  }
}

/** @throws TypeError if the app can neither send nor receive an event of that name */
export function checkEventName(event: unknown): asserts event is string {
  if (typeof event !== 'string' || event === '' || event.length > MAX_NAME_LENGTH)
    throw new TypeError(`the name of an event must have 1 to ${MAX_NAME_LENGTH} characters, got ${JSON.stringify(event)}`);
  if (event.startsWith(OWN_EVENTS))
    throw new TypeError(`the name of an event must not begin with "${OWN_EVENTS}", got "${event}"`);
}

/** An event between pods. */
export interface Envelope extends Broadcast {
  /** The start of a primary: no two starts have the same name. */
  origin: string;
  /** The worker that has sent it; 0 for the operator. */
  sender: number;
  /** Counts the events of `origin` from 1, in the order in which its primary received them. */
  seq: number;
  /** When it was sent, in milliseconds since the epoch; missing from earlier versions. */
  at?: number;
  /** When a retained event was sent, for comparison with others of its name. */
  stamp?: string;
}

/** JSON within JSON: a quote or a backslash takes two characters, and the other fields take some. */
export const MAX_ENVELOPE_LENGTH = 2 * MAX_BROADCAST_BYTES + 2048;
const MAX_ORIGIN_LENGTH = 300;
/** A host name and random digits (event-bus.ts). */
export const ORIGIN = /^[\w.:-]{1,300}$/;

const whole = integer(0, Number.MAX_SAFE_INTEGER);

const envelope = object<Envelope>({
  origin: (value, at) => {
    const origin = string(MAX_ORIGIN_LENGTH)(value, at);
    if (ORIGIN.test(origin)) return origin;
    throw new MalformedError(at, 'an origin', origin);
  },
  sender: whole,
  seq: integer(1, Number.MAX_SAFE_INTEGER),
  at: optional(whole),
  event: (value, at) => {
    const event = string(MAX_NAME_LENGTH)(value, at);
    if (event !== '' && (!event.startsWith(OWN_EVENTS) || event === KEYS_EVENT || event === LEADER_EVENT)) return event;
    throw new MalformedError(at, 'an event of an app', event);
  },
  json: (value, at) => {
    const json = string(MAX_BROADCAST_BYTES)(value, at);
    JSON.parse(json); // invalid JSON would fail in every handler
    return json;
  },
  stamp: optional(string(MAX_NAME_LENGTH)),
});

function parse(text: string): Envelope | undefined {
  if (text.length > MAX_ENVELOPE_LENGTH) return undefined;
  try {
    return envelope(JSON.parse(text), 'event');
  } catch {
    return undefined; // another program publishes on our channel
  }
}

/** The number of remembered pods; a pod has a new name after each start. */
const MAX_ORIGINS = 1000;
/** A larger gap is a forgery: 30 hours at 10,000 events a second. */
const MAX_MISSED = 1e9;

/**
 * The largest accepted clock difference between pods (Kerberos' default, for the same reason). Clocks differ by milliseconds with NTP, by
 * seconds without. A retained event from further in the future would win over every other one until then.
 */
export const CLOCK_TOLERANCE_MS = 5 * 60_000;

export interface ReceiverOptions {
  /** Whether messages are signed: if so, their time reveals replays. */
  isSigned: () => boolean;
  /** Events may come late: Redis keeps them for a pod that was disconnected. */
  isDurable: boolean;
  /** In milliseconds since the epoch. */
  now: () => number;
}

/** Accepts events of other pods: each one once, in its sender's order, and only valid ones. */
export class Receiver {
  readonly counts = { received: 0, duplicates: 0, missed: 0, malformed: 0, unauthenticated: 0, stale: 0 };
  readonly #self: string;
  readonly #options: ReceiverOptions;
  readonly #startedAt: number;
  /** The last number and time of each pod, the longest silent pod first. */
  readonly #last = new Map<string, { seq: number; at: number }>();
  /** The latest time of a pod no longer remembered. */
  #forgottenAt = 0;

  constructor(self: string, options: ReceiverOptions) {
    this.#self = self;
    this.#options = options;
    this.#startedAt = options.now();
  }

  /** The event to deliver; undefined if it is our own, a duplicate, or invalid. */
  accept(text: string): Envelope | undefined {
    const envelope = parse(text);
    if (envelope?.origin === this.#self) return undefined;
    const last = envelope && this.#last.get(envelope.origin);
    if (envelope === undefined || envelope.seq > (last?.seq ?? Number.MAX_SAFE_INTEGER) + MAX_MISSED) {
      this.counts.malformed++;
      return undefined;
    }
    const { origin, seq, at = 0, stamp } = envelope;
    if (last !== undefined && seq <= last.seq) {
      this.counts.duplicates++;
      return undefined;
    }
    if (this.#isStale(envelope, last !== undefined) || (stamp !== undefined && !isStamp(stamp, this.#options.now()))) {
      this.counts.stale++;
      return undefined;
    }
    // Events from before its first message to us do not count as missed.
    if (last !== undefined) this.counts.missed += seq - last.seq - 1;
    this.counts.received++;
    this.#remember(origin, seq, at);
    return envelope;
  }

  /** Whether it is a replay: from before our start, of a forgotten pod, or too old or too new for a live message. */
  #isStale({ at = 0 }: Envelope, isKnown: boolean): boolean {
    const { isSigned, isDurable, now } = this.#options;
    if (!isSigned()) return false;
    const earliest = isDurable ? this.#startedAt : now();
    return at < earliest - CLOCK_TOLERANCE_MS || at > now() + CLOCK_TOLERANCE_MS || (!isKnown && at <= this.#forgottenAt);
  }

  #remember(origin: string, seq: number, at: number): void {
    this.#last.delete(origin);
    this.#last.set(origin, { seq, at });
    const [silent] = this.#last;
    if (this.#last.size <= MAX_ORIGINS || silent === undefined) return;
    this.#last.delete(silent[0]);
    this.#forgottenAt = Math.max(this.#forgottenAt, silent[1].at);
  }
}

/** Enough digits for milliseconds since the epoch for the next 30,000 years: stamps compare as text. */
const STAMP_DIGITS = 15;
/** The digits, a dash, and a suffix that differs between pods. */
export const STAMP_LENGTH = STAMP_DIGITS + 13;
const STAMP = /^\d{15}-[\da-f]{12}$/;

/** The highest valid stamp at this time, in milliseconds since the epoch. */
export const latestStamp = (now: number) => `${String(now + CLOCK_TOLERANCE_MS).padStart(STAMP_DIGITS, '0')}-ffffffffffff`;

const isStamp = (stamp: string, now: number) => STAMP.test(stamp) && stamp <= latestStamp(now);

export interface RetainedEvent extends Broadcast {
  stamp: string;
}

/**
 * Retained events: the last one of each name is kept for workers and pods that start later. All pods agree on which one is the last, in
 * whatever order they receive them: the one with the highest stamp.
 */
export class Retained {
  readonly #names: ReadonlySet<string>;
  /** Distinguishes what two pods have sent in the same millisecond. */
  #suffix: string | undefined;
  readonly #now: () => number;
  readonly #events = new Map<string, RetainedEvent>();

  /** `now` is in milliseconds since the epoch. */
  constructor(names: readonly string[], now: () => number = Date.now) {
    this.#names = new Set(names);
    this.#now = now;
  }

  /** Whether events of this name are retained. */
  has(event: string): boolean {
    return this.#names.has(event);
  }

  /** A stamp above every known one of that name, even if another pod's clock is ahead. */
  nextStamp(event: string): string {
    const known = Number(this.#events.get(event)?.stamp.slice(0, STAMP_DIGITS) ?? 0);
    // Loaded late: it takes 8 ms, and the first worker is forked before.
    this.#suffix ??= process.getBuiltinModule('node:crypto').randomBytes(6).toString('hex');
    return `${String(Math.max(this.#now(), known + 1)).padStart(STAMP_DIGITS, '0')}-${this.#suffix}`;
  }

  /** Retains an event; false if its name is not retained, its stamp is invalid, or the retained one is not older. */
  offer({ event, json, stamp }: RetainedEvent): boolean {
    if (!this.has(event) || !isStamp(stamp, this.#now())) return false;
    const retained = this.#events.get(event);
    if (retained !== undefined && retained.stamp >= stamp) return false;
    this.#events.set(event, { event, json, stamp });
    return true;
  }

  get all(): RetainedEvent[] {
    return [...this.#events.values()];
  }

  /** What a new worker gets: `null` as data clears an event. */
  get forWorkers(): Broadcast[] {
    return this.all.filter(({ json }) => json !== 'null').map(({ event, json }) => ({ event, json }));
  }
}
