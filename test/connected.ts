/** A client of a local Redis, in the process of the test. */
import { readConfig } from '../src/config/config.ts';
import { closeRedis, connectRedis, type RedisClient } from '../src/state/redis.ts';
import type { LocalRedis } from './process/redis.ts';

/** @returns a client that is connected, and what closes it */
export async function connected({ url }: LocalRedis): Promise<{ client: RedisClient; close: () => Promise<void> }> {
  const ready = Promise.withResolvers<void>();
  const client = connectRedis(readConfig({ REDIS_URL: url }), 'test', state => state === 'ready' && ready.resolve());
  if (client === undefined) throw new Error('REDIS_URL is set');
  await ready.promise;
  return { client, close: () => closeRedis(client) };
}
