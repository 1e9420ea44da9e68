/**
 * Connections that this process or its workers have closed, and whose clients have not acknowledged all data yet. The kernel keeps sending, but
 * a container's network ends with its first process: data still in flight then never arrives.
 */
import { eachTcpLine, TcpState } from './tcp-table.ts';

/** We have sent our FIN, after all data, and it is not acknowledged. */
const CLOSED_BY_US: readonly string[] = [TcpState.finWait1, TcpState.lastAck, TcpState.closing];

/** The wait ends for a client that acknowledges nothing for this long. */
export const STALL_MS = 5000;
const SOONEST_LOOK_MS = 10;
const LATEST_LOOK_MS = 250;
/** Polling may use a tenth of the time: with very many sockets each poll is slow. */
export const MAX_LOOKING_PART = 0.1;

/** Unacknowledged bytes, FIN included, by connection. */
export type SendQueues = ReadonlyMap<string, number>;

/** Of the closed connections to this port; empty if the system does not report it. */
export function sendQueues(port: number, folder?: string): SendQueues {
  const found = new Map<string, number>();
  eachTcpLine(({ localPort, state, addresses, txQueue }) => {
    if (localPort === port && CLOSED_BY_US.includes(state)) found.set(addresses, txQueue);
  }, folder);
  return found;
}

export interface World {
  look: () => SendQueues;
  now: () => number;
  sleep: (ms: number) => Promise<unknown>;
}

/**
 * Waits until every client has acknowledged everything, for at most `timeoutMs`. Clients that acknowledge nothing for 5 s are not waited for.
 * @returns what is still unacknowledged
 */
export async function untilAcknowledged({ look, now, sleep }: World, timeoutMs: number): Promise<SendQueues> {
  const deadline = now() + timeoutMs;
  const progress = new Map<string, { bytes: number; at: number }>();
  for (let pauseMs = SOONEST_LOOK_MS; ; pauseMs = Math.min(LATEST_LOOK_MS, pauseMs * 2)) {
    const lookedAt = now();
    const left = look();
    for (const [connection, bytes] of left) {
      const last = progress.get(connection);
      if (last === undefined || bytes < last.bytes) progress.set(connection, { bytes, at: lookedAt });
    }
    const isStalled = (connection: string) => lookedAt - (progress.get(connection)?.at ?? lookedAt) >= STALL_MS;
    if ([...left.keys()].every(isStalled) || lookedAt >= deadline) return left;
    const lookMs = now() - lookedAt;
    await sleep(Math.min(Math.max(pauseMs, lookMs / MAX_LOOKING_PART), Math.max(0, deadline - now())));
  }
}
