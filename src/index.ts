/**
 * What an app may import from koa-bosun: types only, `import type { Kit } from 'koa-bosun'`.
 */
import type { IncomingMessage, RequestListener, Server } from 'node:http';
import type { Socket } from 'node:net';
import type { Cluster, Redis } from 'ioredis';
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import type { Config } from './config/config.ts';
import type { BosunEvents as DeclaredInCommonJs } from './index.cts';

export type { Config } from './config/config.ts';

/**
 * What `APP_MODULE` may export as default: a Koa instance, any request listener of two or more parameters (an Express app is one), an
 * `http.Server` that does not listen yet, an object with `fetch(Request)` (Hono, h3, itty-router), or a function that makes one of them from
 * the kit. Apps of Fastify, NestJS and Hapi are recognised too. The function is called once in each worker, before it serves; a worker whose
 * function throws, rejects or returns something else counts as a failed start.
 */
export type App = Servable | ((kit: Kit) => Servable | Promise<Servable>);

/**
 * What the module of `BEFORE_START` exports as default. It is called once in each pod, before the first worker, in a process of its own; what it
 * throws or rejects with ends the start.
 */
export type BeforeStart = (context: { config: Config; log: Log }) => unknown;

/** What can be served. */
export type Servable = KoaApp | RequestListener | Server | FetchHandler;

/** An app for the Fetch API, as for Bun, Deno and Cloudflare. `environment` is Hono's `c.env`. */
export interface FetchHandler {
  fetch(request: Request, environment?: object): Response | Promise<Response>;
}

/** A Koa instance, of Koa 2 or 3. The package needs no types of Koa: a project has those of its own version, or none. */
export interface KoaApp {
  use(middleware: never): unknown;
  callback(): RequestListener;
}

/** A logger of pino. */
export type Log = Logger;

/** A middleware for `use` of a Koa 2 or 3. */
export type Middleware = (context: object, next: () => Promise<unknown>) => Promise<void>;

/**
 * The events of the app: the data of each name. It is empty here. What an app adds to it types `broadcast`, `on` and `off` of the kit:
 *
 * ```ts
 * declare module 'koa-bosun' {
 *   interface BosunEvents {
 *     'price.changed': { sku: string };
 *     'cache.cleared': null;
 *   }
 * }
 * ```
 *
 * Declare what `JSON.parse` makes of the data (a `Date` arrives as text), and `null` for an event without data. Nothing is checked at run
 * time: an operator, or a pod with an earlier version of the app, may send anything else.
 */
export interface BosunEvents extends DeclaredInCommonJs {}

/** The name of an event: one of `BosunEvents`, or any other text. */
export type EventName = Extract<keyof BosunEvents, string> | (string & {});

/** The data of an event: as `BosunEvents` has it, `unknown` for any other name. */
export type EventData<Name> = Name extends keyof BosunEvents ? BosunEvents[Name] : unknown;

/** The data as last argument of `broadcast`; it may be omitted if it may be `null` or `undefined`. */
export type EventArguments<Name> =
  undefined extends EventData<Name>
    ? [data?: EventData<Name>]
    : null extends EventData<Name>
      ? [data?: EventData<Name>]
      : [data: EventData<Name>];

/** What koa-bosun gives to an app whose default export is a function of one parameter. */
export interface Kit {
  /**
   * All settings, validated and frozen: a field for each variable, with its unit in its docstring. Secrets (`redisUrl`, `redisPassword`,
   * `sessionKeys`, …) are read by their names only: a copy, JSON, a log line or a print of the object does not have them.
   */
  readonly config: Config;

  /** pino logger whose lines carry this worker's `pid` and `worker`. Fields such as `password`, `token` and `cookie` are redacted. */
  readonly log: Log;

  /** A number from 1. Unique among the running workers of this pod; a later worker gets the number of one that has exited. */
  readonly workerId: number;

  /**
   * Configured koa-session middleware; mount it on the routes that need `ctx.session` (see {@link SessionContext}). It may be mounted more
   * than once. Sessions are stored in Redis if that is configured, otherwise in a signed cookie. The cookie is signed with the kit's keys;
   * `app.keys` and `ctx.cookies` are not used. While Redis is unreachable the middleware responds with 503 and `Retry-After`, and does not
   * call the route.
   */
  readonly session: Middleware;

  /**
   * The worker's ioredis client; undefined if no Redis is configured. When the app's function is called, the client is connected, or Redis
   * has not answered for 2 s. Commands fail at once while Redis is unreachable. The kit closes the client after the app's close handlers and
   * signal listeners.
   */
  readonly redis: Redis | Cluster | undefined;

  /**
   * Sends an event to every worker of every pod, this one included: once each, in the order in which this worker sends. Without Redis only
   * this pod's workers receive it. While Redis is unreachable other pods do not receive it, unless the event is durable (`BROADCAST_DURABLE`)
   * or retained (`BROADCAST_RETAINED`): then they receive it later.
   * @param event its name, 1 to 256 characters; names that begin with `bosun:` are reserved
   * @param data anything that JSON can hold, at most 256 KiB as JSON; default `null`. Its type is that of {@link BosunEvents}
   * @throws TypeError if the name is invalid or `data` is not JSON; RangeError if it is too large
   */
  broadcast<Name extends EventName>(event: Name, ...data: EventArguments<Name>): void;

  /**
   * Calls `handler` with the data of every later event of that name; each handler gets its own copy. For a retained event
   * (`BROADCAST_RETAINED`) it is first called with the last data, even if that was sent before this worker started. If the handler throws or
   * rejects, the error is logged as `broadcast.handler-failed` and affects nothing else.
   * @throws TypeError if the name is invalid or `handler` is no function
   */
  on<Name extends EventName>(event: Name, handler: (data: EventData<Name>) => unknown): void;

  /**
   * Removes a handler of {@link on}: it is not called for later events. Of a handler that was added several times one is removed; one that
   * was never added changes nothing.
   * @throws TypeError if the name is invalid or `handler` is no function
   */
  off<Name extends EventName>(event: Name, handler: (data: EventData<Name>) => unknown): void;

  /**
   * Runs `start` in one worker of the whole fleet, for cron jobs, consumers and migrations. It is called in a worker that serves, once that
   * worker leads; when its term ends, in the next one. Redis elects the leader; without Redis, and with `{ scope: 'pod' }`, the primary does,
   * one in each pod.
   *
   * A worker leads until it drains, fails to renew its lock for 4 s, `start` rejects, or `bosun leader NAME --release`. If `start` resolves, it
   * leads on. If `start` rejects, the error is logged as `leader.failed`, and a worker tries again, later each time. A leader that is killed is
   * followed in under 6 s.
   *
   * Two workers may run `start` at the same time: one that is paused or blocked does not know yet that its term has ended. Only a resource
   * that checks {@link LeaderTerm.token} excludes that.
   * @param name 1 to 64 of `A-Z a-z 0-9 _ - .`; once in each worker
   * @throws TypeError if an argument is invalid or the name was used before; Error without Redis, if the scope is not `pod`; RangeError after 100 names
   */
  leader(name: string, start: (term: LeaderTerm) => unknown, options?: LeaderOptions): void;

  /**
   * prom-client registry for the app's own metrics. `/metrics` on the admin port shows them summed over the workers, at most 1,000 metrics
   * with 20,000 values per worker. Collectors have 500 ms; while they fail or take longer, the last values are shown.
   */
  readonly metrics: Registry;

  /**
   * Registers a health check of the app, such as a query to its database. `/readyz`, `/status`, `/metrics`, the dashboard, `bosun status` and
   * `bosun doctor` show its result. A failing check takes nobody out of service, unless it has `readiness: true`. It runs when the
   * worker serves, then every `intervalMs`, give or take 20 %, never twice at the same time, and no longer once the worker drains.
   * @param name 1 to 64 letters, digits, `_`, `-` and `.`; its first character is a letter or digit
   * @param check fails if it throws, rejects, takes longer than `timeoutMs`, or returns `false`, an `Error` or an object whose `ok` is `false`,
   *   such as a `Response`; any other value passes
   * @throws TypeError for a wrong name, check or option, or a name that is registered already; RangeError for a wrong time, and for more
   *   than 20 checks
   */
  health(name: string, check: HealthCheck, options?: HealthOptions): void;

  /**
   * Aborts when this worker starts to drain. End long polls and other responses without an end then; the drain deadline aborts the rest.
   * WebSockets and server-sent events that are still open 0.3 s later are closed by the kit, one after the other.
   */
  readonly draining: AbortSignal;

  /**
   * Sets the listener for WebSocket upgrades, as with `ws` and `noServer: true`. Call it before the app's function returns; a second call
   * replaces the listener. Without a listener, and for other protocols (`Upgrade: h2c`), the request is answered over HTTP/1.1. A WebSocket
   * that the app does not close on {@link draining} is closed with 1012. If the listener throws or rejects, the error is logged as
   * `upgrade.handler-failed` and the socket is closed.
   *
   * @throws TypeError if `listener` is no function
   */
  onUpgrade(listener: (request: IncomingMessage, socket: Socket, head: Buffer) => unknown): void;

  /**
   * Waits at a drain for work that goes on after its answer, as `waitUntil` of a service worker does: a mail, a write to a queue. The worker
   * exits only when the promise has settled, or at the deadline of the drain (`SHUTDOWN_TIMEOUT_MS`), also at a rolling restart; promises
   * given while it drains count. A rejection is logged as `task.failed` and affects nothing else. A close handler returns its promise instead.
   * @throws TypeError unless `task` is a promise
   */
  task(task: PromiseLike<unknown>): void;

  /**
   * Calls `close` when the worker has answered its last request and the tasks have settled, or its drain deadline has passed, before Redis
   * closes. Handlers run in reverse order, one after another: what was opened last ends first, and may use what was opened before it. Each
   * has `timeoutMs`, all of them what is left of the drain, at least 1 s. If one throws or rejects, the error is logged as
   * `worker.close-handler-failed`, and the next one runs.
   * @throws TypeError or RangeError for what is no function, or no time
   */
  onClose(close: () => unknown, options?: CloseOptions): void;
}

/** A health check: see {@link Kit.health}. `signal` aborts when the check has timed out, and when the worker drains. */
export type HealthCheck = (run: { signal: AbortSignal }) => unknown;

/** The options of a health check. */
export interface HealthOptions {
  /**
   * Whether the check decides on the readiness of the pod; default `false`. The pod becomes unready only once the check has failed three
   * times in a row in every ready worker, and ready again with the first success in one of them. A pod that starts is not ready before the
   * first success.
   */
  readiness?: boolean;

  /** After this time in milliseconds, a run counts as failed, and its signal aborts; default 5000. */
  timeoutMs?: number;

  /** From one run to the next, in milliseconds; default 10000, at least 100. */
  intervalMs?: number;
}

export interface LeaderOptions {
  /** `fleet` (default): one leader of all pods, by Redis. `pod`: one in each pod, with or without Redis. */
  scope?: 'fleet' | 'pod';
}

/** What the start function of {@link Kit.leader} gets. */
export interface LeaderTerm {
  /**
   * Aborts when the term is to end: the worker drains, an operator releases the lead, or the lock could be lost in a second. Stop then, and
   * settle the promise of the start function: the lock is kept until then, for at most 10 s, or to the deadline of the drain.
   */
  readonly signal: AbortSignal;

  /**
   * A whole number that grows with each leader of that name and never repeats. Pass it to what must have one writer, and refuse a lower one
   * there than the highest so far.
   */
  readonly token: number;

  /**
   * Compares the clock: a blocked event loop gets no signal. Call it before each step.
   * @throws LeaderLostError (`code` is `ERR_LEADER_LOST`) if this worker does not lead any more, or cannot be certain that it does
   */
  assertHeld(): void;
}

/** For one handler of `kit.onClose`. */
export interface CloseOptions {
  /** In milliseconds, from 1 to 3,600,000; default 5,000. The next handler runs then, and this one is counted as timed out. */
  timeoutMs?: number;
}

/** The part of the context that `kit.session` adds. */
export interface SessionContext {
  /** Null after it was ended. Assign `null` to end it: permanently with Redis; without Redis a copy of the cookie stays valid. */
  session: Session | null;
}

/** A session: JSON that all workers and pods share. It expires after SESSION_TTL_SECONDS without use. */
export interface Session {
  /** Whether the request came without a valid session. */
  readonly isNew: boolean;

  /**
   * Gives the session a new id and deletes the old one. Call it when a user logs in, against session fixation.
   */
  regenerate(): Promise<void>;

  /** Writes the session now. Later changes in the same request are written when it ends. */
  save(): Promise<void>;

  [key: string]: unknown;
}
