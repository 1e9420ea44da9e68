/**
 * What a worker serves with: the http server, the intake of its connections, and the gate where the policy has one. It knows neither the
 * app, only its listener, nor the primary.
 */
import type { IncomingMessage, RequestListener, Server } from 'node:http';
import { Board } from '../balancing/board.ts';
import { Gate } from '../balancing/gate.ts';
import { Intake } from '../balancing/intake.ts';
import { PortError } from '../balancing/sockets.ts';
import type { Config, Inherited } from '../config.ts';
import type { LogSource } from '../log.ts';
import type { Drain, DrainTimes } from '../messages.ts';
import { AppServer, type OnWaiting, type UpgradeListener } from './server.ts';
import { sheddingWhenLate } from './shedding.ts';
import type { Stats } from './stats.ts';

const REBALANCE_EVERY_MS = 1000;
/** A worker that is to take no more connections takes those that wait already for this long at most. */
const QUEUE_MS = 500;

export class Serving {
  readonly #config: Config;
  readonly #log: LogSource;
  readonly #stats: Stats;
  readonly #sockets: number[];
  /** Which of the sockets to serve. */
  #slots: number[] = [];
  /** Undefined with `reuseport`, where the kernel spreads connections, and where there is no board. */
  readonly #gate: Gate | undefined;
  /** Undefined until it is open. */
  #server: AppServer | undefined;
  #intake: Intake | undefined;
  #accepted = 0;

  constructor(config: Config, id: number, { board, sockets }: Inherited, stats: Stats, log: LogSource) {
    this.#config = config;
    this.#gate = board === undefined ? undefined : new Gate(id, new Board(board));
    this.#sockets = sockets;
    this.#stats = stats;
    this.#log = log;
  }

  /** Serves these of the inherited sockets, now or once it is open. */
  serve(slots: number[]): void {
    this.#slots = slots;
    this.#intake?.serve(slots);
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
    const server = new AppServer(guarded, this.#config, (request, status, ms) => this.#answered(request, status, ms));
    server.http.on('connection', socket => {
      this.#accepted++;
      this.#gate?.accepted(socket);
    });
    if (upgradeListener !== undefined) server.upgradeWith(upgradeListener);
    listens(server.http);
    const port = await this.#take(server.http);
    this.#server = server;
    if (rebalanceKeepalive && this.#gate !== undefined)
      setInterval(() => server.giveAway(this.#gate?.surplus ?? 0), REBALANCE_EVERY_MS).unref();
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

  /** From now on every answer ends its connection. */
  endConnections(): void {
    this.#server?.endConnections();
  }

  /** No new connections until `resume`. */
  pause(): void {
    this.#gate?.retire();
    this.#intake?.pause();
  }

  resume(): void {
    if (this.#intake === undefined) return;
    this.#intake.resume();
    this.#gate?.open(this.#intake);
  }

  /** No new connections any more. */
  async close(): Promise<void> {
    // What waits is taken first: the message that has led here may have overtaken it while the loop was blocked.
    const until = performance.now() + QUEUE_MS;
    for (let before = -1; before < this.#accepted && performance.now() < until; ) {
      before = this.#accepted;
      await this.#turn();
    }
    this.#gate?.retire();
    this.#intake?.close();
  }

  /** Time for one connection more, if one waits. */
  async #turn(): Promise<void> {
    // The loop takes one from the kernel's queue each time; the first of these comes before it looks.
    await new Promise(resolve => setImmediate(() => setImmediate(resolve)));
  }

  /** See AppServer; undefined where it never was open. */
  async drain(times: DrainTimes, onWaiting: OnWaiting): Promise<Drain | undefined> {
    return this.#server?.drain(times, onWaiting);
  }

  async #take(http: Server): Promise<number> {
    const { host, port } = this.#config;
    try {
      const intake = new Intake(http, this.#sockets, this.#slots);
      this.#intake = intake;
      const real = await intake.open();
      if (!intake.canPause) this.#log().warn({ event: 'balancing.no-gate', node: process.version });
      this.#gate?.open(intake);
      return real;
    } catch (error) {
      throw new PortError(host, port, error);
    }
  }

  #answered(request: IncomingMessage, status: number, ms: number): void {
    this.#stats.answered(request.method ?? '', status, ms);
    const { logRequests } = this.#config;
    if (logRequests > 0 && Math.random() < logRequests) this.#logRequest(request, status, ms);
    this.#gate?.answered(ms);
  }

  #logRequest({ method, url = '' }: IncomingMessage, status: number, ms: number): void {
    const path = url.split('?', 1)[0]; // the query may hold secrets
    this.#log().info({ event: 'request', method, path, status, ms: Math.round(ms * 10) / 10 });
  }
}
