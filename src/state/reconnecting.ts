/**
 * Replaces connections that are open but useless, and holds commands for the new one. Does not load ioredis: the session
 * store exists without Redis too.
 */
import { once } from 'node:events';
import type { Backoff } from './backoff.ts';
import type { RedisClient } from './redis.ts';

/** Our state of a client, besides that of ioredis. */
export interface Reconnecting {
  backoff: Backoff;
  /** The earliest time of the next connection, by the monotonic clock. */
  notBefore: number;
  /** Its server was no longer the master: a new connection is being made. */
  isFailingOver: boolean;
}

export const reconnecting = new WeakMap<RedisClient, Reconnecting>();

/** Replaces a useless connection: at once the first time, then with growing delays. */
export function replaceConnection(client: RedisClient): void {
  const known = reconnecting.get(client);
  if (known !== undefined) known.notBefore = performance.now() + known.backoff.next();
  client.disconnect(true);
}

/** Whether a connection to the new master is being made. */
export const isFailingOver = (client: RedisClient) => reconnecting.get(client)?.isFailingOver === true;

/** Longer than a new connection takes; less than a command that is not answered. */
const FAILOVER_TIMEOUT_MS = 400;

/** Runs an idempotent command; repeats it on the new connection if its server is no longer the master. */
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
