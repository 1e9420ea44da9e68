/**
 * The worker's connection to Redis: it shares the session keys there, and the primary hears how it fares.
 */
import { hostname } from 'node:os';
import type { Config } from '../config.ts';
import type { RedisClient } from '../state/redis.ts';
import type { SessionKeys } from '../state/session-keys.ts';
import { tell } from './primary-line.ts';

/** Connects in the background; undefined where no Redis is configured. */
export async function connectWorker(config: Config, id: number, keys: SessionKeys): Promise<RedisClient | undefined> {
  const { connectRedis, evictionPolicyOf } = await import('../state/redis.ts');
  const redis = connectRedis(config, `bosun:${hostname()}:${id}`, async (state, message) => {
    try {
      if (state === 'ready' && redis && config.sessionKeys === undefined) {
        const { shareSessionKeys } = await import('../state/session-keys.ts');
        await shareSessionKeys(redis, config.sessionCookie, keys);
      }
      const evictionPolicy = state === 'ready' && redis ? await evictionPolicyOf(redis) : undefined;
      tell({ type: 'redis', state, message, ...(evictionPolicy && { evictionPolicy }) });
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      tell({ type: 'redis', state: 'unreachable', message: `sharing the session keys failed: ${why}` });
      redis?.disconnect(true);
    }
  });
  return redis;
}
