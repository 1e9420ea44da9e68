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
  const name = nameOf(sessionCookie);
  const ours = keys.current.length > 0 ? keys.current : [generateSessionKey()];
  await redis.set(name, ours.join(','), 'NX');
  const shared = await redis.get(name);
  if (shared) keys.current = keysOf(shared);
}

/** The value is not trusted: anyone who can write to Redis can change it. @throws Error */
function keysOf(shared: unknown): string[] {
  const keys = typeof shared === 'string' && shared.length <= MAX_SHARED_LENGTH ? shared.split(',') : [];
  if (keys.length > 0 && keys.length <= MAX_SHARED && keys.every(key => KEY.test(key))) return keys;
  throw new Error(`the session keys in Redis must be 1 to ${MAX_SHARED} valid keys, got another value`);
}

/** Those that generateSessionKey makes have 43 characters; two rotations at a time leave one more each. */
const KEY = /^[^\s,\p{C}]{1,256}$/u;
const MAX_SHARED = 20;
const MAX_SHARED_LENGTH = MAX_SHARED * 257;

/** A session whose key has fallen out is gone; one that is used is signed anew with the first key each time. */
const MOST_KEYS = 10;

/** First step of a rotation: at the end, where a key verifies and does not sign. */
const ADD_KEY = `local keys = redis.call('GET', KEYS[1])
if not keys then return 0 end
redis.call('SET', KEYS[1], keys .. ',' .. ARGV[1])
return 1`;

/** Second step: to the front, where it signs. */
const PROMOTE_KEY = `local kept, count = ARGV[1], 1
for key in string.gmatch(redis.call('GET', KEYS[1]) or '', '[^,]+') do
  if key ~= ARGV[1] and count < ${MOST_KEYS} then kept, count = kept .. ',' .. key, count + 1 end
end
redis.call('SET', KEYS[1], kept)
return count`;

/** Makes a new key that every worker which reads the keys from now on will verify. @throws Error where none are shared */
export async function addSessionKey(redis: RedisClient, sessionCookie: string): Promise<string> {
  const key = generateSessionKey();
  const found = await redis.eval(ADD_KEY, 1, nameOf(sessionCookie), key);
  if (found !== 1) throw new Error('there are no session keys in Redis yet: no worker has been ready');
  return key;
}

/** Has that key sign from now on. @returns how many keys verify */
export async function promoteSessionKey(redis: RedisClient, sessionCookie: string, key: string): Promise<number> {
  return Number(await redis.eval(PROMOTE_KEY, 1, nameOf(sessionCookie), key));
}

const nameOf = (sessionCookie: string) => `${sessionCookie}:keys`;
