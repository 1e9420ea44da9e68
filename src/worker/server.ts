/**
 * The http server of one worker: its open connections, its in-flight requests, and its drain (docs/draining.md).
 * It knows no policy, no app and no metrics: a request listener goes in, answered requests are reported out.
 */
import { subscribe } from 'node:diagnostics_channel';
import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Config } from '../config/config.ts';
import type { Drain, DrainTimes, OpenRequest } from '../protocol/messages.ts';
import { Connection, type Exchange, StalledClients } from './connections.ts';

// An ESM import of node:http evaluates its getters, which load undici: 37 ms at each start.
const http = process.getBuiltinModule('node:http');

export type ServerLimits = Pick<
  Config,
  'keepAliveTimeoutMs' | 'headersTimeoutMs' | 'requestTimeoutMs' | 'maxHeaderBytes' | 'responseTimeHeader'
>;

/** Told of every answered request, once its last byte is handed to the kernel. */
export type OnAnswered = (request: IncomingMessage, status: number, milliseconds: number) => void;

/** Told how many requests a drain waits for, and the oldest of them. */
export type OnWaiting = (open: number, oldest: OpenRequest[]) => void;

export type UpgradeListener = (request: IncomingMessage, socket: Socket, head: Buffer) => unknown;

/** How often a drain looks at its connections. Their quiet is counted in looks: while this loop is blocked, requests wait unseen in the kernel. */
const SWEEP_MS = 25;
/** How often a drain says what it waits for. */
const BLAME_EVERY_MS = 3000;
/** Of those that it waits for, or has cut, it names no more: a worker may have ten thousand, and the primary keeps and tells what it hears. */
const MOST_NAMED = 100;

/** Our record hangs on the response itself: frameworks exchange the response's prototype (Express does). */
const EXCHANGE = Symbol('bosun.exchange');
type Response = ServerResponse & { [EXCHANGE]?: Exchange };

/** What a deadline has ended: several requests may be open on one connection. */
interface Cut {
  requests: OpenRequest[];
  connections: number;
}

export class AppServer {
  readonly http: Server;
  readonly #listener: RequestListener;
  readonly #onAnswered: OnAnswered;
  readonly #connections = new Map<Socket, Connection>();
  readonly #writeHead: ServerResponse['writeHead'];
  #inFlight = 0;
  #answered = 0;
  #ending = false;
  /** Requests that arrive later are not passed to the app: the drain cuts them. */
  #cutAt = Number.POSITIVE_INFINITY;
  /** So many of the next answers end their connections. */
  #toEnd = 0;

  constructor(listener: RequestListener, limits: ServerLimits, onAnswered: OnAnswered) {
    this.#listener = listener;
    this.#onAnswered = onAnswered;
    this.#writeHead = this.#headWriter(limits.responseTimeHeader);
    this.http = http.createServer({
      keepAliveTimeout: limits.keepAliveTimeoutMs,
      headersTimeout: limits.headersTimeoutMs,
      requestTimeout: limits.requestTimeoutMs,
      maxHeaderSize: limits.maxHeaderBytes,
      shouldUpgradeCallback: request => this.http.listenerCount('upgrade') > 0 && isWebSocket(request),
    });
    this.http.on('connection', socket => this.#opened(socket));
    this.http.on('request', (request, response) => this.#requested(request, response));
    // One subscription for all answers costs less than a listener on each.
    subscribe('http.server.response.finish', message => this.#finished((message as { response: Response }).response));
  }

  get connections(): number {
    return this.#connections.size;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** How many requests have no answer yet, and the oldest of them. */
  get waiting(): { open: number; oldest: OpenRequest[] } {
    const open = this.#openRequests(performance.now());
    return { open: open.length, oldest: oldestOf(open) };
  }

  /** Passes WebSocket upgrades to `listener`. A request for another protocol (h2c) is answered like any other request, which HTTP allows. */
  upgradeWith(listener: UpgradeListener): void {
    this.http.on('upgrade', (request, socket, head) => {
      const connection = this.#connections.get(request.socket);
      if (connection !== undefined) connection.upgrade = { request, startedAt: performance.now(), connection };
      // Node.js has taken its own listener off, and an app that asks somebody first has none yet: a reset would end the worker.
      for (const each of new Set([request.socket, socket])) each.on('error', () => undefined);
      void listener(request, socket as Socket, head);
    });
  }

  /** Ends that many connections, each with its next answer: their clients come again, and may find another worker. */
  giveAway(count: number): void {
    this.#toEnd = count;
  }

  /** From now on every answer ends its connection. The listener stays open. */
  endConnections(): void {
    this.#ending = true;
  }

  /** Call before a drain with this deadline: a busy loop checks its clock only after it has handled every request it has read. */
  cutAfter(timeoutMs: number): void {
    this.#cutAt = performance.now() + timeoutMs;
  }

  /**
   * Once no new connection comes: lets open requests finish, ends connections once they are quiet, cuts what is left after `timeoutMs`.
   * `onWaiting` is told every 3 seconds what it waits for.
   */
  async drain({ timeoutMs, quietMs, endStalled }: DrainTimes, onWaiting: OnWaiting): Promise<Drain> {
    const startedAt = performance.now();
    const answeredBefore = this.#answered;
    const connectionsAtStart = this.#connections.size;
    const openAtStart = [...this.#connections.values()].flatMap(({ open }) => open);
    const { promise, resolve } = Promise.withResolvers<Cut>();
    this.#ending = true;
    const quietSweeps = Math.ceil(quietMs / SWEEP_MS);
    const stalled = new StalledClients<Socket>();
    let stalledCount = 0;
    const look = () => {
      const now = performance.now();
      const isTooLate = now - startedAt >= timeoutMs;
      for (const connection of this.#connections.values()) {
        connection.quietSweeps = connection.isAtRest ? connection.quietSweeps + 1 : 0;
        const mayGo = connection.quietSweeps >= quietSweeps || (isTooLate && connection.isAtRest);
        if (!mayGo || connection.isClosing) continue;
        connection.isClosing = true;
        connection.socket.destroySoon();
      }
      // Not cut: the primary counts what the kernel could not deliver.
      for (const socket of endStalled ? stalled.among(this.#unsent) : []) {
        stalledCount++;
        socket.destroy();
      }
      if (this.#connections.size === 0) resolve({ requests: [], connections: 0 });
      else if (isTooLate) resolve(this.#cutAll(now));
    };
    // After the loop has read what the kernel holds: timers come before.
    const sweep = setInterval(() => setImmediate(look), SWEEP_MS);
    const blame = setInterval(() => {
      const { open, oldest } = this.waiting;
      onWaiting(open, oldest);
    }, BLAME_EVERY_MS);
    const cut = await promise;
    clearInterval(sweep);
    clearInterval(blame);
    const endedAt = performance.now();
    const oldest = Math.min(endedAt, ...openAtStart.map(exchange => exchange.startedAt));
    return {
      finished: this.#answered - answeredBefore,
      cutRequests: cut.requests.length,
      cut: oldestOf(cut.requests),
      closedGracefully: Math.max(0, connectionsAtStart - cut.connections - stalledCount),
      longestRequestMs: Math.round(openAtStart.length === 0 ? 0 : endedAt - oldest),
      durationMs: Math.round(endedAt - startedAt),
    };
  }

  get #isEndingSome(): boolean {
    return this.#ending || this.#toEnd > 0;
  }

  #opened(socket: Socket): void {
    const connection = new Connection(socket);
    this.#connections.set(socket, connection);
    socket.once('close', () => {
      this.#connections.delete(socket);
      this.#inFlight -= connection.open.length;
      connection.open = [];
    });
  }

  #requested(request: IncomingMessage, response: Response): void {
    const connection = this.#connections.get(request.socket);
    if (connection === undefined) return; // its socket closed while the request was parsed
    const exchange: Exchange = { request, response, startedAt: performance.now(), connection };
    connection.open.push(exchange);
    this.#inFlight++;
    response[EXCHANGE] = exchange;
    response.writeHead = this.#writeHead;
    if (exchange.startedAt >= this.#cutAt) return;
    // While connections end, an answer must know whether pipelined requests follow it: they are parsed by the next microtask.
    if (this.#isEndingSome) queueMicrotask(() => this.#listener(request, response as Parameters<RequestListener>[1]));
    else this.#listener(request, response as Parameters<RequestListener>[1]);
  }

  /** The one place that every answer passes, whatever framework wrote it and whatever headers it has stripped. */
  #headWriter(responseTimeHeader: boolean): ServerResponse['writeHead'] {
    const server = this;
    return function (this: Response, ...head: unknown[]) {
      const exchange = this[EXCHANGE];
      if (exchange !== undefined && !this.headersSent) {
        if (responseTimeHeader) this.setHeader('X-Response-Time', `${(performance.now() - exchange.startedAt).toFixed(1)}ms`);
        // Not a `Connection: close` header: Koa's error path strips headers. Not before the last: the rest would go unanswered.
        if (server.#isEndingSome && this.shouldKeepAlive && exchange.connection.open.at(-1) === exchange) {
          this.shouldKeepAlive = false;
          server.#toEnd--;
          // What the app says of it would win.
          if (isKeepAlive('connection', this.getHeader('connection'))) this.setHeader('Connection', 'close');
          return Reflect.apply(Object.getPrototypeOf(this).writeHead, this, head.map(withoutKeepAlive));
        }
      }
      return Reflect.apply(Object.getPrototypeOf(this).writeHead, this, head);
    };
  }

  #finished(response: Response): void {
    const exchange = response[EXCHANGE];
    if (exchange === undefined) {
      // Node.js has answered by itself (417), or it is another server's.
      this.#connections.get(response.req.socket)?.rest(response.req);
      return;
    }
    const { connection, request } = exchange;
    const position = connection.open.indexOf(exchange);
    if (position < 0) return; // its connection closed first
    connection.open.splice(position, 1);
    connection.rest(request);
    this.#inFlight--;
    this.#answered++;
    this.#onAnswered(request, response.statusCode, connection.quietSince - exchange.startedAt);
  }

  /** Of the connections whose answers only their clients hold up. */
  get #unsent(): Socket[] {
    return [...this.#connections.values()].flatMap(({ isUnsent, socket }) => (isUnsent ? [socket] : []));
  }

  #openRequests(now: number): OpenRequest[] {
    return [...this.#connections.values()].flatMap(connection => connection.openRequests(now));
  }

  #cutAll(now: number): Cut {
    const requests = this.#openRequests(now);
    const busy = [...this.#connections.values()].filter(({ isAtRest }) => !isAtRest);
    for (const { socket } of busy) socket.destroy();
    return { requests, connections: busy.length };
  }
}

const isWebSocket = ({ headers }: IncomingMessage) =>
  (headers.upgrade ?? '').split(',').some(protocol => protocol.trim().toLowerCase() === 'websocket');

const isKeepAlive = (name: unknown, value: unknown) => /^connection$/i.test(String(name)) && /keep-alive/i.test(String(value));

/** Of the arguments of `writeHead`: the headers without their `Connection: keep-alive`, anything else as it is. */
function withoutKeepAlive(argument: unknown): unknown {
  if (Array.isArray(argument)) return argument.map((value, index) => (isKeepAlive(argument[index - 1], value) ? 'close' : value));
  if (typeof argument !== 'object' || argument === null) return argument;
  return Object.fromEntries(Object.entries(argument).map(([name, value]) => [name, isKeepAlive(name, value) ? 'close' : value]));
}

function oldestOf(requests: readonly OpenRequest[]): OpenRequest[] {
  return requests.toSorted((a, b) => b.ageMs - a.ageMs).slice(0, MOST_NAMED);
}
