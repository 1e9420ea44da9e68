/**
 * What a broadcast is, and what sees to it that each one of another pod is passed on once and in its sender's order. Pure: how it
 * travels is link.ts' matter, to whom the primary's.
 */
import { type Broadcast, MAX_BROADCAST_CHARACTERS, OWN_EVENTS } from '../messages.ts';

/** Of an event's data as JSON. Each one is copied for every worker of every pod: what is larger belongs into a store, its key into the event. */
export const MOST_BROADCAST_BYTES = MAX_BROADCAST_CHARACTERS;
const MOST_NAME_LENGTH = 256;
/** Pods that are remembered; a pod has another name with each start. */
const MOST_ORIGINS = 1000;

/**
 * An event that can travel.
 * @throws TypeError where the data is no JSON, RangeError where it is too large
 */
export function broadcastOf(event: string, data: unknown): Broadcast {
  if (typeof event !== 'string' || event === '' || event.length > MOST_NAME_LENGTH)
    throw new TypeError(`the name of an event must have 1 to ${MOST_NAME_LENGTH} characters, got ${JSON.stringify(event)}`);
  if (event.startsWith(OWN_EVENTS))
    throw new TypeError(`the name of an event must not begin with "${OWN_EVENTS}", got "${event}"`);
  const json: string | undefined = JSON.stringify(data ?? null);
  if (json === undefined) throw new TypeError(`the data of event "${event}" must be JSON, got a ${typeof data}`);
  const bytes = Buffer.byteLength(json);
  if (bytes > MOST_BROADCAST_BYTES)
    throw new RangeError(`the data of event "${event}" must be at most ${MOST_BROADCAST_BYTES} bytes of JSON, got ${bytes}`);
  return { event, json };
}

/** An event on its way between pods. */
export interface Envelope extends Broadcast {
  /** The start of a primary: one name never counts twice. */
  origin: string;
  /** The worker that has sent it; 0 for the operator. */
  sender: number;
  /** Counts the events of `origin` from 1, in the order in which its primary had them from their senders. */
  seq: number;
  /** When a retained event was sent, for comparison with others of its name (retained.ts). */
  stamp?: string;
}

/** What comes from other pods. */
export class Inbox {
  readonly counts = { received: 0, duplicates: 0, missed: 0, malformed: 0 };
  readonly #self: string;
  /** The last number of each pod, the pod that has been silent for longest first. */
  readonly #last = new Map<string, number>();

  constructor(self: string) {
    this.#self = self;
  }

  /** The event to pass on; undefined where it is our own, has been passed on before, or can't be read. */
  accept(text: string): Envelope | undefined {
    const envelope = parse(text);
    if (envelope === undefined) {
      this.counts.malformed++;
      return undefined;
    }
    const { origin, seq } = envelope;
    if (origin === this.#self) return undefined;
    const last = this.#last.get(origin);
    if (last !== undefined && seq <= last) {
      this.counts.duplicates++;
      return undefined;
    }
    // What a pod has sent before we first heard of it was not for us.
    if (last !== undefined) this.counts.missed += seq - last - 1;
    this.counts.received++;
    this.#remember(origin, seq);
    return envelope;
  }

  #remember(origin: string, seq: number): void {
    this.#last.delete(origin);
    this.#last.set(origin, seq);
    const [silent] = this.#last.keys();
    if (this.#last.size > MOST_ORIGINS && silent !== undefined) this.#last.delete(silent);
  }
}

function parse(text: string): Envelope | undefined {
  try {
    const value = JSON.parse(text) as Envelope;
    const { origin, sender, seq, event, json, stamp } = value;
    const isEnvelope =
      typeof origin === 'string' &&
      typeof sender === 'number' &&
      Number.isSafeInteger(seq) &&
      typeof event === 'string' &&
      typeof json === 'string' &&
      (stamp === undefined || typeof stamp === 'string');
    return isEnvelope ? value : undefined;
  } catch {
    return undefined; // somebody else writes into our channel
  }
}
