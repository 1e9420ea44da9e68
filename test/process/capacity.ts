/**
 * How many workers serve.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { Status } from './kit.ts';

const SAMPLE_EVERY_MS = 40;

interface Pool {
  status(): Promise<Pick<Status, 'workers'>>;
}

/** Looks all the time at how many workers serve. */
export function watchCapacity(pool: Pool): { stop(): Promise<{ least: number; samples: number }> } {
  let goesOn = true;
  const seen = { least: Number.POSITIVE_INFINITY, samples: 0 };
  const looking = (async () => {
    while (goesOn) {
      seen.least = Math.min(seen.least, (await readyPids(pool)).length);
      seen.samples++;
      await pause(SAMPLE_EVERY_MS);
    }
  })();
  return {
    stop: async () => {
      goesOn = false;
      await looking;
      return seen;
    },
  };
}

export async function readyPids(pool: Pool): Promise<number[]> {
  return (await pool.status()).workers.filter(({ state }) => state === 'ready').map(({ pid }) => pid);
}
