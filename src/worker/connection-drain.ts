/**
 * The drain of a worker's connections, once no new ones come (docs/draining.md): open requests finish, idle connections are closed, WebSockets
 * and event streams are closed one after the other, and what is left at the deadline is aborted.
 */
import type { Socket } from 'node:net';
import type { Drain, DrainTimes, OpenRequest } from '../protocol/messages.ts';
import { type Connection, StalledClients } from './connections.ts';
import type { Moves } from './moves.ts';
import { StreamClosing } from './stream-closing.ts';

/** The number of requests that a drain waits for, and the oldest of them. */
export interface Waiting {
  open: number;
  oldest: OpenRequest[];
}

export type OnProgress = (open: number, oldest: OpenRequest[]) => void;

export type Connections = ReadonlyMap<Socket, Connection>;

/** How often a drain checks its connections. Idle time is counted in ticks: while the event loop is blocked, requests wait in the kernel. */
const TICK_MS = 25;
/** How often a drain reports what it waits for. */
export const PROGRESS_EVERY_MS = 3000;
/** The length of lists of open and aborted requests: a worker may have ten thousand. */
const MAX_LISTED = 100;

/** What a drain deadline has aborted: several requests may be open on one connection. */
interface Aborted {
  requests: OpenRequest[];
  connections: number;
}

export class ConnectionDrain {
  readonly #connections: Connections;
  readonly #times: DrainTimes;
  /** Undefined where they do not move. */
  readonly #moves: Moves | undefined;
  readonly #stalled = new StalledClients<Socket>();
  #stalledCount = 0;

  constructor(connections: Connections, times: DrainTimes, moves?: Moves) {
    this.#moves = moves;
    this.#connections = connections;
    this.#times = times;
  }

  /** Resolves when no connection is left, at the latest after `timeoutMs`. Calls `onProgress` every 3 seconds. */
  async run(onProgress: OnProgress): Promise<Omit<Drain, 'finished'>> {
    const startedAt = performance.now();
    const connectionsAtStart = this.#connections.size;
    const exchanges = [...this.#connections.values()].flatMap(connection => connection.exchanges);
    const firstStartedAt = Math.min(...exchanges.map(exchange => exchange.startedAt));
    const streams = new StreamClosing(this.#connections, this.#times, startedAt);
    const movedBefore = this.#moves?.moved ?? 0;
    void this.#moves?.begin(this.#connections);
    const { promise, resolve } = Promise.withResolvers<Aborted>();
    const tick = () => {
      const now = performance.now();
      const isOverdue = now - startedAt >= this.#times.timeoutMs;
      streams.tick(now);
      this.#moves?.moveNow();
      this.#closeIdle(isOverdue ? 0 : Math.ceil(this.#times.quietMs / TICK_MS));
      if (this.#times.endStalled) this.#closeStalled();
      if (isOverdue) resolve(this.#abort());
      else if (this.#connections.size === 0) resolve({ requests: [], connections: 0 });
    };
    // By setImmediate, because timers run before the loop reads what the kernel has received.
    const ticks = setInterval(() => setImmediate(tick), TICK_MS);
    const progress = setInterval(() => {
      const { open, oldest } = waitingOn(this.#connections);
      onProgress(open, oldest);
    }, PROGRESS_EVERY_MS);
    const aborted = await promise;
    clearInterval(ticks);
    clearInterval(progress);
    this.#moves?.stop();
    const moved = (this.#moves?.moved ?? 0) - movedBefore;
    const endedAt = performance.now();
    return {
      cutRequests: aborted.requests.length,
      cut: oldestOf(aborted.requests),
      ...streams.ends,
      closedGracefully: Math.max(0, connectionsAtStart - aborted.connections - this.#stalledCount - moved),
      moved,
      longestRequestMs: Math.max(0, Math.round(endedAt - firstStartedAt)),
      durationMs: Math.round(endedAt - startedAt),
    };
  }

  /** Closes connections that have been idle for `minTicks` ticks of the drain. */
  #closeIdle(minTicks: number): void {
    for (const connection of this.#connections.values()) {
      if (this.#moves?.mayMove(connection)) continue;
      if (connection.isIdle && ++connection.idleTicks >= minTicks) connection.socket.destroySoon();
    }
  }

  /** Their responses are not aborted: the primary counts what the kernel could not deliver. */
  #closeStalled(): void {
    const waiting = [...this.#connections.values()].filter(connection => connection.awaitsClient);
    const stalled = this.#stalled.among(waiting.map(({ socket }) => socket));
    for (const socket of stalled) socket.destroy();
    this.#stalledCount += stalled.length;
  }

  /** Ends every connection on which a request is open or has begun, or whose client does not answer a close frame. */
  #abort(): Aborted {
    const now = performance.now();
    const aborted: Aborted = { requests: [], connections: 0 };
    for (const connection of this.#connections.values()) {
      if (connection.isIdle || connection.moveId !== undefined) continue;
      const requests = connection.openRequests(now);
      aborted.requests.push(...requests);
      if (requests.length > 0) aborted.connections++;
      connection.socket.destroy();
    }
    return aborted;
  }
}

/** The number of requests without a full response, incomplete ones and WebSockets included, and the oldest of them. */
export function waitingOn(connections: Connections): Waiting {
  const open = openRequests(connections);
  return { open: open.length, oldest: oldestOf(open) };
}

function openRequests(connections: Connections): OpenRequest[] {
  const now = performance.now();
  return [...connections.values()].flatMap(connection => connection.openRequests(now));
}

function oldestOf(requests: readonly OpenRequest[]): OpenRequest[] {
  return requests.toSorted((a, b) => b.ageMs - a.ageMs).slice(0, MAX_LISTED);
}
