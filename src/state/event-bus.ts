/**
 * The event bus: carries events from a worker of this pod, or its operator, to all its workers and to the other pods, and from other pods to
 * its workers. Within the pod always; between pods through Redis, while that is available.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type { Config } from '../config/config.ts';
import { usesRedis } from '../config/redis-address.ts';
import type { Service } from '../config/service.ts';
import type { Heartbeat, Peer } from '../protocol/api.ts';
import { type Broadcast, KEYS_EVENT, type RedisState } from '../protocol/messages.ts';
import type { RedisCounters, RedisRefusal } from '../protocol/snapshot.ts';
import { type Envelope, Receiver, type Retained, type RetainedEvent } from './broadcast.ts';
import { type Connection, openConnection, redisSettings } from './connection.ts';
import type { Channel } from './links.ts';
import { type OwnPod, Peers } from './peers.ts';
import type { PubSubListener } from './pubsub.ts';
import type { RedisClient } from './redis.ts';
import { redisCounters, redisRefusals } from './redis-health.ts';
import type { ServiceNames } from './service-names.ts';

/** The sender of events that no worker sends. */
export const OPERATOR = 0;
const HEARTBEAT_EVERY_MS = 1000;
const STORE_AGAIN_EVERY_HEARTBEATS = 60;
/** We receive our own heartbeats; after three missing ones the connections are dead. A number, not a time: this process may have been too busy to read. */
const MAX_LOST_HEARTBEATS = 3;

/** A worker of this pod. */
export interface Recipient {
  /** Serves, or will soon. */
  readonly isActive: boolean;
  /** The last change of the session keys that it has read. */
  readonly keysRead: string | undefined;
  /** False if its copy was dropped because it does not read. */
  deliver(broadcast: Broadcast): boolean;
}

export interface EventBusOptions {
  /** The current one: a rolling restart reads the settings again. */
  config: () => Config;
  service: Service;
  retained: Retained;
  ownPod: () => OwnPod;
  workers: () => readonly Recipient[];
  onState: (state: RedisState, message: string) => void;
  /** Called once: other pods can reach us, and we know what they retain. */
  onConnected: () => void;
}

/** How an event was sent; `otherPods` is undefined without Redis. A retained or durable event is sent later if Redis is unavailable. */
export interface Delivery {
  /** The number of workers of this pod that get it. */
  workers: number;
  otherPods: Promise<'sent' | 'later' | 'never'> | undefined;
}

export class EventBus implements PubSubListener {
  readonly #options: EventBusOptions;
  readonly #openPubSub: typeof openConnection;
  readonly #origin = `${hostname().replace(/[^\w.-]/g, '_')}:${randomBytes(6).toString('hex')}`;
  /** How each of our own messages to the other pods begins. */
  readonly #ownPrefix = JSON.stringify({ origin: this.#origin }).slice(0, -1);
  readonly #receiver: Receiver;
  readonly #peers: Peers;
  readonly #counts = { sent: 0, droppedCopies: 0 };
  #unsent = 0;
  #seq = 0;
  #pubsub: Connection | undefined;
  #openedWith = '';
  /** Heartbeats since we last received a message of our own. */
  #lostHeartbeats = 0;
  #heartbeats = 0;
  /** The exchange of retained events with Redis. */
  #exchange: 'running' | 'done' | 'failed' = 'done';
  #hasBeenConnected = false;
  /** The last change of the session keys, and the workers that were notified of it. */
  #keys: { change: string; workers: readonly Recipient[] } | undefined;
  /** The last one after which this process has read the names of the service. */
  #namesRead: string | undefined;

  constructor(options: EventBusOptions, open = openConnection) {
    this.#options = options;
    this.#openPubSub = open;
    this.#peers = new Peers(this.#origin, options.ownPod);
    this.#receiver = new Receiver(this.#origin, {
      isSigned: () => this.#pubsub?.isSigned === true,
      isDurable: options.config().broadcastDurable,
      now: Date.now,
    });
  }

  /** Connects to the other pods if Redis is configured. */
  async open(): Promise<void> {
    await this.#open();
    setInterval(() => this.#tick(), HEARTBEAT_EVERY_MS).unref();
  }

  /** The known pods, this one first. */
  get peers(): Peer[] {
    if (this.#pubsub === undefined) this.#peers.heartbeat();
    return this.#peers.all;
  }

  /** Undefined where no Redis is configured, or pub/sub is not open yet. */
  get redis(): RedisClient | undefined {
    return this.#pubsub?.redis;
  }

  /** The apps of other packages that use the same names in Redis. */
  get strangers(): string[] {
    return this.#peers.strangers;
  }

  /** The names of this service in Redis; undefined as `redis` is. */
  get names(): ServiceNames | undefined {
    return this.#pubsub?.names;
  }

  /** Of the primary's own connections; undefined where no Redis is configured. */
  get redisCounters(): RedisCounters | undefined {
    return usesRedis(this.#options.config()) ? redisCounters() : undefined;
  }

  /** What Redis currently refuses to the primary. */
  get redisRefusals(): RedisRefusal[] {
    return redisRefusals();
  }

  /** Events and copies of them, since the start. */
  get counts() {
    return {
      ...this.#counts,
      unsent: this.#unsent + (this.#pubsub?.dropped ?? 0),
      ...this.#receiver.counts,
      ignoredHeartbeats: this.#peers.ignored,
    };
  }

  /** False until `onConnected`. */
  get hasBeenConnected(): boolean {
    return this.#hasBeenConnected;
  }

  /** Sends an event to every worker of this pod now, and to the other pods. */
  broadcast({ event, json }: Broadcast, sender: number): Delivery {
    const { config, retained } = this.#options;
    const stamp = retained.has(event) ? retained.nextStamp(event) : undefined;
    this.#counts.sent++;
    if (stamp !== undefined) retained.offer({ event, json, stamp });
    const workers = this.#deliver({ event, json });
    if (!usesRedis(config())) return { workers, otherPods: undefined };
    const published = this.#publish({ event, json, sender, ...(stamp && { stamp }) });
    return {
      workers,
      otherPods: published.then(isSent => (isSent ? 'sent' : stamp || config().broadcastDurable ? 'later' : 'never')),
    };
  }

  async close(): Promise<void> {
    this.#send(this.#peers.goodbye());
    await this.#pubsub?.close();
  }

  onMessage(channel: Channel, text: string): void {
    if (text.startsWith(this.#ownPrefix)) {
      this.#lostHeartbeats = 0;
      return;
    }
    if (channel === 'fleet') {
      this.#peers.onMessage(text, this.#pubsub?.isSigned);
      return;
    }
    const envelope = this.#receiver.accept(text);
    if (envelope !== undefined) this.#take(envelope);
  }

  onIgnored(channel: Channel, reason: 'unauthenticated' | 'malformed'): void {
    if (channel === 'fleet') this.#peers.ignored[reason]++;
    else this.#receiver.counts[reason]++;
  }

  onState(state: RedisState, message: string): void {
    this.#options.onState(state, message);
  }

  async onConnected(): Promise<void> {
    this.#lostHeartbeats = 0;
    const hasFailed = this.#exchange === 'failed';
    this.#exchange = 'running';
    try {
      await this.#exchangeRetained();
      this.#exchange = 'done';
      if (hasFailed) this.#options.onState('ready', 'retained events are synchronised');
    } catch (error) {
      // Retried with the next heartbeat, or after a reconnect.
      this.#exchange = 'failed';
      this.#options.onState('unreachable', `retained events cannot be exchanged: ${(error as Error).message}`);
      return;
    }
    // The session keys may have changed during the outage.
    if (this.#hasBeenConnected) this.#deliver({ event: KEYS_EVENT, json: JSON.stringify(randomUUID()) });
    this.#send(this.#peers.heartbeat(this.#keysRead));
    if (this.#hasBeenConnected) return;
    this.#hasBeenConnected = true;
    this.#options.onConnected();
  }

  /** To the active workers. @returns their number */
  #deliver(broadcast: Broadcast): number {
    const workers = this.#options.workers().filter(({ isActive }) => isActive);
    for (const worker of workers) if (!worker.deliver(broadcast)) this.#counts.droppedCopies++;
    if (broadcast.event === KEYS_EVENT) {
      this.#keys = { change: broadcast.json, workers };
      void this.#readNames(broadcast.json);
    }
    return workers.length;
  }

  /** A change of the keys may be one of the names. */
  async #readNames(change: string): Promise<void> {
    if (await this.#pubsub?.readNames()) this.#namesRead = change;
  }

  /** Undefined while a worker or this process has not read them; one that has started since then has. */
  get #keysRead(): string | undefined {
    const { change, workers = [] } = this.#keys ?? {};
    if (this.#namesRead !== change) return undefined;
    return workers.every(worker => worker.keysRead === change || !worker.isActive) ? change : undefined;
  }

  /** An event of another pod. A retained one may arrive twice: on its channel, and by the exchange. */
  #take({ event, json, stamp }: Broadcast & { stamp?: string }): void {
    if (stamp === undefined || this.#options.retained.offer({ event, json, stamp })) this.#deliver({ event, json });
  }

  async #publish(event: Omit<Envelope, 'origin' | 'seq'>): Promise<boolean> {
    const envelope: Envelope = { origin: this.#origin, seq: ++this.#seq, at: Date.now(), ...event };
    const { stamp } = event;
    try {
      if (this.#pubsub === undefined) throw new Error('not open yet');
      // Both at once: the connection keeps their order.
      await Promise.all([stamp && this.#store({ ...event, stamp }), this.#pubsub.publish('broadcast', JSON.stringify(envelope))]);
      return true;
    } catch {
      if (!this.#options.config().broadcastDurable || this.#pubsub === undefined) this.#unsent++;
      return false;
    }
  }

  /** Sends and reads what was retained during an outage, on either side. */
  async #exchangeRetained(): Promise<void> {
    for (const event of this.#options.retained.all) await this.#publish({ ...event, sender: OPERATOR });
    for (const [event, stored] of (await this.#pubsub?.retained.all()) ?? []) this.#take({ event, ...stored });
  }

  async #store({ event, json, stamp }: RetainedEvent): Promise<void> {
    const newer = await this.#pubsub?.retained.keep(event, { stamp, json });
    if (newer !== undefined) this.#take({ event, ...newer });
  }

  async #open(): Promise<void> {
    const config = this.#options.config();
    this.#openedWith = redisSettings(config);
    if (!usesRedis(config)) return;
    this.#pubsub = await this.#openPubSub(config, this.#options.service, hostname(), this);
  }

  /** With new settings of Redis: the workers that a rolling restart starts already have them. */
  async #reopen(): Promise<void> {
    const pubsub = this.#pubsub;
    this.#pubsub = undefined;
    this.#unsent += pubsub?.dropped ?? 0;
    await Promise.all([pubsub?.close(), this.#open()]);
  }

  #tick(): void {
    if (redisSettings(this.#options.config()) !== this.#openedWith) {
      void this.#reopen();
      return;
    }
    if (this.#pubsub === undefined) return;
    const heartbeat = this.#peers.heartbeat(this.#keysRead);
    if (!this.#pubsub.isConnected) return;
    if (this.#lostHeartbeats++ === MAX_LOST_HEARTBEATS) {
      this.#lostHeartbeats = 0;
      this.#pubsub.reconnect();
      return;
    }
    this.#send(heartbeat);
    void this.#pubsub.findMaster();
    if (this.#exchange === 'failed') void this.onConnected();
    if (++this.#heartbeats % STORE_AGAIN_EVERY_HEARTBEATS === 0) void this.storeRetained();
  }

  /** A value in Redis may have been replaced by an older one or deleted: pods that start later would begin with that. */
  async storeRetained(): Promise<void> {
    for (const event of this.#options.retained.all) await this.#store(event).catch(() => undefined);
  }

  /** Failures are ignored: `#tick` detects lost heartbeats, and a peer that sends no last heartbeat is forgotten later. */
  #send(heartbeat: Heartbeat): void {
    this.#pubsub?.publish('fleet', this.#peers.textOf(heartbeat)).catch(() => undefined);
  }
}
