/**
 * What the workers of `factory.ts` have heard.
 */
import assert from 'node:assert/strict';
import { until } from '../until.ts';
import { everyWorker } from './clients.ts';
import type { Kit } from './kit.ts';

/** Each of so many workers hears these events of `factory.ts`, in this order, and no other; the workers' pids. */
export async function assertHeard(kit: Kit, port: number, workers: number, events: unknown[]): Promise<Set<number>> {
  return await everyWorker(port, workers, async client => {
    const { pid, heard } = await until(
      async () => {
        const answer = await client.askJson<{ pid: number; heard: unknown[] }>('/');
        return answer.heard.length >= events.length ? answer : undefined;
      },
      () => kit.transcript(),
    );
    assert.deepEqual(heard, events);
    return pid;
  });
}
