/**
 * How many connections wait in the queues of listening sockets, established and not yet accepted.
 */
import { eachTcpLine, TcpState } from './tcp-table.ts';

/**
 * The sum over the sockets with these inodes; 0 once they are all closed. Undefined if the system does not report it.
 * It takes 18 ms of CPU with 38,000 sockets: without a listening socket, as usual in tcp6, the kernel scans all of them.
 */
export function waitingConnections(inodes: ReadonlySet<number>, folder?: string): number | undefined {
  let waiting = 0;
  const isReported = eachTcpLine(({ state, inode, rxQueue }) => {
    if (state !== TcpState.listen) return false;
    if (inodes.has(inode)) waiting += rxQueue;
  }, folder);
  return isReported ? waiting : undefined;
}
