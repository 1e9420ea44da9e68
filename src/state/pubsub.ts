/**
 * The connection between the primaries of all pods: Redis' pub/sub (sharded in a Cluster), on two connections of the primary's own.
 * What is published during a Redis outage is lost, and the caller gets an error; unless events are durable (stored-events.ts).
 */
import type { Config } from '../config/config.ts';
import type { RedisState } from '../protocol/messages.ts';
import { printable } from '../protocol/shapes.ts';
import { MAX_ENVELOPE_LENGTH } from './broadcast.ts';
import { CHANNELS, type Channel, type Link, openLink, retainedBy } from './links.ts';
import { closeRedis, connectRedis, isRefusal, MAX_MESSAGE, type RedisClient } from './redis.ts';
import { isFailingOver, replaceConnection } from './redis-health.ts';
import { isCluster } from './redis-keys.ts';
import { retainedKey } from './redis-names.ts';
import { limitReplies } from './redis-protocol.ts';
import type { ServiceNames } from './service-names.ts';
import { Seal } from './session-keys.ts';
import { QUEUE_LIMITS, type RetainedEvents, SendQueue, type StreamConsumer } from './stored-events.ts';

/** Characters of messages that Redis has not accepted yet, 10,000 events of 1 KB: above this the caller gets an error. */
const MAX_UNSENT = 16 << 20;
/** Far more than for a request: a late reply is still a reply, and heartbeats that do not come back reveal dead connections (event-bus.ts). */
const COMMAND_TIMEOUT_MS = 10_000;
/** The most that a primary reads at once: a batch of the stream, or the retained events. */
const REPLY_LIMITS = { maxBytes: 32 << 20, maxElements: 100_000 };

export interface PubSubListener {
  onMessage(channel: Channel, text: string): void;
  /** A message that is malformed or not signed with our keys. */
  onIgnored(channel: Channel, reason: 'unauthenticated' | 'malformed'): void;
  /** Both connections work and the channels are subscribed: from now on no message is missed. */
  onConnected(): void;
  onState(state: RedisState, message: string): void;
}

export class PubSub {
  readonly #config: Config;
  readonly #pod: string;
  readonly #listener: PubSubListener;
  readonly #names: ServiceNames;
  readonly #publisher: RedisClient;
  readonly #subscriber: RedisClient;
  readonly #seal: Seal;
  /** None until Redis has said which names this service uses. */
  #links: readonly Link[] = [];
  /** Durable events, until they are handed to the streams of all links. */
  readonly #durable: SendQueue | undefined;
  #droppedByStreams = 0;
  /** A reported failure of the subscriber ends when it subscribes. */
  #hasSubscriberFailed = false;
  #unsent = 0;
  #isPublisherReady = false;
  #isSubscriberReady = false;
  #isSubscribed = false;

  /** Undefined where no Redis is configured. */
  static open(config: Config, pod: string, listener: PubSubListener, names: ServiceNames): PubSub | undefined {
    limitReplies(REPLY_LIMITS);
    let pubsub: PubSub | undefined;
    const onPublisherState = (state: RedisState, message: string) => {
      if (state !== 'ready' && pubsub !== undefined) pubsub.#changed({ isPublisherReady: false });
      listener.onState(state, message);
      if (state === 'ready') void pubsub?.readNames();
    };
    const onSubscriberState = (state: RedisState, message: string) => {
      if (pubsub === undefined) return;
      pubsub.#isSubscriberReady = state === 'ready';
      if (state === 'ready') void pubsub.#subscribe();
      else pubsub.#changed({ isSubscribed: false });
      // An outage and its end are reported by the publisher.
      if (state === 'refused' || state === 'faulty') pubsub.#subscriberFailed(state, message);
    };
    const commandTimeoutMs = COMMAND_TIMEOUT_MS;
    const publisher = connectRedis(config, `bosun:${pod}:primary`, onPublisherState, { commandTimeoutMs });
    const subscriber = connectRedis(config, `bosun:${pod}:subscriber`, onSubscriberState, { subscribes: true, commandTimeoutMs });
    if (publisher === undefined || subscriber === undefined) return undefined;
    pubsub = new PubSub(config, pod, { publisher, subscriber }, listener, names);
    return pubsub;
  }

  private constructor(
    config: Config,
    pod: string,
    { publisher, subscriber }: Record<'publisher' | 'subscriber', RedisClient>,
    listener: PubSubListener,
    names: ServiceNames,
  ) {
    this.#config = config;
    this.#pod = pod;
    this.#publisher = publisher;
    this.#subscriber = subscriber;
    this.#listener = listener;
    this.#names = names;
    this.#seal = new Seal(config.sessionKeys);
    if (config.broadcastDurable) {
      this.#durable = new SendQueue(async batch => {
        if (this.#links.length === 0) throw new Error('the names of this service are unknown yet');
        for (const text of batch) for (const { stream } of this.#links) stream?.append(this.#seal.sign(stream.name, text));
      }, QUEUE_LIMITS);
    }
    subscriber.on(isCluster(subscriber) ? 'smessage' : 'message', (name: string, text: string) => {
      for (const { channels } of this.#links)
        for (const channel of CHANNELS) if (channels[channel] === name) this.#received(channel, name, text);
    });
  }

  /** What Redis keeps of retained events, under every name in use. */
  get retained(): RetainedEvents {
    return retainedBy(this.#links);
  }

  get names(): ServiceNames {
    return this.#names;
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
    const streams = this.#links.reduce((sum, { stream }) => sum + (stream?.dropped ?? 0), 0);
    return (this.#durable?.dropped ?? 0) + this.#droppedByStreams + streams;
  }

  /** Sends to every primary that listens, this one included. @throws if Redis does not accept it; a durable event is then sent later */
  async publish(channel: Channel, text: string): Promise<void> {
    if (channel === 'broadcast' && this.#durable !== undefined) {
      this.#durable.push(text);
      if (!this.isConnected) throw new Error('Redis outage');
      return;
    }
    if (this.#links.length === 0) throw new Error('the names of this service are unknown yet');
    if (this.#unsent + text.length > MAX_UNSENT) throw new Error(`more than ${MAX_UNSENT} characters wait to be sent to Redis`);
    this.#unsent += text.length;
    try {
      await Promise.all(this.#links.map(({ channels }) => this.#publish(channels[channel], text)));
    } finally {
      this.#unsent -= text.length;
    }
  }

  async #publish(name: string, text: string): Promise<void> {
    const sealed = this.#seal.sign(name, text);
    await (isCluster(this.#publisher) ? this.#publisher.spublish(name, sealed) : this.#publisher.publish(name, sealed));
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
      // A key that never exists.
      for (const { root } of this.#links) await this.#publisher.unlink(`${retainedKey(root)}:probe`);
    } catch {
      // Logged as a refusal, or an outage. The publisher reconnects by itself.
      if (!isFailingOver(this.#publisher)) return;
      this.#subscriber.disconnect(true);
      this.#eachStream(stream => stream.reconnect());
    }
  }

  /** For connections that look healthy, but over which nothing arrives. */
  reconnect(): void {
    this.#publisher.disconnect(true);
    this.#subscriber.disconnect(true);
    this.#eachStream(stream => stream.reconnect());
  }

  async close(): Promise<void> {
    await this.#durable?.flush();
    await Promise.all(this.#links.map(({ stream }) => stream?.close()));
    await Promise.all([closeRedis(this.#publisher), closeRedis(this.#subscriber)]);
  }

  /** Reads which names this service uses, and uses them: on each connect, and after each step of a change. @returns whether that worked */
  async readNames(): Promise<boolean> {
    try {
      const { root, copy } = await this.#names.read(this.#publisher);
      await this.#use(copy === undefined ? [root] : [root, copy]);
      this.#changed({ isPublisherReady: true });
      return true;
    } catch (error) {
      const { message } = error as Error;
      if (this.#publisher.status !== 'ready') return false; // reported as an outage
      const state = isRefusal(message) ? 'refused' : 'unreachable';
      this.#listener.onState(state, printable(`the names of this service cannot be read from Redis: ${message}`, MAX_MESSAGE));
      replaceConnection(this.#publisher);
      return false;
    }
  }

  async #use(roots: readonly string[]): Promise<void> {
    const before = this.#links;
    const gone = before.filter(({ root }) => !roots.includes(root));
    this.#links = roots.map(root => before.find(link => link.root === root) ?? this.#open(root));
    if (gone.length > 0) await this.#leave(gone);
    if (this.#links.some(link => !before.includes(link)) && this.#isSubscriberReady) await this.#subscribe();
    void this.#durable?.flush();
  }

  #open(root: string): Link {
    return openLink(this.#config, root, this.#pod, this.#publisher, this.#seal, {
      onDurable: (name, text) => this.#received('broadcast', name, text),
      onIgnored: reason => this.#listener.onIgnored('broadcast', reason),
    });
  }

  /** Names that this service no longer uses. */
  async #leave(links: readonly Link[]): Promise<void> {
    for (const { channels, stream } of links) {
      this.#droppedByStreams += stream?.dropped ?? 0;
      await stream?.close();
      for (const name of Object.values(channels))
        await (isCluster(this.#subscriber) ? this.#subscriber.sunsubscribe(name) : this.#subscriber.unsubscribe(name));
    }
  }

  #eachStream(run: (stream: StreamConsumer) => void): void {
    for (const { stream } of this.#links) if (stream !== undefined) run(stream);
  }

  async #subscribe(): Promise<void> {
    const names = this.#links.flatMap(({ channels }) => Object.values(channels));
    if (names.length === 0) return; // follows once they are known
    try {
      // In a Cluster each channel may be on another node.
      if (isCluster(this.#subscriber)) for (const name of names) await this.#subscriber.ssubscribe(name);
      else await this.#subscriber.subscribe(...names);
      await Promise.all(this.#links.map(({ stream }) => stream?.started));
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
    this.#eachStream(stream => stream.flush());
    this.#listener.onConnected();
  }
}
