/**
 * A worker's part of a rebalancing (pool/rebalancing.ts): chooses which of its connections go to other workers, and offers them for a second.
 * Loaded at the first one.
 */
import type { Socket } from 'node:net';
import { type Connection, isFromWorker } from './connections.ts';
import type { Moves } from './moves.ts';

/** What has not been between two requests for so long stays. */
const OFFER_MS = 1000;
/** A connection that has come to rest without the end of a response is found so often. */
const LOOK_EVERY_MS = 50;

/** Moves up to `count` of the worker's connections, as they rest; the workers that get them are the primary's choice. */
export async function rebalance(connections: Iterable<Connection>, count: number, moves: Moves): Promise<void> {
  const chosen = sampleOf(connections, count);
  const looks = setInterval(() => moves.moveNow(), LOOK_EVERY_MS).unref();
  setTimeout(() => {
    clearInterval(looks);
    moves.withdraw(chosen);
  }, OFFER_MS).unref();
  await moves.offer(chosen);
}

/**
 * An even sample of the connections in the order of their last use, so that the busy ones are divided as the others are, and the busiest first.
 * A proxy uses few of its connections for most requests.
 */
export function sampleOf(connections: Iterable<Connection>, count: number): ReadonlyMap<Socket, Connection> {
  const movable = [...connections].filter(
    ({ socket, upgrade, isUnmovable, moveId }) =>
      upgrade === undefined && !isUnmovable && moveId === undefined && !isFromWorker(socket),
  );
  const usedAt = (connection: Connection) => (connection.hasNoRequest ? connection.idleSince : Number.POSITIVE_INFINITY);
  movable.sort((a, b) => (usedAt(a) === usedAt(b) ? 0 : usedAt(b) - usedAt(a)));
  const every = Math.max(1, movable.length / count); // infinite for none
  const sample = new Map<Socket, Connection>();
  for (let at = every / 2; at < movable.length; at += every) {
    const connection = movable[Math.floor(at)];
    if (connection !== undefined) sample.set(connection.socket, connection);
  }
  return sample;
}
