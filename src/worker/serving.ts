/**
 * What a worker serves with: the http server, the listeners of its connections, and the accept gate where the policy has one. It knows neither the
 * app, only its listener, nor the primary.
 */
import type { IncomingMessage, RequestListener, Server } from 'node:http';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { AcceptGate } from '../balancing/accept-gate.ts';
import { Listeners, PortError } from '../balancing/listener.ts';
import { Scoreboard } from '../balancing/scoreboard.ts';
import type { Config, Inherited } from '../config/config.ts';
import type { LogSource } from '../log/log.ts';
import type { Drain, DrainTimes } from '../protocol/messages.ts';
import { AppServer, type OnProgress, type UpgradeListener } from './server.ts';
import type { Stats } from './stats.ts';

const REBALANCE_EVERY_MS = 1000;
/** At the pod's shutdown: a gate that stays closed this long leaves the rest of the queue to others. */
const CLOSED_MS = 20;
/** Likewise: a turn of the loop in which hardly anything but the look at the queue can have happened. */
const SHORT_TURN_MS = 1;
/** The limit for an app that has only long turns. */
const LONG_TURNS_MS = 2000;

/** Time to accept the rest of the queue after the deadline: requests are no longer handled then, so turns are short. */
const LATE_TAKING_MS = 1000;

const SAMPLE_MS = 20;
const RETRY_AFTER_SECONDS = 1;

export class Serving {
  readonly #config: Config;
  readonly #log: LogSource;
  readonly #stats: Stats;
  readonly #sockets: number[];
  /** Which of the sockets to serve. */
  #assigned: number[] = [];
  /** Undefined with `reuseport`, where the kernel spreads connections, and without a scoreboard. */
  readonly #gate: AcceptGate | undefined;
  /** Undefined until it is open. */
  #server: AppServer | undefined;
  #listeners: Listeners | undefined;
  #accepted = 0;
  #takesAll = false;
  /** How many callers are emptying the queues. */
  #holders = 0;
  /** Accepted and not read from yet. */
  #held: Socket[] | undefined;

  constructor(config: Config, id: number, { scoreboard, sockets }: Inherited, stats: Stats, log: LogSource) {
    this.#config = config;
    this.#gate = scoreboard === undefined ? undefined : new AcceptGate(id, new Scoreboard(scoreboard));
    this.#sockets = sockets;
    this.#stats = stats;
    this.#log = log;
  }

  /** Serves these of the inherited sockets, now or once it is open. */
  serve(listeners: number[]): void {
    this.#assigned = listeners;
    this.#listeners?.serve(listeners);
  }

  /** Begins to serve; resolves with the port. `listens` is told of the server before it listens. @throws PortError */
  async open(
    listener: RequestListener,
    upgradeListener: UpgradeListener | undefined,
    listens: (http: Server) => void,
  ): Promise<number> {
    const { maxEventLoopDelayMs, rebalanceKeepalive } = this.#config;
    const guarded =
      maxEventLoopDelayMs > 0 ? sheddingWhenLate(listener, maxEventLoopDelayMs, () => this.#stats.shedOne()) : listener;
    const server = new AppServer(guarded, this.#config, (request, status, ms) => this.#onResponse(request, status, ms));
    server.http.on('connection', socket => {
      this.#accepted++;
      this.#gate?.onConnection(socket);
      if (this.#held !== undefined) hold(socket, this.#held);
    });
    if (upgradeListener !== undefined) server.upgradeWith(upgradeListener);
    listens(server.http);
    const port = await this.#take(server.http);
    this.#server = server;
    if (rebalanceKeepalive && this.#gate !== undefined)
      setInterval(() => server.closeAfterResponse(this.#gate?.excessConnections ?? 0), REBALANCE_EVERY_MS).unref();
    return port;
  }

  get isOpen(): boolean {
    return this.#server !== undefined;
  }

  /** For the worker's snapshot. */
  get load(): { connections: number; accepted: number; load: number; inFlight: number } {
    const { connections = 0, inFlight = 0 } = this.#server ?? {};
    return { connections, accepted: this.#accepted, load: this.#gate?.load ?? connections, inFlight };
  }

  /** See AppServer; nothing where it is not open. */
  get waiting(): AppServer['waiting'] {
    return this.#server?.waiting ?? { open: 0, oldest: [] };
  }

  /** From now on every response ends its connection. */
  disableKeepAlive(): void {
    this.#server?.disableKeepAlive();
  }

  /** No new connections until `resume`. */
  pause(): void {
    this.#gate?.stop();
    this.#listeners?.pause();
  }

  resume(): void {
    if (this.#listeners === undefined) return;
    this.#listeners.resume();
    this.#gate?.start(this.#listeners);
  }

  /** The pod is shutting down: accepts what is queued at these sockets, or at those that it serves, and goes on accepting. Resolves when the queues are empty. */
  async takeAll(listeners: number[] | undefined): Promise<void> {
    if (this.#listeners === undefined) return;
    this.#takesAll = true;
    if (listeners !== undefined) this.serve(listeners);
    this.#listeners.resume();
    if (this.#gate === undefined) this.#listeners.release();
    else this.#gate.start(this.#listeners);
    this.#holdTaken();
    await this.#emptyQueues(Number.POSITIVE_INFINITY);
    this.#resumeTaken();
  }

  /**
   * Stops accepting, and handles no request that arrives after `timeoutMs`. When the pod shuts down and this worker ends `inOrder`, queued
   * connections are accepted first. Those accepted after the deadline are cut with the rest, and counted.
   */
  async close(timeoutMs: number, inOrder: boolean): Promise<void> {
    this.#gate?.stop();
    this.#server?.refuseAfter(timeoutMs);
    this.#holdTaken();
    if (this.#takesAll && inOrder) {
      this.#listeners?.release();
      await this.#emptyQueues(timeoutMs + LATE_TAKING_MS);
    }
    // Nothing may run between the last check of the queue and this: connections that arrive in between are reset.
    this.#listeners?.close();
    this.#holders = 1; // a `takeAll` still under way ends with the listeners
    this.#resumeTaken();
  }

  /**
   * Until a turn of the loop, which accepts at most one connection, accepts none. Nothing is read from them in the meantime: their requests would
   * make the turns long, and their clients would reconnect.
   */
  async #emptyQueues(timeoutMs: number): Promise<void> {
    let lastTakenAt = performance.now();
    const until = lastTakenAt + timeoutMs;
    for (;;) {
      if (this.#gate?.isClosed) {
        await sleep(CLOSED_MS);
        if (this.#gate.isClosed) return;
      }
      const before = this.#accepted;
      const [startedAt, endedAt] = await turn();
      if (this.#accepted > before) lastTakenAt = endedAt;
      // In a long turn requests were handled after the check of the queue, and their clients may have reconnected.
      else if (endedAt - startedAt < SHORT_TURN_MS || endedAt - lastTakenAt > LONG_TURNS_MS) return;
      if (endedAt >= until) return;
    }
  }

  #holdTaken(): void {
    this.#holders++;
    this.#held ??= [];
  }

  /** Resumes once no caller empties the queues: the primary may request it again while it is in progress. */
  #resumeTaken(): void {
    if (--this.#holders > 0) return;
    for (const socket of this.#held?.splice(0) ?? []) socket.resume();
    this.#held = undefined;
  }

  /** See AppServer; undefined where it never was open. */
  async drain(times: DrainTimes, onProgress: OnProgress): Promise<Drain | undefined> {
    return this.#server?.drain(times, onProgress);
  }

  async #take(http: Server): Promise<number> {
    const { host, port } = this.#config;
    try {
      const listeners = new Listeners(http, this.#sockets, this.#assigned);
      this.#listeners = listeners;
      const real = await listeners.open();
      if (!listeners.canPause) this.#log().warn({ event: 'balancing.no-gate', node: process.version });
      this.#gate?.start(listeners);
      return real;
    } catch (error) {
      throw new PortError(host, port, error);
    }
  }

  #onResponse(request: IncomingMessage, status: number, ms: number): void {
    this.#stats.answered(request.method ?? '', status, ms);
    const { logRequests } = this.#config;
    if (logRequests > 0 && Math.random() < logRequests) this.#logRequest(request, status, ms);
    this.#gate?.onResponse(ms);
  }

  #logRequest({ method = '', url = '' }: IncomingMessage, status: number, ms: number): void {
    const [path = ''] = url.split('?', 1); // the query may hold secrets
    this.#log().info({ event: 'request', method, path, status, ms: Math.round(ms * 10) / 10 });
  }
}

/** A turn of the loop that checks the queue: when it began and ended. */
async function turn(): Promise<[number, number]> {
  const startedAt = await new Promise<number>(resolve => setImmediate(() => resolve(performance.now())));
  return [startedAt, await new Promise<number>(resolve => setImmediate(() => resolve(performance.now())))];
}

/** Nothing is read from it until it is resumed. */
function hold(socket: Socket, held: Socket[]): void {
  held.push(socket);
  // The http server resumes it in this tick.
  process.nextTick(() => held.includes(socket) && socket.pause());
}

/** Wraps `listener`: 503 with Retry-After while a timer last fired more than `maxDelayMs` late. */
export function sheddingWhenLate(listener: RequestListener, maxDelayMs: number, onShed: () => void): RequestListener {
  let dueAt = performance.now() + SAMPLE_MS;
  let latenessMs = 0;
  setInterval(() => {
    const now = performance.now();
    latenessMs = now - dueAt;
    dueAt = now + SAMPLE_MS;
  }, SAMPLE_MS).unref();
  return (request, response) => {
    if (latenessMs <= maxDelayMs) return listener(request, response);
    onShed();
    response.writeHead(503, { 'Retry-After': RETRY_AFTER_SECONDS, 'Content-Type': 'text/plain; charset=utf-8' });
    response.end('This server is overloaded. Please try again in a moment.\n');
  };
}
