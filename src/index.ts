/**
 * What an app may import from koa-bosun: types only, `import type { Kit } from 'koa-bosun'`.
 */
import type { IncomingMessage, RequestListener } from 'node:http';
import type { Socket } from 'node:net';
import type { Cluster, Redis } from 'ioredis';
import type Koa from 'koa';
import type { Registry } from 'prom-client';
import type { Config } from './config/config.ts';
import type { Log } from './log/log.ts';

export type { Config } from './config/config.ts';
export type { Log } from './log/log.ts';

/**
 * What `APP_MODULE` may export as default: a Koa instance, a function that makes one from the kit, or any request listener of two or more
 * parameters (Express, plain `node:http`). The function is called once in each worker, before it serves; it may also return such a listener.
 * A worker whose app throws, rejects or returns something else counts as a failed start.
 */
export type App = Koa | ((kit: Kit) => Koa | Promise<Koa>) | RequestListener;

/** What koa-bosun gives to an app whose default export is a function of one parameter. */
export interface Kit {
  /** All settings, validated and frozen. Times are in milliseconds where the name ends in `Ms`. */
  readonly config: Config;

  /** pino logger whose lines carry this worker's `pid` and `worker`. Fields such as `password`, `token` and `cookie` are redacted. */
  readonly log: Log;

  /** 1 or more. Unique among the running workers of this pod; a later worker gets the number of one that has exited. */
  readonly workerId: number;

  /**
   * koa-session middleware, configured; mount it on the routes that need `ctx.session` (see {@link SessionContext}), also more than once.
   * Sessions are stored in Redis where it is configured, otherwise in a signed cookie. The cookie is signed with the kit's keys: `app.keys`
   * and `ctx.cookies` are not involved. While Redis is unreachable it responds with 503 and `Retry-After` and does not call the route.
   */
  readonly session: Koa.Middleware;

  /**
   * The worker's ioredis client; undefined where no Redis is configured. When the app's function is called, it is connected, or Redis has not
   * answered for 2 s. Commands fail at once while Redis is unreachable. The kit closes it after the close handlers and listeners of the app.
   */
  readonly redis: Redis | Cluster | undefined;

  /**
   * Sends an event to every worker of every pod, this one included: once each, in the order in which this worker sends. Without Redis only
   * this pod's workers get it; also while Redis is unreachable, and other pods do not get it later.
   * @param event its name, 1 to 256 characters; names that begin with `bosun:` are reserved
   * @param data anything that JSON can hold, at most 256 KiB as JSON; default `null`
   * @throws TypeError if the name is invalid or `data` is not JSON; RangeError if it is too large
   */
  broadcast(event: string, data?: unknown): void;

  /**
   * Calls `handler` with the data of every later event of that name, a copy of its own for each handler. For a retained event
   * (`BROADCAST_RETAINED`) it is first called with the last data, also if that was sent before this worker started. An error of the handler
   * (thrown or rejected) is logged as `broadcast.handler-failed` and affects nothing else.
   */
  on(event: string, handler: (data: unknown) => unknown): void;

  /**
   * prom-client registry for the app's own metrics. The admin port's `/metrics` shows them summed over the workers, at most 1,000 metrics with
   * 20,000 values. Collectors have 500 ms; the last values are shown while they fail or take longer.
   */
  readonly metrics: Registry;

  /** Aborts when this worker starts to drain. End server-sent events, long polls and WebSockets then: the deadline aborts those left. */
  readonly draining: AbortSignal;

  /**
   * Handles WebSocket upgrades, as with `ws` and `noServer: true`. Call it before the app's function returns; a second call replaces the
   * listener. Without it, and for other protocols (`Upgrade: h2c`), such a request is answered over HTTP/1.1. A WebSocket counts as an
   * open request until it closes: close it on {@link draining}. An error of the listener (thrown or rejected) is logged as
   * `upgrade.handler-failed`, and closes the socket.
   */
  onUpgrade(listener: (request: IncomingMessage, socket: Socket, head: Buffer) => unknown): void;

  /**
   * Calls `close` when the worker has answered its last request or its deadline has passed, before Redis closes. All handlers are called at
   * once, and have 1 s together; an error (thrown or rejected) is logged as `worker.close-handler-failed`.
   */
  onClose(close: () => unknown): void;
}

/** The part of the context that `kit.session` adds. */
export interface SessionContext {
  /** Null if it was ended. Assign `null` to end it: with Redis for good, without it in this browser only, since a copied cookie stays valid. */
  session: Session | null;
}

/** A session: JSON that all workers and pods share. It expires after SESSION_TTL_SECONDS without use. */
export interface Session {
  /** Whether the request came without a valid session. */
  readonly isNew: boolean;

  /**
   * Gives the session a new id and deletes the old one. Call it when a user logs in: an id that an attacker has planted becomes worthless.
   */
  regenerate(): Promise<void>;

  /** Writes the session now. Later changes in the same request are written when it ends. */
  save(): Promise<void>;

  [key: string]: unknown;
}
