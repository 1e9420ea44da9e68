/**
 * Requests that come when they come (Poisson), each on a connection of its own. Latency counts from when one was due. The same seed gives the
 * same requests at the same times: what chance brings together is the same for all that are compared.
 */
import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { seededRandom } from '../random.ts';

/** Of all requests, `share` are long. */
export interface Mixture {
  path: string;
  perSecond: number;
  shortMs: number;
  longMs: number;
  share: number;
}

export interface Latencies {
  short: number[];
  all: number[];
  failed: number;
}

export async function openLoop(
  port: number,
  { path, perSecond, shortMs, longMs, share }: Mixture,
  seconds: number,
  seed: number,
): Promise<Latencies> {
  const random = seededRandom(seed);
  const latencies: Latencies = { short: [], all: [], failed: 0 };
  const pending: Promise<void>[] = [];
  const startedAt = performance.now();
  let dueAt = startedAt;
  while (dueAt - startedAt < seconds * 1000) {
    dueAt += -Math.log(1 - random()) * (1000 / perSecond);
    await sleep(Math.max(0, dueAt - performance.now()));
    const isLong = random() < share;
    const due = dueAt;
    pending.push(
      request(port, `${path}?ms=${isLong ? longMs : shortMs}`).then(
        () => {
          latencies.all.push(performance.now() - due);
          if (!isLong) latencies.short.push(performance.now() - due);
        },
        () => {
          latencies.failed++;
        },
      ),
    );
  }
  await Promise.all(pending);
  return latencies;
}

export function percentile(values: number[], share: number): number {
  return values.sort((a, b) => a - b)[Math.floor(values.length * share)] ?? Number.NaN;
}

function request(port: number, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = http.get({ port, host: '127.0.0.1', path, agent: false }, response => {
      response.resume().once('end', resolve);
    });
    request.once('error', reject);
  });
}
