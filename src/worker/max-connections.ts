/**
 * MAX_CONNECTIONS: a worker that has so many connections closes those that have been idle for longest. While every connection is in use it accepts
 * none: new ones wait in the kernel's queue, or other workers take them. The app keeps the descriptors that it needs.
 */
import type { Connection } from './connections.ts';

/** A full worker checks this often whether it has room, and closes idle connections at every tenth check. */
const CHECK_EVERY_MS = 10;
const CHECKS_PER_SCAN = 10;
/** The request of a younger one may be in flight. */
const MIN_IDLE_MS = 1000;
/** Of the idle connections one in eight is closed at once, at most 32 as in nginx, and at least so many that a flood of short requests moves on. */
const CLOSED_SHARE = 1 / 8;
const MIN_CLOSED = 8;
const MAX_CLOSED = 32;

export interface Bounded {
  /** How many are open. */
  connections: number;
  openConnections: Iterable<Connection>;
}

export interface FullHandler {
  /** Accept no connections while it is full. */
  onFull(isFull: boolean): void;
  /** An idle connection is closed. */
  onReclaimed(): void;
}

export class MaxConnections {
  readonly #max: number;
  readonly #server: Bounded;
  readonly #handler: FullHandler;
  #timer: NodeJS.Timeout | undefined;
  #checks = 0;

  constructor(max: number, server: Bounded, handler: FullHandler) {
    this.#max = max;
    this.#server = server;
    this.#handler = handler;
  }

  get isFull(): boolean {
    return this.#timer !== undefined;
  }

  /** To be called after each accepted connection. */
  check(): void {
    if (this.#server.connections < this.#max || this.isFull) return;
    this.#checks = 0;
    this.#timer = setInterval(() => setImmediate(() => this.#makeRoom()), CHECK_EVERY_MS).unref();
    this.#handler.onFull(true);
    // Not in this turn, which may still have to read requests.
    setImmediate(() => this.#makeRoom());
  }

  /** The limit is lifted: at a shutdown every queued connection is accepted. */
  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #makeRoom(): void {
    if (!this.isFull) return;
    if (this.#checks++ % CHECKS_PER_SCAN === 0) this.#closeIdle(performance.now());
    if (this.#server.connections >= this.#max) return;
    this.stop();
    this.#handler.onFull(false);
  }

  #closeIdle(now: number): void {
    const idle = [...this.#server.openConnections].filter(
      connection => connection.isIdle && !connection.socket.writableEnded && now - connection.idleSince >= MIN_IDLE_MS,
    );
    const count = Math.min(MAX_CLOSED, Math.max(MIN_CLOSED, Math.ceil(idle.length * CLOSED_SHARE)));
    for (const { socket } of idle.sort((a, b) => a.idleSince - b.idleSince).slice(0, count)) {
      this.#handler.onReclaimed();
      socket.destroySoon();
    }
  }
}
