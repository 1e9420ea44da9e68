/**
 * The open connections of a worker, the requests on them that have no full response yet, and the clients that hold a response up.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { eachTcpLine, MAX_POLLING_SHARE, STALL_MS } from '../balancing/tcp-table.ts';
import { traceOf } from '../log/telemetry.ts';
import type { OpenRequest } from '../protocol/messages.ts';
import type { ServerWebSocket } from './web-socket.ts';

/** How often the kernel's send queues are read. */
const POLL_EVERY_MS = 1000;

/** Set on a connection from another worker of the pod, which passes requests on (sticky/). */
export const FROM_WORKER = Symbol('bosun.fromWorker');

export const isFromWorker = (socket: Socket): boolean => FROM_WORKER in socket;

/** A request and its response, until the last byte is handed to the kernel. */
export interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** Monotonic time in milliseconds. */
  readonly startedAt: number;
  readonly connection: Connection;
  /** Another worker serves it, counts it and reports it. */
  isPassedOn: boolean;
  /** Called when the connection closes before the response has ended. */
  onClose?: (() => void) | undefined;
  /** The kit has answered it without its response. */
  isAnswered: boolean;
  /** What the client was sent: the app may set another one later, which need not be a status at all. */
  status: number | undefined;
}

export class Connection {
  readonly socket: Socket;
  /** Without a full response, oldest first: several where the client pipelines. */
  exchanges: Exchange[] = [];
  /** The request that made this a WebSocket, or another upgraded connection. */
  upgrade: (Pick<Exchange, 'request' | 'startedAt'> & { webSocket?: ServerWebSocket }) | undefined;
  /** Ticks of the drain since it became idle. */
  idleTicks = 0;
  /** To be called when the next request begins; of a connection that came from another worker. */
  onFirstRequest: (() => void) | undefined;
  /** Of its move to another worker, while that is under way (moves.ts): nothing is read from it. */
  moveId: number | undefined;
  /** The app keeps something for it. */
  isUnmovable = false;
  /** No worker could take it: it ends with its next response, if it has not moved before. */
  wasRefused = false;
  /** When its first response ended after which a drain could have moved it. */
  restedAt: number | undefined;
  #idleSince = performance.now();
  /** `socket.bytesRead` when the last request ended: more bytes are the beginning of another request. */
  #idleBytesRead = 0;

  constructor(socket: Socket) {
    this.socket = socket;
  }

  /** Monotonic time at which the last response ended; at first, at which the connection was accepted. */
  get idleSince(): number {
    return this.#idleSince;
  }

  /** No request is open. */
  get hasNoRequest(): boolean {
    return this.exchanges.length === 0 && this.upgrade === undefined;
  }

  /** No request is open, and none has begun. It may be closed, unless it moves. */
  get isIdle(): boolean {
    return this.hasNoRequest && this.moveId === undefined && this.socket.bytesRead === this.#idleBytesRead;
  }

  /** The app has written every response in full, or the kit has closed the WebSocket, and the client does not take all of it. */
  get awaitsClient(): boolean {
    if (this.upgrade !== undefined) return this.upgrade.webSocket?.awaitsClient === true;
    return this.exchanges.length > 0 && this.exchanges.every(({ response }) => response.writableEnded);
  }

  /** To be called when the response to `request` has ended. */
  onResponseEnd(request: IncomingMessage): void {
    this.#becomeIdle();
    // Stryker disable next-line ConditionalExpression: a complete request has no later end
    if (request.complete) return;
    // The rest of a body that the app did not wait for is not the beginning of a request. It must be read, and no other code may do so now.
    request.once('end', () => this.#becomeIdle()).resume();
  }

  #becomeIdle(): void {
    this.#idleSince = performance.now();
    this.#idleBytesRead = this.socket.bytesRead;
    this.idleTicks = 0;
  }

  /** What the client of this connection waits for, at the monotonic time `now`. */
  openRequests(now: number): OpenRequest[] {
    const described = (method: string, path: string, since: number, request?: IncomingMessage): OpenRequest => ({
      method,
      path,
      ageMs: Math.round(now - since),
      bytesSent: this.socket.bytesWritten,
      ...(request && traceOf(request)),
    });
    const describe = (method: string, { request, startedAt }: Pick<Exchange, 'request' | 'startedAt'>) =>
      described(method, pathOf(request.url), startedAt, request);
    if (this.upgrade?.webSocket?.isCloseSent) return [];
    if (this.upgrade !== undefined) return [describe('UPGRADE', this.upgrade)];
    if (this.exchanges.length > 0) return this.exchanges.map(exchange => describe(exchange.request.method ?? '', exchange));
    return this.isIdle || this.moveId !== undefined ? [] : [described('', '(incomplete request)', this.#idleSince)];
  }
}

/** The path of a request for the log: without the query, which may contain secrets. */
export function pathOf(url = ''): string {
  return url.split('?', 1)[0] ?? '';
}

/** Bytes in the kernel's send queues, by the client's port; clients of several addresses with one port count together. */
export type KernelQueues = ReadonlyMap<number, number>;

/** Reads the kernel's send queues of clients with these ports; undefined where the system does not report them. */
export function kernelQueues(ports: ReadonlySet<number>): KernelQueues | undefined {
  const found = new Map<number, number>();
  const isReported = eachTcpLine(({ addresses, txQueue }) => {
    const port = Number.parseInt(addresses.slice(addresses.lastIndexOf(':') + 1), 16);
    if (ports.has(port)) found.set(port, (found.get(port) ?? 0) + txQueue);
  });
  return isReported ? found : undefined;
}

/**
 * Finds clients that take nothing of a response which the app has written in full. The kernel's send buffer is full, so the response cannot
 * end. A shutdown does not wait for them; otherwise any client could delay it and set its exit code.
 */
export class StalledClients<Client extends Pick<Socket, 'remotePort' | 'writableLength'>> {
  readonly #queues: typeof kernelQueues;
  readonly #now: () => number;
  /** The unsent bytes of this process and of the kernel, and the time of their last change. */
  #unsent = new Map<Client, { bytes: string; at: number }>();
  #nextPollAt = 0;

  /** `now` is a monotonic clock in milliseconds. */
  constructor(queues = kernelQueues, now = () => performance.now()) {
    this.#queues = queues;
    this.#now = now;
  }

  /**
   * May be called at any rate: the queues are read at most once a second.
   * @param waiting the clients whose responses are written in full
   * @returns those that have taken nothing for 5 s
   */
  among(waiting: readonly Client[]): Client[] {
    const now = this.#now();
    if (waiting.length === 0 || now < this.#nextPollAt) return [];
    const queues = this.#queues(new Set(waiting.map(({ remotePort = 0 }) => remotePort)));
    this.#nextPollAt = now + Math.max(POLL_EVERY_MS, (this.#now() - now) / MAX_POLLING_SHARE);
    if (queues === undefined) return [];
    const before = this.#unsent;
    this.#unsent = new Map();
    for (const client of waiting) {
      const bytes = `${client.writableLength} ${queues.get(client.remotePort ?? 0) ?? 0}`;
      const last = before.get(client);
      this.#unsent.set(client, last?.bytes === bytes ? last : { bytes, at: now });
    }
    return waiting.filter(client => now - (this.#unsent.get(client)?.at ?? now) >= STALL_MS);
  }
}
