/**
 * The store of sessions: koa-redis for reading and writing, with what it lacks: a limit for size, a breaker, no write after a logout, and,
 * if configured, no lost updates (SESSION_WRITES=versioned). Two round trips, one to read and one to write; a versioned write
 * that conflicts takes one more per retry.
 */
import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';
import { setTimeout as pause } from 'node:timers/promises';
import type KoaRedis from 'koa-redis';
import type { Config } from '../config/config.ts';
import { Breaker } from './breaker.ts';
import type { RedisClient } from './redis.ts';
import { throughFailover } from './redis-health.ts';
import { merge, type SessionData } from './session-merge.ts';

/** The session store did not answer; `cause` is Redis' own error. */
export class StoreError extends Error {
  override readonly name = 'StoreError';
}

/** Another request has changed the same part of the session meanwhile. */
export class ConflictError extends Error {
  override readonly name = 'ConflictError';
}

/** What koa-session calls. Whatever has read a session is known by its `ctx` when it writes. */
export interface SessionStore {
  get(id: string, maxAgeMs: number, options: { ctx?: unknown }): Promise<unknown>;
  /** 'session': until the browser is closed, which nobody tells us; then as long as others. */
  set(id: string, session: SessionData, ttlMs: number | 'session', options: { ctx?: unknown }): Promise<void>;
  destroy(id: string): Promise<void>;
}

/** Twice as much as SESSION_MAX_BYTES may be: the kit has not written more. */
const MOST_READ_LENGTH = 2 << 20;

/** In the place of a session that was destroyed, for as long as a request may last that has read it before. */
const TOMBSTONE = 'destroyed';
const TOMBSTONE_TTL_S = 3600;

/** Dead connections look well, and every command on them waits: after so many probes in vain they are replaced. */
const PROBES_PER_CONNECTION = 2;

/**
 * Of conflicting versioned writes, one succeeds and the others merge again. Each waits a random time between two tries, longer each time.
 * In all at most about 5 s.
 */
const MAX_TRIES = 40;
const MAX_PAUSE_MS = 250;

/** 1: written. 0: the session was destroyed, and stays so. A text: what is there instead of what the writer has read. */
const WRITE = `local now = redis.call('GET', KEYS[1])
if now == '${TOMBSTONE}' then return 0 end
if now and ARGV[3] ~= '' and redis.sha1hex(now) ~= ARGV[3] then return now end
redis.call('SETEX', KEYS[1], ARGV[1], ARGV[2])
return 1`;
/** In the place of a hash: whatever is there. */
const ANYTHING = '';
/** The hash of no text: nothing must be there. */
const NOTHING = 'nothing';

/** Loaded here: with the ioredis that it requires it takes 60 to 120 ms of CPU time, and many a worker has no Redis. */
function loadKoaRedis(): typeof KoaRedis {
  return createRequire(import.meta.url)('koa-redis') as typeof KoaRedis;
}

/** @param wait between two tries of a versioned write */
export function openSessionStore(
  config: Config,
  client: RedisClient,
  wait: (ms: number) => Promise<unknown> = pause,
): SessionStore {
  const { sessionCookie, sessionMaxBytes } = config;
  const isVersioned = config.sessionWrites === 'versioned';
  const breaker = new Breaker({ probe: proberOf(client), isAway, refusal: () => new Error('it was away a moment ago') });
  /** What a request has last read or written, as JSON, by its context. */
  const known = new WeakMap<object, { id: string; json: string }>();
  /** The last of the versioned writes of each session that are in progress. */
  const lastWrites = new Map<string, Promise<string>>();

  const write = async (key: string, ttlSeconds: number, json: string, expected: string) =>
    throughFailover(client, () => client.eval(WRITE, 1, key, ttlSeconds, json, expected));
  // koa-redis needs these of a client, and no more.
  const facade = {
    on: () => undefined,
    get: async (key: string) => {
      const json: unknown = await throughFailover(client, () => client.get(key));
      if (json !== null && !(typeof json === 'string' && json.length <= MOST_READ_LENGTH))
        throw new StoreError(`a session in Redis must be a string of at most ${MOST_READ_LENGTH} characters`);
      return json === TOMBSTONE ? null : json;
    },
    setex: (key: string, ttlSeconds: number, json: string) => write(key, ttlSeconds, json, ANYTHING),
    del: (key: string) => throughFailover(client, () => client.set(key, TOMBSTONE, 'EX', TOMBSTONE_TTL_S)),
  };
  const store = loadKoaRedis()({ client: facade });
  const keyOf = (id: string) => `${sessionCookie}:${id}`;

  /**
   * Writes the session; after a conflict, our changes merged into the other write.
   * @param latest the result of this worker's last write
   * @returns what is there now
   */
  async function writeVersioned(id: string, session: SessionData, ttlSeconds: number, ctx: unknown, latest: string | undefined) {
    const before = known.get(Object(ctx));
    const base = before?.id === id ? before.json : undefined;
    // The next write of this request is based on it too: its session lacks the other changes, and is merged again.
    const ours = JSON.stringify(session);
    let theirs = latest;
    for (let tries = 1; ; tries++) {
      const json = theirs === undefined ? ours : mergedText(parse(base), session, parse(theirs));
      const found = await write(keyOf(id), ttlSeconds, json, hashOf(theirs ?? base));
      if (typeof found !== 'string') {
        known.set(Object(ctx), { id, json: ours });
        return json;
      }
      if (tries === MAX_TRIES) throw new ConflictError(`other requests changed the session during each of ${tries} attempts`);
      theirs = found;
      if (tries > 1) await wait(Math.random() * Math.min(2 ** tries, MAX_PAUSE_MS));
    }
  }

  function mergedText(base: SessionData, ours: SessionData, theirs: SessionData): string {
    const merged = merge(base, ours, theirs);
    if (merged === undefined) throw new ConflictError('another request changed the same field of the session');
    refuseTooLarge(merged, sessionMaxBytes);
    return JSON.stringify(merged);
  }

  /** Serialises this worker's writes of one session: they cannot conflict with each other in Redis. */
  async function inTurn(id: string, run: (latest: string | undefined) => Promise<string>): Promise<void> {
    const previous = lastWrites.get(id);
    const turn = (async () => run(await previous?.catch(() => undefined)))();
    lastWrites.set(id, turn);
    try {
      await turn;
    } finally {
      if (lastWrites.get(id) === turn) lastWrites.delete(id);
    }
  }

  return {
    get: (id, _, { ctx }) =>
      orStoreError(breaker, async () => {
        const session = await store.get(keyOf(id));
        if (isVersioned && session) known.set(Object(ctx), { id, json: JSON.stringify(session) });
        return session;
      }),
    set: async (id, session, maxAge, { ctx }) => {
      const ttlMs = maxAge === 'session' ? config.sessionTtlSeconds * 1000 : maxAge;
      if (!(typeof ttlMs === 'number' && ttlMs >= 1))
        throw new TypeError(`the maxAge of a session must be milliseconds or "session", got ${JSON.stringify(maxAge)}`);
      refuseTooLarge(session, sessionMaxBytes);
      if (!isVersioned) return orStoreError(breaker, () => store.set(keyOf(id), session, ttlMs));
      await inTurn(id, latest => orStoreError(breaker, () => writeVersioned(id, session, Math.ceil(ttlMs / 1000), ctx, latest)));
    },
    destroy: id => orStoreError(breaker, () => store.destroy(keyOf(id))),
  };
}

/** @throws RangeError, which is the app's mistake: an answer of 500, with the reason in the log */
function refuseTooLarge(session: SessionData, mostBytes: number): void {
  const bytes = Buffer.byteLength(JSON.stringify(session));
  if (bytes <= mostBytes) return;
  const largest = Object.entries(session)
    .map(([name, value]) => ({ name, bytes: Buffer.byteLength(JSON.stringify(value) ?? '') }))
    .sort((a, b) => b.bytes - a.bytes)[0];
  throw new RangeError(
    `a session must be at most ${mostBytes} bytes of JSON (SESSION_MAX_BYTES), got ${bytes}; the largest field is "${largest?.name}" with ${largest?.bytes}`,
  );
}

async function orStoreError<T>(breaker: Breaker, operation: () => Promise<T>): Promise<T> {
  try {
    return await breaker.run(operation);
  } catch (cause) {
    if (isOurs(cause)) throw cause;
    throw new StoreError(`the session store failed: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
}

function proberOf(client: RedisClient): () => Promise<unknown> {
  let inVain = 0;
  return async () => {
    try {
      await client.ping();
      inVain = 0;
    } catch (error) {
      if (++inVain % PROBES_PER_CONNECTION === 0 && client.status === 'ready') client.disconnect(true);
      throw error;
    }
  };
}

/** What Redis itself answers is no sign of its absence: its memory is full, or we may not do that. */
function isAway(error: unknown): boolean {
  return !isOurs(error) && !(error instanceof StoreError) && (error as Error).name !== 'ReplyError';
}

/** The store works, but this session cannot be written. */
const isOurs = (error: unknown) => error instanceof ConflictError || error instanceof RangeError;

const hashOf = (text: string | undefined) => (text === undefined ? NOTHING : createHash('sha1').update(text).digest('hex'));
const parse = (json: string | undefined) => (json === undefined ? {} : (JSON.parse(json) as SessionData));
