/**
 * The app's listening sockets, held by the primary and inherited by every worker, so that a socket and the connections in its queue
 * outlive each worker. The primary never accepts from them.
 */
import { fstatSync } from 'node:fs';
import { BoundSocket, isIP } from 'node:net';
import { hostAndPort } from '../config/addresses.ts';

/** HOST:PORT can't be had. The message says why. */
export class PortError extends Error {
  /** By another process. */
  readonly isTaken: boolean;

  constructor(host: string, port: number, cause: unknown) {
    super(`${hostAndPort(host, port)}: cannot listen: ${(cause as Error).message} (HOST, PORT)`, { cause });
    this.name = 'PortError';
    this.isTaken = (cause as NodeJS.ErrnoException).code === 'EADDRINUSE';
  }
}

/** @throws PortError where `host` is a name that does not resolve */
export async function addressOf(host: string, port: number): Promise<string> {
  if (isIP(host) !== 0) return host;
  try {
    // 6 ms of each start, which an address does without.
    const { lookup } = await import('node:dns/promises');
    return (await lookup(host)).address;
  } catch (error) {
    throw new PortError(host, port, error);
  }
}

export class Sockets {
  readonly #bound: BoundSocket[];

  private constructor(bound: BoundSocket[]) {
    this.#bound = bound;
  }

  /** One socket that all workers share. @throws PortError */
  static shared(host: string, port: number): Sockets {
    return new Sockets([bind(host, port, false)]);
  }

  /** Several with SO_REUSEPORT, over which the kernel spreads connections. @throws PortError; what the system says where it has no SO_REUSEPORT */
  static many(host: string, port: number, count: number): Sockets {
    // With SO_REUSEPORT alone, two servers of one user would share a port without noticing.
    const alone = bind(host, port, false);
    const { port: real = port } = addressIn(alone);
    alone.close();
    return new Sockets(Array.from({ length: count }, () => bind(host, real, true)));
  }

  get fds(): number[] {
    return this.#bound.map(socket => socket.fd());
  }

  /** Of all of them; the real one where 0 was asked for. */
  get port(): number {
    const [first] = this.#bound;
    return (first && addressIn(first).port) ?? 0;
  }

  /** By which /proc names them. */
  get inodes(): number[] {
    return this.fds.map(fd => fstatSync(fd).ino);
  }

  close(): void {
    for (const socket of this.#bound) socket.close();
  }
}

function bind(host: string, port: number, reusePort: boolean): BoundSocket {
  try {
    return new BoundSocket({ host, port, reusePort });
  } catch (error) {
    if (reusePort && (error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    throw new PortError(host, port, error);
  }
}

function addressIn(socket: BoundSocket): { port?: number } {
  const address = socket.address();
  return typeof address === 'string' ? {} : address;
}
