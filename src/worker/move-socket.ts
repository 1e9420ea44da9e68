/**
 * What a connection that moves between workers needs of Node.js beyond its public interface: the handle of a socket, whether its parser is
 * between two messages, and what the app has added to it. Only this file and protocol/handles.ts rely on that; where it is missing, or the
 * self-test (move-check.ts) finds that it works differently, connections do not move.
 */
import type { Server } from 'node:http';
import { Socket } from 'node:net';

// Not imported: see server-limits.ts.
const http = process.getBuiltinModule('node:http');

/** libuv's handle of a connection. */
export interface Handle {
  /** Kept by net.Socket. */
  reading: boolean;
  readonly writeQueueSize: number;
  readStart(): number;
  readStop(): number;
}

/** The parser that an http server gives to each of its sockets. */
interface Parser {
  incoming: unknown;
  onIncoming: (...args: unknown[]) => number;
  execute(data: Buffer): unknown;
}

/** What Node.js itself adds to the socket of an http server after the connection was accepted. */
const ADDED_BY_NODE: ReadonlySet<string> = new Set([
  '_httpMessage',
  '_peername',
  '_sockname',
  'timeout',
  'Symbol(kSetKeepAlive)',
  'Symbol(kSetKeepAliveInitialDelay)',
  'Symbol(kSetKeepAliveInterval)',
  'Symbol(kSetKeepAliveCount)',
]);

/** Listeners of `connection` that are the kit's: they do not keep a server's connections from moving. */
const ownListeners = new WeakSet<object>();

/** Marks a listener of `connection` as the kit's own. */
export function own<Listener extends (socket: Socket) => void>(listener: Listener): Listener {
  ownListeners.add(listener);
  return listener;
}

let nodeListeners: ReadonlySet<unknown> | undefined;

/** Whether connections of this server may move: not with TLS, nor if the app listens to `connection`, since it may keep state for each. */
export function isMovable(server: Server): boolean {
  if (!(server instanceof http.Server)) return false;
  nodeListeners ??= new Set(http.createServer().listeners('connection'));
  return server.rawListeners('connection').every(listener => nodeListeners?.has(listener) || ownListeners.has(listener));
}

/** The properties of a socket and its numbers of listeners, just after it was accepted. */
export class SocketShape {
  readonly #properties: ReadonlySet<string | symbol>;
  readonly #listeners: ReadonlyMap<string | symbol, number>;

  constructor(socket: Socket) {
    this.#properties = new Set(Reflect.ownKeys(socket));
    this.#listeners = new Map(socket.eventNames().map(name => [name, socket.listenerCount(name)]));
  }

  /** Whether the app has added nothing: another process would not have it. */
  fits(socket: Socket): boolean {
    return (
      Reflect.ownKeys(socket).every(key => this.#properties.has(key) || ADDED_BY_NODE.has(String(key))) &&
      socket.eventNames().every(name => socket.listenerCount(name) <= (this.#listeners.get(name) ?? 0))
    );
  }
}

/**
 * The sockets of a server between two messages, by their parsers: `closeIdleConnections` would destroy them. A count of bytes is not enough:
 * the beginning of the next request may have come with the last one. Those that have sent nothing yet are not among them.
 */
export function betweenMessages(server: Server): Set<Socket> {
  const found = new Set<Socket>();
  const before = Object.getOwnPropertyDescriptor(Socket.prototype, 'destroy');
  const collect = function (this: Socket) {
    found.add(this);
    return this;
  };
  Object.defineProperty(Socket.prototype, 'destroy', { value: collect, configurable: true, writable: true });
  try {
    http.Server.prototype.closeIdleConnections.call(server);
  } finally {
    if (before === undefined) Reflect.deleteProperty(Socket.prototype, 'destroy');
    else Object.defineProperty(Socket.prototype, 'destroy', before);
  }
  return found;
}

function handleOf(socket: Socket): Handle | undefined {
  const handle: unknown = Reflect.get(socket, '_handle');
  if (typeof handle !== 'object' || handle === null) return undefined;
  const isKnown = ['TCP', 'Pipe'].includes(handle.constructor.name) && 'readStart' in handle && 'readStop' in handle;
  return isKnown ? (handle as Handle) : undefined;
}

/** Stops reading: what the client sends from now on stays in the kernel. @returns undefined if it has unsent data, has ended, or cannot move */
export function detach(socket: Socket): Handle | undefined {
  const handle = handleOf(socket);
  const isAtRest = socket.readable && socket.writable && socket.readableLength === 0 && socket.writableLength === 0;
  if (handle === undefined || !isAtRest || handle.writeQueueSize > 0) return undefined;
  handle.readStop();
  handle.reading = false;
  socket.setTimeout(0); // it would close the connection
  return handle;
}

/** Reads again, after `detach`. It stays open for as long as after a response. */
export function reattach(socket: Socket, server: Server): void {
  const handle = handleOf(socket);
  if (handle === undefined) return;
  handle.reading = true;
  handle.readStart();
  keepOpen(socket, server);
}

/**
 * For a connection that came from another worker: it waits for its next request, as after a response, for KEEP_ALIVE_TIMEOUT_MS. As for a new
 * connection, HEADERS_TIMEOUT_MS would apply, and the client would get status 408 without a request.
 * @returns to be called when the next request begins
 */
export function startIdle(socket: Socket, server: Server): () => void {
  const parser: unknown = Reflect.get(socket, 'parser');
  if (isParser(parser)) endMessage(parser);
  keepOpen(socket, server);
  return () => socket.setTimeout(server.timeout);
}

const ANY_MESSAGE = Buffer.from('GET / HTTP/1.1\r\n\r\n');

/** A new parser counts as being in a message; only a message ends that. Nobody gets this one. */
function endMessage(parser: Parser): void {
  const { onIncoming } = parser;
  parser.onIncoming = () => 0;
  parser.execute(ANY_MESSAGE);
  parser.onIncoming = onIncoming;
  parser.incoming = null;
}

function isParser(parser: unknown): parser is Parser {
  if (typeof parser !== 'object' || parser === null) return false;
  return ['execute', 'onIncoming'].every(name => typeof Reflect.get(parser, name) === 'function');
}

/** As Node.js adds to the time-out that it announces. */
const KEEP_ALIVE_BUFFER_MS = 1000;

function keepOpen(socket: Socket, { keepAliveTimeout }: Server): void {
  socket.setTimeout(keepAliveTimeout > 0 ? keepAliveTimeout + KEEP_ALIVE_BUFFER_MS : 0);
}
