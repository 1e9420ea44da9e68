/**
 * The keys that sign session cookies: given, generated for one start, or generated once and shared by every pod through Redis. If they are
 * given, they sign the messages between pods too.
 */
import { generateSessionKey } from '../config/secrets.ts';
import type { RedisClient } from './redis.ts';
import { sessionKeysKey } from './redis-names.ts';
import type { Roots } from './service-names.ts';

/** Newest first: the first one signs, all of them verify. Empty until they have been read from Redis. */
export interface SessionKeys {
  current: string[];
}

/**
 * Reads the keys of every worker of every pod; the first worker stores its own. Called on each connect: a Redis that has lost its data gets
 * the keys that are in use, so that nobody is logged out.
 */
export async function shareSessionKeys(redis: RedisClient, { root, copy }: Roots, keys: SessionKeys): Promise<void> {
  const name = sessionKeysKey(root);
  const ours = keys.current.length > 0 ? keys.current : [generateSessionKey()];
  await redis.set(name, ours.join(','), 'NX');
  const shared = await redis.get(name);
  if (!shared) return;
  keys.current = keysOf(shared);
  // The end of the change copies them again (control/migrate-service.ts).
  if (copy !== undefined) await redis.set(sessionKeysKey(copy), shared, 'NX');
}

/** The value is not trusted: anyone who can write to Redis can change it. @throws Error */
function keysOf(shared: unknown): string[] {
  const keys = typeof shared === 'string' && shared.length <= MAX_SHARED_LENGTH ? shared.split(',') : [];
  if (keys.length > 0 && keys.length <= MAX_SHARED && keys.every(key => KEY.test(key))) return keys;
  throw new Error(`the session keys in Redis must be 1 to ${MAX_SHARED} valid keys, got another value`);
}

/** Generated keys have 43 characters; concurrent rotations leave one more each. */
const KEY = /^[^\s,\p{C}]{1,256}$/u;
const MAX_SHARED = 20;
const MAX_SHARED_LENGTH = MAX_SHARED * 257;

/** A session signed with a removed key is lost; each use of a session signs it with the first key again. */
const MAX_KEYS = 10;

/** First step of a rotation: the last place, where a key verifies but does not sign. */
const ADD_KEY = `local keys = redis.call('GET', KEYS[1])
if not keys then return 0 end
redis.call('SET', KEYS[1], keys .. ',' .. ARGV[1])
return 1`;

/** Second step: the first place, where it signs. */
const PROMOTE_KEY = `local kept, count = ARGV[1], 1
for key in string.gmatch(redis.call('GET', KEYS[1]) or '', '[^,]+') do
  if key ~= ARGV[1] and count < ${MAX_KEYS} then kept, count = kept .. ',' .. key, count + 1 end
end
redis.call('SET', KEYS[1], kept)
return count`;

/** Adds a new key: workers that read the keys from now on verify with it. @throws Error if no keys are stored */
export async function addSessionKey(redis: RedisClient, root: string): Promise<string> {
  const key = generateSessionKey();
  const found = await redis.eval(ADD_KEY, 1, sessionKeysKey(root), key);
  if (found !== 1) throw new Error('there are no session keys in Redis yet: no worker has been ready');
  return key;
}

/** Makes that key the one that signs. @returns how many keys verify */
export async function promoteSessionKey(redis: RedisClient, root: string, key: string): Promise<number> {
  return Number(await redis.eval(PROMOTE_KEY, 1, sessionKeysKey(root), key));
}

/** Loaded late: it takes 8 ms, and the first worker is forked before. */
const nodeCrypto = () => process.getBuiltinModule('node:crypto');

/** Derives a separate key from the one that signs cookies: a signature of one is invalid for the other. */
const PURPOSE = 'koa-bosun messages v1';
/** SHA-256 in base64url. */
const MAC_LENGTH = 43;

/**
 * Signs and verifies messages between pods. Their author is unknown, so they carry an HMAC if the operator sets SESSION_KEYS. Keys that Redis
 * itself stores would not help: anyone who can forge a message could read them.
 */
export class Seal {
  /** Newest first; undefined: nothing is signed. */
  readonly #keys: readonly Buffer[] | undefined;

  /** `sessionKeys` are the operator's keys, newest first: the first one signs, all of them verify. */
  constructor(sessionKeys: readonly string[] | undefined) {
    this.#keys = sessionKeys?.map(key => Buffer.from(nodeCrypto().hkdfSync('sha256', key, '', PURPOSE, 32)));
  }

  get isSigned(): boolean {
    return this.#keys !== undefined;
  }

  /** `label` is the kind and place of the text: a signature for one label is invalid for another. */
  sign(label: string, text: string): string {
    const [newest] = this.#keys ?? [];
    return newest === undefined ? text : `${text}\n${macOf(newest, label, text).toString('base64url')}`;
  }

  /** The text; undefined if it is not signed with one of the keys for this label. */
  open(label: string, sealed: string): string | undefined {
    if (this.#keys === undefined) return sealed;
    const end = sealed.length - MAC_LENGTH - 1;
    if (end < 0 || sealed[end] !== '\n') return undefined;
    const mac = Buffer.from(sealed.slice(end + 1), 'base64url');
    const text = sealed.slice(0, end);
    const isGenuine = this.#keys.some(key => {
      const expected = macOf(key, label, text);
      return mac.length === expected.length && nodeCrypto().timingSafeEqual(mac, expected);
    });
    return isGenuine ? text : undefined;
  }
}

/** The length keeps label and text apart. */
function macOf(key: Buffer, label: string, text: string): Buffer {
  return nodeCrypto().createHmac('sha256', key).update(`${label.length}:${label}`).update(text).digest();
}
