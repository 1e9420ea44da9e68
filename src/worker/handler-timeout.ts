/**
 * HANDLER_TIMEOUT_MS: a request that the app has not begun to answer by then gets 503, and its connection ends. The answer bypasses the app's
 * response: for the app it is as if the client had left, and whatever it does with the response afterwards has no effect and throws nothing.
 */
import type { IncomingMessage } from 'node:http';
import { type Connection, type Exchange, pathOf } from './connections.ts';

export const TIMED_OUT_STATUS = 503;
const BODY = 'This server did not answer in time.\n';

/** Requests are checked this many times within the timeout, at most every 10 ms and at least once a second. */
const TICKS_PER_TIMEOUT = 10;
const MIN_TICK_MS = 10;
const MAX_TICK_MS = 1000;

/** The first request of a connection, since it waits for its response. */
interface Waiting {
  ms: number;
  /** Of the connection, at the last tick. */
  bytesRead: number;
  /** It had arrived in full by the last tick. */
  isComplete: boolean;
  /** It got its 503, which the client has not taken yet. */
  isAnswered: boolean;
}

/** Called with a request that got 503, and the time since its head arrived. */
export type OnTimeout = (exchange: Exchange, milliseconds: number) => void;

export class HandlerTimeout {
  readonly #timeoutMs: number;
  readonly #connections: () => Iterable<Connection>;
  readonly #onTimeout: OnTimeout;
  readonly #responseTimeHeader: boolean;
  #waiting = new Map<Exchange, Waiting>();
  #tickedAt: number;

  constructor(
    { handlerTimeoutMs, responseTimeHeader }: { handlerTimeoutMs: number; responseTimeHeader: boolean },
    connections: () => Iterable<Connection>,
    onTimeout: OnTimeout,
    now = performance.now(),
  ) {
    this.#timeoutMs = handlerTimeoutMs;
    this.#responseTimeHeader = responseTimeHeader;
    this.#connections = connections;
    this.#onTimeout = onTimeout;
    this.#tickedAt = now;
  }

  get tickMs(): number {
    return Math.min(MAX_TICK_MS, Math.max(MIN_TICK_MS, this.#timeoutMs / TICKS_PER_TIMEOUT));
  }

  /** One timer for all requests. */
  start(): this {
    // By setImmediate, because timers run before the loop reads what databases have answered meanwhile.
    setInterval(() => setImmediate(() => this.tick(performance.now())), this.tickMs).unref();
    return this;
  }

  /** Checks every request; `now` is monotonic time in milliseconds. */
  tick(now: number): void {
    // After a turn that has blocked the loop, answers to the others may be in flight: it counts as two ticks at most.
    const from = Math.max(this.#tickedAt, now - 2 * this.tickMs);
    this.#tickedAt = now;
    const before = this.#waiting;
    this.#waiting = new Map();
    for (const connection of this.#connections()) {
      // The worker that serves a request bounds its time. Responses leave in the order of their requests: the time of a pipelined one begins when those before it are answered.
      const [exchange] = connection.exchanges;
      if (exchange !== undefined && !exchange.response.headersSent && !exchange.isPassedOn)
        this.#check(connection, exchange, before.get(exchange), from, now);
    }
  }

  #check({ socket }: Connection, exchange: Exchange, before: Waiting | undefined, from: number, now: number): void {
    const { request, startedAt } = exchange;
    // While its body arrives, the handler may have nothing to answer yet: REQUEST_TIMEOUT_MS bounds that.
    const isArriving = before !== undefined && !before.isComplete && before.bytesRead !== socket.bytesRead;
    const ms = isArriving ? 0 : (before?.ms ?? 0) + now - Math.max(from, startedAt);
    const waiting = { ms, bytesRead: socket.bytesRead, isComplete: request.complete, isAnswered: before?.isAnswered ?? false };
    this.#waiting.set(exchange, waiting);
    if (ms < this.#timeoutMs) return;
    if (waiting.isAnswered) socket.destroy();
    if (socket.writableEnded || socket.destroyed) return;
    waiting.isAnswered = true;
    waiting.ms = 0;
    socket.write(this.#answerTo(exchange, now));
    socket.destroySoon();
    this.#onTimeout(exchange, now - startedAt);
  }

  /** No Retry-After, unlike that of a request that was never handled: to handle this one twice may do harm. */
  #answerTo({ request, startedAt }: Exchange, now: number): string {
    const lines = [
      `HTTP/1.1 ${TIMED_OUT_STATUS} Service Unavailable`,
      ...(this.#responseTimeHeader ? [`X-Response-Time: ${(now - startedAt).toFixed(1)}ms`] : []),
      'Content-Type: text/plain; charset=utf-8',
      `Content-Length: ${BODY.length}`,
      `Date: ${new Date().toUTCString()}`,
      'Connection: close',
      '',
      request.method === 'HEAD' ? '' : BODY,
    ];
    return lines.join('\r\n');
  }
}

/** One worker names that many requests within the period in its log; the others are only counted. */
const MAX_LINES = 10;
const PERIOD_MS = 10_000;

/** Bounds the lines about requests without an answer: when a database hangs, all of them are. */
export class TimeoutLines {
  #periodEndsAt = Number.NEGATIVE_INFINITY;
  #lines = 0;
  #unnamed = 0;

  /** What to log about a request at the monotonic time `now`; undefined for nothing. `unnamed` are those of the last period that were not logged. */
  lineFor(request: IncomingMessage & { originalUrl?: string }, ms: number, now: number): TimeoutLine | undefined {
    if (now >= this.#periodEndsAt) {
      this.#periodEndsAt = now + PERIOD_MS;
      this.#lines = 0;
    }
    if (this.#lines >= MAX_LINES) {
      this.#unnamed++;
      return undefined;
    }
    this.#lines++;
    const unnamed = this.#unnamed;
    this.#unnamed = 0;
    const path = pathOf(request.originalUrl ?? request.url);
    return { method: request.method ?? '', path, ms: Math.round(ms), ...(unnamed > 0 && { unnamed }) };
  }
}

interface TimeoutLine {
  method: string;
  path: string;
  ms: number;
  unnamed?: number;
}
