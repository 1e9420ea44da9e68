/**
 * What Redis knows about the names of the kit (redis-names.ts): which keys there are, and which roots are in use. Does not load
 * ioredis.
 */
import type { Cluster } from 'ioredis';
import type { Config } from '../config/config.ts';
import { redisDatabase } from '../config/redis-address.ts';
import { NO_NAME } from '../config/service-name.ts';
import type { RedisClient } from './redis.ts';
import { asQuestion, refusalCode } from './redis-health.ts';
import { inDatabase, registryKey, rootOf, sessionKeysKey } from './redis-names.ts';

export const isCluster = (client: RedisClient): client is Cluster => client.isCluster;

const SCAN_COUNT = 1000;

/** The keys that begin with `<root>:`, in batches; some may come twice. A server with a million keys takes about a second. */
export async function* keysBelow(redis: RedisClient, root: string): AsyncGenerator<string[]> {
  const pattern = `${root.replace(/[*?[\]\\^]/g, '\\$&')}:*`;
  for (const node of isCluster(redis) ? redis.nodes('master') : [redis]) {
    let cursor = '0';
    do {
      const [next, keys] = await asQuestion(() => node.scan(cursor, 'MATCH', pattern, 'COUNT', SCAN_COUNT));
      if (keys.length > 0) yield keys;
      cursor = next;
    } while (cursor !== '0');
  }
}

/** How many primaries use that root now; 1 if this user of Redis may not query that. */
async function primariesAt(redis: RedisClient, root: string, config: Config): Promise<number> {
  const channel = inDatabase(`${root}:fleet`, redisDatabase(config));
  const answers = isCluster(redis)
    ? redis.nodes('all').map(node => unlessForbidden(() => node.pubsub('SHARDNUMSUB', channel), [channel, 1]))
    : [unlessForbidden(() => redis.pubsub('NUMSUB', channel), [channel, 1])];
  return (await Promise.all(answers)).reduce((sum: number, [, count]) => sum + Number(count), 0);
}

export const isInUse = async (redis: RedisClient, root: string, config: Config) => (await primariesAt(redis, root, config)) > 0;

/** Whether an installation of 0.1.0 is there, or has been: by its keys, its pods or its sessions. */
export async function hasUnnamed(redis: RedisClient, config: Config): Promise<boolean> {
  const root = rootOf(NO_NAME, config.sessionCookie);
  const keys = await unlessForbidden(() => redis.get(sessionKeysKey(root)), 'forbidden');
  // A user of Redis that may not use the names of 0.1.0 has not done so.
  if (keys !== null) return keys !== 'forbidden';
  if (await isInUse(redis, root, config)) return true;
  const search = async () => {
    for await (const keys of keysBelow(redis, root)) if (keys.some(key => key !== registryKey(config.sessionCookie))) return true;
    return false;
  };
  return unlessForbidden(search, true);
}

/** Queries Redis; `otherwise` if this user may not. @throws if Redis fails */
export async function unlessForbidden<T, U>(query: () => Promise<T>, otherwise: U): Promise<T | U> {
  try {
    return await asQuestion(query);
  } catch (error) {
    if (refusalCode((error as Error).message) === 'NOPERM') return otherwise;
    throw error;
  }
}
