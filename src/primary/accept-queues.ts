/**
 * Before the listeners close: the workers accept what is queued, each its share. Connections that arrive later are accepted until the
 * listeners close, by any worker that is not blocked.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Balancing } from '../balancing/balancing.ts';
import type { Supervisor } from '../pool/supervisor.ts';

/** If each worker has its own socket: after this time other workers accept from a queue that is not empty. */
const OWN_SOCKET_MS = 100;

/** Resolves when every worker has seen the queues empty, or after `timeoutMs`, since a worker may be blocked. */
export async function emptyAcceptQueues(supervisor: Supervisor, balancing: Balancing, timeoutMs: number): Promise<void> {
  balancing.balanceByConnections();
  const { slots } = balancing;
  if (slots.length > 1) await takeAll(supervisor, undefined, OWN_SOCKET_MS);
  await takeAll(supervisor, slots, timeoutMs);
}

async function takeAll({ handles }: Supervisor, slots: number[] | undefined, timeoutMs: number): Promise<void> {
  const timer = new AbortController();
  const timeout = sleep(timeoutMs, undefined, { signal: timer.signal }).catch(() => undefined);
  await Promise.race([Promise.all(handles.map(handle => handle.takeAll(slots))), timeout]);
  timer.abort();
}
