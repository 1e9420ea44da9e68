/**
 * Events from other pods: each one once, in its sender's order, and only valid ones. Pure.
 */
import { KEYS_EVENT, OWN_EVENTS } from '../protocol/messages.ts';
import { integer, MalformedError, object, optional, string } from '../protocol/shapes.ts';
import { type Envelope, MOST_BROADCAST_BYTES, MOST_NAME_LENGTH } from './broadcast.ts';
import { CLOCK_TOLERANCE_MS, isStamp } from './retained.ts';

/** The number of remembered pods; a pod has a new name after each start. */
const MOST_ORIGINS = 1000;
/** Of one pod at once: 30 hours at 10,000 a second. */
const MOST_MISSED = 1e9;
/** JSON within JSON: a quote or a backslash has two characters, and the other fields have some. */
export const MOST_ENVELOPE_LENGTH = 2 * MOST_BROADCAST_BYTES + 2048;
/** A host name and random digits (relay.ts). */
export const ORIGIN = /^[\w.:-]{1,300}$/;

export interface InboxOptions {
  /** Whether messages are signed: if so, their time reveals replays. */
  isSigned: () => boolean;
  /** Events may come late: they were kept for a pod that was cut off (journal.ts). */
  isDurable: boolean;
  /** In milliseconds since the epoch. */
  now: () => number;
}

/** What comes from other pods. */
export class Inbox {
  readonly counts = { received: 0, duplicates: 0, missed: 0, malformed: 0, unauthenticated: 0, stale: 0 };
  readonly #self: string;
  readonly #options: InboxOptions;
  readonly #startedAt: number;
  /** The last number and time of each pod, the longest silent pod first. */
  readonly #last = new Map<string, { seq: number; at: number }>();
  /** The latest time of a pod no longer remembered. */
  #forgottenAt = 0;

  constructor(self: string, options: InboxOptions) {
    this.#self = self;
    this.#options = options;
    this.#startedAt = options.now();
  }

  /** The event to pass on; undefined where it is our own, has been passed on before, or can't be read. */
  accept(text: string): Envelope | undefined {
    const envelope = parse(text);
    if (envelope?.origin === this.#self) return undefined;
    const last = envelope && this.#last.get(envelope.origin);
    if (envelope === undefined || envelope.seq > (last?.seq ?? Number.MAX_SAFE_INTEGER) + MOST_MISSED) {
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
    if (this.#last.size <= MOST_ORIGINS || silent === undefined) return;
    this.#last.delete(silent[0]);
    this.#forgottenAt = Math.max(this.#forgottenAt, silent[1].at);
  }
}

const MOST_ORIGIN_LENGTH = 300;
const whole = integer(0, Number.MAX_SAFE_INTEGER);

const envelope = object<Envelope>({
  origin: (value, at) => {
    const origin = string(MOST_ORIGIN_LENGTH)(value, at);
    if (ORIGIN.test(origin)) return origin;
    throw new MalformedError(at, 'an origin', origin);
  },
  sender: whole,
  seq: integer(1, Number.MAX_SAFE_INTEGER),
  at: optional(whole),
  event: (value, at) => {
    const event = string(MOST_NAME_LENGTH)(value, at);
    if (event !== '' && (!event.startsWith(OWN_EVENTS) || event === KEYS_EVENT)) return event;
    throw new MalformedError(at, 'an event of an app', event);
  },
  json: (value, at) => {
    const json = string(MOST_BROADCAST_BYTES)(value, at);
    JSON.parse(json); // invalid JSON would be an error in each handler
    return json;
  },
  stamp: optional(string(MOST_NAME_LENGTH)),
});

function parse(text: string): Envelope | undefined {
  if (text.length > MOST_ENVELOPE_LENGTH) return undefined;
  try {
    return envelope(JSON.parse(text), 'event');
  } catch {
    return undefined; // another program writes to our channel
  }
}
