/**
 * The open connections of a worker and the requests on them that are not answered yet.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { eachTcpLine, MAX_LOOKING_PART, STALL_MS } from '../balancing/tcp-table.ts';
import type { OpenRequest } from '../protocol/messages.ts';

const LOOK_EVERY_MS = 1000;

/** A request on its way to an answer. */
export interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly startedAt: number;
  readonly connection: Connection;
}

export class Connection {
  readonly socket: Socket;
  /** Without an answer yet, oldest first: several where the client pipelines. */
  open: Exchange[] = [];
  /** The request that made this a WebSocket, or another protocol's connection. */
  upgrade: Omit<Exchange, 'response'> | undefined;
  isClosing = false;
  /** Looks of the drain at which it was at rest, in a row. */
  quietSweeps = 0;
  #quietSince = performance.now();
  /** `socket.bytesRead` when the last answer ended: whatever is above it is the beginning of a request. */
  #bytesAtRest = 0;

  constructor(socket: Socket) {
    this.socket = socket;
  }

  get quietSince(): number {
    return this.#quietSince;
  }

  /** No request is open, and none has begun. */
  get isAtRest(): boolean {
    return this.open.length === 0 && this.upgrade === undefined && this.socket.bytesRead === this.#bytesAtRest;
  }

  /** The app has written all its answers, and they have not left this process. */
  get isUnsent(): boolean {
    return this.open.length > 0 && this.open.every(({ response }) => response.writableEnded);
  }

  /** Called when the answer to `request` has ended. */
  rest(request: IncomingMessage): void {
    this.#rest();
    if (request.complete) return;
    // The rest of a body that the app did not wait for is not the beginning of a request. Nobody may be reading it any more.
    request.once('end', () => this.#rest()).resume();
  }

  #rest(): void {
    this.#quietSince = performance.now();
    this.#bytesAtRest = this.socket.bytesRead;
    this.quietSweeps = 0;
  }

  /** What the client of this connection waits for. */
  openRequests(now: number): OpenRequest[] {
    const describe = (method: string, path: string, since: number): OpenRequest => ({
      method,
      path,
      ageMs: Math.round(now - since),
      bytesSent: this.socket.bytesWritten,
    });
    if (this.upgrade !== undefined) return [describe('UPGRADE', pathOf(this.upgrade.request.url), this.upgrade.startedAt)];
    if (this.open.length > 0) {
      return this.open.map(({ request, startedAt }) => describe(request.method ?? '', pathOf(request.url), startedAt));
    }
    return this.isAtRest ? [] : [describe('', '(incomplete request)', this.#quietSince)];
  }
}

/** Without the query: it may hold secrets. */
function pathOf(url: string | undefined): string {
  return (url ?? '').split('?', 1)[0] ?? '';
}

/** Bytes in the kernel's send queues, by the client's port; clients of several addresses with one port count together. */
export type KernelQueues = ReadonlyMap<number, number>;

/** The kernel's send queues; undefined where the system does not report them. */
export function kernelQueues(ports: ReadonlySet<number>): KernelQueues | undefined {
  const found = new Map<number, number>();
  const isReported = eachTcpLine(({ addresses, txQueue }) => {
    const port = Number.parseInt(addresses.slice(addresses.lastIndexOf(':') + 1), 16);
    if (ports.has(port)) found.set(port, (found.get(port) ?? 0) + txQueue);
  });
  return isReported ? found : undefined;
}

type Waiting = Pick<Socket, 'remotePort' | 'writableLength'>;

export class StalledClients<Client extends Waiting> {
  readonly #queues: typeof kernelQueues;
  readonly #now: () => number;
  /** What was unsent at the last change, in this process and in the kernel. */
  #unsent = new Map<Client, { bytes: string; at: number }>();
  #lookAt = 0;

  /** `now` is a monotonic clock in milliseconds. */
  constructor(queues = kernelQueues, now = () => performance.now()) {
    this.#queues = queues;
    this.#now = now;
  }

  /**
   * To be called again and again, at most a look a second follows.
   * @param waiting the clients whose whole answer is written
   * @returns those that have taken nothing for 5 s
   */
  among(waiting: readonly Client[]): Client[] {
    const now = this.#now();
    if (waiting.length === 0 || now < this.#lookAt) return [];
    const queues = this.#queues(new Set(waiting.map(({ remotePort = 0 }) => remotePort)));
    this.#lookAt = now + Math.max(LOOK_EVERY_MS, (this.#now() - now) / MAX_LOOKING_PART);
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
