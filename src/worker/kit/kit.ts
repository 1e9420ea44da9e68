/**
 * The kit as the app sees it, made of its parts: a file each. What costs start-up time is loaded when the app first uses it.
 */
import type Koa from 'koa';
import type { Config } from '../../config/config.ts';
import type { CloseOptions, HealthCheck, HealthOptions, Kit, LeaderOptions, Middleware } from '../../index.ts';
import type { Log } from '../../log/log.ts';
import type { CloseTotals, TaskTotals } from '../../protocol/closing.ts';
import type { HealthReport } from '../../protocol/health.ts';
import type { Broadcast } from '../../protocol/messages.ts';
import type { AppMetric } from '../../protocol/snapshot.ts';
import { broadcastOf } from '../../state/broadcast.ts';
import type { RedisClient } from '../../state/redis.ts';
import type { SessionKeys } from '../../state/session-keys.ts';
import type { SessionPlaces } from '../../state/session-store.ts';
import type { UpgradeListener } from '../server.ts';
import { callApp } from './app-call.ts';
import { checkFunction } from './arguments.ts';
import { CloseHandlers } from './closing.ts';
import { EventHandlers, type Handler } from './events.ts';
import { HealthChecks } from './health.ts';
import { Leaders, type Start } from './leaders.ts';
import { AppMetrics } from './metrics.ts';
import { Tasks } from './tasks.ts';

export interface KitOptions {
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
  reportHealth: (report: HealthReport) => void;
  onStoreError: (error: Error) => void;
}

export class WorkerKit implements Kit {
  readonly config: Config;
  readonly workerId: number;
  readonly redis: RedisClient | undefined;
  readonly #options: KitOptions;
  readonly #events: EventHandlers;
  readonly #metrics: AppMetrics;
  readonly #health: HealthChecks;
  readonly #tasks: Tasks;
  readonly #closing: CloseHandlers;
  /** Who leads (`kit.leader`). */
  readonly leaders: Leaders;
  readonly #draining = new AbortController();
  #upgradeListener: UpgradeListener | undefined;
  #session: Promise<Koa.Middleware> | undefined;

  constructor(options: KitOptions) {
    this.#options = options;
    this.config = options.config;
    this.workerId = options.workerId;
    this.redis = options.redis;
    this.#events = new EventHandlers(options.log, options.retained);
    this.#metrics = new AppMetrics(options.log);
    this.#health = new HealthChecks(options.reportHealth);
    this.#tasks = new Tasks(options.log);
    this.#closing = new CloseHandlers(options.log);
    const { config, workerId, log, sessionPlaces } = options;
    this.leaders = new Leaders({ config, workerId, log, root: () => sessionPlaces?.roots.root ?? '' });
  }

  // What the app uses, in the order of index.ts.

  get log(): Log {
    return this.#options.log();
  }

  get session(): Middleware {
    const { config, redis: client, sessionPlaces: places, sessionKeys, onStoreError } = this.#options;
    const redis = client && places && { client, places };
    this.#session ??= import('../../state/session.ts').then(({ sessionMiddleware }) =>
      sessionMiddleware(config, redis, sessionKeys, onStoreError),
    );
    const loading = this.#session;
    return async (context, next) => (await loading)(context as Koa.Context, next);
  }

  broadcast(event: string, data?: unknown): void {
    this.#options.send(broadcastOf(event, data));
  }

  on(event: string, handler: Handler): void {
    this.#events.add(event, handler);
  }

  off(event: string, handler: Handler): void {
    this.#events.remove(event, handler);
  }

  leader(name: string, start: Start, options?: LeaderOptions): void {
    this.leaders.add(name, start, options);
  }

  get metrics(): Kit['metrics'] {
    return this.#metrics.registry;
  }

  health(name: string, check: HealthCheck, options?: HealthOptions): void {
    this.#health.add(name, check, options);
  }

  get draining(): AbortSignal {
    return this.#draining.signal;
  }

  onUpgrade(listener: UpgradeListener): void {
    checkFunction('the listener of kit.onUpgrade', listener);
    this.#upgradeListener = async (request, socket, head) => {
      const run = () => listener(request, socket, head);
      const error = await callApp(this.#options.log, { event: 'upgrade.handler-failed' }, run);
      if (error !== undefined) socket.destroy();
    };
  }

  task(task: PromiseLike<unknown>): void {
    this.#tasks.add(task);
  }

  onClose(close: () => unknown, options?: CloseOptions): void {
    this.#closing.add(close, options);
  }

  // What the worker uses.

  /** The app's listener for WebSockets, if it has one. */
  get upgradeListener(): UpgradeListener | undefined {
    return this.#upgradeListener;
  }

  /** Resolves when what the app uses of the kit is loaded, so that no first request waits for it. */
  async loaded(): Promise<void> {
    await this.#session;
  }

  /** The app's own metrics, for a report. */
  metricsJson(): Promise<AppMetric[]> {
    return this.#metrics.json();
  }

  deliver({ event, json }: Broadcast): void {
    this.#events.deliver(event, json);
  }

  /** The worker serves. */
  beginServing(): void {
    this.#health.start();
    this.leaders.begin();
  }

  beginDrain(): void {
    this.#health.stop();
    this.#tasks.beginDrain();
    this.#draining.abort();
  }

  /** Tasks of the app that have not settled. */
  get openTasks(): number {
    return this.#tasks.open;
  }

  /** Waits for the tasks of the app until `deadline`, of `performance.now()`. */
  tasksSettled(deadline: number): Promise<TaskTotals> {
    return this.#tasks.settled(deadline);
  }

  /** Runs `closeApp` and the close handlers of the app, until about `deadline`. */
  close(deadline: number, closeApp?: () => unknown): Promise<CloseTotals> {
    return this.#closing.run(deadline, closeApp);
  }
}
