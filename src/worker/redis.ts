/**
 * The worker's connection to Redis: it shares the session keys there, and the primary hears how it fares.
 */
import { hostname } from 'node:os';
import type { Config } from '../config/config.ts';
import type { RedisCounters, RedisRefusal } from '../protocol/messages.ts';
import { closeRedis, connectRedis, evictionPolicyOf, type RedisClient } from '../state/redis.ts';
import { redisCounters, redisRefusals, replaceConnection } from '../state/redis-health.ts';
import { type SessionKeys, shareSessionKeys } from '../state/session-keys.ts';
import { messageOf } from './error-report.ts';
import { sendToPrimary } from './process.ts';

/** The longest time that the app's factory waits for an answer of Redis, or for an error. */
const SETTLE_TIMEOUT_MS = 2000;

export class WorkerRedis {
  /** Undefined where the configuration turned out not to name one. */
  readonly client: RedisClient | undefined;
  readonly #config: Config;
  readonly #keys: SessionKeys;
  readonly #settled = Promise.withResolvers<void>();
  #trouble: string | undefined;

  /** Connects in the background; `keys` are those in Redis once it has answered, unless SESSION_KEYS are given. */
  constructor(config: Config, id: number, keys: SessionKeys) {
    this.#config = config;
    this.#keys = keys;
    this.client = connectRedis(config, `bosun:${hostname()}:${id}`, async (state, message) => {
      this.#trouble = state === 'ready' ? undefined : message;
      this.#settled.resolve();
      try {
        if (state === 'ready') await this.#readKeys();
        const evictionPolicy = state === 'ready' && this.client ? await evictionPolicyOf(this.client) : undefined;
        sendToPrimary({ type: 'redis', state, message, ...(evictionPolicy && { evictionPolicy }) });
      } catch (error) {
        sendToPrimary({ type: 'redis', state: 'unreachable', message: `sharing the session keys failed: ${messageOf(error)}` });
        if (this.client !== undefined) replaceConnection(this.client);
      }
    });
  }

  /** Resolves once commands are answered, or known to fail. An unreachable Redis delays nothing: commands then fail at once. */
  async settled(): Promise<void> {
    await Promise.race([this.#settled.promise, new Promise(resolve => setTimeout(resolve, SETTLE_TIMEOUT_MS))]);
  }

  /** Why commands fail, as text for an operator. */
  get trouble(): string | undefined {
    return this.#trouble;
  }

  get counters(): RedisCounters {
    return redisCounters();
  }

  get refusals(): RedisRefusal[] {
    return redisRefusals();
  }

  /** After a rotation; resolves when they are read. A Redis that is away now is asked again when it is back. */
  async readKeysAgain(): Promise<void> {
    for (;;) {
      try {
        await this.#readKeys();
        return;
      } catch {
        await new Promise(resolve => this.client?.once('ready', resolve));
      }
    }
  }

  async close(): Promise<void> {
    if (this.client !== undefined) await closeRedis(this.client);
  }

  async #readKeys(): Promise<void> {
    if (this.client === undefined || this.#config.sessionKeys !== undefined) return;
    await shareSessionKeys(this.client, this.#config.sessionCookie, this.#keys);
  }
}
