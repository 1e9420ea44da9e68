/**
 * Events that Redis stores: with BROADCAST_DURABLE a stream of them, so that a pod that was disconnected misses none; and the last event of
 * each retained name.
 */
import type { Config } from '../config/config.ts';
import { latestStamp, MAX_BROADCAST_BYTES, STAMP_LENGTH } from './broadcast.ts';
import { closeRedis, connectRedis, type RedisClient } from './redis.ts';
import { throughFailover } from './redis-health.ts';
import { ProtocolError } from './reply-guard.ts';
import type { Seal } from './session-keys.ts';

/** Events that Redis keeps, approximately: it removes whole blocks. */
const MAX_STREAM_LENGTH = 10_000;
/** The same for those that are still to be sent, and their length. */
export const QUEUE_LIMITS = { maxMessages: MAX_STREAM_LENGTH, maxCharacters: 8 << 20 };
/** At most 17 MiB if each event has the maximum size, doubled by JSON escapes. */
const READ_COUNT = 32;
/** A read waits this long for new events; its reply shows that the connection works. */
const BLOCK_MS = 1000;
const READ_TIMEOUT_MS = 3000;
const RETRY_MS = 100;
/** Only the id: the last entry may be another program's and of any size. */
const LAST_ID = `local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
return last and last[1]`;
const ID = /^\d{1,20}-\d{1,20}$/;

/** Appends to the stream and follows it. After an outage it continues where it stopped, on both sides. */
export class StreamConsumer {
  /** The stream's key in Redis. */
  readonly name: string;
  readonly #reader: RedisClient;
  readonly #onMessage: (text: string) => void;
  readonly #queue: SendQueue;
  /** The id of the last event read; undefined before the first read. */
  #position: string | undefined;
  readonly #started = Promise.withResolvers<void>();
  #isClosed = false;

  constructor(config: Config, name: string, pod: string, writer: RedisClient, onMessage: (text: string) => void) {
    const reader = connectRedis(config, `bosun:${pod}:reader`, () => undefined, { commandTimeoutMs: READ_TIMEOUT_MS });
    if (reader === undefined) throw new Error('a stream needs Redis');
    this.name = name;
    this.#reader = reader;
    this.#onMessage = onMessage;
    this.#queue = new SendQueue(async batch => {
      const transaction = writer.multi();
      for (const text of batch) transaction.xadd(name, 'MAXLEN', '~', MAX_STREAM_LENGTH, '*', 'event', text);
      for (const [error] of (await transaction.exec()) ?? []) if (error) throw error;
    }, QUEUE_LIMITS);
    void this.#follow();
  }

  /** Messages that will never be sent. */
  get dropped(): number {
    return this.#queue.dropped;
  }

  append(text: string): void {
    this.#queue.push(text);
  }

  /** To be called when the writer is connected again. */
  flush(): void {
    void this.#queue.flush();
  }

  /** Resolves once the position in the stream is known: from then on no event is missed. */
  get started(): Promise<void> {
    return this.#started.promise;
  }

  reconnect(): void {
    this.#reader.disconnect(true);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#queue.flush();
    this.#reader.disconnect();
    await closeRedis(this.#reader);
  }

  async #follow(): Promise<void> {
    while (!this.#isClosed) {
      try {
        this.#position ??= await this.#end();
        this.#started.resolve();
        await this.#read(this.#position);
      } catch (error) {
        // An entry that is too large is skipped.
        if (error instanceof ProtocolError && error.isTooLarge) this.#position = undefined;
        // An outage is logged for the primary's own connection.
        await new Promise(resolve => setTimeout(resolve, RETRY_MS).unref());
      }
    }
  }

  /** The current end of the stream: earlier events are not for this pod. */
  async #end(): Promise<string> {
    const last = await this.#reader.eval(LAST_ID, 1, this.name);
    return last === null ? '0-0' : idOf(last);
  }

  async #read(position: string): Promise<void> {
    const found = (await this.#reader.xread('COUNT', READ_COUNT, 'BLOCK', BLOCK_MS, 'STREAMS', this.name, position)) as
      | [string, [string, string[]][]][]
      | null;
    for (const [id, [, text]] of found?.[0]?.[1] ?? []) {
      this.#position = idOf(id);
      if (typeof text === 'string') this.#onMessage(text);
    }
  }
}

/** @throws Error on a malformed id: every read from there would fail */
function idOf(value: unknown): string {
  if (typeof value === 'string' && ID.test(value)) return value;
  throw new Error('a stream entry id must be two numbers, got another value');
}

const BATCH_SIZE = 100;

/** Sends messages in order, in batches, one at a time, each repeated until it succeeds. Bounded: the oldest are dropped first. */
export class SendQueue {
  /** Messages dropped because too many were waiting. */
  dropped = 0;
  readonly #send: (batch: readonly string[]) => Promise<void>;
  readonly #limits: { maxMessages: number; maxCharacters: number };
  #waiting: string[] = [];
  #characters = 0;
  #isSending = false;

  /** `send` takes a whole batch or rejects; a rejected batch is sent again: a message may arrive twice, but never out of order. */
  constructor(send: (batch: readonly string[]) => Promise<void>, limits: { maxMessages: number; maxCharacters: number }) {
    this.#send = send;
    this.#limits = limits;
  }

  get size(): number {
    return this.#waiting.length;
  }

  push(text: string): void {
    this.#waiting.push(text);
    this.#characters += text.length;
    while (this.#waiting.length > this.#limits.maxMessages || this.#characters > this.#limits.maxCharacters) {
      this.#characters -= this.#waiting.shift()?.length ?? 0;
      this.dropped++;
    }
    void this.flush();
  }

  /** Sends the waiting messages. Call it again when the receiver has recovered. */
  async flush(): Promise<void> {
    if (this.#isSending) return;
    this.#isSending = true;
    try {
      while (this.#waiting.length > 0) {
        const batch = this.#waiting.slice(0, BATCH_SIZE);
        const droppedBefore = this.dropped;
        await this.#send(batch);
        // The messages dropped meanwhile were the oldest, those of this batch first.
        const sent = this.#waiting.splice(0, Math.max(0, batch.length - (this.dropped - droppedBefore)));
        this.#characters -= sent.reduce((sum, { length }) => sum + length, 0);
      }
    } catch {
      // All of it waits for the next flush.
    } finally {
      this.#isSending = false;
    }
  }
}

/**
 * Stores a value unless a newer one is stored, by the stamp before the first line end: then that one is the reply. A stored value counts only
 * with a valid stamp not above ARGV[3], if it is not larger than ARGV[4], and if it is not ARGV[5], which is forged.
 */
const KEEP_NEWEST = `if redis.call('HSTRLEN', KEYS[1], ARGV[1]) <= tonumber(ARGV[4]) then
  local kept = redis.call('HGET', KEYS[1], ARGV[1])
  local stamp = kept and kept ~= ARGV[5] and string.match(kept, '^(%d+%-%x+)\\n')
  if stamp and #stamp == ${STAMP_LENGTH} and stamp <= ARGV[3] and stamp >= string.match(ARGV[2], '^[^\\n]*') then return kept end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return false`;

/** The values of these names that are not larger than ARGV[1]. */
const READ_ALL = `local found = {}
for i = 2, #ARGV do
  found[i - 1] = redis.call('HSTRLEN', KEYS[1], ARGV[i]) <= tonumber(ARGV[1]) and redis.call('HGET', KEYS[1], ARGV[i]) or ''
end
return found`;

/** An event's data with its stamp and signature. */
const MAX_STORED_BYTES = MAX_BROADCAST_BYTES + 128;

export interface RetainedStoreOptions {
  /** The hash in Redis. */
  key: string;
  /** The label in signatures: what this is, and of which database. */
  label: string;
  /** Of the retained events. */
  names: readonly string[];
  seal: Seal;
  onIgnored: (reason: 'unauthenticated' | 'malformed') => void;
}

/** What is kept of retained events. Both reject if Redis fails. */
export interface RetainedEvents {
  /** Stores an event unless a newer one is stored. @returns the newer one */
  keep(name: string, event: StampedJson): Promise<StampedJson | undefined>;
  /** All stored events, by name. */
  all(): Promise<Map<string, StampedJson>>;
}

/**
 * The retained events in Redis, for pods that start later. A stored value counts only if it is an event, not too large, not from the future
 * and, with SESSION_KEYS, signed: anyone who can write to Redis can change it.
 */
export class RetainedStore implements RetainedEvents {
  readonly #redis: RedisClient;
  readonly #options: RetainedStoreOptions;

  constructor(redis: RedisClient, options: RetainedStoreOptions) {
    this.#redis = redis;
    this.#options = options;
  }

  async keep(name: string, { stamp, json }: StampedJson): Promise<StampedJson | undefined> {
    const sealed = this.#options.seal.sign(this.#labelOf(name), `${stamp}\n${json}`);
    const keepUnless = (forged: string) =>
      throughFailover(this.#redis, () =>
        this.#redis.eval(KEEP_NEWEST, 1, this.#options.key, name, sealed, latestStamp(Date.now()), MAX_STORED_BYTES, forged),
      );
    const newer = await keepUnless('');
    if (typeof newer !== 'string' || newer === '') return undefined;
    const genuine = this.#open(name, newer);
    if (genuine === undefined) await keepUnless(newer);
    return genuine;
  }

  async all(): Promise<Map<string, StampedJson>> {
    const { names, key } = this.#options;
    const found = await this.#redis.eval(READ_ALL, 1, key, MAX_STORED_BYTES, ...names);
    if (!Array.isArray(found) || found.length !== names.length)
      throw new Error(`retained values must be ${names.length} strings, got another value`);
    return new Map(
      names.flatMap((name, index) => {
        const value: unknown = found[index];
        const event = typeof value === 'string' && value !== '' ? this.#open(name, value) : undefined;
        return event === undefined ? [] : [[name, event] as const];
      }),
    );
  }

  #open(name: string, value: string): StampedJson | undefined {
    const text = this.#options.seal.open(this.#labelOf(name), value);
    const event = text === undefined ? undefined : stampedJsonOf(text);
    if (event === undefined) this.#options.onIgnored(text === undefined ? 'unauthenticated' : 'malformed');
    return event;
  }

  #labelOf(name: string): string {
    return `${this.#options.label} ${name}`;
  }
}

export interface StampedJson {
  stamp: string;
  json: string;
}

function stampedJsonOf(text: string): StampedJson | undefined {
  const end = text.indexOf('\n');
  const json = text.slice(end + 1);
  try {
    JSON.parse(json);
    return { stamp: text.slice(0, end), json };
  } catch {
    return undefined;
  }
}
