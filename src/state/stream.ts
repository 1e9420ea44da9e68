/**
 * The durable way between pods (BROADCAST_DURABLE): a Redis Stream instead of publish and subscribe. A primary that was cut off reads on where it
 * was, and what it could not send waits for Redis; the last events are kept, and no more.
 */
import type { Config } from '../config/config.ts';
import { closeRedis, connectRedis, type RedisClient } from './redis.ts';
import { ProtocolError } from './reply-guard.ts';
import { Outbox } from './send-queue.ts';

/** Events that Redis keeps for pods that are away, about: it cuts whole blocks. */
const KEPT_EVENTS = 10_000;
/** The same for those that Redis has not taken yet, and their bytes. */
const WAITING = { mostMessages: KEPT_EVENTS, mostBytes: 8 << 20 };
/** At most 17 MiB if each event has the maximum size (broadcast.ts), doubled by JSON escapes. */
const READ_AT_ONCE = 32;
/** A read waits this long for news; then it shows that the connection is alive. */
const BLOCK_MS = 1000;
/** Only ids are requested: the last entry may be another program's and of any size. */
const LAST_ID = `local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
return last and last[1]`;
const ID = /^\d{1,20}-\d{1,20}$/;
const READ_TIMEOUT_MS = 3000;
const AGAIN_MS = 100;

export class Journal {
  /** The stream's. */
  readonly name: string;
  readonly #reader: RedisClient;
  readonly #heard: (text: string) => void;
  readonly #outbox: Outbox;
  /** The id of the last event that was read; undefined until the first look. */
  #position: string | undefined;
  readonly #begun = Promise.withResolvers<void>();
  #isClosed = false;

  constructor(config: Config, name: string, pod: string, writer: RedisClient, heard: (text: string) => void) {
    const reader = connectRedis(config, `bosun:${pod}:reader`, () => undefined, { commandTimeoutMs: READ_TIMEOUT_MS });
    if (reader === undefined) throw new Error('a journal needs Redis');
    this.name = name;
    this.#reader = reader;
    this.#heard = heard;
    this.#outbox = new Outbox(async batch => {
      const transaction = writer.multi();
      for (const text of batch) transaction.xadd(name, 'MAXLEN', '~', KEPT_EVENTS, '*', 'event', text);
      for (const [error] of (await transaction.exec()) ?? []) if (error) throw error;
    }, WAITING);
    void this.#follow();
  }

  /** Messages that Redis will never get. */
  get dropped(): number {
    return this.#outbox.dropped;
  }

  append(text: string): void {
    this.#outbox.push(text);
  }

  /** The writer is connected again. */
  flush(): void {
    void this.#outbox.flush();
  }

  /** Resolves when this pod misses nothing any more: it knows from where to read. */
  get begun(): Promise<void> {
    return this.#begun.promise;
  }

  /** Connects anew, as the link does. */
  reconnect(): void {
    this.#reader.disconnect(true);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#outbox.flush();
    this.#reader.disconnect();
    await closeRedis(this.#reader);
  }

  async #follow(): Promise<void> {
    while (!this.#isClosed) {
      try {
        this.#position ??= await this.#end();
        this.#begun.resolve();
        await this.#read(this.#position);
      } catch (error) {
        // An entry that is too large is skipped.
        if (error instanceof ProtocolError && error.isTooLarge) this.#position = undefined;
        // Away, and it will be back: the primary's own connection says so in the log.
        await new Promise(resolve => setTimeout(resolve, AGAIN_MS).unref());
      }
    }
  }

  /** Where the stream ends now: what was before is for others. */
  async #end(): Promise<string> {
    const last = await this.#reader.eval(LAST_ID, 1, this.name);
    return last === null ? '0-0' : idOf(last);
  }

  async #read(position: string): Promise<void> {
    const found = (await this.#reader.xread('COUNT', READ_AT_ONCE, 'BLOCK', BLOCK_MS, 'STREAMS', this.name, position)) as
      | [string, [string, string[]][]][]
      | null;
    for (const [id, [, text]] of found?.[0]?.[1] ?? []) {
      this.#position = idOf(id);
      if (typeof text === 'string') this.#heard(text);
    }
  }
}

/** @throws Error on a malformed id: reading on from it would always fail */
function idOf(value: unknown): string {
  if (typeof value === 'string' && ID.test(value)) return value;
  throw new Error('a stream entry id must be two numbers, got another value');
}
