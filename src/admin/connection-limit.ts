/**
 * Bounds the connections of an HTTP server in the primary, so that no client can use up the descriptors that the pool needs. A full server
 * stays open for new clients: it closes the connection that has been without a request for longest.
 */
import type { Server } from 'node:http';
import type { Socket } from 'node:net';

/** A client that sends no complete header in this time is answered with 408; a connection without a first byte too. */
const HEADERS_TIMEOUT_MS = 5000;
const CHECK_TIMEOUTS_EVERY_MS = 1000;

/** For `http.createServer`: the timeouts of a server that only sees small requests. */
export const SHORT_TIMEOUTS = {
  headersTimeout: HEADERS_TIMEOUT_MS,
  requestTimeout: 2 * HEADERS_TIMEOUT_MS,
  keepAliveTimeout: HEADERS_TIMEOUT_MS,
  connectionsCheckingInterval: CHECK_TIMEOUTS_EVERY_MS,
};

/** A primary needs no more clients than this. */
const MAX_CONNECTIONS = 256;
/** Enough for probes and one operator. */
const MIN_CONNECTIONS = 16;
/** What a primary has open without any client: V8, the log, Redis, the app's listeners, files read briefly. */
const OWN_DESCRIPTORS = 64;
/** A worker's channel, its output, its listener, and the same again for its replacement, which starts first. */
const DESCRIPTORS_PER_WORKER = 8;

/**
 * How many connections the admin port may have.
 * @param descriptors the soft RLIMIT_NOFILE
 * @param workers the wanted number
 */
export function adminConnections(descriptors: number, workers: number): number {
  const spare = descriptors - OWN_DESCRIPTORS - DESCRIPTORS_PER_WORKER * workers;
  return Math.min(MAX_CONNECTIONS, Math.max(MIN_CONNECTIONS, Math.floor(spare / 2)));
}

interface Use {
  requests: number;
  /** Never closed to make room. */
  isPinned: boolean;
}

export class ConnectionLimit {
  /** The connection idle for longest comes first. */
  readonly #open = new Map<Socket, Use>();
  readonly #max: () => number;
  readonly #onClosed: () => void;

  /**
   * Attach it when the server has all its request listeners.
   * @param max called for every new connection
   * @param onClosed called for every connection that is closed to keep the limit
   */
  constructor(server: Server, max: () => number, onClosed: () => void = () => undefined) {
    this.#max = max;
    this.#onClosed = onClosed;
    server.on('connection', socket => this.#opened(socket));
    server.prependListener('request', ({ socket }, response) => {
      this.#began(socket);
      response.once('close', () => this.#ended(socket));
    });
  }

  /** Keeps the connection while its request lasts, also when the server is full. */
  pin(socket: Socket): void {
    const use = this.#open.get(socket);
    if (use !== undefined) use.isPinned = true;
  }

  #opened(socket: Socket): void {
    while (this.#open.size >= this.#max()) {
      const victim = this.#victim();
      this.#onClosed();
      if (victim === undefined) {
        socket.destroy();
        return;
      }
      this.#open.delete(victim);
      victim.destroy();
    }
    this.#open.set(socket, { requests: 0, isPinned: false });
    socket.once('close', () => this.#open.delete(socket));
  }

  /** Without a request, else the oldest whose client may not be reading its answer. */
  #victim(): Socket | undefined {
    const uses = [...this.#open];
    const [socket] = uses.find(([, { requests }]) => requests === 0) ?? uses.find(([, { isPinned }]) => !isPinned) ?? [];
    return socket;
  }

  #began(socket: Socket): void {
    const use = this.#open.get(socket);
    if (use !== undefined) use.requests++;
  }

  #ended(socket: Socket): void {
    const use = this.#open.get(socket);
    if (use === undefined) return;
    this.#open.delete(socket);
    this.#open.set(socket, { requests: use.requests - 1, isPinned: false });
  }
}
