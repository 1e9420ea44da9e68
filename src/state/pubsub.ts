/**
 * The connection between the primaries of all pods: Redis' pub/sub (sharded in a Cluster), on two connections of the primary's own.
 * What is published during a Redis outage is lost, and the caller gets an error; unless events are durable (stored-events.ts).
 */
import { type Config, redisDatabase } from '../config/config.ts';
import type { RedisState } from '../protocol/messages.ts';
import { MAX_ENVELOPE_LENGTH } from './broadcast.ts';
import { closeRedis, connectRedis, isCluster, isRefusal, MAX_MESSAGE, type RedisClient } from './redis.ts';
import { isFailingOver, printable, replaceConnection } from './redis-health.ts';
import { limitReplies } from './redis-protocol.ts';
import { Seal } from './session-keys.ts';
import { RetainedStore, StreamConsumer } from './stored-events.ts';

/** Characters of messages that Redis has not accepted yet, 10,000 events of 1 KB: above this the caller gets an error. */
const MAX_UNSENT = 16 << 20;
/** Far more than for a request: a late reply is still a reply, and heartbeats that do not come back reveal dead connections (event-bus.ts). */
const COMMAND_TIMEOUT_MS = 10_000;
/** The most that a primary reads at once: a batch of the stream, or the retained events. */
const REPLY_LIMITS = { maxBytes: 32 << 20, maxElements: 100_000 };

const CHANNELS = ['broadcast', 'fleet'] as const;
export type Channel = (typeof CHANNELS)[number];

export interface PubSubListener {
  onMessage(channel: Channel, text: string): void;
  /** A message that is malformed or not signed with our keys. */
  onIgnored(channel: Channel, reason: 'unauthenticated' | 'malformed'): void;
  /** Both connections work and the channels are subscribed: from now on no message is missed. */
  onConnected(): void;
  onState(state: RedisState, message: string): void;
}

export class PubSub {
  /** The retained events in Redis. */
  readonly retained: RetainedStore;
  readonly #listener: PubSubListener;
  readonly #publisher: RedisClient;
  readonly #subscriber: RedisClient;
  /** Their names in Redis. */
  readonly #names: Readonly<Record<Channel, string>>;
  readonly #seal: Seal;
  /** A key that never exists. */
  readonly #probe: string;
  /** Carries the events if they are durable. */
  readonly #stream: StreamConsumer | undefined;
  /** A reported failure of the subscriber ends when it subscribes. */
  #hasSubscriberFailed = false;
  #unsent = 0;
  #isPublisherReady = false;
  #isSubscribed = false;

  /** Undefined where no Redis is configured. */
  static open(config: Config, pod: string, listener: PubSubListener): PubSub | undefined {
    limitReplies(REPLY_LIMITS);
    let pubsub: PubSub | undefined;
    const onPublisherState = (state: RedisState, message: string) => {
      if (pubsub !== undefined) pubsub.#changed({ isPublisherReady: state === 'ready' });
      listener.onState(state, message);
    };
    const onSubscriberState = (state: RedisState, message: string) => {
      if (pubsub === undefined) return;
      if (state === 'ready') void pubsub.#subscribe();
      else pubsub.#changed({ isSubscribed: false });
      // An outage and its end are reported by the publisher.
      if (state === 'refused' || state === 'faulty') pubsub.#subscriberFailed(state, message);
    };
    const commandTimeoutMs = COMMAND_TIMEOUT_MS;
    const publisher = connectRedis(config, `bosun:${pod}:primary`, onPublisherState, { commandTimeoutMs });
    const subscriber = connectRedis(config, `bosun:${pod}:subscriber`, onSubscriberState, { subscribes: true, commandTimeoutMs });
    if (publisher === undefined || subscriber === undefined) return undefined;
    pubsub = new PubSub(config, pod, publisher, subscriber, listener);
    return pubsub;
  }

  private constructor(config: Config, pod: string, publisher: RedisClient, subscriber: RedisClient, listener: PubSubListener) {
    this.#publisher = publisher;
    this.#subscriber = subscriber;
    this.#listener = listener;
    // Channels are not part of a database: two apps in two databases of one Redis must not receive each other's messages.
    const database = redisDatabase(config);
    const nameOf = (channel: string) => `${config.sessionCookie}:${channel}${database === 0 ? '' : `@${database}`}`;
    this.#names = { broadcast: nameOf('broadcast'), fleet: nameOf('fleet') };
    this.#seal = new Seal(config.sessionKeys);
    this.retained = new RetainedStore(publisher, {
      key: `${config.sessionCookie}:retained`,
      label: nameOf('retained'),
      names: config.broadcastRetained,
      seal: this.#seal,
      onIgnored: reason => listener.onIgnored('broadcast', reason),
    });
    this.#probe = `${config.sessionCookie}:retained:probe`;
    if (config.broadcastDurable) {
      const name = nameOf('journal');
      this.#stream = new StreamConsumer(config, name, pod, publisher, text => this.#received('broadcast', name, text));
    }
    subscriber.on(isCluster(subscriber) ? 'smessage' : 'message', (name: string, text: string) => {
      const channel = CHANNELS.find(each => this.#names[each] === name);
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

  /** Whether received messages are signed. */
  get isSigned(): boolean {
    return this.#seal.isSigned;
  }

  /** Events that other pods will never get. */
  get dropped(): number {
    return this.#stream?.dropped ?? 0;
  }

  /** Sends to every primary that listens, this one included. @throws if Redis does not accept it; a durable event is then sent later */
  async publish(channel: Channel, text: string): Promise<void> {
    if (channel === 'broadcast' && this.#stream !== undefined) {
      this.#stream.append(this.#seal.sign(this.#stream.name, text));
      if (!this.isConnected) throw new Error('Redis outage');
      return;
    }
    if (this.#unsent + text.length > MAX_UNSENT) throw new Error(`more than ${MAX_UNSENT} characters wait to be sent to Redis`);
    this.#unsent += text.length;
    try {
      const name = this.#names[channel];
      const sealed = this.#seal.sign(name, text);
      await (isCluster(this.#publisher) ? this.#publisher.spublish(name, sealed) : this.#publisher.publish(name, sealed));
    } finally {
      this.#unsent -= text.length;
    }
  }

  #received(channel: Channel, name: string, sealed: string): void {
    if (sealed.length > MAX_ENVELOPE_LENGTH) {
      this.#listener.onIgnored(channel, 'malformed');
      return;
    }
    const text = this.#seal.open(name, sealed);
    if (text === undefined) this.#listener.onIgnored(channel, 'unauthenticated');
    else this.#listener.onMessage(channel, text);
  }

  /**
   * Reconnects if the server is no longer the master. A replica accepts a PUBLISH without an error and passes it to its own subscribers only;
   * just a write reveals it. The key to delete never exists.
   */
  async findMaster(): Promise<void> {
    try {
      await this.#publisher.unlink(this.#probe);
    } catch {
      // Logged as a refusal, or an outage. The publisher reconnects by itself.
      if (!isFailingOver(this.#publisher)) return;
      this.#subscriber.disconnect(true);
      this.#stream?.reconnect();
    }
  }

  /** For connections that look healthy, but over which nothing arrives. */
  reconnect(): void {
    this.#publisher.disconnect(true);
    this.#subscriber.disconnect(true);
    this.#stream?.reconnect();
  }

  async close(): Promise<void> {
    await this.#stream?.close();
    await Promise.all([closeRedis(this.#publisher), closeRedis(this.#subscriber)]);
  }

  async #subscribe(): Promise<void> {
    const names = Object.values(this.#names);
    try {
      // In a Cluster each channel may be on another node.
      if (isCluster(this.#subscriber)) for (const name of names) await this.#subscriber.ssubscribe(name);
      else await this.#subscriber.subscribe(...names);
      await this.#stream?.started;
      if (this.#hasSubscriberFailed) this.#listener.onState('ready', 'subscribed to Redis again');
      this.#hasSubscriberFailed = false;
      this.#changed({ isSubscribed: true });
    } catch (error) {
      const { message } = error as Error;
      const state = isRefusal(message) ? 'refused' : 'unreachable';
      this.#subscriberFailed(state, printable(`Redis refuses the subscription: ${message}`, MAX_MESSAGE));
      replaceConnection(this.#subscriber);
    }
  }

  #subscriberFailed(state: RedisState, message: string): void {
    this.#hasSubscriberFailed = true;
    this.#listener.onState(state, message);
  }

  #changed({ isPublisherReady = this.#isPublisherReady, isSubscribed = this.#isSubscribed }): void {
    const wasConnected = this.isConnected;
    this.#isPublisherReady = isPublisherReady;
    this.#isSubscribed = isSubscribed;
    if (!this.isConnected || wasConnected) return;
    this.#stream?.flush();
    this.#listener.onConnected();
  }
}
