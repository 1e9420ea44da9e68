/**
 * Sessions: koa-session over koa-redis, or signed cookies where no Redis is configured. A store that fails becomes a 503 with
 * Retry-After on the routes that use a session, and touches no other route.
 */
import type Koa from 'koa';
import koaSession from 'koa-session';
import type { Config } from '../config.ts';
import type { RedisClient } from './redis.ts';
import type { SessionKeys } from './session-keys.ts';
import { ConflictError, openSessionStore, type SessionStore, StoreError } from './session-store.ts';

const RETRY_AFTER_SECONDS = 1;
/** Browsers take 4096 bytes with name and attributes. */
const MOST_COOKIE_BYTES = 3800;

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
  const store = redis && openSessionStore(config, redis);
  // koa-session binds to one app by extending its context, and an app comes to us with its first request.
  const bound = new WeakMap<Koa, Koa.Middleware>();
  return async (ctx, next) => {
    if (keys.current.length === 0)
      return unavailable(ctx, onStoreError, new StoreError('the session keys are not known yet: they are kept in Redis'));
    ctx.app.keys = keys.current;
    const session = bound.get(ctx.app) ?? koaSession(optionsFrom(config, store), ctx.app);
    bound.set(ctx.app, session);
    if (ctx.secure) hostOnly(ctx);
    try {
      await session(ctx, next);
    } catch (error) {
      if (error instanceof StoreError) unavailable(ctx, onStoreError, error);
      else if (error instanceof ConflictError) conflicting(ctx);
      else throw error;
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
    ...(store === undefined && { encode: encodeForCookie }),
  };
}

/** As koa-session does; browsers drop a larger cookie without a word. */
function encodeForCookie(session: unknown): string {
  const text = Buffer.from(JSON.stringify(session)).toString('base64');
  if (text.length <= MOST_COOKIE_BYTES) return text;
  throw new RangeError(
    `a session without Redis must fit into a cookie, ${MOST_COOKIE_BYTES} bytes with base64, got ${text.length}: keep less in it, or set REDIS_URL`,
  );
}

/** Over TLS (with TRUST_PROXY: the proxy's) no other host and no plain connection may set this cookie; browsers hold to the prefix. */
function hostOnly(ctx: Koa.Context): void {
  const sessionOptions: { key: string; secure?: boolean } = ctx.sessionOptions;
  sessionOptions.key = `__Host-${sessionOptions.key}`;
  sessionOptions.secure = true;
}

/** With SESSION_WRITES=versioned: what this request has done to the session is not kept, and its client must know. */
function conflicting(ctx: Koa.Context): void {
  ctx.status = 409;
  ctx.set('Retry-After', '0');
  ctx.body = 'Another request has changed the session at the same time. Please try again.\n';
}

function unavailable(ctx: Koa.Context, onStoreError: (error: Error) => void, error: Error): void {
  onStoreError(error);
  ctx.status = 503;
  ctx.set('Retry-After', String(RETRY_AFTER_SECONDS));
  ctx.body = 'The session store is not available. Please try again in a moment.\n';
}
