/**
 * How a worker gets its connections: it accepts them from inherited listening sockets.
 */

import { fstatSync } from 'node:fs';
import { BoundSocket, createServer, isIP, Server as NetServer, type Server, Socket } from 'node:net';
import { hostAndPort, LOOPBACK_ADDRESS } from '../config/parse.ts';

/** Connections that may wait; the kernel allows net.core.somaxconn (4096). With Node's 511 a burst of 1,000 makes clients try again after 1 s. */
const BACKLOG = 4096;

/**
 * What libuv offers and Node's net.Server does not: to stop and start polling a listening socket. readStop and readStart are what
 * net.Socket calls on the same class of handle. The one place in the kit that relies on it; the primary takes `none` where it is missing.
 */
interface Pausable {
  readStart(): number;
  readStop(): number;
}

function pausableOf(server: Server): Pausable | undefined {
  const handle: unknown = Reflect.get(server, '_handle');
  if (typeof handle !== 'object' || handle === null) return undefined;
  const hasBoth = ['readStart', 'readStop'].every(name => typeof Reflect.get(handle, name) === 'function');
  return hasBoth ? (handle as Pausable) : undefined;
}

/** Whether this Node.js can pause accepting, which an intake needs to leave connections to others. Tested on a socket of its own. */
export function canPause(): boolean {
  const server = createServer().listen(new BoundSocket({ host: LOOPBACK_ADDRESS }));
  const can = pausableOf(server) !== undefined;
  server.close();
  return can;
}

/** All sockets are known from the start; the primary decides which of them it serves. */
export class Intake {
  readonly #http: Server;
  readonly #fds: readonly number[];
  /** By slot. A socket that this worker has never served is only a descriptor. */
  readonly #listeners = new Map<number, { server: Server; handle: Pausable | undefined }>();
  #served: number[];
  #isPaused = false;
  #isHeld = false;
  #isClosed = false;

  constructor(http: Server, fds: readonly number[], served: number[]) {
    this.#http = http;
    this.#fds = fds;
    this.#served = served;
  }

  /** Begins to take connections; resolves with the port. @throws what `listen` reports */
  async open(): Promise<number> {
    // The first one is the http server's own: it begins to watch its time-outs when it listens.
    await listening(this.#http, () => this.#listen(0, this.#http));
    this.#poll();
    return portOf(this.#http);
  }

  /** False where Node.js has changed: then every gate is open, always. */
  get canPause(): boolean {
    return [...this.#listeners.values()].every(({ handle }) => handle !== undefined);
  }

  /** From now on these slots and no others. */
  serve(slots: number[]): void {
    this.#served = slots;
    if (this.#listeners.size > 0 && !this.#isClosed) this.#poll();
  }

  /** Leaves connections to others until `resume`. */
  pause(): void {
    this.#isPaused = true;
    this.#poll();
  }

  resume(): void {
    this.#isPaused = false;
    this.#poll();
  }

  /** For the moment others should take what comes. */
  hold(): void {
    this.#isHeld = true;
    this.#poll();
  }

  release(): void {
    this.#isHeld = false;
    this.#poll();
  }

  /** Closes the listening sockets permanently; open connections go on. */
  close(): void {
    this.#isClosed = true;
    for (const { server } of this.#listeners.values()) closeListener(server);
    // A descriptor that stayed open would keep its queue open when all others have closed theirs.
    for (const [slot, fd] of this.#fds.entries()) if (!this.#listeners.has(slot)) adopt(fd).destroy();
  }

  #poll(): void {
    if (this.#isClosed) return;
    const polled = this.#isPaused || this.#isHeld ? [] : this.#served;
    for (const slot of polled) if (!this.#listeners.has(slot)) this.#listen(slot, this.#sideServer());
    for (const [slot, { handle }] of this.#listeners) {
      if (polled.includes(slot)) handle?.readStart();
      else handle?.readStop();
    }
  }

  #listen(slot: number, server: Server): void {
    server.listen(adopt(this.#fds[slot] ?? -1), BACKLOG);
    const handle = pausableOf(server);
    // Polls already since listen(): this tells libuv that there is something to stop.
    const isPausable = handle?.readStart() === 0;
    this.#listeners.set(slot, { server, handle: isPausable ? handle : undefined });
  }

  /** Gives what it accepts to the http server, which documents that. The option is the one that http gives to net. */
  #sideServer(): Server {
    const server = createServer({ allowHalfOpen: true, noDelay: true }, socket => this.#http.emit('connection', socket));
    return server.on('error', error => this.#http.emit('error', error));
  }
}

/** A descriptor as something that a server can listen on. */
function adopt(fd: number): Socket {
  return new Socket({ fd, readable: false, writable: false });
}

/** `http.Server.close()` would destroy idle and just accepted sockets, with requests in their buffers. */
function closeListener(server: Server): void {
  NetServer.prototype.close.call(server);
}

async function listening(server: Server, listen: () => void): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('listening', resolve).once('error', reject);
  listen();
  await promise.finally(() => server.off('error', reject));
}

function portOf(server: Server): number {
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

/**
 * The app's listening sockets, held by the primary and inherited by every worker, so that a socket and the connections in its queue
 * outlive each worker. The primary never accepts from them.
 */

/** HOST:PORT can't be had. The message says why. */
export class PortError extends Error {
  /** By another process. */
  readonly isTaken: boolean;

  constructor(host: string, port: number, cause: unknown) {
    super(`${hostAndPort(host, port)}: cannot listen: ${(cause as Error).message} (HOST, PORT)`, { cause });
    this.name = 'PortError';
    this.isTaken = (cause as NodeJS.ErrnoException).code === 'EADDRINUSE';
  }
}

/** @throws PortError where `host` is a name that does not resolve */
export async function addressOf(host: string, port: number): Promise<string> {
  if (isIP(host) !== 0) return host;
  try {
    // 6 ms of each start, which an address does without.
    const { lookup } = await import('node:dns/promises');
    return (await lookup(host)).address;
  } catch (error) {
    throw new PortError(host, port, error);
  }
}

export class Sockets {
  readonly #bound: BoundSocket[];

  private constructor(bound: BoundSocket[]) {
    this.#bound = bound;
  }

  /** One socket that all workers share. @throws PortError */
  static shared(host: string, port: number): Sockets {
    return new Sockets([bind(host, port, false)]);
  }

  /** Several with SO_REUSEPORT, over which the kernel spreads connections. @throws PortError; what the system says where it has no SO_REUSEPORT */
  static many(host: string, port: number, count: number): Sockets {
    // With SO_REUSEPORT alone, two servers of one user would share a port without noticing.
    const alone = bind(host, port, false);
    const { port: real = port } = addressIn(alone);
    alone.close();
    return new Sockets(Array.from({ length: count }, () => bind(host, real, true)));
  }

  get fds(): number[] {
    return this.#bound.map(socket => socket.fd());
  }

  /** Of all of them; the real one where 0 was asked for. */
  get port(): number {
    const [first] = this.#bound;
    return (first && addressIn(first).port) ?? 0;
  }

  /** By which /proc names them. */
  get inodes(): number[] {
    return this.fds.map(fd => fstatSync(fd).ino);
  }

  close(): void {
    for (const socket of this.#bound) socket.close();
  }
}

function bind(host: string, port: number, reusePort: boolean): BoundSocket {
  try {
    return new BoundSocket({ host, port, reusePort });
  } catch (error) {
    if (reusePort && (error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    throw new PortError(host, port, error);
  }
}

function addressIn(socket: BoundSocket): { port?: number } {
  const address = socket.address();
  return typeof address === 'string' ? {} : address;
}
