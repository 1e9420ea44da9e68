/**
 * ADAPTIVE_CONCURRENCY: the requests of a worker, and the limit that they meet (limit.ts). Above it they wait (waiting.ts), then get 503. Loaded only
 * where it is on.
 *
 * A request counts from when the app gets it until it begins to answer, as with HANDLER_TIMEOUT_MS: not while its body arrives, and not while its client
 * takes the answer. Streams count until their headers, upgraded connections and requests that another worker serves not at all.
 */
import { AsyncResource } from 'node:async_hooks';
import type { ConcurrencyStatus } from '../../protocol/snapshot.ts';
import type { Exchange } from '../connections.ts';
import { internalRouteOf } from '../route.ts';
import type { Refuse } from '../server.ts';
import { hasBody } from '../sticky/hop.ts';
import { ConcurrencyLimit, type Handled, WINDOW_MS } from './limit.ts';
import { MIN_WAIT_MS, Waiting } from './waiting.ts';

/** Statuses from here on are errors. */
const FIRST_ERROR = 400;
const WINDOWS_PER_RATE = 5;

interface Queued {
  exchange: Exchange;
  serve: () => void;
}

export interface TurnAwayHandler {
  /** Answers a request that is turned away. */
  onTurnedAway(exchange: Exchange, now: number): void;
  /** Called every WINDOW_MS. */
  onWindow(now: number): void;
}

export class AdaptiveConcurrency {
  readonly #limit: ConcurrencyLimit;
  readonly #waiting = new Waiting<Queued>();
  readonly #handler: TurnAwayHandler;
  #rejected = 0;
  #rejectedPerSecond = 0;
  #rated = { windows: 0, rejected: 0, at: performance.now() };
  #timer: NodeJS.Timeout | undefined;
  /** When the first request of this turn of the event loop was read: those after it have waited for it. */
  #turnStartedAt: number | undefined;
  /** Answered in this turn. They count until its end: what a blocking app answers in one turn is at once, too. */
  #answered: Handled[] = [];

  constructor(handler: TurnAwayHandler, limit = new ConcurrencyLimit()) {
    this.#handler = handler;
    this.#limit = limit;
  }

  start(): this {
    setInterval(() => this.#tick(performance.now()), WINDOW_MS).unref();
    return this;
  }

  /** For the worker's snapshot. */
  get status(): ConcurrencyStatus {
    return {
      limit: this.#limit.limit,
      inFlight: this.#limit.inFlight,
      queued: this.#waiting.size,
      rejected: this.#rejected,
      rejectedPerSecond: this.#rejectedPerSecond,
    };
  }

  /** Lets a request wait, or turns it away, where the limit is reached. */
  readonly refuse: Refuse = (exchange, pass) => {
    const since = this.#turn();
    if (!this.#limit.isFull && this.#waiting.size === 0) {
      this.#begin(exchange, since);
      return false;
    }
    this.#limit.onWaiting();
    // The app must see the asynchronous context of this request, not of the one whose answer makes room for it.
    const queued = { exchange, serve: AsyncResource.bind(pass) };
    if (!this.#waiting.add(queued, this.#limit.limit, since)) {
      this.#turnAway(exchange);
      return true;
    }
    exchange.onClose = () => this.#waiting.delete(queued);
    this.#timer ??= setTimeout(() => this.#onTimer(), MIN_WAIT_MS);
    return true;
  };

  /** The time at which this turn of the event loop has begun to handle requests. */
  #turn(): number {
    if (this.#turnStartedAt === undefined) {
      this.#turnStartedAt = performance.now();
      setImmediate(() => this.#endTurn());
    }
    return this.#turnStartedAt;
  }

  #endTurn(): void {
    this.#turnStartedAt = undefined;
    for (const handled of this.#answered) this.#limit.release(handled);
    this.#answered = [];
    this.#admit();
  }

  #admit(): void {
    this.#turnAwayOverdue(performance.now());
    while (!this.#limit.isFull) {
      const queued = this.#waiting.take();
      if (queued === undefined) return;
      if (isOver(queued.exchange)) continue;
      this.#begin(queued.exchange, this.#turn());
      queued.serve();
    }
  }

  #begin(exchange: Exchange, since: number): void {
    const { request, response } = exchange;
    const handled = this.#limit.begin(() => `${request.method} ${internalRouteOf(request)}`, since);
    const { writeHead } = response;
    const end = (isGood: boolean) => {
      exchange.onClose = undefined;
      this.#limit.answered(handled, isGood, performance.now());
      this.#answered.push(handled);
      this.#turn();
    };
    response.writeHead = (...args: unknown[]) => {
      response.writeHead = writeHead;
      end(Number(args[0]) < FIRST_ERROR);
      return Reflect.apply(writeHead, response, args);
    };
    exchange.onClose = () => end(false);
    if (hasBody(request)) setImmediate(() => this.#awaitBody(exchange, handled));
  }

  /** A body that has not arrived with its headers: the client may take its time. */
  #awaitBody(exchange: Exchange, handled: Handled): void {
    const isHandled = () => exchange.onClose !== undefined;
    if (exchange.request.complete || !isHandled()) return;
    this.#limit.suspend(handled);
    exchange.request.once('end', () => isHandled() && this.#limit.resume(handled, performance.now()));
    this.#admit();
  }

  #tick(now: number): void {
    this.#limit.tick(now);
    this.#handler.onWindow(now);
    this.#rated.windows++;
    if (this.#rated.windows === WINDOWS_PER_RATE) {
      this.#rejectedPerSecond = Math.round(((this.#rejected - this.#rated.rejected) * 10_000) / (now - this.#rated.at)) / 10;
      this.#rated = { windows: 0, rejected: this.#rejected, at: now };
    }
    this.#admit();
  }

  #onTimer(): void {
    this.#timer = undefined;
    this.#admit();
    if (this.#waiting.size > 0) this.#timer = setTimeout(() => this.#onTimer(), MIN_WAIT_MS);
  }

  #turnAwayOverdue(now: number): void {
    const maxMs = this.#waiting.maxWaitMs(this.#limit.latencyMs, now);
    for (const { exchange } of this.#waiting.takeOverdue(maxMs, now)) this.#turnAway(exchange);
  }

  #turnAway(exchange: Exchange): void {
    exchange.onClose = undefined;
    if (isOver(exchange)) return;
    this.#rejected++;
    this.#handler.onTurnedAway(exchange, performance.now());
  }
}

/** HANDLER_TIMEOUT_MS has answered it while it waited, or its connection has closed. */
function isOver({ request: { socket } }: Exchange): boolean {
  return socket.destroyed || socket.writableEnded;
}
