/**
 * How many connections wait in the queues of listening sockets, established and not yet accepted.
 */
import { TcpState, tcpTable } from './tcp-table.ts';

/**
 * The sum over the sockets with these inodes; 0 once they are all closed. Undefined if the system does not report it.
 * It takes 18 ms of CPU with 38,000 sockets: without a listening socket, as usual in tcp6, the kernel scans all of them.
 */
export function waitingConnections(inodes: ReadonlySet<number>, folder?: string): number | undefined {
  let known: number | undefined;
  for (const file of ['tcp', 'tcp6'] as const) {
    try {
      for (const { state, inode, rxQueue } of tcpTable(file, folder)) {
        if (state !== TcpState.listen) break;
        known = (known ?? 0) + (inodes.has(inode) ? rxQueue : 0);
      }
      known ??= 0;
    } catch {
      /* no such file */
    }
  }
  return known;
}
