/**
 * What an app may import from the kit: types and one helper to name them. No logic.
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
 * A session: plain data that survives requests, workers and pods. `ctx.session = null` ends it: with Redis permanently, without it in this
 * browser only, since a copy of the cookie stays valid for SESSION_TTL_SECONDS.
 */
export interface Session {
  readonly isNew: boolean;
  /** Gives the session a new id and drops the old one: call it when a user logs in, so that no planted id stays valid. */
  regenerate(): Promise<void>;
  /** Writes the session now; what changes later in the request is written after it, as ever. */
  save(): Promise<void>;
  [key: string]: unknown;
}

/** What the context of a request has where `kit.session` is mounted. */
export interface SessionContext {
  session: Session | null;
}

/** What the kit gives to an app whose default export is a function of one argument. */
export interface Kit {
  /** All settings, frozen. */
  readonly config: Config;
  /** pino child with this worker's fields. */
  readonly log: Log;
  /** 1 and up; unique among the running workers of this pod, and used again after a worker is gone. */
  readonly workerId: number;
  /**
   * koa-session middleware, ready-made; mount it on the routes that need a session, also more than once. Its cookie is signed with the
   * kit's keys: `app.keys` and `ctx.cookies` are not used. Answers 503 when the store is away.
   */
  readonly session: Koa.Middleware;
  /**
   * The worker's Redis client; undefined where no Redis is configured. It is connected when the app's function is called, or Redis is
   * away: commands fail at once then.
   */
  readonly redis: Redis | Cluster | undefined;
  /**
   * Sends `data` to every worker of every pod, this one included: once each, in the order in which this worker sends. Without Redis to
   * this pod only; while Redis is away too, and other pods never get it. `null` where there is no data.
   * @throws TypeError where the data is no JSON, RangeError above 256 KiB of it
   */
  broadcast(event: string, data?: unknown): void;
  /**
   * Calls `handler` with the data of each event of that name from now on. For an event that is retained (BROADCAST_RETAINED) it is called
   * with the last one first, also where that was sent before this worker started. One that throws or rejects is logged, and no more.
   */
  on(event: string, handler: (data: unknown) => unknown): void;
  /** Metrics of your own; they appear on the admin port's `/metrics`, summed over the workers. */
  readonly metrics: Registry;
  /** Aborts when this worker begins to drain: end streams, long polls and WebSockets on it. */
  readonly draining: AbortSignal;
  /**
   * Takes connections that ask for a WebSocket, as `ws` does with `noServer: true`. The kit counts them as open work of the
   * worker: end them on `draining`, or the drain's deadline cuts them. Where the listener throws or rejects, that is logged, and the
   * connection ends. A request for another protocol (`Upgrade: h2c`) is answered over HTTP/1.1.
   */
  onUpgrade(listener: (request: IncomingMessage, socket: Socket, head: Buffer) => unknown): void;
  /** Called after the last request was answered, before Redis closes; 1 second in all. */
  onClose(close: () => unknown): void;
}

/** What `APP_MODULE` may export as default. */
export type App = Koa | ((kit: Kit) => Koa | Promise<Koa>) | RequestListener;
