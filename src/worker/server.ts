/**
 * The http server of one worker, from a connection to its last response: the kit's own around the listener of the app, or a server of the
 * app. It reports responses; its drain is in connection-drain.ts; balancing, app and metrics are elsewhere.
 */
import { subscribe } from 'node:diagnostics_channel';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { inTrace, isTraced, noteSpan } from '../log/telemetry.ts';
import type { Drain, DrainTimes } from '../protocol/messages.ts';
import type { App } from './app.ts';
import { ConnectionDrain, type OnProgress, type Waiting, waitingOn } from './connection-drain.ts';
import { Connection, type Exchange, isFromWorker } from './connections.ts';
import { own } from './move-socket.ts';
import type { Moves } from './moves.ts';
import type { RequestLog } from './request-log.ts';
import { createServer, isWebSocket, type ServerLimits } from './server-limits.ts';
import { ServerWebSocket } from './web-socket.ts';

/** Called for each response, once its last byte is handed to the kernel. */
export type OnResponse = (exchange: Exchange, status: number, milliseconds: number) => void;

export type UpgradeListener = (request: IncomingMessage, socket: Socket, head: Buffer) => unknown;

/** A symbol on the response itself: frameworks exchange the response's prototype (Express does). */
const EXCHANGE = Symbol('bosun.exchange');
type Response = ServerResponse & { [EXCHANGE]?: Exchange };
type AppResponse = ServerResponse & { [EXCHANGE]: Exchange };

/** What the client was sent; undefined before. `response.statusCode` is what the app has set last. */
export const sentStatus = (response: Response): number | undefined => response[EXCHANGE]?.status;

/** Answers a request in place of the app; false where the app is to answer it. `pass` gives it to the app after all. */
export type Refuse = (exchange: Exchange, pass: () => boolean) => boolean;

/** As `Refuse`, for a request that makes its connection a WebSocket. */
export type RefuseUpgrade = (request: IncomingMessage, socket: Socket, head: Buffer, pass: () => boolean) => boolean;

/** The events of an http server whose listeners answer the request, with a response, or take its connection over. */
const WITH_RESPONSE = new Set<unknown>(['request', 'checkContinue', 'checkExpectation']);
const WITH_SOCKET = new Set<unknown>(['upgrade', 'connect']);

export class AppServer {
  readonly #limits: ServerLimits;
  readonly #onResponse: OnResponse;
  readonly #refuse: Refuse;
  readonly #refuseUpgrade: RefuseUpgrade;
  /** Undefined where connections do not move. */
  readonly #moves: Moves | undefined;
  readonly #writeHead: ServerResponse['writeHead'];
  readonly #connections = new Map<Socket, Connection>();
  /** How many of them are from other workers. */
  #fromWorkers = 0;
  /** With LOG_REQUESTS. */
  requestLog: RequestLog | undefined;
  /** Called for each request whose client closes the connection before the answer begins. */
  onAbandoned: () => void = () => undefined;
  /** Called with the error of a connection that is no HTTP, before it is answered. */
  onClientError: (error: unknown) => void = () => undefined;
  #responses = 0;
  #isKeepAliveDisabled = false;
  /** Monotonic time from which requests are not passed to the app: the drain aborts them. */
  #refuseFrom = Number.POSITIVE_INFINITY;

  /** Call `add` then, with what it serves. */
  constructor(
    limits: ServerLimits,
    onResponse: OnResponse,
    refuse: Refuse = () => false,
    refuseUpgrade: RefuseUpgrade = () => false,
    moves?: Moves,
  ) {
    this.#limits = limits;
    this.#moves = moves;
    this.#onResponse = onResponse;
    this.#refuse = refuse;
    this.#refuseUpgrade = refuseUpgrade;
    this.#writeHead = this.#createWriteHead(limits.responseTimeHeader);
    // One subscription for all responses costs less than a listener on each.
    subscribe('http.server.response.finish', message => {
      const { request, response } = message as { request: IncomingMessage; response: Response };
      this.#onFinish(request, response);
    });
  }

  /** Counts, reports and drains the connections of this server from now on. Returns it: a new one, or the app's own. */
  add(serve: App['serve']): Server {
    const server = 'server' in serve ? serve.server : createServer(this.#limits, serve.listener);
    const emit: (...args: unknown[]) => boolean = server.emit;
    // In place of listeners: those of the app come first or last, as it pleases, and must not be called for a request that is refused.
    server.emit = (...args: unknown[]) => {
      const [event, first, second, third] = args;
      const pass = () => Reflect.apply(emit, server, args);
      if (WITH_RESPONSE.has(event)) return this.#onRequest(first as IncomingMessage, second as Response, pass);
      if (event === 'clientError') this.onClientError(first);
      if (!WITH_SOCKET.has(event)) return pass();
      this.#onUpgrade(event, first as IncomingMessage, second as Socket);
      return (
        (event === 'upgrade' && this.#refuseUpgrade(first as IncomingMessage, second as Socket, third as Buffer, pass)) || pass()
      );
    };
    if (isTraced()) server.prependListener('request', noteSpan);
    server.on(
      'connection',
      own(socket => {
        const connection = this.#onConnection(socket);
        this.#moves?.onConnection(connection, server);
      }),
    );
    // Of TLS: requests come from this socket, around the one that was accepted, which was counted during the handshake.
    server.on('secureConnection', (socket: TLSSocket) => {
      this.#connections.delete(Reflect.get(socket, '_parent'));
      this.#onConnection(socket);
    });
    return server;
  }

  /** Open connections of clients. */
  get connections(): number {
    return this.#connections.size - this.#fromWorkers;
  }

  /** Requests without a full response; upgraded connections, and requests that another worker serves, are not among them. */
  get inFlight(): number {
    let count = 0;
    for (const { exchanges } of this.#connections.values()) for (const { isPassedOn } of exchanges) if (!isPassedOn) count++;
    return count;
  }

  /** The number of requests without a full response, incomplete ones and WebSockets included, and the oldest of them. */
  get waiting(): Waiting {
    return waitingOn(this.#connections);
  }

  #onConnection(socket: Socket): Connection {
    const connection = new Connection(socket);
    this.#connections.set(socket, connection);
    const fromWorkers = Number(isFromWorker(socket));
    this.#fromWorkers += fromWorkers;
    socket.once('close', () => {
      this.#connections.delete(socket);
      this.#fromWorkers -= fromWorkers;
      for (const exchange of connection.exchanges) {
        exchange.onClose?.();
        this.requestLog?.onAborted(exchange);
      }
      this.#moves?.onClose(connection);
      if (connection.exchanges.length > 0) this.#onLost(connection.exchanges);
      connection.exchanges = [];
    });
    return connection;
  }

  /** The connection of these requests has closed. */
  #onLost(exchanges: readonly Exchange[]): void {
    if (performance.now() >= this.#refuseFrom) return; // the drain has cut them
    for (const { response, isPassedOn, isAnswered } of exchanges)
      if (!response.headersSent && !isPassedOn && !isAnswered) this.onAbandoned();
  }

  #onRequest(request: IncomingMessage, response: Response, pass: () => boolean): boolean {
    if (response[EXCHANGE] !== undefined) return pass(); // a listener of the app passes it on to another event
    const connection = this.#connections.get(request.socket);
    // Its socket closed while the request was parsed; others never were on a connection.
    if (connection === undefined) return request.socket?.destroyed || pass();
    const exchange: Exchange = {
      request,
      response,
      startedAt: performance.now(),
      connection,
      isPassedOn: false,
      isAnswered: false,
      status: undefined,
    };
    beginRequest(connection);
    connection.exchanges.push(exchange);
    this.requestLog?.onRequest(exchange);
    response[EXCHANGE] = exchange;
    response.writeHead = this.#writeHead;
    if (exchange.startedAt >= this.#refuseFrom) return true;
    const serve = () => inTrace(request, pass);
    const answer = () => this.#refuse(exchange, serve) || serve();
    // While connections end, pipelined requests after this one must be parsed before it is answered: the next microtask does that.
    // Stryker disable next-line ConditionalExpression: to wait always would only be slower
    if (!this.#isKeepAliveDisabled) return answer();
    queueMicrotask(answer);
    return true;
  }

  #onUpgrade(event: unknown, request: IncomingMessage, socket: Socket): void {
    const connection = this.#connections.get(request.socket);
    // A listener of the app may pass it on to another event.
    if (connection !== undefined && connection.upgrade?.request !== request) {
      beginRequest(connection);
      const webSocket = event === 'upgrade' && isWebSocket(request) ? new ServerWebSocket(request.socket) : undefined;
      connection.upgrade = { request, startedAt: performance.now(), ...(webSocket && { webSocket }) };
    }
    // Node.js has removed its own listener, and the app may add one late: an error without a listener would end the worker.
    for (const each of new Set([request.socket, socket])) each.on('error', () => undefined);
  }

  /** This connection came from another worker. */
  onTaken(socket: Socket, server: Server): void {
    const connection = this.#connections.get(socket);
    if (connection !== undefined) this.#moves?.onTaken(connection, server);
  }

  /** Whether the current response ends it. */
  #ends(connection: Connection): boolean {
    return this.#isKeepAliveDisabled && !this.#moves?.keeps(connection);
  }

  /** Every response passes `writeHead`, whatever framework writes it and whatever headers it strips. */
  #createWriteHead(responseTimeHeader: boolean): ServerResponse['writeHead'] {
    const server = this;
    return function (this: AppResponse, ...args: unknown[]) {
      const { writeHead } = Object.getPrototypeOf(this);
      const exchange = this[EXCHANGE];
      let sent = args;
      if (!this.headersSent) {
        if (responseTimeHeader) this.setHeader('X-Response-Time', `${(performance.now() - exchange.startedAt).toFixed(1)}ms`);
        // Only the last pipelined response may end the connection: the others would stay unanswered.
        const isLast = exchange.connection.exchanges.at(-1) === exchange;
        if (isLast && this.shouldKeepAlive && server.#ends(exchange.connection)) {
          this.shouldKeepAlive = false;
          this.setHeader('Connection', 'close'); // Node.js would add it, but the app's own header would win
          sent = args.map(withoutKeepAlive);
        }
      }
      const result: ServerResponse = Reflect.apply(writeHead, this, sent);
      exchange.status ??= this.statusCode;
      return result;
    };
  }

  #onFinish(request: IncomingMessage, response: Response): void {
    const connection = this.#connections.get(request.socket);
    if (connection === undefined) return; // it closed first, or it is another server's
    connection.onResponseEnd(request);
    this.#moves?.onResponseEnd(connection);
    const exchange = response[EXCHANGE];
    if (exchange === undefined) return; // Node.js has answered by itself (417)
    connection.exchanges.splice(connection.exchanges.indexOf(exchange), 1);
    if (exchange.isPassedOn) return;
    this.#responses++;
    const ms = connection.idleSince - exchange.startedAt;
    const { status = response.statusCode } = exchange;
    this.#onResponse(exchange, status, ms);
    this.requestLog?.onAnswered(exchange, status, ms);
  }

  get openConnections(): Iterable<Connection> {
    return this.#connections.values();
  }

  /** Counts the answer to a request that was not written by its response. */
  onOwnAnswer(exchange: Exchange, status: number, milliseconds: number): void {
    exchange.isAnswered = true;
    this.#responses++;
    this.#onResponse(exchange, status, milliseconds);
    this.requestLog?.onAnswered(exchange, status, milliseconds);
  }

  /** From now on every response ends its connection. The listener stays open. */
  disableKeepAlive(): void {
    this.#isKeepAliveDisabled = true;
  }

  /**
   * Requests that arrive after `timeoutMs` are not passed to the app. To be called before a drain with this deadline: a busy event loop runs
   * timers only after it has handled every request that it has read.
   */
  refuseAfter(timeoutMs: number): void {
    this.#refuseFrom = performance.now() + timeoutMs;
  }

  /**
   * Once no new connections come: lets open requests finish, closes connections that have been idle for `quietMs`, and aborts the rest after
   * `timeoutMs`. Calls `onProgress` every 3 seconds.
   */
  async drain(times: DrainTimes, onProgress: OnProgress): Promise<Drain> {
    const responsesBefore = this.#responses;
    this.disableKeepAlive();
    this.#moves?.endOffers();
    const drained = await new ConnectionDrain(this.#connections, times, times.moves ? this.#moves : undefined).run(onProgress);
    return { finished: this.#responses - responsesBefore, ...drained };
  }
}

/** The next request of this connection begins. */
function beginRequest(connection: Connection): void {
  connection.onFirstRequest?.();
  connection.onFirstRequest = undefined;
}

const isKeepAlive = (name: unknown, value: unknown) => /^connection$/i.test(String(name)) && /keep-alive/i.test(String(value));

/** Replaces `Connection: keep-alive` in the headers of a `writeHead` call. Returns other arguments unchanged. */
function withoutKeepAlive(argument: unknown): unknown {
  if (Array.isArray(argument)) return argument.map((value, index) => (isKeepAlive(argument[index - 1], value) ? 'close' : value));
  if (typeof argument !== 'object' || argument === null) return argument;
  return Object.fromEntries(Object.entries(argument).map(([name, value]) => [name, isKeepAlive(name, value) ? 'close' : value]));
}
