/**
 * While the name of the service changes, a session is in two places. The first one counts: each write is made there and then copied, as it is
 * there by then. Two pods that copy at the same time end with the same: a copy is written only if the old one is still what was read before.
 * One key per command, so that the places may be on two nodes of a Cluster.
 */
import { createHash } from 'node:crypto';
import type { RedisClient } from './redis.ts';

/** Replaces a destroyed session for as long as a request that has read it may run. */
export const TOMBSTONE = 'destroyed';
export const TOMBSTONE_TTL_S = 3600;

/** Instead of a hash: the key must not exist. */
const ABSENT = 'nothing';

/** The hash by which a script finds that a value is still the one that was read. */
export const hashOf = (text: string | undefined) => (text === undefined ? ABSENT : createHash('sha1').update(text).digest('hex'));

const READ = `return {redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1])}`;

/** Replaces the value with that hash by another one, or by none. A destroyed session stays so. Returns 0 if another value is there. */
const REPLACE = `local now = redis.call('GET', KEYS[1])
if now == '${TOMBSTONE}' then return 1 end
if (now and redis.sha1hex(now) or '${ABSENT}') ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('DEL', KEYS[1])
elseif tonumber(ARGV[3]) > 0 then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
else redis.call('SET', KEYS[1], ARGV[2]) end
return 1`;

/** Each failed one means that another copy has been made. */
const MAX_TRIES = 40;

/** Makes `to` what `from` is, with its remaining lifetime: a session, a destroyed one, or none. @throws Error if Redis fails */
export async function copySession(redis: RedisClient, from: string, to: string): Promise<void> {
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const old = await redis.get(to);
    const [value, ttlMs] = (await redis.eval(READ, 1, from)) as [string | null, number];
    if (value === old) return;
    if ((await redis.eval(REPLACE, 1, to, hashOf(old ?? undefined), value ?? '', ttlMs)) === 1) return;
  }
  throw new Error(`other requests changed the session during each of ${MAX_TRIES} attempts to copy it`);
}
