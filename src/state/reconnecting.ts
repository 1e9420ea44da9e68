/**
 * Connections that are replaced because they are of no use though they are there, and commands that wait for the new one. Loads no ioredis: the session
 * store is there without Redis too.
 */
import { once } from 'node:events';
import type { Backoff } from './backoff.ts';
import type { RedisClient } from './redis.ts';

/** What we know of a client besides what ioredis does. */
export interface Reconnecting {
  backoff: Backoff;
  /** The next connection is not made before, by the monotonic clock. */
  notBefore: number;
  /** Its server was no master any more: a new connection is on its way. */
  isFailingOver: boolean;
}

export const reconnecting = new WeakMap<RedisClient, Reconnecting>();

/** Connects anew because the connection is of no use: at once the first time, then later and later. */
export function replaceConnection(client: RedisClient): void {
  const known = reconnecting.get(client);
  if (known !== undefined) known.notBefore = performance.now() + known.backoff.next();
  client.disconnect(true);
}

/** Whether a connection to the new master is on its way. */
export const isFailingOver = (client: RedisClient) => reconnecting.get(client)?.isFailingOver === true;

/** Longer than a new connection takes; less than a command that is not answered. */
const FAILOVER_TIMEOUT_MS = 400;

/** Runs a command that may run twice, once more with the new connection where its server turns out to be no master any more. */
export async function throughFailover<T>(client: RedisClient, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    // READONLY itself, or a command that came while another one's READONLY has the connection replaced.
    if (!isFailingOver(client)) throw error;
    try {
      await once(client, 'ready', { signal: AbortSignal.timeout(FAILOVER_TIMEOUT_MS) });
    } catch {
      throw error;
    }
    return run();
  }
}
