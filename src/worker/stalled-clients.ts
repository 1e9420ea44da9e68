/**
 * Clients that take nothing of an answer which the app has written whole. The kernel's send buffer is full, so the answer cannot end. A
 * shutdown does not wait for them; otherwise any client could delay it and set its exit code.
 */
import type { Socket } from 'node:net';
import { eachTcpLine, MAX_LOOKING_PART, STALL_MS } from '../balancing/tcp-table.ts';

const LOOK_EVERY_MS = 1000;

/** Bytes in the kernel's send queues, by the client's port; clients of several addresses with one port count together. */
export type KernelQueues = ReadonlyMap<number, number>;

/** The kernel's send queues; undefined where the system does not report them. */
export function kernelQueues(ports: ReadonlySet<number>): KernelQueues | undefined {
  const found = new Map<number, number>();
  const isReported = eachTcpLine(({ addresses, txQueue }) => {
    const port = Number.parseInt(addresses.slice(addresses.lastIndexOf(':') + 1), 16);
    if (ports.has(port)) found.set(port, (found.get(port) ?? 0) + txQueue);
  });
  return isReported ? found : undefined;
}

type Waiting = Pick<Socket, 'remotePort' | 'writableLength'>;

export class StalledClients<Client extends Waiting> {
  readonly #queues: typeof kernelQueues;
  readonly #now: () => number;
  /** What was unsent at the last change, in this process and in the kernel. */
  #unsent = new Map<Client, { bytes: string; at: number }>();
  #lookAt = 0;

  /** `now` is a monotonic clock in milliseconds. */
  constructor(queues = kernelQueues, now = () => performance.now()) {
    this.#queues = queues;
    this.#now = now;
  }

  /**
   * To be called again and again, at most a look a second follows.
   * @param waiting the clients whose whole answer is written
   * @returns those that have taken nothing for 5 s
   */
  among(waiting: readonly Client[]): Client[] {
    const now = this.#now();
    if (waiting.length === 0 || now < this.#lookAt) return [];
    const queues = this.#queues(new Set(waiting.map(({ remotePort = 0 }) => remotePort)));
    this.#lookAt = now + Math.max(LOOK_EVERY_MS, (this.#now() - now) / MAX_LOOKING_PART);
    if (queues === undefined) return [];
    const before = this.#unsent;
    this.#unsent = new Map();
    for (const client of waiting) {
      const bytes = `${client.writableLength} ${queues.get(client.remotePort ?? 0) ?? 0}`;
      const last = before.get(client);
      this.#unsent.set(client, last?.bytes === bytes ? last : { bytes, at: now });
    }
    return waiting.filter(client => now - (this.#unsent.get(client)?.at ?? now) >= STALL_MS);
  }
}
