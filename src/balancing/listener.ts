/**
 * The app's listening sockets. The primary binds them and never accepts from them; every worker inherits them, so that a socket and the
 * connections in its queue outlive each worker. A worker accepts from those that are assigned to it.
 */
import { fstatSync } from 'node:fs';
import { type AddressInfo, createServer, isIP, type Server, Socket } from 'node:net';
import { hostAndPort, LOOPBACK_ADDRESS, socketPathOf } from '../config/parse.ts';
import { type BoundSocket, bindSocket, removeStaleSocket } from './bound-socket.ts';

/** The app cannot listen on HOST:PORT. The message says why. */
export class PortError extends Error {
  /** By another process. */
  readonly isTaken: boolean;

  constructor(host: string, port: number, cause: unknown) {
    super(`${hostAndPort(host, port)}: cannot listen: ${(cause as Error).message} (HOST, PORT)`, { cause });
    this.name = 'PortError';
    this.isTaken = (cause as NodeJS.ErrnoException).code === 'EADDRINUSE';
  }
}

/** What to bind for `host`. @throws PortError if it is a name that does not resolve, or the path of a Unix socket that is in use */
export async function addressOf(host: string, port: number): Promise<string> {
  if (isIP(host) !== 0) return host;
  const path = socketPathOf(host);
  try {
    if (path !== undefined) {
      await removeStaleSocket(path);
      return host;
    }
    // Loading it costs 6 ms at each start, which an address does without.
    const { lookup } = await import('node:dns/promises');
    return (await lookup(host)).address;
  } catch (error) {
    throw new PortError(host, port, error);
  }
}

/** The primary's side. */
export class ListeningSockets {
  readonly #sockets: BoundSocket[];

  private constructor(sockets: BoundSocket[]) {
    this.#sockets = sockets;
  }

  /** One socket that all workers share. @throws PortError */
  static shared(host: string, port: number): ListeningSockets {
    return new ListeningSockets([bind(host, port, false)]);
  }

  /** Several with SO_REUSEPORT, over which the kernel spreads connections. @throws PortError; the system's error if it has no SO_REUSEPORT */
  static many(host: string, port: number, count: number): ListeningSockets {
    // With SO_REUSEPORT alone, two servers of one user would share a port without noticing.
    const alone = bind(host, port, false);
    const { port: real } = alone.address();
    alone.close();
    return new ListeningSockets(Array.from({ length: count }, () => bind(host, real, true)));
  }

  get fds(): number[] {
    return this.#sockets.map(socket => socket.fd());
  }

  /** Of all of them; the real one if 0 was given. */
  get port(): number {
    const [first] = this.#sockets;
    return first?.address().port ?? 0;
  }

  /** Their numbers in /proc. */
  get inodes(): number[] {
    return this.fds.map(fd => fstatSync(fd).ino);
  }

  close(): void {
    for (const socket of this.#sockets) socket.close();
  }
}

function bind(host: string, port: number, reusePort: boolean): BoundSocket {
  try {
    return bindSocket({ host, port, reusePort });
  } catch (error) {
    if (reusePort && (error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    throw new PortError(host, port, error);
  }
}

/** Connections that may queue; the kernel allows net.core.somaxconn (4096). With Node's 511, clients of a burst of 1,000 try again after 1 s. */
const BACKLOG = 4096;

/** Accepts a connection: the method that Node.js gives to the handle of a server that listens. `client` is a handle of libuv. */
export interface Acceptor {
  onconnection(error: number, client: unknown): void;
}

/**
 * The methods of libuv's handle that start and stop polling a listening socket; Node's net.Server does not offer them. net.Socket calls them
 * on the same class of handle. Only this file relies on them, and the primary falls back to the policy `none` if they are missing.
 */
interface Pausable {
  readStart(): number;
  readStop(): number;
}

/** What accepts the connections of `server`, with its limits and options, once it listens. */
export function handleOf(server: Server): Acceptor | undefined {
  const handle: unknown = Reflect.get(server, '_handle');
  return typeof handle === 'object' && handle !== null ? (handle as Acceptor) : undefined;
}

function isPausableHandle(handle: Acceptor | undefined): handle is Acceptor & Pausable {
  return handle !== undefined && ['readStart', 'readStop'].every(name => typeof Reflect.get(handle, name) === 'function');
}

/** Whether this Node.js can pause a listener, which an accept gate needs. Tries it on a socket of its own. */
export function canPause(): boolean {
  const server = createServer().listen(bindSocket({ host: LOOPBACK_ADDRESS }));
  const can = isPausableHandle(handleOf(server));
  server.close();
  return can;
}

/**
 * Of one listening socket, a turn of the event loop accepts one connection for each descriptor that it polls. A worker behind an accept gate
 * inherits so many descriptors of the shared socket, and polls all of them while its connections are brief.
 */
export const ACCEPTS_PER_TURN = 4;

/** A worker's side: the inherited sockets by their index. Once open, it polls those that are assigned to it, unless it is paused or held. */
export class Listeners {
  readonly #fds: readonly number[];
  /** By index. A socket that was never assigned is only a descriptor. */
  readonly #opened = new Map<number, { server: Server; handle: Pausable | undefined }>();
  #acceptor: Acceptor;
  #assigned: readonly number[];
  #reserved: Promise<void> | undefined;
  #isOpen = false;
  #isPaused = false;
  #isHeld = false;
  #acceptsMany = false;
  #isClosed = false;

  constructor(acceptor: Acceptor, fds: readonly number[], assigned: readonly number[]) {
    this.#acceptor = acceptor;
    this.#fds = fds;
    this.#assigned = assigned;
  }

  /** Connections wait in the queue of the first socket from now on. `open` throws if that fails. */
  reserve(): void {
    if (this.#reserved !== undefined) return;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#reserved = promise;
    promise.catch(() => undefined);
    this.#listen(0).once('listening', resolve).once('error', reject);
  }

  /** Begins to accept; resolves with the address of the first socket. @throws the error of `listen` */
  async open(): Promise<AddressInfo> {
    this.reserve();
    await this.#reserved;
    this.#isOpen = true;
    this.#poll();
    return this.address ?? { address: '', family: '', port: 0 };
  }

  /** Of the first socket, once it is reserved. */
  get address(): AddressInfo | undefined {
    const address = this.#opened.get(0)?.server.address();
    return typeof address === 'object' && address !== null ? address : undefined;
  }

  /** From now on `acceptor` gets the connections. */
  passTo(acceptor: Acceptor): void {
    this.#acceptor = acceptor;
  }

  /** Passes it a connection of another worker; `client` is its handle. */
  pass(client: object): void {
    this.#acceptor.onconnection(0, client);
  }

  /** False if Node.js has no such methods: then accept gates have no effect. */
  get canPause(): boolean {
    return [...this.#opened.values()].every(({ handle }) => handle !== undefined);
  }

  /** Accepts from these sockets and no others. */
  serve(assigned: readonly number[]): void {
    this.#assigned = assigned;
    this.#poll();
  }

  /** Accepts nothing until `resume`. */
  pause(): void {
    this.#isPaused = true;
    this.#poll();
  }

  resume(): void {
    this.#isPaused = false;
    this.#poll();
  }

  /** For the accept gate: leaves connections to other workers until `release`. */
  hold(): void {
    this.#isHeld = true;
    this.#poll();
  }

  release(): void {
    this.#isHeld = false;
    this.#poll();
  }

  /** For the accept gate: whether a turn of the event loop accepts as many connections as there are descriptors, all of one socket. */
  acceptMany(isMany: boolean): void {
    if (this.#acceptsMany === isMany) return;
    this.#acceptsMany = isMany;
    this.#poll();
  }

  /** Closes the listening sockets permanently; open connections go on. */
  close(): void {
    this.#isClosed = true;
    for (const { server } of this.#opened.values()) server.close();
    // A descriptor that stayed open would keep its queue open after all other workers have closed theirs.
    for (const [index, fd] of this.#fds.entries()) if (!this.#opened.has(index)) adopt(fd).destroy();
  }

  #poll(): void {
    if (this.#isClosed || !this.#isOpen) return;
    const wanted = this.#acceptsMany && this.#assigned.length > 0 ? [...this.#fds.keys()] : this.#assigned;
    const polled = this.#isPaused || this.#isHeld ? [] : wanted;
    for (const index of polled) if (!this.#opened.has(index)) this.#listen(index);
    for (const [index, { handle }] of this.#opened) {
      if (polled.includes(index)) handle?.readStart();
      else handle?.readStop();
    }
  }

  #listen(index: number): Server {
    const server = listenOn(adopt(this.#fds[index] ?? -1));
    const handle = handleOf(server);
    if (handle !== undefined) handle.onconnection = (error, client) => this.#acceptor.onconnection(error, client);
    // Polled since listen(): libuv stops only what was started this way.
    const isPausable = isPausableHandle(handle) && handle.readStart() === 0;
    if (isPausable && !this.#isOpen) handle.readStop();
    this.#opened.set(index, { server, handle: isPausable ? handle : undefined });
    return server;
  }
}

/** For a Unix socket node:cluster would send the number of this process' descriptor to the primary: the handle is set before. */
function listenOn(socket: Socket): Server {
  const server = createServer();
  const handle: unknown = Reflect.get(socket, '_handle');
  if (handle?.constructor.name !== 'Pipe') return server.listen(socket, BACKLOG);
  Reflect.set(server, '_handle', handle);
  Reflect.get(server, '_listen2').call(server, null, -1, -1, BACKLOG);
  return server;
}

/** A descriptor as something that a server can listen on. */
function adopt(fd: number): Socket {
  return new Socket({ fd, readable: false, writable: false });
}
