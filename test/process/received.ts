/**
 * What the workers of `factory.ts` have received.
 */
import assert from 'node:assert/strict';
import { until } from '../until.ts';
import { everyWorker } from './clients.ts';
import type { Kit } from './kit.ts';

/** Each of so many workers receives these events of `factory.ts`, in this order, and no other; the workers' pids. */
export async function assertReceived(kit: Kit, port: number, workers: number, events: unknown[]): Promise<Set<number>> {
  return await everyWorker(port, workers, async client => {
    const { pid, received } = await until(
      async () => {
        const answer = await client.requestJson<{ pid: number; received: unknown[] }>('/');
        return answer.received.length >= events.length ? answer : undefined;
      },
      () => kit.transcript(),
    );
    assert.deepEqual(received, events);
    return pid;
  });
}
