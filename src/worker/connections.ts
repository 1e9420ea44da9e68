/**
 * The open connections of a worker and the requests on them that are not answered yet.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { OpenRequest } from '../protocol/messages.ts';

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
