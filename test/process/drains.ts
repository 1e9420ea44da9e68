/**
 * Helpers for the tests of drains.
 */
import assert from 'node:assert/strict';
import { SOON_MS, until } from '../until.ts';
import { RawClient } from './clients.ts';
import { CLEAN, type Kit, startKit } from './kit.ts';

/** Starts kits with a policy; `detached` gives each a process group of its own. */
export function starterWith(policy: string) {
  return (app?: string, env: Record<string, string> = {}, detached = false): Promise<Kit> =>
    startKit({ ...(app && { app }), env: { NODE_CLUSTER_SCHED_POLICY: policy, ...env }, detached });
}

/** Opens connections that have had one response each, with `Connection: keep-alive`. */
export async function openKeepAlive(port: number, count: number): Promise<RawClient[]> {
  const clients = await Promise.all(Array.from({ length: count }, () => RawClient.open(port)));
  for (const client of clients) {
    const { status, headers } = await client.request('/');
    assert.equal(status, 200);
    assert.equal(headers.connection, 'keep-alive');
  }
  return clients;
}

/** Resolves when no worker listens any more: the drain has begun, and idle connections close 300 ms later. */
export async function listenersClosed(port: number): Promise<void> {
  await until(
    async () => (await isRefused(port)) || undefined,
    () => 'connections are still accepted',
  );
}

async function isRefused(port: number): Promise<boolean> {
  try {
    (await RawClient.open(port)).close();
    return false;
  } catch (error) {
    // Reset: it came between a worker's last accept and the end of the listener.
    assert.match((error as NodeJS.ErrnoException).code ?? '', /^(?:ECONNREFUSED|ECONNRESET)$/);
    return true;
  }
}

/** How many connections the drains of all workers closed gracefully. */
export function closedGracefully(kit: Kit): number {
  return kit
    .all('worker.exit')
    .map(({ drain }) => (drain as { handedOver: number }).handedOver)
    .reduce((sum, count) => sum + count, 0);
}

/** Asserts that SIGTERM ends the kit cleanly and at once; `signal` sends it. */
export async function stopsSoon(kit: Kit, signal = () => kit.signal('SIGTERM')): Promise<void> {
  const signalledAt = performance.now();
  signal();
  assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
  const tookMs = performance.now() - signalledAt;
  assert.ok(tookMs < SOON_MS, `${tookMs} ms`);
}
