/**
 * `kit.session`: koa-session over koa-redis, or signed cookies where no Redis is configured. A failing store becomes a 503 with
 * Retry-After on the routes that use a session, and affects no other route.
 *
 * koa-session extends the app that it is given: it signs with `app.keys` through `ctx.cookies`, and reads and writes once for each mount.
 * Here each request gives it a separate context, so that the app's keys and cookies are unchanged, and a request has one session.
 */
import type { IncomingMessage } from 'node:http';
import { createRequire } from 'node:module';
import type Cookies from 'cookies';
import type Koa from 'koa';
import { createSession } from 'koa-session';
import type { Config } from '../config/config.ts';
import type { RedisClient } from './redis.ts';
import type { SessionKeys } from './session-keys.ts';
import { ConflictError, openSessionStore, type SessionPlaces, type SessionStore, StoreError } from './session-store.ts';

/** The package that Koa's own `ctx.cookies` come from, wherever it is installed. */
const KoaCookies = createRequire(createRequire(import.meta.url).resolve('koa'))('cookies') as typeof Cookies;

const RETRY_AFTER_SECONDS = 1;
/** Browsers accept 4096 bytes with name and attributes. */
const MAX_COOKIE_BYTES = 3800;

/**
 * The middleware that apps mount as `kit.session`, any number of times.
 * @param onStoreError called for each request that fails because of the store
 */
export function sessionMiddleware(
  config: Config,
  redis: { client: RedisClient; places: SessionPlaces } | undefined,
  keys: SessionKeys,
  onStoreError: (error: Error) => void,
): Koa.Middleware {
  const store = redis && openSessionStore(config, redis.client, redis.places);
  const openPlain = opener(config.sessionCookie, config, store);
  // Browsers enforce the prefix: no other host and no plain connection may set this cookie.
  const openSecure = opener(`__Host-${config.sessionCookie}`, config, store);
  const opened = new WeakMap<IncomingMessage, Promise<RequestSession>>();

  return async (ctx, next) => {
    if (keys.current.length === 0 || redis?.places.isKnown === false)
      return unavailable(ctx, onStoreError, new StoreError('the names and session keys have not been read from Redis yet'));
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
  const initialize = createSession(
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

/** As koa-session does; browsers silently drop a larger cookie. */
function encodeForCookie(session: unknown): string {
  const text = Buffer.from(JSON.stringify(session)).toString('base64');
  if (text.length <= MAX_COOKIE_BYTES) return text;
  throw new RangeError(
    `a session without Redis must fit into a cookie, ${MAX_COOKIE_BYTES} bytes with base64, got ${text.length}: keep less in it, or set REDIS_URL`,
  );
}

/** With SESSION_WRITES=versioned: the client must know that this request's changes of the session are lost. */
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

/** koa-session's `ctx.session`, as far as it is needed here. */
interface Model {
  maxAge: unknown;
  /** Writes changes; ends the session if it was set to null. */
  manuallyCommit(): Promise<void>;
  /** Writes it even if unchanged. */
  save(): Promise<void>;
}

/** What koa-session adds to a context. */
interface SessionHolder {
  session: Model | null;
  readonly sessionOptions: unknown;
}

/** The session of one request, shared by all its mounts and app contexts: read once, and written when the last mount ends. */
class RequestSession {
  readonly #holder: SessionHolder;
  /** The object that is written; undefined until the session is first used. */
  #model: Model | undefined;
  /** How many mounts run in each context. */
  readonly #mounts = new Map<Koa.Context, number>();
  /** What was last written; undefined if nothing was. */
  #written: string | undefined;

  constructor(holder: SessionHolder) {
    this.#holder = holder;
  }

  /** Marks the session as used: it is written at the end if it has changed or must be renewed. */
  load(): Model | null {
    const { session } = this.#holder;
    this.#model ??= session ?? undefined;
    return session;
  }

  /** Runs the middleware below a mount, with `ctx.session`. */
  async around(ctx: Koa.Context, next: Koa.Next): Promise<void> {
    const mounts = this.#mounts.get(ctx) ?? 0;
    this.#mounts.set(ctx, mounts + 1);
    if (mounts === 0) this.#expose(ctx);
    try {
      await next();
    } finally {
      const left = (this.#mounts.get(ctx) ?? 0) - 1;
      this.#mounts.set(ctx, left);
      if (left === 0) await this.#write();
    }
  }

  #expose(ctx: Koa.Context): void {
    Object.defineProperties(ctx, {
      session: {
        get: () => this.load(),
        set: (value: Model | null) => {
          this.load();
          this.#holder.session = value;
        },
        configurable: true,
      },
      sessionOptions: { get: () => this.#holder.sessionOptions, configurable: true },
    });
  }

  /** Writes changes when the last mount of a context has ended: a nested app answers before the outer one is done. */
  async #write(): Promise<void> {
    if (this.#model === undefined) return;
    if (this.#written === undefined) await this.#model.manuallyCommit();
    else if (this.#written !== this.#state()) await this.#model.save();
    this.#written = this.#state();
  }

  #state(): string {
    const { session } = this.#holder;
    return JSON.stringify([session, session?.maxAge]);
  }
}

/**
 * The cookies of one request as koa-session sees them: signed with the kit's keys, independent of the app's keys and cookies. Signatures are
 * those of Koa's `ctx.cookies`.
 */
class SessionCookies extends KoaCookies {
  #attributes: Cookies.SetOption = {};

  /** @param keys newest first: the first one signs, all of them verify */
  constructor(ctx: Koa.Context, keys: string[], isSecure: boolean) {
    super(ctx.req, ctx.res, { keys, secure: isSecure });
  }

  /** @param options those of koa-session, whose attributes are the cookie's */
  override get(name: string, options?: Cookies.GetOption): string | undefined {
    if (options?.signed) this.#attributes = options;
    return super.get(name, options);
  }

  /** A cookie signed with an older key gets a new signature, which must last as long as the cookie: `cookies` would end it with the browser session. */
  override set(name: string, value?: string | null, options?: Cookies.SetOption): this {
    const isNewSignature = name.endsWith('.sig') && typeof value === 'string';
    return super.set(name, value, isNewSignature ? { ...this.#attributes, ...options } : options);
  }
}
