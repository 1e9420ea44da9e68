/**
 * What accepts queued connections one after the other: turns of the event loop, and connections that wait.
 */
import type { Socket } from 'node:net';

/** A turn of the event loop that checks the queue: when it began and when it ended. */
export async function loopTurn(): Promise<[number, number]> {
  const startedAt = await new Promise<number>(resolve => setImmediate(() => resolve(performance.now())));
  return [startedAt, await new Promise<number>(resolve => setImmediate(() => resolve(performance.now())))];
}

/** Nothing is read from `socket` until it is resumed. */
export function hold(socket: Socket, held: Socket[]): void {
  held.push(socket);
  // The http server resumes it in this tick.
  process.nextTick(() => held.includes(socket) && socket.pause());
}
