/**
 * The seam through which servers of this process listen. In a worker, Node.js requests the handle of a server that listens from node:cluster; here
 * the server that the kit serves gets a handle of ours, and the connections of the inherited sockets go to it (balancing/listener.ts). All else stays
 * as Node.js does it: `listening`, callbacks, `address()`, `close()`, limits, and every form of `listen`. Only this file relies on
 * `cluster._getServer` and on what a handle must have, as node:cluster's own handles do. Which server it is: adopt-rules.ts.
 */
import cluster from 'node:cluster';
import type { Server as HttpServer } from 'node:http';
import { type AddressInfo, Server } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Acceptor } from '../balancing/listener.ts';
import { decide, type Kind, type Role, type Situation } from './adopt-rules.ts';
import type { App } from './app.ts';

/** What Node.js requests: a port below 0 for a Unix socket, a descriptor if one was given. */
interface Query {
  address: string | null;
  port: number;
  fd?: number;
}
/** `error` is negative, as libuv's, or 0. */
type Reply = (error: number, handle: Handle | null) => void;
type GetServer = (server: object, query: Query, reply: Reply) => void;

/** What Node.js expects of the handle of a server that listens. */
interface Handle {
  /** Set by Node.js when the server listens. */
  onconnection?: Acceptor['onconnection'];
  listen(backlog: number): number;
  close(): void;
  ref(): void;
  unref(): void;
  getsockname?: (out: object) => number;
}

/** A server that listens. */
export interface Listening {
  server: Server;
  kind: Kind;
  /** As in its call of `listen`; port 0 means any, host null all addresses. */
  port: number;
  host: string | null;
}

/** What the rest of the worker has to know; the names are those of `Decision`. */
export type AdoptionEvent =
  /** The worker serves, and this server takes over. */
  | 'serve'
  | 'name-port'
  | 'refuse'
  | 'admin'
  | 'own'
  /** It should listen on its own port after all, which is taken. */
  | 'taken'
  /** The app has closed the server that is served. */
  | 'closed';

export interface AdoptionOptions extends Pick<Situation, 'port' | 'isPortKnown' | 'isPortHeld' | 'adminPort'> {
  /** From now on this handle gets the connections of the inherited sockets. Returns a function that reads their address. */
  passTo: (handle: Acceptor) => () => AddressInfo | undefined;
  onEvent: (event: AdoptionEvent, listening: Listening) => void;
}

// Not imported: see server.ts.
const http = process.getBuiltinModule('node:http');

/** Node's own, for ports outside the kit. */
const BACKLOG = 511;
/** Another server may listen on PORT this long after the first one, and after the module has loaded: then that one is served. */
const OTHERS_MS = 500;
export const { listen: listenAsNode } = Server.prototype; // of Node.js itself, for sockets of the kit

interface Current extends Listening {
  role: Role;
  query: Query;
  handle: OwnHandle;
}

export class Adoption {
  readonly #options: AdoptionOptions;
  readonly #getServer: GetServer;
  /** The server that gets the connections. */
  #current: Current | undefined;
  #isDecided = false;
  /** Resolves when `current` listens; another one once it has closed. */
  #listens = Promise.withResolvers<void>();
  readonly #listensOnPort = Promise.withResolvers<void>();
  #exported: Server | undefined;
  /** With its exported server, by a call of its own. */
  #appListens = false;

  /** Create it before the app is loaded. */
  constructor(options: AdoptionOptions) {
    this.#options = options;
    const internals = cluster as unknown as { _getServer: GetServer };
    this.#getServer = internals._getServer.bind(cluster);
    internals._getServer = (server, query, reply) => this.#onQuery(server, query, reply);
    this.#interceptListen();
  }

  /** Of the server that will be served; undefined while none listens. */
  get role(): Role | undefined {
    return this.#current?.role;
  }

  /** The server that is served; undefined if the kit has created it. */
  get served(): Listening | undefined {
    return this.#current?.role === 'export' ? undefined : this.#current;
  }

  /**
   * To be called when the module has loaded. Resolves with the server that listens on PORT, else with the first one, 0.5 s after it listens;
   * never while none does.
   */
  async listened(): Promise<App> {
    for (;;) {
      await this.#listens.promise;
      if (this.role !== 'port') await Promise.race([this.#listensOnPort.promise, sleep(OTHERS_MS)]);
      if (this.#current === undefined) continue;
      const { server, kind, port } = this.#current;
      const name = kind === 'https' ? 'an https.Server' : 'an http.Server';
      this.#isDecided = true;
      return { serve: { server: server as HttpServer }, description: `${name} that listens on ${port}` };
    }
  }

  /** Before the worker serves `server`: it listens from now on, if it does not already. What listened elsewhere is the app's own. */
  serve(server: Server): void {
    this.#isDecided = true;
    if (this.#current?.server === server) return;
    this.#exported = server;
    server.listen(0);
  }

  #onQuery(server: object, query: Query, reply: Reply): void {
    const { address: host, port, fd } = query;
    const isOnPort = server instanceof Server && port >= 0 && typeof fd !== 'number';
    if (!isOnPort) {
      this.#getServer(server, query, reply);
      return;
    }
    const listening = { server, kind: kindOf(server), port, host };
    const { onEvent } = this.#options;
    const situation = { ...this.#options, role: this.role, isDecided: this.#isDecided };
    const decision = server === this.#exported ? this.#whenExported : decide(listening, situation);
    switch (decision) {
      case 'serve': {
        this.#take({ ...listening, role: 'port', query, handle: new OwnHandle() }, reply);
        this.#listensOnPort.resolve();
        if (this.#isDecided) onEvent('serve', listening);
        break;
      }
      case 'export':
        this.#take({ ...listening, role: 'export', query, handle: new OwnHandle() }, reply);
        break;
      case 'try':
        this.#take({ ...listening, role: 'first', query, handle: new OwnHandle() }, reply);
        break;
      case 'ignore':
        answer(reply, new OwnHandle(), () => addressOf(query));
        break;
      case 'admin':
        onEvent(decision, listening);
        answer(reply, new OwnHandle(), () => addressOf(query));
        break;
      case 'own':
        onEvent(decision, listening);
        this.#getServer(server, query, reply);
        break;
      case 'name-port':
      case 'refuse':
        onEvent(decision, listening); // the worker ends: it never listens
        break;
      default:
        decision satisfies never;
    }
  }

  #interceptListen(): void {
    const adoption = this;
    Server.prototype.listen = function (this: Server, ...args: unknown[]) {
      const isLate = this === adoption.#exported && this.listening && !adoption.#appListens;
      if (!isLate) return Reflect.apply(listenAsNode, this, args.map(shared));
      // The module has exported it, and listens once its database has answered, say. The kit serves it already.
      adoption.#appListens = true;
      const callback = args.findLast(argument => typeof argument === 'function');
      if (callback !== undefined) this.once('listening', callback as () => void);
      process.nextTick(() => this.emit('listening'));
      return this;
    };
  }

  get #whenExported(): 'export' | 'name-port' {
    return this.#options.isPortHeld ? 'export' : 'name-port';
  }

  #take(current: Current, reply: Reply): void {
    const before = this.#current;
    this.#current = current;
    const { server, handle } = current;
    handle.onClose = () => this.#onClosed(current);
    answer(reply, handle, this.#options.passTo(handle as Acceptor));
    const listens = this.#listens; // a listener of the app may close the server before
    server.once('listening', () => listens.resolve());
    if (before?.role === 'first') this.#release(before);
  }

  /** It listens on its own port after all. */
  #release({ server, query, handle, ...rest }: Current): void {
    const { adminPort, onEvent } = this.#options;
    const isAdmin = query.port === adminPort;
    onEvent(isAdmin ? 'admin' : 'own', { server, ...rest });
    handle.report(() => addressOf(query));
    if (isAdmin) return;
    this.#getServer(server, query, (error, real) => {
      if (error !== 0 || real === null || !handle.becomes(real, query.port)) onEvent('taken', { server, ...rest });
    });
  }

  #onClosed(closed: Current): void {
    if (this.#current !== closed) return;
    if (this.#isDecided) {
      this.#options.onEvent('closed', closed);
    } else {
      this.#current = undefined;
      this.#listens.resolve(); // who waits for it waits for the next one then
      this.#listens = Promise.withResolvers();
    }
  }
}

/** The handle of a server that has no socket of its own. */
class OwnHandle implements Handle {
  onconnection: Acceptor['onconnection'] = () => undefined;
  getsockname?: (out: object) => number;
  onClose = (): void => undefined;
  #real: Handle | undefined;

  listen(): number {
    return 0;
  }

  ref(): void {}

  unref(): void {}

  close(): void {
    this.onClose();
    this.#real?.close();
  }

  /** `address` is what `server.address()` returns from now on. */
  report(address: () => AddressInfo | undefined): void {
    this.getsockname = out => {
      Object.assign(out, address());
      return 0;
    };
  }

  /** The connections of this other handle go to the server, too; false if it cannot listen. */
  becomes(real: Handle, port: number): boolean {
    real.onconnection = (error, client) => this.onconnection(error, client);
    const bound: Partial<AddressInfo> = {};
    real.getsockname?.(bound);
    // As Node.js checks it: where the port was taken, `listen` would take any other.
    if ((port !== 0 && bound.port !== port) || real.listen(BACKLOG) !== 0) {
      real.close();
      return false;
    }
    this.#real = real;
    this.getsockname = out => real.getsockname?.(out) ?? 0;
    return true;
  }
}

function answer(reply: Reply, handle: OwnHandle, address: () => AddressInfo | undefined): void {
  reply(0, handle);
  handle.report(address); // not before: Node.js compares its port with the requested one
}

/** The address in the call of `listen`, for a server that gets no connections. */
function addressOf({ address, port }: Query): AddressInfo {
  const host = address ?? '0.0.0.0';
  return { address: host, family: host.includes(':') ? 'IPv6' : 'IPv4', port };
}

function kindOf(server: Server): Kind {
  if (server instanceof http.Server) return 'http';
  if ('updateSettings' in server) return 'http2';
  return 'setSecureContext' in server && 'closeIdleConnections' in server ? 'https' : 'tcp';
}

/** The options of a call of `listen`: with `exclusive` or `reusePort` Node.js binds the port itself, and the second worker would find it taken. */
function shared(options: unknown): unknown {
  if (typeof options !== 'object' || options === null) return options;
  // Port 0 is free for each worker, and only a socket of its own can be sent to another process.
  const isExclusive =
    Reflect.get(options, 'port') !== 0 && (Reflect.get(options, 'exclusive') || Reflect.get(options, 'reusePort'));
  return isExclusive ? { ...options, exclusive: false, reusePort: false } : options;
}
