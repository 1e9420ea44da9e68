/**
 * The keys that sign session cookies: given, made for one start, or made once and shared by every pod through Redis.
 */
import type { RedisClient } from './redis.ts';

/** Newest first: the first one signs, all of them verify. Empty until Redis has told them. */
export interface SessionKeys {
  current: string[];
}

/** A new key: 256 random bits, URL-safe. */
export function generateSessionKey(): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString('base64url');
}

/**
 * One set of keys for every worker of every pod: the first to come stores its own, everybody takes what is stored.
 * Called on each connect: a Redis that came back empty gets the keys that are in use, so that nobody is logged out.
 */
export async function shareSessionKeys(redis: RedisClient, sessionCookie: string, keys: SessionKeys): Promise<void> {
  const name = `${sessionCookie}:keys`;
  const ours = keys.current.length > 0 ? keys.current : [generateSessionKey()];
  await redis.set(name, ours.join(','), 'NX');
  const shared = await redis.get(name);
  if (shared) keys.current = shared.split(',');
}
