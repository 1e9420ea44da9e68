/**
 * Requests that come when they come (Poisson), each on a connection of its own. Latency counts from when one was due. The same seed gives the
 * same requests at the same times: what chance brings together is the same for all that are compared.
 */
import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Random, seededRandom } from '../random.ts';

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

/** Calls `send` for each request at its time, with the monotonic time at which it was due. Resolves when all have settled. */
export async function arrivals(
  perSecond: number,
  seconds: number,
  random: Random,
  send: (due: number) => Promise<void>,
): Promise<void> {
  const pending: Promise<void>[] = [];
  const startedAt = performance.now();
  let dueAt = startedAt;
  while (dueAt - startedAt < seconds * 1000) {
    dueAt += -Math.log(1 - random()) * (1000 / perSecond);
    await sleep(Math.max(0, dueAt - performance.now()));
    pending.push(send(dueAt));
  }
  await Promise.all(pending);
}

export async function openLoop(
  port: number,
  { path, perSecond, shortMs, longMs, share }: Mixture,
  seconds: number,
  seed: number,
): Promise<Latencies> {
  const random = seededRandom(seed);
  const latencies: Latencies = { short: [], all: [], failed: 0 };
  await arrivals(perSecond, seconds, random, due => {
    const isLong = random() < share;
    return request(port, `${path}?ms=${isLong ? longMs : shortMs}`).then(
      () => {
        latencies.all.push(performance.now() - due);
        if (!isLong) latencies.short.push(performance.now() - due);
      },
      () => {
        latencies.failed++;
      },
    );
  });
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
