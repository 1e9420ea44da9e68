/**
 * What a worker serves with: its http server, the listeners assigned to it, and the accept gate where the policy has one. It knows neither the
 * app, only its request listener, nor the primary.
 */
import type { IncomingMessage, Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { AcceptGate } from '../balancing/accept-gate.ts';
import { type Acceptor, Listeners, PortError } from '../balancing/listener.ts';
import { Scoreboard } from '../balancing/scoreboard.ts';
import { type Config, isSet } from '../config/config.ts';
import type { Inherited } from '../config/inherited.ts';
import type { LogSource } from '../log/log.ts';
import { sampledTraceId } from '../log/telemetry.ts';
import type { ConnectionHandle } from '../protocol/handles.ts';
import type { Drain, DrainTimes } from '../protocol/messages.ts';
import { QueuedConnections } from './accepting.ts';
import type { App } from './app.ts';
import {
  boundConnections,
  limitConcurrency,
  maxConnectionsOf,
  shedWhenLate,
  watchHandlers,
  wrongProtocolLogger,
} from './bounds.ts';
import type { AdaptiveConcurrency } from './concurrency/adaptive.ts';
import type { OnProgress } from './connection-drain.ts';
import { type Exchange, isFromWorker } from './connections.ts';
import { onErrorAnswer } from './error-list.ts';
import type { MaxConnections } from './max-connections.ts';
import { own } from './move-socket.ts';
import type { Moves } from './moves.ts';
import { openSticky, refusalsOf } from './open-sticky.ts';
import { logRequestErrors } from './request-errors.ts';
import { AppServer, type OnResponse, type UpgradeListener } from './server.ts';
import { applyLimits } from './server-limits.ts';
import type { Load, Stats } from './stats.ts';
import type { Sticky } from './sticky/sticky.ts';

/** Time to accept the rest of the queue after the deadline: requests are no longer handled then, so turns are short. */
const LATE_ACCEPT_MS = 1000;

export class Serving {
  readonly #config: Config;
  readonly #log: LogSource;
  readonly #stats: Stats;
  /** The indexes of the inherited listening sockets that this worker serves. */
  #assigned: number[] = [];
  /** Undefined with `reuseport`, where the kernel spreads connections, and without a scoreboard. */
  readonly #gate: AcceptGate | undefined;
  #listeners: Listeners | undefined;
  /** Undefined without NODE_CLUSTER_STICKY. */
  #sticky: Sticky | undefined;
  /** Of an answered request; undefined without METRICS_ROUTES. */
  #routeLabel: ((request: IncomingMessage, status: number) => string) | undefined;
  /** Undefined without ADAPTIVE_CONCURRENCY. */
  #concurrency: AdaptiveConcurrency | undefined;
  readonly #inherited: Inherited;
  /** Undefined until it is open. */
  #server: AppServer | undefined;
  /** Gets the connections. */
  #http: Server | undefined;
  /** Undefined where they do not move (MOVE_CONNECTIONS). */
  readonly #moves: Moves | undefined;
  #accepted = 0;
  #isCordoned = false;
  /** Of connections; undefined until it is open. */
  #limit: MaxConnections | undefined;
  /** Undefined if it has none. */
  readonly #maxConnections: number | undefined;
  /** A connection of another worker is being taken. */
  #isTaking = false;
  /** The pod is shutting down. */
  #takesAll = false;
  readonly #queued: QueuedConnections;

  constructor(config: Config, id: number, inherited: Inherited, stats: Stats, log: LogSource, moves?: Moves) {
    const { scoreboard } = inherited;
    this.#config = config;
    this.#inherited = inherited;
    this.#gate = scoreboard === undefined ? undefined : new AcceptGate(id, new Scoreboard(scoreboard));
    this.#queued = new QueuedConnections(
      () => this.#accepted,
      () => this.#gate?.isClosed ?? false,
    );
    this.#stats = stats;
    this.#log = log;
    this.#maxConnections = maxConnectionsOf(config);
    this.#moves = moves;
  }

  /** Serves these of the inherited sockets, by index, now or once it is open. */
  serve(listeners: number[]): void {
    this.#assigned = listeners;
    this.#listeners?.serve(listeners);
  }

  /**
   * From now on connections wait in the queue of the first socket, and this handle accepts them once the worker serves. Returns a
   * function that reads the address of that socket.
   */
  passTo(acceptor: Acceptor): () => AddressInfo | undefined {
    if (this.#listeners === undefined) this.#listeners = new Listeners(acceptor, this.#inherited.sockets, this.#assigned);
    else this.#listeners.passTo(acceptor);
    this.#listeners.reserve();
    return () => this.#listeners?.address;
  }

  /** Begins to serve; resolves with the address. The server listens when `listen` returns (adopt.ts). @throws PortError */
  async open(app: App, upgradeListener: UpgradeListener | undefined, listen: (http: Server) => void): Promise<AddressInfo> {
    const { host, port, maxEventLoopDelayMs, adaptiveConcurrency } = this.#config;
    const shed = maxEventLoopDelayMs > 0 ? shedWhenLate(maxEventLoopDelayMs, this.#stats) : undefined;
    this.#sticky = await openSticky(this.#inherited, this.#config, this.#log);
    if (adaptiveConcurrency) this.#concurrency = await limitConcurrency(this.#log);
    const onResponse: OnResponse = (exchange, status, ms) => this.#onResponse(exchange, status, ms);
    const refusals = refusalsOf(shed, this.#sticky, this.#concurrency?.refuse);
    const server = new AppServer(this.#config, onResponse, ...refusals, this.#moves);
    server.onAbandoned = () => this.#stats.abandonedOne();
    server.onClientError = wrongProtocolLogger(this.#log);
    const { logRequests, metricsRoutes } = this.#config;
    if (metricsRoutes) this.#routeLabel = (await import('./route.ts')).routeLabel;
    if (logRequests > 0) server.requestLog = new (await import('./request-log.ts')).RequestLog(this.#log, logRequests);
    const http = this.#add(server, app);
    if (upgradeListener !== undefined) http.on('upgrade', upgradeListener);
    if (this.#config.handlerTimeoutMs > 0) await watchHandlers(this.#config, server, this.#stats, this.#log);
    const max = this.#maxConnections;
    if (max !== undefined) this.#limit = boundConnections(max, server, () => this.#accept(), this.#stats, this.#log);
    listen(http);
    try {
      const address = await this.#listeners?.open();
      if (this.#listeners === undefined || address === undefined) throw new Error('no socket');
      if (!this.#listeners.canPause) this.#log().warn({ event: 'balancing.no-gate', node: process.version });
      this.#gate?.start(this.#listeners);
      this.#server = server;
      return address;
    } catch (error) {
      throw new PortError(host, port, error);
    }
  }

  /** Another server of the app gets the connections (adopt.ts): it is counted and drained as well. */
  takeOver(app: App): void {
    if (this.#server !== undefined) this.#add(this.#server, app);
  }

  #add(server: AppServer, { serve }: App): Server {
    logRequestErrors(serve, this.#log);
    if ('server' in serve) applyLimits(serve.server, this.#config, limit => isSet(process.env, limit));
    const http = server.add(serve);
    this.#http = http;
    this.#sticky?.serve(http);
    return http.on(
      'connection',
      own(socket => {
        if (isFromWorker(socket)) return;
        if (this.#isTaking) server.onTaken(socket, http);
        else this.#accepted++;
        this.#gate?.onConnection(socket, this.#isTaking);
        if (!this.#takesAll) this.#limit?.check();
        this.#queued.onAccepted(socket);
      }),
    );
  }

  /** Whether it serves and has room for another connection, by MAX_CONNECTIONS and by the app's own limit. */
  get canTake(): boolean {
    const { connections = Number.POSITIVE_INFINITY } = this.#server ?? {};
    const appMax = this.#http?.maxConnections ?? Number.POSITIVE_INFINITY;
    return !this.#limit?.isFull && connections < Math.min(this.#maxConnections ?? Number.POSITIVE_INFINITY, appMax);
  }

  /** Serves a connection that another worker has moved. */
  take(handle: ConnectionHandle): void {
    this.#isTaking = true;
    this.#listeners?.pass(handle);
    this.#isTaking = false;
  }

  /** Moves up to `count` connections to workers that have fewer. */
  async rebalance(count: number): Promise<void> {
    const loaded = await import('./rebalance.ts').catch(() => undefined); // an update may have replaced the files of the kit
    if (this.#server === undefined || this.#moves === undefined) return;
    await loaded?.rebalance(this.#server.openConnections, count, this.#moves);
  }

  #onResponse({ request, response }: Exchange, status: number, ms: number): void {
    this.#stats.onResponse(request.method ?? '', status, ms, this.#routeLabel?.(request, status), sampledTraceId(request));
    if (status >= 500) onErrorAnswer(request, status, response);
    this.#gate?.onResponse(ms);
  }

  get isOpen(): boolean {
    return this.#server !== undefined;
  }

  /** For the worker's snapshot. */
  get load(): Load {
    const { connections = 0, inFlight = 0 } = this.#server ?? {};
    const max = this.#maxConnections !== undefined && { maxConnections: this.#maxConnections };
    const sticky = this.#sticky && { sticky: this.#sticky.counters };
    const concurrency = this.#concurrency && { concurrency: this.#concurrency.status };
    const load = this.#gate?.load ?? connections;
    return { connections, ...max, accepted: this.#accepted, load, inFlight, ...sticky, ...concurrency };
  }

  /** As `AppServer.waiting`. */
  get waiting(): AppServer['waiting'] {
    return this.#server?.waiting ?? { open: 0, oldest: [] };
  }

  /** From now on every response ends its connection. */
  disableKeepAlive(): void {
    this.#server?.disableKeepAlive();
  }

  /** Accepts no connections until `resume`. */
  pause(): void {
    this.#isCordoned = true;
    this.#accept();
  }

  resume(): void {
    this.#isCordoned = false;
    this.#accept();
  }

  /** Accepts, or not, as its state says. */
  #accept(): void {
    if (this.#isCordoned || this.#limit?.isFull) {
      this.#gate?.stop();
      this.#listeners?.pause();
    } else if (this.#listeners !== undefined) {
      this.#listeners.resume();
      this.#gate?.start(this.#listeners);
    }
  }

  /**
   * At the pod's shutdown: accepts the queued connections of these listeners (default: of those assigned), and goes on accepting. Resolves when
   * the queues are empty.
   */
  async takeAll(listeners: number[] | undefined): Promise<void> {
    if (this.#listeners === undefined) return;
    this.#takesAll = true;
    this.#limit?.stop();
    if (listeners !== undefined) this.serve(listeners);
    this.#listeners.resume();
    if (this.#gate === undefined) this.#listeners.release();
    else this.#gate.start(this.#listeners);
    this.#queued.hold();
    await this.#queued.emptied(Number.POSITIVE_INFINITY);
    this.#queued.release();
  }

  /**
   * Stops accepting, and passes no request to the app that arrives after `timeoutMs`. With `acceptsQueue`, at the pod's shutdown, queued
   * connections are accepted first. The drain aborts and counts those that are accepted after the deadline.
   */
  async close(timeoutMs: number, acceptsQueue: boolean): Promise<void> {
    this.#limit?.stop();
    this.#gate?.stop();
    this.#sticky?.close();
    this.#server?.refuseAfter(timeoutMs);
    this.#queued.hold();
    if (this.#takesAll && acceptsQueue) {
      this.#listeners?.release();
      await this.#queued.emptied(timeoutMs + LATE_ACCEPT_MS);
    }
    // Nothing may run between the last check of the queue and this: connections that arrive in between are reset.
    this.#listeners?.close();
    this.#queued.releaseAll(); // a `takeAll` in progress ends with the listeners
  }

  /** As `AppServer.drain`; undefined where it never was open. */
  async drain(times: DrainTimes, onProgress: OnProgress): Promise<Drain | undefined> {
    return this.#server?.drain(times, onProgress);
  }
}
