/**
 * The way between the primaries of all pods: Redis' publish and subscribe (sharded in a Cluster), on two connections of the primary's own.
 * What is published while Redis is away is lost, and the caller is told; unless events are durable (journal.ts).
 */
import { type Config, redisDatabase } from '../config.ts';
import type { RedisState } from '../messages.ts';
import { MOST_BROADCAST_BYTES } from './broadcast.ts';
import { MOST_ENVELOPE_LENGTH } from './inbox.ts';
import { Journal } from './journal.ts';
import { isFailingOver, replaceConnection, throughFailover } from './reconnecting.ts';
import { closeRedis, connectRedis, isCluster, isRefusal, MAX_MESSAGE, type RedisClient } from './redis.ts';
import { limitReplies } from './redis-protocol.ts';
import { printable } from './refusals.ts';
import { latestStamp, STAMP_LENGTH } from './retained.ts';
import { Seal } from './seal.ts';

/** What waits for Redis to take it: 10,000 events of 1 KB and some; above this it is as good as away. */
const MOST_UNSENT_BYTES = 16 << 20;
/** What comes late has come, and dead connections are found by the beats that do not come back (relay.ts): far more than for a request. */
const ANSWER_TIMEOUT_MS = 10_000;

/** What a primary reads at once is no more than this: a batch of the journal, or what is retained. */
const REPLY_LIMITS = { maxBytes: 32 << 20, maxElements: 100_000 };

export const CHANNELS = ['broadcast', 'fleet'] as const;
export type Channel = (typeof CHANNELS)[number];

export interface LinkListener {
  heard(channel: Channel, text: string): void;
  /** A message that nobody who has our keys has written, or that is none. */
  ignored(channel: Channel, reason: 'unauthenticated' | 'malformed'): void;
  /** Both connections work, the channels are subscribed: from now on nothing is missed. */
  connected(): void;
  changed(state: RedisState, message: string): void;
}

/**
 * Keeps the newest, by the stamp before the first line end: an older one changes nothing and gets the newer one as its answer. What is there counts only
 * with a stamp that is one and not above ARGV[3], where it is not larger than ARGV[4], and where it is not ARGV[5], which nobody has signed.
 */
const KEEP_NEWEST = `if redis.call('HSTRLEN', KEYS[1], ARGV[1]) <= tonumber(ARGV[4]) then
  local kept = redis.call('HGET', KEYS[1], ARGV[1])
  local stamp = kept and kept ~= ARGV[5] and string.match(kept, '^(%d+%-%x+)\\n')
  if stamp and #stamp == ${STAMP_LENGTH} and stamp <= ARGV[3] and stamp >= string.match(ARGV[2], '^[^\\n]*') then return kept end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return false`;

/** The values of these names, where they are not larger than ARGV[1]. */
const READ_KEPT = `local found = {}
for i = 2, #ARGV do
  found[i - 1] = redis.call('HSTRLEN', KEYS[1], ARGV[i]) <= tonumber(ARGV[1]) and redis.call('HGET', KEYS[1], ARGV[i]) or ''
end
return found`;

/** An event's data with its stamp and signature. */
const MOST_KEPT_BYTES = MOST_BROADCAST_BYTES + 128;

export class Link {
  readonly #listener: LinkListener;
  readonly #publisher: RedisClient;
  readonly #subscriber: RedisClient;
  /** Channels by their name in Redis. */
  readonly #channels: ReadonlyMap<string, Channel>;
  readonly #names: Readonly<Record<Channel, string>>;
  readonly #keptName: string;
  readonly #seal: Seal;
  readonly #retained: readonly string[];
  /** Carries the events where they are durable. */
  readonly #journal: Journal | undefined;
  #unsentBytes = 0;
  #isPublisherReady = false;
  #isSubscribed = false;

  /** Undefined where no Redis is configured. */
  static open(config: Config, pod: string, listener: LinkListener): Link | undefined {
    limitReplies(REPLY_LIMITS);
    let link: Link | undefined;
    const published = (state: RedisState, message: string) => {
      if (link !== undefined) link.#changed(state === 'ready', undefined);
      listener.changed(state, message);
    };
    const subscribed = (state: RedisState, message: string) => {
      if (link === undefined) return;
      if (state === 'ready') void link.#subscribe();
      else link.#changed(undefined, false);
      // That Redis is there again is the publisher's news.
      if (state === 'refused' || state === 'faulty') listener.changed(state, message);
    };
    const commandTimeoutMs = ANSWER_TIMEOUT_MS;
    const publisher = connectRedis(config, `bosun:${pod}:primary`, published, { commandTimeoutMs });
    const subscriber = connectRedis(config, `bosun:${pod}:subscriber`, subscribed, { subscribes: true, commandTimeoutMs });
    if (publisher === undefined || subscriber === undefined) return undefined;
    link = new Link(config, pod, publisher, subscriber, listener);
    return link;
  }

  private constructor(config: Config, pod: string, publisher: RedisClient, subscriber: RedisClient, listener: LinkListener) {
    this.#publisher = publisher;
    this.#subscriber = subscriber;
    this.#listener = listener;
    // Channels know no databases: two apps in two databases of one Redis must not hear each other.
    const database = redisDatabase(config);
    const nameOf = (channel: string) => `${config.sessionCookie}:${channel}${database === 0 ? '' : `@${database}`}`;
    this.#names = { broadcast: nameOf('broadcast'), fleet: nameOf('fleet') };
    this.#channels = new Map(CHANNELS.map(channel => [this.#names[channel], channel]));
    this.#keptName = `${config.sessionCookie}:retained`;
    this.#retained = config.broadcastRetained;
    this.#seal = new Seal(config.sessionKeys);
    if (config.broadcastDurable)
      this.#journal = new Journal(config, nameOf('journal'), pod, publisher, sealed =>
        this.#received('broadcast', nameOf('journal'), sealed),
      );
    subscriber.on(isCluster(subscriber) ? 'smessage' : 'message', (name: string, text: string) => {
      const channel = this.#channels.get(name);
      if (channel !== undefined) this.#received(channel, name, text);
    });
  }

  /** For commands of the primary's own. */
  get redis(): RedisClient {
    return this.#publisher;
  }

  get isConnected(): boolean {
    return this.#isPublisherReady && this.#isSubscribed;
  }

  /** Says it to every primary that listens, this one included. @throws where Redis does not take it; one that is durable waits for Redis then */
  async publish(channel: Channel, text: string): Promise<void> {
    if (channel === 'broadcast' && this.#journal !== undefined) {
      this.#journal.append(this.#seal.sign(this.#journal.name, text));
      if (!this.isConnected) throw new Error('Redis is away');
      return;
    }
    if (this.#unsentBytes + text.length > MOST_UNSENT_BYTES)
      throw new Error(`${MOST_UNSENT_BYTES} bytes wait for Redis to take them`);
    this.#unsentBytes += text.length;
    try {
      const name = this.#names[channel];
      const sealed = this.#seal.sign(name, text);
      await (isCluster(this.#publisher) ? this.#publisher.spublish(name, sealed) : this.#publisher.publish(name, sealed));
    } finally {
      this.#unsentBytes -= text.length;
    }
  }

  /** Keeps `value` under `name` for pods that come later, unless a newer one is kept: then that one is the answer. @throws as publish */
  async keep(name: string, { stamp, text }: StampedText): Promise<StampedText | undefined> {
    const sealed = this.#seal.sign(this.#labelOf(name), `${stamp}\n${text}`);
    const keepUnless = (forged: string) =>
      throughFailover(this.#publisher, () =>
        this.#publisher.eval(KEEP_NEWEST, 1, this.#keptName, name, sealed, latestStamp(Date.now()), MOST_KEPT_BYTES, forged),
      );
    const newer = await keepUnless('');
    if (typeof newer !== 'string' || newer === '') return undefined;
    const genuine = this.#opened(name, newer);
    if (genuine === undefined) await keepUnless(newer);
    return genuine;
  }

  /** All that is kept, by name. @throws as publish */
  async kept(): Promise<Map<string, StampedText>> {
    const names = this.#retained;
    const found = await this.#publisher.eval(READ_KEPT, 1, this.#keptName, MOST_KEPT_BYTES, ...names);
    if (!Array.isArray(found) || found.length !== names.length)
      throw new Error(`what is kept must be ${names.length} texts, got something else`);
    return new Map(
      names.flatMap((name, index) => {
        const value: unknown = found[index];
        const opened = typeof value === 'string' && value !== '' ? this.#opened(name, value) : undefined;
        return opened === undefined ? [] : [[name, opened] as const];
      }),
    );
  }

  #opened(name: string, value: string): StampedText | undefined {
    const opened = this.#seal.open(this.#labelOf(name), value);
    const kept = opened === undefined ? undefined : stampedOf(opened);
    const isGood = kept !== undefined && isJson(kept.text);
    if (!isGood) this.#listener.ignored('broadcast', opened === undefined ? 'unauthenticated' : 'malformed');
    return isGood ? kept : undefined;
  }

  #labelOf(name: string): string {
    return `${this.#keptName} ${name}`;
  }

  #received(channel: Channel, name: string, sealed: string): void {
    if (sealed.length > MOST_ENVELOPE_LENGTH) {
      this.#listener.ignored(channel, 'malformed');
      return;
    }
    const text = this.#seal.open(name, sealed);
    if (text === undefined) this.#listener.ignored(channel, 'unauthenticated');
    else this.#listener.heard(channel, text);
  }

  /** Whether what is heard is signed. */
  get isSigned(): boolean {
    return this.#seal.isSigned;
  }

  /**
   * A replica takes what is published and passes it to its own subscribers only, without a word of being no master any more; of a write it
   * says so. What is deleted here never exists.
   */
  async findMaster(): Promise<void> {
    try {
      await this.#publisher.unlink(`${this.#keptName}:probe`);
    } catch {
      // Logged as a refusal, or it is away. The publisher connects anew by itself.
      if (!isFailingOver(this.#publisher)) return;
      this.#subscriber.disconnect(true);
      this.#journal?.reconnect();
    }
  }

  /** Connects anew: for connections that look well, and over which nothing comes. */
  reconnect(): void {
    this.#publisher.disconnect(true);
    this.#subscriber.disconnect(true);
    this.#journal?.reconnect();
  }

  /** Events that other pods will never get. */
  get dropped(): number {
    return this.#journal?.dropped ?? 0;
  }

  async close(): Promise<void> {
    await this.#journal?.close();
    await Promise.all([closeRedis(this.#publisher), closeRedis(this.#subscriber)]);
  }

  async #subscribe(): Promise<void> {
    const names = [...this.#channels.keys()];
    try {
      // Of a Cluster's channels each may be another node's.
      if (isCluster(this.#subscriber)) for (const name of names) await this.#subscriber.ssubscribe(name);
      else await this.#subscriber.subscribe(...names);
      await this.#journal?.begun;
      this.#changed(undefined, true);
    } catch (error) {
      const { message } = error as Error;
      this.#listener.changed(
        isRefusal(message) ? 'refused' : 'unreachable',
        printable(`Redis does not let us subscribe: ${message}`, MAX_MESSAGE),
      );
      replaceConnection(this.#subscriber);
    }
  }

  #changed(isPublisherReady = this.#isPublisherReady, isSubscribed = this.#isSubscribed): void {
    const wasConnected = this.isConnected;
    this.#isPublisherReady = isPublisherReady;
    this.#isSubscribed = isSubscribed;
    if (!this.isConnected || wasConnected) return;
    this.#journal?.flush();
    this.#listener.connected();
  }
}

export interface StampedText {
  stamp: string;
  text: string;
}

function stampedOf(value: string): StampedText {
  const end = value.indexOf('\n');
  return { stamp: value.slice(0, end), text: value.slice(end + 1) };
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
