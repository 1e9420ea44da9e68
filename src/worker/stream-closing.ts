/**
 * Closes the WebSockets and event streams that the app leaves open at a drain, one after the other: all at once, their clients would come back to
 * the other workers within the same second.
 */
import type { Drain, DrainTimes, StreamEnds } from '../protocol/messages.ts';
import type { Connection, Exchange } from './connections.ts';
import { endEventStream, isEventStream } from './event-streams.ts';
import type { ServerWebSocket } from './web-socket.ts';

/** One every 10 ms, faster where the time would not suffice for all. */
const EACH_MS = 10;
/** The share of the drain's time that the closing may take. The rest is for the answers of the clients. */
const TIME_SHARE = 0.5;
/** Clients get a random time to reconnect after, so that those that were closed together do not come back together. */
const MIN_RETRY_MS = 500;
const MAX_RETRY_MS = 1500;

export class StreamClosing {
  readonly #connections: ReadonlyMap<unknown, Connection>;
  readonly #pace: Pace;
  readonly #webSockets = new StreamCounts<ServerWebSocket>();
  readonly #eventStreams = new StreamCounts<Exchange>();

  /** To be created when the drain begins, at the monotonic time `now`. */
  constructor(connections: ReadonlyMap<unknown, Connection>, times: DrainTimes, now: number) {
    const appMs = Math.min(times.appMs, times.timeoutMs);
    this.#connections = connections;
    this.#pace = new Pace(now + appMs, (times.timeoutMs - appMs) * TIME_SHARE);
    this.#findOpen(); // those that the app has just ended, on `kit.draining`, count too
  }

  get ends(): Pick<Drain, 'webSockets' | 'eventStreams'> {
    return { webSockets: this.#webSockets.ends, eventStreams: this.#eventStreams.ends };
  }

  /** To be called in each tick of the drain. */
  tick(now: number): void {
    const open = this.#findOpen();
    for (const close of open.slice(0, this.#pace.take(open.length, now))) close();
  }

  /** Functions that close what nobody has closed yet. */
  #findOpen(): (() => void)[] {
    const open: (() => void)[] = [];
    this.#webSockets.beginTick();
    this.#eventStreams.beginTick();
    for (const connection of this.#connections.values()) {
      const webSocket = connection.upgrade?.webSocket;
      if (webSocket?.isClosedByKit) webSocket.tick();
      if (webSocket?.isAccepted && !webSocket.isCloseSent) {
        this.#webSockets.addOpen(webSocket);
        if (webSocket.isOpen) open.push(() => this.#closeWebSocket(webSocket));
      }
      for (const exchange of connection.exchanges) {
        if (!this.#eventStreams.has(exchange) && !isEventStream(exchange)) continue;
        this.#eventStreams.addOpen(exchange);
        if (!exchange.response.writableEnded) open.push(() => this.#endEventStream(exchange));
      }
    }
    return open;
  }

  #closeWebSocket(webSocket: ServerWebSocket): void {
    webSocket.close(`service restart, retry in ${randomRetryMs()} ms`);
    this.#webSockets.addClosed(webSocket);
  }

  #endEventStream(exchange: Exchange): void {
    endEventStream(exchange, randomRetryMs());
    this.#eventStreams.addClosed(exchange);
  }
}

/** What a drain has seen open of one kind, and what has become of it. */
class StreamCounts<Stream> {
  readonly #seen = new Set<Stream>();
  readonly #closed = new Set<Stream>();
  /** Those that were still open at the last tick. */
  readonly #left = new Set<Stream>();

  beginTick(): void {
    this.#left.clear();
  }

  addOpen(stream: Stream): void {
    this.#seen.add(stream);
    this.#left.add(stream);
  }

  has(stream: Stream): boolean {
    return this.#seen.has(stream);
  }

  addClosed(stream: Stream): void {
    this.#closed.add(stream);
  }

  get ends(): StreamEnds {
    const byKit = this.#closed.difference(this.#left).size;
    return { byKit, byApp: this.#seen.difference(this.#left).size - byKit };
  }
}

/** How many may be closed at a time. */
export class Pace {
  readonly #until: number;
  #lastAt: number;
  /** Time that has passed without closings: at first enough for one. */
  #unusedMs = EACH_MS;

  /** From the monotonic time `from` on, within `ms`. */
  constructor(from: number, ms: number) {
    this.#lastAt = from;
    this.#until = from + ms;
  }

  /** How many of `open` are to be closed now, at the monotonic time `now`. */
  take(open: number, now: number): number {
    if (now < this.#lastAt) return 0;
    if (now >= this.#until) return open;
    const eachMs = Math.min(EACH_MS, (this.#until - now) / open);
    this.#unusedMs += now - this.#lastAt;
    this.#lastAt = now;
    const taken = Math.min(open, Math.floor(this.#unusedMs / eachMs));
    this.#unusedMs = taken === open ? 0 : this.#unusedMs - taken * eachMs;
    return taken;
  }
}

function randomRetryMs(): number {
  return Math.round(MIN_RETRY_MS + Math.random() * (MAX_RETRY_MS - MIN_RETRY_MS));
}
