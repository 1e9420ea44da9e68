/**
 * Sessions: koa-session over koa-redis, or signed cookies where no Redis is configured. A store that fails becomes a 503 with
 * Retry-After on the routes that use a session, and touches no other route.
 */
import type Koa from 'koa';
import redisStore from 'koa-redis';
import koaSession from 'koa-session';
import type { Config } from '../config.ts';
import type { RedisClient } from './redis.ts';
import type { SessionKeys } from './session-keys.ts';

const RETRY_AFTER_SECONDS = 1;

/** The session store did not answer; `cause` is Redis' own error. */
class StoreError extends Error {
  override readonly name = 'StoreError';
}

/**
 * The middleware that apps mount as `kit.session`.
 * @param onStoreError called for each request that the store failed, so that it is counted and logged
 */
export function sessionMiddleware(
  config: Config,
  redis: RedisClient | undefined,
  keys: SessionKeys,
  onStoreError: (error: Error) => void,
): Koa.Middleware {
  const store = redis && redisSessionStore(config, redis);
  // koa-session binds to one app by extending its context, and an app comes to us with its first request.
  const bound = new WeakMap<Koa, Koa.Middleware>();
  return async (ctx, next) => {
    if (keys.current.length === 0)
      return unavailable(ctx, onStoreError, new StoreError('the session keys are not known yet: they are kept in Redis'));
    ctx.app.keys = keys.current;
    const session = bound.get(ctx.app) ?? koaSession(optionsFrom(config, store), ctx.app);
    bound.set(ctx.app, session);
    try {
      await session(ctx, next);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      unavailable(ctx, onStoreError, error);
    }
  };
}

function optionsFrom(config: Config, store: SessionStore | undefined) {
  return {
    key: config.sessionCookie,
    maxAge: config.sessionTtlSeconds * 1000,
    renew: true,
    sameSite: 'lax',
    ...(store && { store }),
  };
}

function unavailable(ctx: Koa.Context, onStoreError: (error: Error) => void, error: Error): void {
  onStoreError(error);
  ctx.status = 503;
  ctx.set('Retry-After', String(RETRY_AFTER_SECONDS));
  ctx.body = 'The session store is not available. Please try again in a moment.\n';
}

interface SessionStore {
  get(id: string): Promise<unknown>;
  set(id: string, session: unknown, ttlMs: number): Promise<void>;
  destroy(id: string): Promise<void>;
}

/** koa-redis with its keys prefixed, and with errors that say that they are the store's. */
function redisSessionStore(config: Config, client: RedisClient): SessionStore {
  const store = redisStore({ client });
  const keyOf = (id: string) => `${config.sessionCookie}:${id}`;
  return {
    get: id => orStoreError(() => store.get(keyOf(id))),
    set: (id, session, ttlMs) => orStoreError(() => store.set(keyOf(id), session, ttlMs)),
    destroy: id => orStoreError(() => store.destroy(keyOf(id))),
  };
}

async function orStoreError<T>(operation: () => Promise<T>): Promise<T> {
  try {
    return await operation();
  } catch (cause) {
    throw new StoreError(`the session store failed: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
}
