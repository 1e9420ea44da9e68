/**
 * Sessions: koa-session over koa-redis, or signed cookies where no Redis is configured. A store that fails becomes a 503 with
 * Retry-After on the routes that use a session, and touches no other route.
 *
 * koa-session extends the app that it is given: it signs with `app.keys` through `ctx.cookies`, and reads and writes once for each mount.
 * Here each request gives it a separate context, so that the app's keys and cookies are unchanged, and a request has one session.
 */
import type { IncomingMessage } from 'node:http';
import type Koa from 'koa';
import koaSession from 'koa-session';
import type { Config } from '../config/config.ts';
import type { RedisClient } from './redis.ts';
import { RequestSession } from './request-session.ts';
import { SessionCookies } from './session-cookies.ts';
import type { SessionKeys } from './session-keys.ts';
import { ConflictError, openSessionStore, type SessionStore, StoreError } from './session-store.ts';

const RETRY_AFTER_SECONDS = 1;
/** Browsers take 4096 bytes with name and attributes. */
const MOST_COOKIE_BYTES = 3800;

/**
 * The middleware that apps mount as `kit.session`, any number of times.
 * @param onStoreError called for each request that the store failed, so that it is counted and logged
 */
export function sessionMiddleware(
  config: Config,
  redis: RedisClient | undefined,
  keys: SessionKeys,
  onStoreError: (error: Error) => void,
): Koa.Middleware {
  const store = redis && openSessionStore(config, redis);
  const openPlain = opener(config.sessionCookie, config, store);
  // Browsers enforce the prefix: no other host and no plain connection may set this cookie.
  const openSecure = opener(`__Host-${config.sessionCookie}`, config, store);
  const opened = new WeakMap<IncomingMessage, Promise<RequestSession>>();

  return async (ctx, next) => {
    if (keys.current.length === 0)
      return unavailable(ctx, onStoreError, new StoreError('the session keys are not known yet: they are kept in Redis'));
    try {
      const isSecure = isOverTls(ctx, config.trustProxy);
      const open = isSecure ? openSecure : openPlain;
      const session = opened.get(ctx.req) ?? open(ctx, new SessionCookies(ctx, keys.current, isSecure));
      opened.set(ctx.req, session);
      await (await session).around(ctx, next);
    } catch (error) {
      if (error instanceof StoreError) unavailable(ctx, onStoreError, error);
      else if (error instanceof ConflictError) conflicting(ctx);
      else throw error;
    }
  };
}

/** koa-session for a cookie of that name, as a function that opens the session of a request. */
function opener(cookie: string, config: Config, store: SessionStore | undefined) {
  // Stands in for an app: koa-session adds its properties to the context, and uses nothing else.
  const host = { use: () => undefined, context: {} };
  const initialize = koaSession(
    {
      key: cookie,
      maxAge: config.sessionTtlSeconds * 1000,
      renew: true,
      sameSite: 'lax',
      autoCommit: false,
      ...(store && { store }),
      ...(store === undefined && { encode: encodeForCookie }),
    },
    host,
  );
  const properties = Object.getOwnPropertyDescriptors(host.context);
  return async (ctx: Koa.Context, cookies: SessionCookies): Promise<RequestSession> => {
    // An app's own koa-session keeps its state in the context under the same symbol as ours.
    const hidden = Object.getOwnPropertySymbols(ctx).map(symbol => [symbol, { value: undefined, writable: true }]);
    const holder = Object.create(ctx, { ...Object.fromEntries(hidden), ...properties, cookies: { value: cookies } });
    await initialize(holder, async () => undefined);
    const session = new RequestSession(holder);
    // A session that was read is renewed even if unused. A cookie is parsed on first use.
    if (store !== undefined) session.load();
    return session;
  };
}

/** Koa reports it for apps that trust the proxy; a nested app may not have that setting. */
function isOverTls(ctx: Koa.Context, trustProxy: boolean): boolean {
  return ctx.secure || (trustProxy && /^https\s*(?:,|$)/.test(ctx.get('X-Forwarded-Proto')));
}

/** As koa-session does; browsers drop a larger cookie without a word. */
function encodeForCookie(session: unknown): string {
  const text = Buffer.from(JSON.stringify(session)).toString('base64');
  if (text.length <= MOST_COOKIE_BYTES) return text;
  throw new RangeError(
    `a session without Redis must fit into a cookie, ${MOST_COOKIE_BYTES} bytes with base64, got ${text.length}: keep less in it, or set REDIS_URL`,
  );
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
