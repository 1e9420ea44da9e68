/**
 * The connections of a process that does not answer, and how many of them hold data it has not read.
 */
import { readdirSync, readlinkSync } from 'node:fs';
import { eachTcpLine, TcpState } from './tcp-table.ts';

/** The kernel counts a client's FIN as one unread byte. */
const FIN = 1;

export interface Held {
  /** Open at both ends. */
  connections: number;
  /** Connections with data that the process has not read, half-closed ones included. */
  unread: number;
}

/** Of the connections to this port; both 0 if /proc is unavailable. */
export function heldBy(pid: number, port: number): Held {
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

/** Their inodes. */
function socketsOf(pid: number): Set<number> {
  const inodes = new Set<number>();
  try {
    for (const fd of readdirSync(`/proc/${pid}/fd`)) inodes.add(socketAt(`/proc/${pid}/fd/${fd}`));
  } catch {
    /* gone, another user's, or no /proc */
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
