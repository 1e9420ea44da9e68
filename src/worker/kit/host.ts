/**
 * Makes the kit of this worker, with the Redis client that it gives to the app, and passes on to it what the primary sends.
 */
import type { Config } from '../../config/config.ts';
import type { Inherited } from '../../config/inherited.ts';
import { usesRedis } from '../../config/redis-address.ts';
import type { Log } from '../../log/log.ts';
import { LEADER_EVENT } from '../../protocol/leader.ts';
import { type Broadcast, KEYS_EVENT } from '../../protocol/messages.ts';
import type { Snapshot } from '../../protocol/snapshot.ts';
import { sendToPrimary } from '../process.ts';
import type { WorkerRedis } from '../redis.ts';
import type { Stats } from '../stats.ts';
import { WorkerKit } from './kit.ts';

export class KitHost {
  readonly #config: Config;
  readonly #id: number;
  readonly #inherited: Inherited;
  readonly #stats: Stats;
  readonly #log: () => Log;
  /** The last event of each retained name, as JSON. */
  readonly #retained = new Map<string, string>();
  #kit: WorkerKit | undefined;
  #redis: WorkerRedis | undefined;

  constructor(config: Config, id: number, inherited: Inherited, stats: Stats, log: () => Log) {
    this.#config = config;
    this.#id = id;
    this.#inherited = inherited;
    this.#stats = stats;
    this.#log = log;
  }

  /** Once it is open. */
  get kit(): WorkerKit | undefined {
    return this.#kit;
  }

  /** Undefined if no Redis is configured. */
  get redis(): WorkerRedis | undefined {
    return this.#redis;
  }

  /** Makes the kit: `sessionKeys` and `retained` are those of the primary. Redis connects in the background. */
  async open(sessionKeys: string[], retained: readonly Broadcast[]): Promise<WorkerKit> {
    for (const { event, json } of retained) this.#retained.set(event, json);
    const keys = { current: sessionKeys };
    if (usesRedis(this.#config)) {
      const { WorkerRedis } = await import('../redis.ts');
      this.#redis = new WorkerRedis(this.#config, this.#id, keys, this.#inherited.service);
    }
    this.#kit = new WorkerKit({
      config: this.#config,
      log: this.#log,
      workerId: this.#id,
      redis: this.#redis?.client,
      sessionPlaces: this.#redis?.names,
      sessionKeys: keys,
      retained: this.#retained,
      send: broadcast => sendToPrimary({ type: 'broadcast', ...broadcast }),
      reportHealth: report => sendToPrimary({ type: 'health', ...report }),
      onStoreError: error => {
        this.#stats.sessionStoreFailed();
        this.#log().debug({ event: 'session.store-failed', err: error });
      },
    });
    return this.#kit;
  }

  /** An event for the app's handlers, or one of the kit's own. */
  onBroadcast(broadcast: Broadcast): void {
    const { event, json } = broadcast;
    if (event === KEYS_EVENT) {
      void this.#readKeysAgain(json);
      return;
    }
    if (event === LEADER_EVENT) {
      this.#kit?.leaders.onNotice(json);
      return;
    }
    // Kept before the app is loaded, too: it may subscribe later.
    if (this.#config.broadcastRetained.includes(event)) this.#retained.set(event, json);
    this.#kit?.deliver(broadcast);
  }

  async #readKeysAgain(change: string): Promise<void> {
    await this.#redis?.readAgain();
    sendToPrimary({ type: 'keys-read', change });
  }

  /** What a report says of the app and its Redis. */
  async snapshot(): Promise<Pick<Snapshot, 'appMetrics' | 'tasks' | 'redis' | 'redisRefusals'>> {
    const appMetrics = (await this.#kit?.metricsJson()) ?? [];
    const redis = this.#redis && { redis: this.#redis.counters, redisRefusals: this.#redis.refusals };
    const tasks = this.#kit?.openTasks;
    return { appMetrics, ...(tasks !== undefined && { tasks }), ...redis };
  }
}
