/**
 * NODE_CLUSTER_STICKY=cookie: the requests of one client are served by one worker, whichever worker of the pod their connection reaches. Loaded
 * only where it is on.
 */
import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import type { StickyCounters } from '../../protocol/snapshot.ts';
import { type Exchange, isFromWorker } from '../connections.ts';
import { newWorkerId, WorkerCookie } from './cookie.ts';
import { acknowledge, acknowledgeUpgrade, OwnerSocket, podOf, socketPath } from './owner.ts';
import { Passing } from './passing.ts';

export interface StickyOptions {
  /** Where the workers of this pod have their sockets. */
  folder: string;
  service: string;
  trustProxy: boolean;
  responseTimeHeader: boolean;
}

export class Sticky {
  readonly counters: StickyCounters = { passed: 0, gone: 0, blocked: 0, lost: 0 };
  readonly #id = newWorkerId();
  readonly #folder: string;
  readonly #cookie: WorkerCookie;
  readonly #passing: Passing;
  readonly #socket = new OwnerSocket(() => this.#server);
  #server: Server | undefined;
  #isClosed = false;

  /** Call `open` then, and `serve`. */
  constructor({ folder, service, trustProxy, responseTimeHeader }: StickyOptions) {
    this.#folder = folder;
    this.#cookie = new WorkerCookie({ service, pod: podOf(folder), worker: this.#id, trustProxy });
    this.#passing = new Passing({
      counters: this.counters,
      replacesTime: responseTimeHeader,
      decidesOnContinue: () => (this.#server?.listenerCount('checkContinue') ?? 0) > 0,
    });
  }

  /** From now on other workers can pass requests on to this one. @throws the system's error */
  async open(): Promise<void> {
    await this.#socket.open(socketPath(this.#folder, this.#id));
  }

  /** From now on this server gets the requests that other workers pass on. */
  serve(server: Server): void {
    this.#server = server;
  }

  /** Whether another worker answers the request. `serveHere` is called later if it does not after all. */
  passes(exchange: Exchange, serveHere: () => void): boolean {
    const { request, response } = exchange;
    if (isFromWorker(request.socket)) {
      acknowledge(response);
      return false;
    }
    const owner = this.#ownerOf(request);
    if (owner === this.#id) return false;
    const giveCookie = () => {
      if (!this.#isClosed) this.#cookie.giveTo(request, response);
    };
    if (owner === undefined) {
      giveCookie();
      return false;
    }
    this.#passing.pass(socketPath(this.#folder, owner), exchange, () => {
      giveCookie();
      serveHere();
    });
    return true;
  }

  /** As `passes`, for a request that makes its connection a WebSocket. */
  passesUpgrade(request: IncomingMessage, client: Duplex, head: Buffer, serveHere: () => void): boolean {
    if (isFromWorker(request.socket)) {
      acknowledgeUpgrade(client);
      return false;
    }
    const owner = this.#ownerOf(request);
    if (owner === undefined || owner === this.#id) return false;
    this.#passing.passUpgrade(socketPath(this.#folder, owner), request, client, head, serveHere);
    return true;
  }

  /** Takes no new connections from other workers, and gives no client this worker's cookie. */
  close(): void {
    this.#isClosed = true;
    this.#socket.close();
  }

  /** The worker that the client belongs to; undefined if this one serves it and becomes its owner. */
  #ownerOf(request: IncomingMessage): string | undefined {
    const owner = this.#cookie.ownerOf(request);
    const isAvoided = owner !== undefined && owner !== this.#id && this.#passing.avoids(socketPath(this.#folder, owner));
    return isAvoided ? undefined : owner;
  }
}
