/**
 * Before the listeners close for good: the workers take what waits in their queues, each its part. What comes after that is taken until the
 * listeners close, by whoever is not blocked.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Balancing } from '../balancing/balancing.ts';
import type { Supervisor } from './pool/supervisor.ts';

/** Where each worker has a socket of its own: others take from it when it has not emptied its queue by then. */
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
