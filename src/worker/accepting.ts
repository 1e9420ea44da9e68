/**
 * Empties the queues of listening sockets when a worker stops accepting: what waits in them is accepted, and is read from once no more comes.
 */
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** A gate that stays closed this long leaves the rest of the queue to other workers. */
const GATE_CLOSED_MS = 20;
/** In so short a turn of the event loop hardly anything but the check of the queue can have happened. */
const SHORT_TURN_MS = 1;
/** The queue counts as empty after this, in an app that has only long turns. */
const LONG_TURNS_MS = 2000;

/** Connections that are accepted while somebody empties the queues. */
export class QueuedConnections {
  /** How many callers are emptying the queues. */
  #holders = 0;
  /** Those that are not read from yet. */
  #held: Socket[] | undefined;
  readonly #accepted: () => number;
  readonly #isGateClosed: () => boolean;

  /** @param accepted how many connections the worker has accepted @param isGateClosed whether it leaves them to other workers at the moment */
  constructor(accepted: () => number, isGateClosed: () => boolean) {
    this.#accepted = accepted;
    this.#isGateClosed = isGateClosed;
  }

  /**
   * From now on nothing is read from accepted connections, until each caller has released them: requests would make the turns long, and their
   * clients would reconnect.
   */
  hold(): void {
    this.#holders++;
    this.#held ??= [];
  }

  onAccepted(socket: Socket): void {
    const held = this.#held;
    if (held === undefined) return;
    held.push(socket);
    // The http server resumes it in this tick.
    process.nextTick(() => held.includes(socket) && socket.pause());
  }

  /** Resolves after a turn of the event loop, which accepts only a few connections, has accepted none; or after `timeoutMs`. */
  async emptied(timeoutMs: number): Promise<void> {
    let lastAcceptedAt = performance.now();
    const deadline = lastAcceptedAt + timeoutMs;
    for (;;) {
      if (this.#isGateClosed()) {
        await sleep(GATE_CLOSED_MS);
        if (this.#isGateClosed()) return;
      }
      const before = this.#accepted();
      const [startedAt, endedAt] = await loopTurn();
      if (this.#accepted() > before) lastAcceptedAt = endedAt;
      // In a long turn requests were handled after the check of the queue, and their clients may have reconnected.
      else if (endedAt - startedAt < SHORT_TURN_MS || endedAt - lastAcceptedAt > LONG_TURNS_MS) return;
      if (endedAt >= deadline) return;
    }
  }

  /** Reads again once no caller holds them: the primary may have the queues emptied a second time meanwhile. */
  release(): void {
    if (--this.#holders <= 0) this.releaseAll();
  }

  /** Reads again from all of them. */
  releaseAll(): void {
    this.#holders = 0;
    for (const socket of this.#held?.splice(0) ?? []) socket.resume();
    this.#held = undefined;
  }
}

/** A turn of the event loop that checks the queue: when it began and when it ended. */
async function loopTurn(): Promise<[number, number]> {
  const startedAt = await new Promise<number>(resolve => setImmediate(() => resolve(performance.now())));
  return [startedAt, await new Promise<number>(resolve => setImmediate(() => resolve(performance.now())))];
}
