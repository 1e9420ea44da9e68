/**
 * The TCP sockets of this network namespace, as Linux lists them in /proc/net/tcp and tcp6 (Documentation/networking/proc_net_tcp.rst).
 * Listening ones come first.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';

const OWN_NETWORK = '/proc/self/net';
const CHUNK_BYTES = 16_384;

/** A state as the table has it: hexadecimal, from the kernel's enum. */
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
 * Calls `visit` with each line of both tables. `false` from it ends the table at hand.
 * @returns whether the system reports any of them
 */
export function eachTcpLine(visit: (line: TcpLine) => unknown, folder?: string): boolean {
  let isReported = false;
  for (const file of ['tcp', 'tcp6'] as const) {
    try {
      for (const line of tcpTable(file, folder)) {
        isReported = true;
        if (visit(line) === false) break;
      }
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
