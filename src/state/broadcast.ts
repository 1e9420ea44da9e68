/**
 * A broadcast and its format between pods. Pure: link.ts transports it, the primary distributes it.
 */
import { type Broadcast, MAX_BROADCAST_CHARACTERS, OWN_EVENTS } from '../protocol/messages.ts';

/** Of an event's data as JSON. Each one is copied for every worker of every pod: what is larger belongs into a store, its key into the event. */
export const MOST_BROADCAST_BYTES = MAX_BROADCAST_CHARACTERS;
export const MOST_NAME_LENGTH = 256;

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
  /** When it was sent, in milliseconds since the epoch; missing from earlier versions. */
  at?: number;
  /** When a retained event was sent, for comparison with others of its name (retained.ts). */
  stamp?: string;
}
