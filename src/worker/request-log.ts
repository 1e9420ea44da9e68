/**
 * A log line for each answered or aborted request, or for a share of them. Loaded only with LOG_REQUESTS.
 */
import type { LogSource } from '../log/log.ts';
import { traceOf } from '../log/telemetry.ts';
import { type Connection, type Exchange, pathOf } from './connections.ts';
import { type RoutedRequest, routeOf } from './route.ts';

export class RequestLog {
  readonly #log: LogSource;
  readonly #share: number;
  /** What their sockets had sent when the answer in progress began. */
  readonly #sentBefore = new WeakMap<Connection, number>();
  readonly #answered = new WeakSet<Exchange>();

  /** `share` is from 0 to 1. */
  constructor(log: LogSource, share: number) {
    this.#log = log;
    this.#share = share;
  }

  /** To be called for each request, once it is one of its connection. */
  onRequest({ connection }: Exchange): void {
    // Of pipelined requests, one is answered after the other.
    if (connection.exchanges.length === 1) this.#sentBefore.set(connection, connection.socket.bytesWritten);
  }

  onAnswered(exchange: Exchange, status: number, ms: number): void {
    this.#answered.add(exchange);
    this.#write(exchange, { status }, ms);
  }

  /** The connection of this request has closed before its answer had ended. */
  onAborted(exchange: Exchange): void {
    const { response, startedAt, isPassedOn } = exchange;
    if (isPassedOn || this.#answered.has(exchange)) return;
    const status = response.headersSent ? response.statusCode : undefined;
    this.#write(exchange, { status, aborted: true }, performance.now() - startedAt);
  }

  #write(
    { request, connection }: Exchange & { request: RoutedRequest },
    end: { status?: number | undefined; aborted?: boolean },
    ms: number,
  ): void {
    const sent = connection.socket.bytesWritten;
    const bytes = sent - (this.#sentBefore.get(connection) ?? sent);
    this.#sentBefore.set(connection, sent);
    if (Math.random() >= this.#share) return;
    const { method = '', originalUrl, url } = request;
    this.#log().info({
      event: 'request',
      method,
      path: pathOf(originalUrl ?? url),
      route: routeOf(request),
      ...end,
      ms: Math.round(ms * 10) / 10,
      bytes,
      ...traceOf(request),
    });
  }
}
