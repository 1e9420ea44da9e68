/**
 * The kit as the app sees it. What costs start-up time is loaded when the app first uses it.
 */
import { createRequire } from 'node:module';
import type Koa from 'koa';
import type { Config } from '../config/config.ts';
import type { Kit, Middleware } from '../index.ts';
import type { Log } from '../log/log.ts';
import { MAX_METRICS, MAX_VALUES } from '../protocol/app-metric-shapes.ts';
import type { EventLog } from '../protocol/event-log.ts';
import type { AppMetric, Broadcast } from '../protocol/messages.ts';
import { broadcastOf } from '../state/broadcast.ts';
import type { RedisClient } from '../state/redis.ts';
import type { SessionKeys } from '../state/session-keys.ts';
import type { SessionPlaces } from '../state/session-store.ts';
import { loggable } from './error-report.ts';
import type { UpgradeListener } from './server.ts';

/** For all close handlers of the app together. */
const CLOSE_TIMEOUT_MS = 1000;
/** A report waits no longer for the app's metrics, which may query other services: the primary considers a silent worker hung. */
const COLLECT_TIMEOUT_MS = 500;

type Handler = (data: unknown) => unknown;

/** The event that is logged when code of the app throws. */
type Failed =
  | { event: 'upgrade.handler-failed' | 'worker.close-handler-failed' }
  | { event: 'broadcast.handler-failed'; name: string };

interface KitOptions {
  config: Config;
  log: () => Log;
  workerId: number;
  redis: RedisClient | undefined;
  /** Where its sessions are; undefined without Redis. */
  sessionPlaces: SessionPlaces | undefined;
  sessionKeys: SessionKeys;
  /** The last event of each retained name, as JSON; kept up to date. */
  retained: ReadonlyMap<string, string>;
  send: (broadcast: Broadcast) => void;
  onStoreError: (error: Error) => void;
}

export class WorkerKit implements Kit {
  readonly config: Config;
  readonly workerId: number;
  readonly redis: RedisClient | undefined;
  readonly #options: KitOptions;
  readonly #handlers = new Map<string, Handler[]>();
  readonly #draining = new AbortController();
  readonly #closers: (() => unknown)[] = [];
  #upgradeListener: UpgradeListener | undefined;
  #session: Promise<Koa.Middleware> | undefined;
  #metrics: Kit['metrics'] | undefined;
  #lastMetrics: AppMetric[] = [];
  #collecting: Promise<void> | undefined;
  #collectFails = false;
  #hasTooMany = false;

  constructor(options: KitOptions) {
    this.#options = options;
    this.config = options.config;
    this.workerId = options.workerId;
    this.redis = options.redis;
  }

  get log(): Log {
    return this.#options.log();
  }

  /** The same for the kit's own events. */
  get #log(): EventLog {
    return this.log;
  }

  get session(): Middleware {
    const { config, redis: client, sessionPlaces: places, sessionKeys, onStoreError } = this.#options;
    const redis = client && places && { client, places };
    this.#session ??= import('../state/session.ts').then(({ sessionMiddleware }) =>
      sessionMiddleware(config, redis, sessionKeys, onStoreError),
    );
    const loading = this.#session;
    return async (context, next) => (await loading)(context as Koa.Context, next);
  }

  get metrics(): Kit['metrics'] {
    this.#metrics ??= new (createRequire(import.meta.url)('prom-client') as typeof import('prom-client')).Registry();
    return this.#metrics;
  }

  get draining(): AbortSignal {
    return this.#draining.signal;
  }

  broadcast(event: string, data?: unknown): void {
    this.#options.send(broadcastOf(event, data));
  }

  on(event: string, handler: Handler): void {
    this.#handlers.set(event, [...this.#handlersOf(event), handler]);
    // After the code that subscribes: variables that the handler uses may be declared below it.
    queueMicrotask(() => {
      const json = this.#options.retained.get(event);
      if (json !== undefined && json !== 'null') void this.#call(handler, event, json);
    });
  }

  onUpgrade(listener: UpgradeListener): void {
    this.#upgradeListener = async (request, socket, head) => {
      const hasSucceeded = await this.#runHandler({ event: 'upgrade.handler-failed' }, () => listener(request, socket, head));
      if (!hasSucceeded) socket.destroy();
    };
  }

  /** The app's listener for WebSockets, if it has one. */
  get upgradeListener(): UpgradeListener | undefined {
    return this.#upgradeListener;
  }

  onClose(close: () => unknown): void {
    this.#closers.push(close);
  }

  /** Resolves when what the app uses of the kit is loaded, so that no first request waits for it. */
  async loaded(): Promise<void> {
    await this.#session;
  }

  /** The app's own metrics: none if it never used the registry, the last ones while its collectors fail or take long. */
  async metricsJson(): Promise<AppMetric[]> {
    if (this.#metrics === undefined) return [];
    this.#collecting ??= this.#collect(this.#metrics).finally(() => {
      this.#collecting = undefined;
    });
    await settledWithin(COLLECT_TIMEOUT_MS, this.#collecting);
    return this.#lastMetrics;
  }

  async #collect(registry: Kit['metrics']): Promise<void> {
    try {
      this.#lastMetrics = await registry.getMetricsAsJSON();
      this.#warnIfTooMany(this.#lastMetrics);
      this.#collectFails = false;
    } catch (error) {
      if (!this.#collectFails) this.#log.error({ event: 'metrics.collect-failed', err: loggable(error) });
      this.#collectFails = true;
    }
  }

  #warnIfTooMany(metrics: readonly AppMetric[]): void {
    const values = metrics.reduce((sum, metric) => sum + metric.values.length, 0);
    if (this.#hasTooMany || (metrics.length <= MAX_METRICS && values <= MAX_VALUES)) return;
    this.#hasTooMany = true;
    const warning = `/metrics shows the first ${MAX_METRICS} metrics of the app, with ${MAX_VALUES} values in all, and drops the rest`;
    this.#log.warn({ event: 'metrics.too-many', metrics: metrics.length, values, warning });
  }

  deliver(event: string, json: string): void {
    for (const handler of this.#handlersOf(event)) void this.#call(handler, event, json);
  }

  #handlersOf(event: string): readonly Handler[] {
    return this.#handlers.get(event) ?? [];
  }

  async #call(handler: Handler, event: string, json: string): Promise<void> {
    await this.#runHandler({ event: 'broadcast.handler-failed', name: event }, () => handler(JSON.parse(json)));
  }

  /** Runs code of the app, at once. Logs `failed` and resolves with false if it throws or rejects. */
  async #runHandler(failed: Failed, run: () => unknown): Promise<boolean> {
    try {
      await run();
      return true;
    } catch (error) {
      this.#log.error({ ...failed, err: loggable(error) });
      return false;
    }
  }

  beginDrain(): void {
    this.#draining.abort();
  }

  /** Runs the close handlers of the app, and `closeApp` beside them. */
  async close(closeApp?: () => unknown): Promise<void> {
    const closers = closeApp === undefined ? this.#closers : [...this.#closers, closeApp];
    const closing = closers.map(close => this.#runHandler({ event: 'worker.close-handler-failed' }, close));
    await settledWithin(CLOSE_TIMEOUT_MS, Promise.all(closing));
  }
}

/** Resolves when `work` has, or after `ms`. */
async function settledWithin(ms: number, work: Promise<unknown>): Promise<void> {
  await Promise.race([work, new Promise(resolve => setTimeout(resolve, ms))]);
}
