/**
 * The worker's Redis client. It reads the session keys that the pods share there, and reports its state to the primary. Loaded only where
 * Redis is configured: ioredis costs start-up time.
 */
import { hostname } from 'node:os';
import type { Config } from '../config/config.ts';
import type { Service } from '../config/service.ts';
import type { RedisCounters, RedisRefusal } from '../protocol/snapshot.ts';
import { closeRedis, connectRedis, evictionPolicyOf, type RedisClient } from '../state/redis.ts';
import { redisCounters, redisRefusals, replaceConnection } from '../state/redis-health.ts';
import { ReplicatedWrites } from '../state/replica-wait.ts';
import { ServiceNames } from '../state/service-names.ts';
import { type SessionKeys, shareSessionKeys } from '../state/session-keys.ts';
import { messageOf } from './error-report.ts';
import { sendToPrimary } from './process.ts';

/** The longest time that the app's function waits for Redis to answer or fail. */
const SETTLE_TIMEOUT_MS = 2000;

export class WorkerRedis {
  /** Undefined if the configuration names no Redis. */
  readonly client: RedisClient | undefined;
  /** For session writes that wait for replicas. */
  readonly #writes: RedisClient | undefined;
  /** Read on each connect. */
  readonly names: ServiceNames;
  readonly #config: Config;
  readonly #keys: SessionKeys;
  readonly #settled = Promise.withResolvers<void>();
  #error: string | undefined;

  /** Connects in the background. Once Redis has answered, `keys` are the shared ones, unless SESSION_KEYS is set. */
  constructor(config: Config, id: number, keys: SessionKeys, service: Service) {
    this.#config = config;
    this.names = new ServiceNames(config, service);
    this.#keys = keys;
    this.client = connectRedis(config, `bosun:${hostname()}:${id}`, async (state, message) => {
      this.#error = state === 'ready' ? undefined : message;
      try {
        // A worker that served before would not know where its sessions are.
        if (state === 'ready') await this.#readNamesAndKeys().finally(this.#settled.resolve);
        else this.#settled.resolve();
        const evictionPolicy = state === 'ready' && this.client ? await evictionPolicyOf(this.client) : undefined;
        sendToPrimary({ type: 'redis', state, message, ...(evictionPolicy && { evictionPolicy }) });
      } catch (error) {
        sendToPrimary({
          type: 'redis',
          state: 'unreachable',
          message: `reading the names and session keys failed: ${messageOf(error)}`,
        });
        if (this.client !== undefined) replaceConnection(this.client);
      }
    });
    const { sessionWaitReplicas: replicas } = config;
    if (replicas === 0 || this.client === undefined) return;
    // Its state is that of the other connection.
    this.#writes = connectRedis(config, `bosun:${hostname()}:${id}:writes`, () => undefined);
    if (this.#writes !== undefined) new ReplicatedWrites(this.#writes, replicas).useFor(this.client);
  }

  /** Resolves once commands are answered, or known to fail. An unreachable Redis delays nothing: commands then fail at once. */
  async settled(): Promise<void> {
    await Promise.race([this.#settled.promise, new Promise(resolve => setTimeout(resolve, SETTLE_TIMEOUT_MS))]);
  }

  /** Why commands fail, as text for an operator; undefined while they do not. */
  get error(): string | undefined {
    return this.#error;
  }

  get counters(): RedisCounters {
    return redisCounters();
  }

  get refusals(): RedisRefusal[] {
    return redisRefusals();
  }

  /** After a rotation of the session keys, or a change of the service's name. Resolves when they are read; retries when an unreachable Redis is back. */
  async readAgain(): Promise<void> {
    for (;;) {
      try {
        await this.#readNamesAndKeys();
        return;
      } catch {
        await new Promise(resolve => this.client?.once('ready', resolve));
      }
    }
  }

  async close(): Promise<void> {
    await Promise.all([this.client, this.#writes].map(client => client && closeRedis(client)));
  }

  async #readNamesAndKeys(): Promise<void> {
    if (this.client === undefined) return;
    const roots = await this.names.read(this.client);
    if (this.#config.sessionKeys === undefined) await shareSessionKeys(this.client, roots, this.#keys);
  }
}
