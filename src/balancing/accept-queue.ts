/**
 * How many connections wait in the queues of listening sockets, established and not yet accepted.
 */
import { TcpState, tcpTable } from './tcp-table.ts';

/**
 * Of the sockets with these inodes, together; 0 where none of them is there any more. Undefined where the system does not tell.
 * It takes 18 ms of CPU beside 38,000 sockets: where nobody listens, as mostly in tcp6, the kernel looks through all.
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
