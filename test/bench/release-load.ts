/**
 * Clients with sessions at the demo app, for a release in a cluster: how many requests failed, lost their session, or were answered by a pod of
 * another release. Usage: node test/bench/release-load.ts URL SECONDS PREFIX_OF_PODS
 */
import { setTimeout as sleep } from 'node:timers/promises';

const [url = 'http://127.0.0.1:3000', seconds = '10', prefix = ''] = process.argv.slice(2);
const CLIENTS = 8;
const PAUSE_MS = 20;
const TIMEOUT_MS = 10_000;

const end = Date.now() + Number(seconds) * 1000;
const counts = { ok: 0, failed: 0, lost: 0, foreign: 0 };
const pods: Record<string, number> = {};

/** Counts up in its session, which a pod that does not know it begins at 1 again. */
async function client(): Promise<void> {
  let cookie = '';
  let counter = 0;
  while (Date.now() < end) {
    try {
      const response = await fetch(`${url}/api/counter`, { headers: { cookie }, signal: AbortSignal.timeout(TIMEOUT_MS) });
      const set = response.headers.getSetCookie();
      if (set.length > 0) cookie = set.map(one => one.split(';')[0]).join('; ');
      if (!response.ok) throw new Error(`status ${response.status}`);
      const body = (await response.json()) as { counter: number; pod: string };
      counts.ok++;
      if (body.counter !== counter + 1) counts.lost++;
      if (!body.pod.startsWith(prefix)) counts.foreign++;
      counter = body.counter;
      pods[body.pod] = (pods[body.pod] ?? 0) + 1;
    } catch (error) {
      counts.failed++;
      console.log(error instanceof Error ? error.message : error);
    }
    await sleep(PAUSE_MS);
  }
}

await Promise.all(Array.from({ length: CLIENTS }, client));
console.log(JSON.stringify({ ...counts, pods }));
