/**
 * Carries events: from a worker of this pod, or its operator, to all its workers and to the other pods; from other pods to its workers.
 * Within the pod always; between pods through Redis, as long as that is there.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type { Pod } from '../admin/status.ts';
import { type Config, usesRedis } from '../config/config.ts';
import type { WorkerProcess } from '../pool/worker-process.ts';
import { type Broadcast, KEYS_EVENT, type RedisCounters, type RedisRefusal, type RedisState } from '../protocol/messages.ts';
import type { Envelope } from '../state/broadcast.ts';
import { Inbox } from '../state/inbox.ts';
import type { Channel, Link, LinkListener } from '../state/pubsub.ts';
import type { RedisClient } from '../state/redis.ts';
import type { Retained } from '../state/retained.ts';
import { type Beat, Fleet, type Member } from './peers.ts';

/** Who sends where no worker does. */
export const OPERATOR = 0;
const BEAT_EVERY_MS = 1000;
/** A minute. */
const KEEP_EVERY_BEATS = 60;
/** We hear our own words: when so many beats have not come back, the connections are dead, however well they look. A number, and no time: this process may have been too busy to read. */
const MOST_LOST_BEATS = 3;

interface Parts {
  /** As it is now: a rolling restart reads the settings again. */
  config: () => Config;
  retained: Retained;
  pod: () => Pod;
  workers: () => WorkerProcess[];
  onState: (state: RedisState, message: string) => void;
  /** The first time that other pods can hear us, and that we know what they retain. */
  onConnected: () => void;
}

/** The workers of this pod, and what other pods get of it: a retained or durable event comes to them when Redis is back. Undefined where there is none. */
export interface Sent {
  workers: number;
  otherPods: Promise<'sent' | 'later' | 'never'> | undefined;
}

export class Relay implements LinkListener {
  readonly #counts = { sent: 0, droppedCopies: 0 };
  #unsent = 0;
  readonly #parts: Parts;
  readonly #origin = `${hostname().replace(/[^\w.-]/g, '_')}:${randomBytes(6).toString('hex')}`;
  /** Of all that we say to the other pods. */
  readonly #ownBegin = JSON.stringify({ origin: this.#origin }).slice(0, -1);
  readonly #inbox: Inbox;
  readonly #fleet: Fleet;
  #seq = 0;
  #link: Link | undefined;
  #openedWith = '';
  /** Loaded with the link. */
  #stats: typeof import('../state/redis-health.ts') | undefined;
  /** Beats since we have heard a word of our own. */
  #lostBeats = 0;
  #beats = 0;
  /** Of what is retained, with Redis. */
  #exchange: 'runs' | 'done' | 'failed' = 'done';
  #hasBeenConnected = false;
  /** The last change of the session keys, and who has been told of it. */
  #keys: { change: string; workers: WorkerProcess[] } | undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#fleet = new Fleet(this.#origin, parts.pod);
    this.#inbox = new Inbox(this.#origin, {
      isSigned: () => this.#link?.isSigned === true,
      isDurable: parts.config().broadcastDurable,
      now: Date.now,
    });
  }

  /** Connects to the other pods, where there is a Redis; loaded late, since no fork and no first answer waits for it. */
  async open(): Promise<void> {
    await this.#open();
    setInterval(() => this.#beat(), BEAT_EVERY_MS).unref();
  }

  /** The pods that we know of, this one first. */
  get members(): Member[] {
    if (this.#link === undefined) this.#fleet.beat();
    return this.#fleet.members;
  }

  /** Undefined where there is none, or it is not open yet. */
  get redis(): RedisClient | undefined {
    return this.#link?.redis;
  }

  /** Of the primary's own connections; undefined where there is no Redis. */
  get redisCounters(): RedisCounters | undefined {
    return this.#stats?.redisCounters();
  }

  /** Likewise: what Redis currently refuses to the primary. */
  get redisRefusals(): RedisRefusal[] {
    return this.#stats?.redisRefusals() ?? [];
  }

  /** Events and copies of them, since the start. */
  get counts() {
    return {
      ...this.#counts,
      unsent: this.#unsent + (this.#link?.dropped ?? 0),
      ...this.#inbox.counts,
      ignoredBeats: this.#fleet.ignored,
    };
  }

  /** False until `onConnected`. */
  get hasBeenConnected(): boolean {
    return this.#hasBeenConnected;
  }

  /** To every worker of this pod now, and to the other pods. */
  broadcast({ event, json }: Broadcast, sender: number): Sent {
    const { retained } = this.#parts;
    const stamp = retained.has(event) ? retained.nextStamp(event) : undefined;
    this.#counts.sent++;
    if (stamp !== undefined) retained.offer({ event, json, stamp });
    const workers = this.#deliver({ event, json });
    if (!usesRedis(this.#parts.config())) return { workers, otherPods: undefined };
    const published = this.#publish({ event, json, sender, ...(stamp && { stamp }) });
    return {
      workers,
      otherPods: published.then(isOut => (isOut ? 'sent' : stamp || this.#parts.config().broadcastDurable ? 'later' : 'never')),
    };
  }

  heard(channel: Channel, text: string): void {
    if (text.startsWith(this.#ownBegin)) {
      this.#lostBeats = 0;
      return;
    }
    if (channel === 'fleet') {
      this.#fleet.heard(text, this.#link?.isSigned);
      return;
    }
    const envelope = this.#inbox.accept(text);
    if (envelope !== undefined) this.#take(envelope);
  }

  ignored(channel: Channel, reason: 'unauthenticated' | 'malformed'): void {
    if (channel === 'fleet') this.#fleet.ignored[reason]++;
    else this.#inbox.counts[reason]++;
  }

  async connected(): Promise<void> {
    this.#lostBeats = 0;
    const hasFailed = this.#exchange === 'failed';
    this.#exchange = 'runs';
    try {
      await this.#exchangeRetained();
      this.#exchange = 'done';
      if (hasFailed) this.#parts.onState('ready', 'retained events are synchronised');
    } catch (error) {
      // Retried with the next beat, or after a reconnect.
      this.#exchange = 'failed';
      this.#parts.onState('unreachable', `the retained events can't be exchanged: ${(error as Error).message}`);
      return;
    }
    // That the session keys have changed meanwhile, we have not heard.
    if (this.#hasBeenConnected) this.#deliver({ event: KEYS_EVENT, json: JSON.stringify(randomUUID()) });
    this.#tell(this.#fleet.beat(this.#keysRead));
    if (this.#hasBeenConnected) return;
    this.#hasBeenConnected = true;
    this.#parts.onConnected();
  }

  changed(state: RedisState, message: string): void {
    this.#parts.onState(state, message);
  }

  async close(): Promise<void> {
    this.#tell(this.#fleet.goodbye());
    await this.#link?.close();
  }

  /** To the workers that serve, or soon will. */
  #deliver(broadcast: Broadcast): number {
    const workers = this.#parts.workers().filter(({ isActive }) => isActive);
    for (const worker of workers) if (!worker.deliver(broadcast)) this.#counts.droppedCopies++;
    if (broadcast.event === KEYS_EVENT) this.#keys = { change: broadcast.json, workers };
    return workers.length;
  }

  /** Undefined while a worker has not read them; one that has started since then has. */
  get #keysRead(): string | undefined {
    const { change, workers = [] } = this.#keys ?? {};
    return workers.every(worker => worker.keysRead === change || !worker.isActive) ? change : undefined;
  }

  /** From another pod. A retained event may come twice: by its channel, and by the exchange. */
  #take({ event, json, stamp }: Envelope): void {
    if (stamp === undefined || this.#parts.retained.offer({ event, json, stamp })) this.#deliver({ event, json });
  }

  async #publish(event: Omit<Envelope, 'origin' | 'seq'>): Promise<boolean> {
    const envelope: Envelope = { origin: this.#origin, seq: ++this.#seq, at: Date.now(), ...event };
    try {
      if (this.#link === undefined) throw new Error('not open yet');
      // Both at once: their order is the connection's.
      await Promise.all([envelope.stamp && this.#keep(envelope), this.#link.publish('broadcast', JSON.stringify(envelope))]);
      return true;
    } catch {
      if (!this.#parts.config().broadcastDurable || this.#link === undefined) this.#unsent++;
      return false;
    }
  }

  /** What was retained while we were apart, on either side. */
  async #exchangeRetained(): Promise<void> {
    for (const kept of this.#parts.retained.all) await this.#publish({ ...kept, sender: OPERATOR });
    for (const [event, { stamp, text }] of (await this.#link?.kept.all()) ?? []) {
      this.#take({ origin: '', seq: 0, sender: OPERATOR, event, json: text, stamp });
    }
  }

  async #keep({ event, json, stamp = '' }: Pick<Envelope, 'event' | 'json' | 'stamp'>): Promise<void> {
    const newer = await this.#link?.kept.keep(event, { stamp, text: json });
    if (newer !== undefined) this.#take({ origin: '', seq: 0, sender: OPERATOR, event, json: newer.text, stamp: newer.stamp });
  }

  async #open(): Promise<void> {
    const config = this.#parts.config();
    this.#openedWith = redisSettings(config);
    if (!usesRedis(config)) return;
    const { Link } = await import('../state/pubsub.ts');
    this.#stats = await import('../state/redis-health.ts');
    this.#link = Link.open(config, hostname(), this);
  }

  /** With other settings of Redis: the workers that a rolling restart starts have them already. */
  async #reopen(): Promise<void> {
    const link = this.#link;
    this.#link = undefined;
    this.#unsent += link?.dropped ?? 0;
    await Promise.all([link?.close(), this.#open()]);
  }

  #beat(): void {
    if (redisSettings(this.#parts.config()) !== this.#openedWith) {
      void this.#reopen();
      return;
    }
    if (this.#link === undefined) return;
    const beat = this.#fleet.beat(this.#keysRead);
    if (!this.#link.isConnected) return;
    if (this.#lostBeats++ === MOST_LOST_BEATS) {
      this.#lostBeats = 0;
      this.#link.reconnect();
      return;
    }
    this.#tell(beat);
    void this.#link.findMaster();
    if (this.#exchange === 'failed') void this.connected();
    if (++this.#beats % KEEP_EVERY_BEATS === 0) void this.#keepAgain();
  }

  /** A value in Redis may have been replaced by an older one or deleted: later pods would start with that. */
  async #keepAgain(): Promise<void> {
    for (const kept of this.#parts.retained.all) await this.#keep(kept).catch(() => undefined);
  }

  /** A beat that is lost is missed by `#beat`; a goodbye, by the time that passes. */
  #tell(beat: Beat): void {
    this.#link?.publish('fleet', this.#fleet.textOf(beat)).catch(() => undefined);
  }
}

/** What a link is opened with, for comparison. */
function redisSettings(config: Config): string {
  return JSON.stringify(
    Object.entries(config).filter(([name]) => name.startsWith('redis') || name === 'sessionCookie' || name === 'sessionKeys'),
  );
}
