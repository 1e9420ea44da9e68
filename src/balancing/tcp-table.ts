/**
 * The kernel's TCP tables: the sockets of this network namespace, as Linux lists them in /proc/net/tcp and tcp6, listening ones first
 * (Documentation/networking/proc_net_tcp.rst). From them: how long accept queues are, what clients have not acknowledged, what a process has not read.
 */
import { closeSync, openSync, readdirSync, readlinkSync, readSync } from 'node:fs';
import { join } from 'node:path';

const OWN_NETWORK = '/proc/self/net';
const CHUNK_BYTES = 16_384;

/** States as the table prints them: in hexadecimal, from the kernel's enum. */
export const TcpState = {
  established: '01',
  finWait1: '04',
  closeWait: '08',
  lastAck: '09',
  listen: '0A',
  closing: '0B',
} as const;

export interface TcpLine {
  localPort: number;
  /** Of both ends. */
  addresses: string;
  state: string;
  /** Sent or to be sent, and not acknowledged: bytes and the FIN. */
  txQueue: number;
  /** Bytes the process has not read; of a listening socket: connections not accepted yet. */
  rxQueue: number;
  inode: number;
}

/** Reads lazily. @throws ENOENT, EACCES … if the table is not readable */
function* tcpTable(file: 'tcp' | 'tcp6', folder = OWN_NETWORK): Generator<TcpLine> {
  for (const line of linesOf(join(folder, file))) {
    // sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode …
    const [, local = '', remote = '', state = '', queues = '', , , , , inode] = line.trim().split(/ +/);
    const [tx = '', rx = ''] = queues.split(':');
    yield {
      localPort: Number.parseInt(local.slice(local.lastIndexOf(':') + 1), 16),
      addresses: `${local} ${remote}`,
      state,
      txQueue: Number.parseInt(tx, 16),
      rxQueue: Number.parseInt(rx, 16),
      inode: Number(inode),
    };
  }
}

/**
 * Calls `visit` with each line of both tables. If it returns `false`, the rest of the current table is skipped.
 * @returns whether the system reports any of them
 */
export function eachTcpLine(visit: (line: TcpLine) => unknown, folder?: string): boolean {
  let isReported = false;
  for (const file of ['tcp', 'tcp6'] as const) {
    try {
      for (const line of tcpTable(file, folder)) if (visit(line) === false) break;
      isReported = true;
    } catch {
      /* no such file */
    }
  }
  return isReported;
}

/** Without the heading. */
function* linesOf(path: string): Generator<string> {
  const fd = openSync(path, 'r');
  try {
    const chunk = Buffer.alloc(CHUNK_BYTES);
    let rest = '';
    let isHeading = true;
    for (;;) {
      const bytes = readSync(fd, chunk);
      const lines = (rest + chunk.toString('latin1', 0, bytes)).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        if (!isHeading) yield line;
        isHeading = false;
      }
      if (bytes === 0) return;
    }
  } finally {
    closeSync(fd);
  }
}

/**
 * Connections in the accept queues of the listening sockets with these inodes: established and not yet accepted. 0 once the sockets are closed,
 * undefined if the system does not report it. It takes 18 ms of CPU with 38,000 sockets: without a listening socket, as usual in tcp6, the
 * kernel scans all of them.
 */
export function waitingConnections(inodes: ReadonlySet<number>, folder?: string): number | undefined {
  let waiting = 0;
  const isReported = eachTcpLine(({ state, inode, rxQueue }) => {
    if (state !== TcpState.listen) return false;
    if (inodes.has(inode)) waiting += rxQueue;
  }, folder);
  return isReported ? waiting : undefined;
}

/** We have sent our FIN, after all data, and it is not acknowledged. */
const CLOSED_BY_US: readonly string[] = [TcpState.finWait1, TcpState.lastAck, TcpState.closing];

/** The wait ends for a client that acknowledges nothing for this long. */
export const STALL_MS = 5000;
const MIN_POLL_MS = 10;
const MAX_POLL_MS = 250;
/** Polling may use a tenth of the time: with many sockets each poll is slow. */
export const MAX_POLLING_SHARE = 0.1;

/**
 * Unacknowledged bytes, FIN included, by connection that this process or its workers have closed. The kernel goes on sending them, but a container's
 * network ends with its first process: data that is still in flight then never arrives.
 */
export type SendQueues = ReadonlyMap<string, number>;

/** Of the closed connections to this port; empty if the system does not report it. */
export function sendQueues(port: number, folder?: string): SendQueues {
  const found = new Map<string, number>();
  eachTcpLine(({ localPort, state, addresses, txQueue }) => {
    if (localPort === port && CLOSED_BY_US.includes(state)) found.set(addresses, txQueue);
  }, folder);
  return found;
}

/** The system, or a test's. */
interface System {
  poll: () => SendQueues;
  now: () => number;
  sleep: (ms: number) => Promise<unknown>;
}

/**
 * Waits until every client has acknowledged everything, for at most `timeoutMs`. It does not wait for clients that acknowledge nothing for 5 s.
 * @returns what is still unacknowledged
 */
export async function untilAcknowledged({ poll, now, sleep }: System, timeoutMs: number): Promise<SendQueues> {
  const deadline = now() + timeoutMs;
  const progress = new Map<string, { bytes: number; at: number }>();
  for (let pauseMs = MIN_POLL_MS; ; pauseMs = Math.min(MAX_POLL_MS, pauseMs * 2)) {
    const polledAt = now();
    const left = poll();
    for (const [connection, bytes] of left) {
      const last = progress.get(connection);
      if (last === undefined || bytes < last.bytes) progress.set(connection, { bytes, at: polledAt });
    }
    const isStalled = (connection: string) => polledAt - (progress.get(connection)?.at ?? polledAt) >= STALL_MS;
    if ([...left.keys()].every(isStalled) || polledAt >= deadline) return left;
    const pollMs = now() - polledAt;
    await sleep(Math.min(Math.max(pauseMs, pollMs / MAX_POLLING_SHARE), Math.max(0, deadline - now())));
  }
}

/** The kernel counts a client's FIN as one unread byte. */
const FIN = 1;

/** Of a process that does not respond. */
export interface HeldConnections {
  /** Open at both ends. */
  connections: number;
  /** Connections with data that the process has not read, half-closed ones included. */
  unread: number;
}

/** The connections of that process to this port; none if /proc is unavailable. */
export function connectionsHeldBy(pid: number, port: number): HeldConnections {
  const held = { connections: 0, unread: 0 };
  const sockets = socketsOf(pid);
  eachTcpLine(({ localPort, state, inode, rxQueue }) => {
    if (localPort !== port || !sockets.has(inode)) return;
    if (state === TcpState.established) {
      held.connections++;
      if (rxQueue > 0) held.unread++;
    } else if (state === TcpState.closeWait && rxQueue > FIN) held.unread++;
  });
  return held;
}

/** The inodes of a process's sockets. */
function socketsOf(pid: number): Set<number> {
  const inodes = new Set<number>();
  try {
    for (const fd of readdirSync(`/proc/${pid}/fd`)) inodes.add(socketAt(`/proc/${pid}/fd/${fd}`));
  } catch {
    /* it has exited, is another user's, or there is no /proc */
  }
  return inodes;
}

function socketAt(path: string): number {
  try {
    return Number(/^socket:\[(\d+)\]$/.exec(readlinkSync(path))?.[1]);
  } catch {
    return Number.NaN; // closed meanwhile
  }
}
