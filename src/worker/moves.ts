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
 * At most this many connections are under way at a time, unless a response on them has just ended. A worker reads one connection in each turn of its
 * event loop, 5 to 10 ms where it is busy, and a request that arrives on a connection under way waits for that: when all of 300 connections were
 * under way, up to 3 s.
 */
export const MAX_UNDER_WAY = 8;
/**
 * At most this many in all. A response has ended on the others, and their clients may send the next request at any moment: a connection that does
 * not leave before may stay for as long as that request takes.
 */
export const MAX_RESTED_UNDER_WAY = 32;
/** A connection that is never between two requests for this long, while others could move, ends with a response. */
const MAX_MISSED_MS = 3000;
/** Of the time, to look which connections are between two messages: 10 ms for 50,000. */
const LOOK_SHARE = 0.2;
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
  /** Their last response has ended since the last attempt. They move first: their clients may soon send the next request. */
  readonly #rested = new Set<Connection>();
  /** Those that were between two messages, with what was read from them: they still are while that is the same. */
  #between = new WeakMap<Socket, number>();
  #mayLookAt = 0;
  /** Those of the others that this attempt has not come to. */
  #unseen: Iterator<Connection, undefined> | undefined;
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
    this.#unseen = undefined;
    this.#rested.clear();
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
    this.#rested.add(connection);
    this.#moveSoon();
  }

  onClose(connection: Connection): void {
    this.#rested.delete(connection);
    if (connection.moveId !== undefined) this.#underWay.delete(connection.moveId);
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
      this.#moveSome();
    });
  }

  /** Sends connections that may be moved now, as many as may be under way. */
  moveNow(): void {
    this.#unseen ??= this.#connections?.values();
    this.#moveSome();
  }

  /** Each is looked at once in an attempt: there may be 50,000. */
  #moveSome(): void {
    if (this.#connections === undefined || !this.#isTested || this.#isPaused) return;
    if (this.#look()) this.#moveRested();
    while (!this.#isFull) {
      const { value } = this.#unseen?.next() ?? {};
      if (value === undefined) break;
      this.#move(value);
    }
    if (!this.#isFull) this.#unseen = undefined;
    this.#hadRoomSince = this.#isFull ? Number.POSITIVE_INFINITY : Math.min(this.#hadRoomSince, performance.now());
  }

  /** Finds those that are between two messages. Returns false where it has done so too recently. */
  #look(): boolean {
    const startedAt = performance.now();
    if (startedAt < this.#mayLookAt || (this.#rested.size === 0 && this.#isFull)) return false;
    this.#between = new WeakMap();
    for (const server of this.#servers.keys())
      if (isMovable(server)) for (const socket of betweenMessages(server)) this.#between.set(socket, socket.bytesRead);
    const endedAt = performance.now();
    this.#mayLookAt = endedAt + (endedAt - startedAt) / LOOK_SHARE;
    return true;
  }

  #moveRested(): void {
    for (const connection of this.#rested) {
      if (this.#underWay.size >= MAX_RESTED_UNDER_WAY) return;
      this.#rested.delete(connection);
      this.#move(connection);
    }
  }

  #move(connection: Connection): void {
    const { socket, hasNoRequest, moveId } = connection;
    const { bytesRead } = socket;
    const isResting = hasNoRequest && moveId === undefined && (bytesRead === 0 || this.#between.get(socket) === bytesRead);
    if (!isResting || connection.isUnmovable || !this.#connections?.has(socket)) return;
    const server = this.#serverOf.get(socket);
    const shape = server && this.#servers.get(server)?.shape;
    if (server === undefined || shape === undefined || !isMovable(server)) return;
    connection.isUnmovable = !shape.fits(socket);
    if (connection.isUnmovable) return;
    const handle = detach(socket);
    if (handle === undefined) return;
    const id = ++this.#lastId;
    connection.moveId = id;
    this.#underWay.set(id, connection);
    this.#send(id, handle, () => this.onMoved(id, false));
  }
}
