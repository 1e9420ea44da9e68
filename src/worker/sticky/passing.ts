/**
 * Passes requests on to another worker of the pod, over its Unix socket, and the response back. Each connection of a client has connections of its
 * own to the owners of its requests: all requests on one come from the same client, and the app sees its address.
 *
 * The owner acknowledges a request before the app gets it (owner.ts), and the body is sent only then. A request that was not acknowledged has
 * reached no app: it is served here, whatever its method. One that was acknowledged is never served twice.
 */
import type { IncomingMessage } from 'node:http';
import { connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { StickyCounters } from '../../protocol/snapshot.ts';
import type { Exchange } from '../connections.ts';
import { addressLineOf } from './client-address.ts';
import { hasBody, requestTo, sendBody, sendHead, sendInformation, sendResponse } from './hop.ts';

const http = process.getBuiltinModule('node:http');

/** An idle connection to an owner is closed after this. */
const IDLE_MS = 5000;
/** Connections to one owner for one connection of a client, which has several requests open only if it pipelines. */
const MAX_PER_CLIENT = 8;
/** An owner that has not acknowledged a request by then is blocked, and gets no requests for as long again. */
const ACKNOWLEDGE_TIMEOUT_MS = 5000;
/** A blocked owner may still read what was sent to it, so only these may be served twice (RFC 9110, 9.2.1). */
const SAFE = new Set(['GET', 'HEAD', 'OPTIONS']);

const CONTINUE = 100;
const PROCESSING = 102;
const BAD_GATEWAY = 502;
const LOST = 'The worker that served this request has ended. Please try again.\n';

class BlockedError extends Error {}

/** The connections to owners that belong to one connection of a client. */
class Connections extends http.Agent {
  readonly #addressLine: string;

  constructor(client: Socket) {
    super({ keepAlive: true, maxSockets: MAX_PER_CLIENT, timeout: IDLE_MS });
    this.#addressLine = addressLineOf(client);
    client.once('close', () => this.destroy());
  }

  override createConnection({ socketPath = '' }: { socketPath?: string | null | undefined }): Socket {
    const socket = connect({ path: socketPath ?? '', allowHalfOpen: true });
    socket.write(this.#addressLine);
    return socket;
  }
}

/** What becomes of a request that is sent to its owner. */
interface Outcome {
  onInformation?: (status: number, headers: IncomingMessage['headers']) => void;
  onResponse: (incoming: IncomingMessage) => void;
  onUpgrade: (incoming: IncomingMessage, owner: Socket, head: Buffer) => void;
  /** It has reached no app. */
  onServeHere: () => void;
  /** The owner has ended before it answered. */
  onLost: () => void;
}

export interface PassingOptions {
  counters: StickyCounters;
  /** This worker sends X-Response-Time. */
  replacesTime: boolean;
  /** Whether the app decides on `Expect: 100-continue`. */
  decidesOnContinue: () => boolean;
}

export class Passing {
  readonly #options: PassingOptions;
  readonly #connections = new WeakMap<Socket, Connections>();
  /** Owners that are blocked, by their sockets: until when. */
  readonly #blocked = new Map<string, number>();

  constructor(options: PassingOptions) {
    this.#options = options;
  }

  /** Whether that owner has lately not acknowledged a request. Counts the request, which is served here then. */
  avoids(socketPath: string): boolean {
    const until = this.#blocked.get(socketPath);
    if (until === undefined) return false;
    if (performance.now() < until) {
      this.#options.counters.blocked++;
      return true;
    }
    this.#blocked.delete(socketPath);
    return false;
  }

  /** Passes a request on to the owner at this socket. Calls `serveHere` where that does not get it. */
  pass(socketPath: string, exchange: Exchange, serveHere: () => void): void {
    const { request, response } = exchange;
    const { counters, replacesTime, decidesOnContinue } = this.#options;
    exchange.isPassedOn = true;
    const onLost = () => {
      if (response.writableEnded) return;
      counters.lost++;
      exchange.isPassedOn = false;
      if (response.headersSent) response.destroy();
      else response.writeHead(BAD_GATEWAY, { 'Content-Type': 'text/plain; charset=utf-8' }).end(LOST);
    };
    this.#send(socketPath, request, {
      onInformation: (status, headers) => {
        if (status !== CONTINUE) sendInformation(status, headers, response);
        else if (decidesOnContinue()) response.writeContinue(); // otherwise Node.js has done so
      },
      onResponse: incoming => {
        incoming.once('error', () => response.destroy());
        sendResponse(incoming, response, replacesTime);
      },
      // The app of the owner takes WebSockets already, and that of this worker does not yet.
      onUpgrade: (_incoming, owner) => {
        owner.destroy();
        onLost();
      },
      onServeHere: () => {
        exchange.isPassedOn = false;
        serveHere();
      },
      onLost,
    });
  }

  /** As `pass`, for a request that makes its connection a WebSocket. */
  passUpgrade(socketPath: string, request: IncomingMessage, client: Duplex, head: Buffer, serveHere: () => void): void {
    this.#send(socketPath, request, {
      onUpgrade: (incoming, owner, ownerHead) => {
        sendHead(incoming, client, false);
        client.write(ownerHead);
        owner.write(head);
        join(client, owner);
      },
      onResponse: incoming => {
        incoming.once('error', () => client.destroy());
        sendHead(incoming, client, true);
        incoming.pipe(client);
      },
      onServeHere: serveHere,
      onLost: () => {
        this.#options.counters.lost++;
        client.destroy();
      },
    });
  }

  #send(socketPath: string, request: IncomingMessage, outcome: Outcome): void {
    const { counters } = this.#options;
    let upstream: ReturnType<typeof requestTo>;
    try {
      upstream = requestTo(socketPath, this.#connectionsOf(request.socket), request);
    } catch {
      outcome.onServeHere();
      return;
    }
    let isAcknowledged = false;
    let timer: NodeJS.Timeout | undefined;
    const acknowledge = () => {
      if (isAcknowledged) return;
      isAcknowledged = true;
      counters.passed++;
      clearTimeout(timer);
      if (hasBody(request)) sendBody(request, upstream);
    };
    if (SAFE.has(request.method ?? ''))
      upstream.once('socket', () => {
        timer = setTimeout(() => upstream.destroy(new BlockedError()), ACKNOWLEDGE_TIMEOUT_MS);
      });
    upstream.on('information', ({ statusCode, headers }) => {
      if (statusCode === PROCESSING && !isAcknowledged) acknowledge();
      else outcome.onInformation?.(statusCode, headers);
    });
    upstream.once('response', incoming => {
      acknowledge(); // Node.js has answered by itself
      outcome.onResponse(incoming);
    });
    upstream.once('upgrade', outcome.onUpgrade);
    upstream.on('error', error => {
      clearTimeout(timer);
      if (request.socket.destroyed) return; // the client has left
      if (isAcknowledged) {
        outcome.onLost();
      } else if (upstream.reusedSocket && !(error instanceof BlockedError)) {
        this.#send(socketPath, request, outcome); // the owner has closed an idle connection
      } else {
        counters[error instanceof BlockedError ? 'blocked' : 'gone']++;
        if (error instanceof BlockedError) this.#blocked.set(socketPath, performance.now() + ACKNOWLEDGE_TIMEOUT_MS);
        outcome.onServeHere();
      }
    });
    if (hasBody(request)) upstream.flushHeaders();
    else upstream.end();
  }

  #connectionsOf(client: Socket): Connections {
    const connections = this.#connections.get(client) ?? new Connections(client);
    this.#connections.set(client, connections);
    return connections;
  }
}

/** What one of them sends, the other gets, until one closes. */
function join(client: Duplex, owner: Socket): void {
  for (const [from, to] of [
    [client, owner],
    [owner, client],
  ] as const) {
    from.on('error', () => from.destroy());
    from.once('close', () => ('destroySoon' in to ? (to as Socket).destroySoon() : to.destroy()));
    from.pipe(to);
  }
}
