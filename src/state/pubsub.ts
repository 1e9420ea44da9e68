/**
 * The way between the primaries of all pods: Redis' publish and subscribe (sharded in a Cluster), on two connections of the primary's own.
 * What is published while Redis is away is lost, and the caller is told; unless events are durable (journal.ts).
 */
import { type Config, redisDatabase } from '../config/config.ts';
import type { RedisState } from '../protocol/messages.ts';
import { MOST_ENVELOPE_LENGTH } from './inbox.ts';
import { KeptEvents } from './kept.ts';
import { closeRedis, connectRedis, isCluster, isRefusal, MAX_MESSAGE, type RedisClient } from './redis.ts';
import { isFailingOver, printable, replaceConnection } from './redis-health.ts';
import { limitReplies } from './redis-protocol.ts';
import { Seal } from './seal.ts';
import { Journal } from './stream.ts';

/** What waits for Redis to take it: 10,000 events of 1 KB and some; above this it is as good as away. */
const MOST_UNSENT_BYTES = 16 << 20;
/** What comes late has come, and dead connections are found by the beats that do not come back (relay.ts): far more than for a request. */
const ANSWER_TIMEOUT_MS = 10_000;

/** The most that a primary reads at once: a batch of the journal, or the retained events. */
const REPLY_LIMITS = { maxBytes: 32 << 20, maxElements: 100_000 };

export const CHANNELS = ['broadcast', 'fleet'] as const;
export type Channel = (typeof CHANNELS)[number];

export interface LinkListener {
  heard(channel: Channel, text: string): void;
  /** A message that is malformed or not signed with our keys. */
  ignored(channel: Channel, reason: 'unauthenticated' | 'malformed'): void;
  /** Both connections work, the channels are subscribed: from now on nothing is missed. */
  connected(): void;
  changed(state: RedisState, message: string): void;
}

export class Link {
  readonly #listener: LinkListener;
  readonly #publisher: RedisClient;
  readonly #subscriber: RedisClient;
  /** Channels by their name in Redis. */
  readonly #channels: ReadonlyMap<string, Channel>;
  readonly #names: Readonly<Record<Channel, string>>;
  /** The retained events in Redis. */
  readonly kept: KeptEvents;
  readonly #seal: Seal;
  /** A key that never exists. */
  readonly #probe: string;
  /** A failure of the subscriber was reported that ends when it subscribes. */
  #hasSubscriberFailed = false;
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
      if (state === 'refused' || state === 'faulty') link.#subscriberFailed(state, message);
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
    this.#seal = new Seal(config.sessionKeys);
    this.kept = new KeptEvents(publisher, {
      key: `${config.sessionCookie}:retained`,
      label: nameOf('retained'),
      names: config.broadcastRetained,
      seal: this.#seal,
      onIgnored: reason => listener.ignored('broadcast', reason),
    });
    this.#probe = `${config.sessionCookie}:retained:probe`;
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

  #received(channel: Channel, name: string, sealed: string): void {
    if (sealed.length > MOST_ENVELOPE_LENGTH) {
      this.#listener.ignored(channel, 'malformed');
      return;
    }
    const text = this.#seal.open(name, sealed);
    if (text === undefined) this.#listener.ignored(channel, 'unauthenticated');
    else this.#listener.heard(channel, text);
  }

  /** Whether received messages are signed. */
  get isSigned(): boolean {
    return this.#seal.isSigned;
  }

  /**
   * A replica accepts a PUBLISH and passes it only to its own subscribers, without an error; only a write
   * reveals that it is no longer the master. The deleted key never exists.
   */
  async findMaster(): Promise<void> {
    try {
      await this.#publisher.unlink(this.#probe);
    } catch {
      // Logged as a refusal, or Redis is unreachable. The publisher reconnects by itself.
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
      if (this.#hasSubscriberFailed) this.#listener.changed('ready', 'subscribed to Redis again');
      this.#hasSubscriberFailed = false;
      this.#changed(undefined, true);
    } catch (error) {
      const { message } = error as Error;
      this.#subscriberFailed(
        isRefusal(message) ? 'refused' : 'unreachable',
        printable(`Redis refuses the subscription: ${message}`, MAX_MESSAGE),
      );
      replaceConnection(this.#subscriber);
    }
  }

  #subscriberFailed(state: RedisState, message: string): void {
    this.#hasSubscriberFailed = true;
    this.#listener.changed(state, message);
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
