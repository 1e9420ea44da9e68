/**
 * Moves connections of this worker to other workers, between two requests, so that their clients notice nothing: all of them when it drains, and
 * those of a rebalancing (rebalance.ts). What a client has sent meanwhile stays in the kernel, and the other worker reads it. This worker keeps its
 * copy of a connection until the other one has it: if none takes it, it goes on here, and a drain closes it as it would have without moves.
 */
import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import type { LogSource } from '../log/log.ts';
import { type Connection, isFromWorker } from './connections.ts';
import { messageOf } from './error-report.ts';
import { betweenMessages, detach, type Handle, isMovable, reattach, SocketShape, startIdle } from './move-socket.ts';

/**
 * At most this many connections are under way at a time. A request that arrives on one of them waits: when all of 300 connections were under
 * way, up to 3 s.
 */
export const MAX_UNDER_WAY = 8;
/** A connection that is never between two requests for this long, while others could move, ends with a response. */
const MAX_MISSED_MS = 3000;
/** After no worker could take a connection, none is sent for this long. */
export const PAUSE_MS = 500;

const selfTest = async () => (await import('./move-check.ts')).whyNotMovable();

/** Sends a connection to the primary; `onFailed` is called if that fails. */
export type SendMove = (id: number, handle: Handle, onFailed: () => void) => void;

export class Moves {
  readonly #send: SendMove;
  readonly #log: LogSource;
  readonly #servers = new Map<Server, { shape: SocketShape | undefined }>();
  readonly #serverOf = new WeakMap<Socket, Server>();
  readonly #underWay = new Map<number, Connection>();
  /** Those that are to move: those of the worker while it drains, or those of a rebalancing. */
  #connections: ReadonlyMap<Socket, Connection> | undefined;
  #isDraining = false;
  /** What the self-test has found. */
  #whyNot: Promise<string | undefined> | undefined;
  #isTested = false;
  #isMoveDue = false;
  /** Since when fewer than MAX_UNDER_WAY were under way after each attempt: what has rested since then and is still here could not move. */
  #hadRoomSince = Number.POSITIVE_INFINITY;
  /** After no worker could take one. */
  #pausedUntil = 0;
  #lastId = 0;
  #moved = 0;

  constructor(send: SendMove, log: LogSource) {
    this.#send = send;
    this.#log = log;
  }

  /** Connections that other workers have taken. */
  get moved(): number {
    return this.#moved;
  }

  /** A connection of this server was accepted. */
  onConnection({ socket }: Connection, server: Server): void {
    if (isFromWorker(socket)) return; // the client's connection is another worker's
    this.#serverOf.set(socket, server);
    const known = this.#servers.get(server);
    if (known !== undefined) return;
    const entry: { shape: SocketShape | undefined } = { shape: undefined };
    this.#servers.set(server, entry);
    // Once all listeners of `connection` are done, and before the first request.
    process.nextTick(() => {
      entry.shape = new SocketShape(socket);
    });
  }

  /** Another worker has moved this connection here: it waits for its next request. */
  onTaken(connection: Connection, server: Server): void {
    connection.onFirstRequest = startIdle(connection.socket, server);
  }

  /** For a drain: from now on connections are moved, if this Node.js can do that. `test` says why not. */
  async begin(connections: ReadonlyMap<Socket, Connection>, test = selfTest): Promise<void> {
    this.#isDraining = true;
    this.#pausedUntil = 0; // what a rebalancing could not move, a drain tries
    await this.#start(connections, test);
  }

  /** For a rebalancing: each of these moves when it rests, until `withdraw`. They replace those of the last one. Not while the worker drains. */
  async offer(connections: ReadonlyMap<Socket, Connection>, test = selfTest): Promise<void> {
    if (!this.#isDraining) await this.#start(connections, test);
  }

  /** This worker drains: what was offered stays, unless `begin` follows, and nothing is offered any more. */
  endOffers(): void {
    this.#isDraining = true;
    this.stop();
  }

  /** What has not moved of an offer stays. */
  withdraw(connections: ReadonlyMap<Socket, Connection>): void {
    if (this.#connections === connections) this.#connections = undefined;
  }

  async #start(connections: ReadonlyMap<Socket, Connection>, test: typeof selfTest): Promise<void> {
    this.#connections = connections;
    this.#hadRoomSince = Number.POSITIVE_INFINITY;
    this.#whyNot ??= this.#test(test);
    const why = await this.#whyNot;
    this.#isTested = true;
    if (why === undefined) this.moveNow();
    else this.stop();
  }

  async #test(test: typeof selfTest): Promise<string | undefined> {
    // An update may have replaced the files of the kit since this worker started.
    const why = await test().catch(messageOf);
    if (why !== undefined) this.#log().warn({ event: 'connections.not-moved', node: process.version, why });
    return why;
  }

  /** The rest is not moved. */
  stop(): void {
    this.#connections = undefined;
  }

  /** Whether a connection stays open after its current response, because the drain will move it. */
  keeps(connection: Connection): boolean {
    if (!this.#isDraining || this.#connections === undefined || this.#isPaused || connection.isUnmovable || connection.wasRefused)
      return false;
    const server = this.#serverOf.get(connection.socket);
    const { restedAt = Number.POSITIVE_INFINITY } = connection;
    const hasMissed = performance.now() - Math.max(restedAt, this.#hadRoomSince) >= MAX_MISSED_MS;
    return server !== undefined && isMovable(server) && !hasMissed;
  }

  /** Whether the drain leaves this idle connection open, because it is to move once others have. */
  mayMove(connection: Connection): boolean {
    return (this.#isFull || !this.#isTested) && this.keeps(connection);
  }

  /** A response has ended. */
  onResponseEnd(connection: Connection): void {
    if (this.#connections === undefined) return;
    if (this.#isDraining) connection.restedAt ??= performance.now();
    this.#moveSoon();
  }

  onClose({ moveId }: Connection): void {
    if (moveId !== undefined) this.#underWay.delete(moveId);
  }

  /** The answer of the primary. */
  onMoved(id: number, isTaken: boolean): void {
    const connection = this.#underWay.get(id);
    if (connection === undefined) return;
    this.#underWay.delete(id);
    const { socket } = connection;
    if (isTaken) {
      this.#moved++;
      socket.destroy();
      this.#moveSoon();
      return;
    }
    this.#pausedUntil = performance.now() + PAUSE_MS;
    connection.moveId = undefined;
    connection.wasRefused = this.#isDraining;
    const server = this.#serverOf.get(socket);
    if (server !== undefined) reattach(socket, server);
  }

  get #isPaused(): boolean {
    return performance.now() < this.#pausedUntil;
  }

  get #isFull(): boolean {
    return this.#underWay.size >= MAX_UNDER_WAY;
  }

  /** Before the event loop reads what has arrived: a client that sends its next request at once is between two requests now. */
  #moveSoon(): void {
    if (this.#isMoveDue) return;
    this.#isMoveDue = true;
    setImmediate(() => {
      this.#isMoveDue = false;
      this.moveNow();
    });
  }

  /** Sends connections that may be moved now, as many as may be under way. */
  moveNow(): void {
    if (this.#connections === undefined || !this.#isTested || this.#isPaused) return;
    for (const [server, { shape }] of this.#servers) {
      if (shape !== undefined && !this.#isFull && isMovable(server)) this.#moveFrom(server, shape, this.#connections);
    }
    this.#hadRoomSince = this.#isFull ? Number.POSITIVE_INFINITY : Math.min(this.#hadRoomSince, performance.now());
  }

  #moveFrom(server: Server, shape: SocketShape, connections: ReadonlyMap<Socket, Connection>): void {
    const idle = betweenMessages(server);
    for (const connection of connections.values()) {
      if (this.#isFull) return;
      const { socket, hasNoRequest, moveId } = connection;
      const isResting = hasNoRequest && moveId === undefined && (idle.has(socket) || socket.bytesRead === 0);
      if (isResting && this.#serverOf.get(socket) === server) this.#move(connection, shape);
    }
  }

  #move(connection: Connection, shape: SocketShape): void {
    connection.isUnmovable ||= !shape.fits(connection.socket);
    if (connection.isUnmovable) return;
    const handle = detach(connection.socket);
    if (handle === undefined) return;
    const id = ++this.#lastId;
    connection.moveId = id;
    this.#underWay.set(id, connection);
    this.#send(id, handle, () => this.onMoved(id, false));
  }
}
