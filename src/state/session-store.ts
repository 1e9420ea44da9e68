/**
 * The session store: koa-redis, plus what it lacks: a size limit, a circuit breaker, no write after a logout, and, if configured, no lost
 * updates (SESSION_WRITES=versioned). One round trip to read and one to write; a versioned write that conflicts takes one more per retry.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { Config } from '../config/config.ts';
import { loadKoaRedis } from './own-copy.ts';
import type { RedisClient } from './redis.ts';
import { throughFailover } from './redis-health.ts';
import { NotReplicatedError, sessionWriterOf } from './replica-wait.ts';
import type { Roots } from './service-names.ts';
import { copySession, hashOf, TOMBSTONE, TOMBSTONE_TTL_S } from './session-copy.ts';

export type SessionData = Record<string, unknown>;

/** The session store did not answer; `cause` is Redis' own error. */
export class StoreError extends Error {
  override readonly name = 'StoreError';
}

/** A concurrent request has changed the same part of the session. */
export class ConflictError extends Error {
  override readonly name = 'ConflictError';
}

/** What koa-session calls; `ctx` connects a write with the read of the same request. */
export interface SessionStore {
  get(id: string, maxAgeMs: number, options: { ctx?: unknown }): Promise<unknown>;
  /** 'session' means until the browser is closed, which the server cannot know: stored as long as others. */
  set(id: string, session: SessionData, ttlMs: number | 'session', options: { ctx?: unknown }): Promise<void>;
  destroy(id: string): Promise<void>;
}

/** Twice the maximum of SESSION_MAX_BYTES: the kit never writes more. */
const MAX_READ_LENGTH = 2 << 20;

/** A dead connection looks healthy while every command on it times out: after this many failed probes it is replaced. */
const PROBES_PER_CONNECTION = 2;

/** Of conflicting versioned writes one succeeds, the others merge again: after a random pause, longer each time, about 5 s in all. */
const MAX_TRIES = 40;
const MAX_PAUSE_MS = 250;

/** Returns 1: written. 0: the session was destroyed, and stays so. A string: the value found instead of the one that the writer has read. */
const WRITE = `local now = redis.call('GET', KEYS[1])
if now == '${TOMBSTONE}' then return 0 end
if now and ARGV[3] ~= '' and redis.sha1hex(now) ~= ARGV[3] then return now end
redis.call('SETEX', KEYS[1], ARGV[1], ARGV[2])
return 1`;
/** Instead of a hash: overwrite any value. */
const ANYTHING = '';

/** What we use of koa-redis 4, which has no types (@types/koa-redis brings those of another Redis client). */
type KoaRedis = (options: { client: unknown }) => {
  get(id: string): Promise<unknown>;
  set(id: string, session: unknown, ttlMs: number): Promise<void>;
  destroy(id: string): Promise<void>;
};

/** Where the sessions are (service-names.ts). */
export interface SessionPlaces {
  /** Whether Redis has said it. */
  readonly isKnown: boolean;
  readonly roots: Roots;
  write<T>(run: (roots: Roots) => Promise<T>): Promise<T>;
}

/** @param wait called between two tries of a versioned write */
export function openSessionStore(
  config: Config,
  client: RedisClient,
  places: SessionPlaces,
  wait: (ms: number) => Promise<unknown> = pause,
): SessionStore {
  const { sessionMaxBytes } = config;
  const isVersioned = config.sessionWrites === 'versioned';
  const breaker = new Breaker(proberOf(client), isOutage);
  /** What each request has last read or written, as JSON, by its context. */
  const known = new WeakMap<object, { id: string; json: string }>();
  /** The last of the versioned writes of each session that are in progress. */
  const lastWrites = new Map<string, Promise<string>>();

  const send = sessionWriterOf(client);

  const write = async (key: string, ttlSeconds: number, json: string, expected: string) =>
    send(redis => redis.eval(WRITE, 1, key, ttlSeconds, json, expected));
  // All that koa-redis needs of a client.
  const facade = {
    on: () => undefined,
    get: async (key: string) => {
      const json: unknown = await throughFailover(client, () => client.get(key));
      if (json !== null && !(typeof json === 'string' && json.length <= MAX_READ_LENGTH))
        throw new StoreError(`a session in Redis must be a string of at most ${MAX_READ_LENGTH} characters`);
      return json === TOMBSTONE ? null : json;
    },
    setex: (key: string, ttlSeconds: number, json: string) => write(key, ttlSeconds, json, ANYTHING),
    del: (key: string) => send(redis => redis.set(key, TOMBSTONE, 'EX', TOMBSTONE_TTL_S)),
  };
  const koaRedis = loadKoaRedis() as KoaRedis;
  const store = koaRedis({ client: facade });

  /** Runs a write to a session's key; then its copy becomes the same. */
  const writing = <T>(id: string, run: (key: string) => Promise<T>): Promise<T> =>
    orStoreError(breaker, () =>
      places.write(async ({ root, copy }) => {
        const key = `${root}:${id}`;
        const written = await run(key);
        if (copy !== undefined) await send(redis => copySession(redis, key, `${copy}:${id}`));
        return written;
      }),
    );

  /**
   * Writes the session; after a conflict, our changes merged into the other write.
   * @param latest the result of this worker's last write
   * @returns what is stored now
   */
  async function writeVersioned(
    key: string,
    id: string,
    session: SessionData,
    ttlSeconds: number,
    ctx: unknown,
    latest: string | undefined,
  ) {
    const before = known.get(Object(ctx));
    const base = before?.id === id ? before.json : undefined;
    // Also the base of this request's next write: its session lacks the other changes, and is merged again.
    const ours = JSON.stringify(session);
    let theirs = latest;
    for (let tries = 1; ; tries++) {
      const json = theirs === undefined ? ours : mergedText(parse(base), session, parse(theirs));
      const found = await write(key, ttlSeconds, json, hashOf(theirs ?? base));
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
        const session = await store.get(`${places.roots.root}:${id}`);
        if (isVersioned && session) known.set(Object(ctx), { id, json: JSON.stringify(session) });
        return session;
      }),
    set: async (id, session, maxAge, { ctx }) => {
      const ttlMs = maxAge === 'session' ? config.sessionTtlSeconds * 1000 : maxAge;
      if (!(typeof ttlMs === 'number' && ttlMs >= 1))
        throw new TypeError(`the maxAge of a session must be milliseconds or "session", got ${JSON.stringify(maxAge)}`);
      refuseTooLarge(session, sessionMaxBytes);
      if (!isVersioned) return writing(id, key => store.set(key, session, ttlMs));
      const ttlSeconds = Math.ceil(ttlMs / 1000);
      await inTurn(id, latest => writing(id, key => writeVersioned(key, id, session, ttlSeconds, ctx, latest)));
    },
    destroy: id => writing(id, key => store.destroy(key)),
  };
}

/** @throws RangeError: the app's mistake, answered with 500 and logged */
function refuseTooLarge(session: SessionData, maxBytes: number): void {
  const bytes = Buffer.byteLength(JSON.stringify(session));
  if (bytes <= maxBytes) return;
  const largest = Object.entries(session)
    .map(([name, value]) => ({ name, bytes: Buffer.byteLength(JSON.stringify(value) ?? '') }))
    .sort((a, b) => b.bytes - a.bytes)[0];
  throw new RangeError(
    `a session must be at most ${maxBytes} bytes of JSON (SESSION_MAX_BYTES), got ${bytes}; the largest field is "${largest?.name}" with ${largest?.bytes}`,
  );
}

async function orStoreError<T>(breaker: Breaker, operation: () => Promise<T>): Promise<T> {
  try {
    return await breaker.run(operation);
  } catch (cause) {
    if (isRejection(cause)) throw cause;
    throw new StoreError(`the session store failed: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
}

function proberOf(client: RedisClient): () => Promise<unknown> {
  let failures = 0;
  return async () => {
    try {
      await client.ping();
      failures = 0;
    } catch (error) {
      if (++failures % PROBES_PER_CONNECTION === 0 && client.status === 'ready') client.disconnect(true);
      throw error;
    }
  };
}

/** Whether an error means that Redis does not answer; an error reply (memory is full, permission is missing) does not. */
function isOutage(error: unknown): boolean {
  const isAnswer = error instanceof StoreError || error instanceof NotReplicatedError || (error as Error).name === 'ReplyError';
  return !isRejection(error) && !isAnswer;
}

/** The store works, but this session cannot be written. */
const isRejection = (error: unknown) => error instanceof ConflictError || error instanceof RangeError;

const parse = (json: string | undefined) => (json === undefined ? {} : (JSON.parse(json) as SessionData));

/** koa-session's own fields: the later write wins. */
const BOOKKEEPING = ['_expire', '_maxAge', '_session'];

/**
 * Applies the changes from `base` to `ours` to `theirs`, another change of the same `base`.
 * @returns undefined if both have changed the same field, even to the same value: two that count from one both come to two
 */
export function merge(base: SessionData, ours: SessionData, theirs: SessionData): SessionData | undefined {
  const merged = { ...theirs };
  for (const name of new Set([...Object.keys(base), ...Object.keys(ours), ...Object.keys(theirs)])) {
    const [before, mine, other] = [base, ours, theirs].map(session => JSON.stringify(session[name]));
    if (mine === before) continue;
    if (other !== before && !BOOKKEEPING.includes(name)) return undefined;
    if (Object.hasOwn(ours, name)) merged[name] = ours[name];
    else delete merged[name];
  }
  return merged;
}

/** After this many failures in a row the breaker opens. */
const MAX_FAILURES = 3;
/** From the end of one probe to the start of the next. */
const PROBE_INTERVAL_MS = 100;

/** A circuit breaker: after several failures in a row, operations fail at once without being tried, until a probe succeeds. */
export class Breaker {
  readonly #probe: () => Promise<unknown>;
  readonly #isOutage: (error: unknown) => boolean;
  #failures = 0;
  #isProbing = false;

  /** `probe` rejects during an outage; `isOutage` says whether an operation's error counts as a failure. */
  constructor(probe: () => Promise<unknown>, isOutage: (error: unknown) => boolean) {
    this.#probe = probe;
    this.#isOutage = isOutage;
  }

  get isOpen(): boolean {
    return this.#failures >= MAX_FAILURES;
  }

  /** Runs an operation. @throws its error, or one of the breaker if that is open */
  async run<T>(operation: () => Promise<T>): Promise<T> {
    if (this.isOpen) throw new Error('Redis outage (circuit breaker open)');
    try {
      const result = await operation();
      this.#failures = 0;
      return result;
    } catch (error) {
      if (this.#isOutage(error)) this.#failed();
      else this.#failures = 0;
      throw error;
    }
  }

  #failed(): void {
    this.#failures++;
    if (!this.isOpen || this.#isProbing) return;
    this.#isProbing = true;
    void this.#probeUntilSuccess();
  }

  async #probeUntilSuccess(): Promise<void> {
    try {
      await this.#probe();
      this.#failures = 0;
      this.#isProbing = false;
    } catch {
      setTimeout(() => void this.#probeUntilSuccess(), PROBE_INTERVAL_MS).unref();
    }
  }
}
