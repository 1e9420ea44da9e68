/**
 * Broadcasts of 1 KB from 4 workers in 2 pods: how late they come within a pod and across, against bare publish and subscribe on the same Redis;
 * then 10,000 of them as fast as they go. Every worker must get each one once and in order, or this fails.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { Seal } from '../../src/state/session-keys.ts';
import { LocalRedis } from '../process/redis.ts';
import { spread } from './rounds.ts';
import { Server } from './servers.ts';

const ROUNDS = Number(process.env.ROUNDS ?? 5);
const PACED = { count: 250, perTurn: 1, everyMs: 4 };
const BURST = { count: 2500, perTurn: 25, everyMs: 1 };
const WORKERS = 4;
const SIGNED = 20_000;
const PATIENCE_MS = 60_000;

interface Answer {
  self: string;
  total: number;
  faults: number;
  within: number[];
  across: number[];
}

const redis = await LocalRedis.start();
/** SESSION_KEYS set: with signed events. */
const { SESSION_KEYS } = process.env;
const env = {
  REDIS_URL: redis.url,
  APP_MODULE: join(import.meta.dirname, 'apps', 'broadcasts.mjs'),
  ...(SESSION_KEYS && { SESSION_KEYS }),
};
const pods = [await Server.start('kit, 2 workers', env), await Server.start('kit, 2 workers', env)];
for (const pod of pods) {
  await pod.firstAnswer();
  await pod.generation(1);
}
const [publisher, subscriber] = [new Redis(redis.port), new Redis(redis.port)];
await subscriber.subscribe('bare');

const medians = {
  within: [] as number[],
  across: [] as number[],
  bare: [] as number[],
  p99Within: [] as number[],
  p99Across: [] as number[],
};
let sent = 0;
for (let round = 0; round < ROUNDS; round++) {
  medians.bare.push(median(await bareDelays()));
  await sendFromAll(PACED);
  const answers = await take();
  const [within, across] = [answers.flatMap(answer => answer.within), answers.flatMap(answer => answer.across)];
  medians.within.push(median(within));
  medians.across.push(median(across));
  medians.p99Within.push(quantile(within, 0.99));
  medians.p99Across.push(quantile(across, 0.99));
  process.stderr.write(`\rbroadcast: round ${round + 1} of ${ROUNDS}`);
}
process.stderr.write('\n');
const startedAt = performance.now();
await sendFromAll(BURST);
const burstMs = performance.now() - startedAt;
const answers = await take();
publisher.disconnect();
subscriber.disconnect();
await Promise.all(pods.map(pod => pod.stop()));
await redis.stop();

const ratios = (of: number[]) =>
  spread(
    of.map((ms, round) => ms / (medians.bare[round] ?? Number.NaN)),
    2,
  );
console.log(
  `broadcasts of 1 KB, 4 workers in 2 pods, ${ROUNDS} rounds of ${WORKERS * PACED.count}, min/median/max; node ${process.version}`,
);
console.log(`  bare publish and subscribe   median ${spread(medians.bare, 2)} ms`);
console.log(
  `  within a pod                 median ${spread(medians.within, 2)} ms, p99 ${spread(medians.p99Within, 2)} ms, ratio ${ratios(medians.within)}`,
);
console.log(
  `  across pods                  median ${spread(medians.across, 2)} ms, p99 ${spread(medians.p99Across, 2)} ms, ratio ${ratios(medians.across)}`,
);
console.log(
  `  ${WORKERS * BURST.count} at once                 ${Math.round(burstMs)} ms until each of the 4 workers had all of them, ${Math.round((WORKERS * BURST.count) / (burstMs / 1000))} events/s`,
);
console.log(
  `  with SESSION_KEYS            ${signingMicroseconds()} us of CPU time to sign and verify one, min/median/max of ${ROUNDS} rounds`,
);
const faults = answers.reduce((sum, answer) => sum + answer.faults, 0);
console.log(
  `  every worker got ${sent} events once and in order: ${faults === 0 && answers.every(({ total }) => total === sent) ? 'yes' : `NO, ${faults} faults`}`,
);
if (faults > 0) process.exitCode = 1;

/** The overhead of sending and receiving an event, together. */
function signingMicroseconds(): string {
  const seal = new Seal(['a key of more than sixteen characters']);
  const text = JSON.stringify({
    origin: 'pod:0123456789ab',
    seq: 1,
    at: Date.now(),
    event: 'news',
    json: JSON.stringify('x'.repeat(1000)),
  });
  const rounds = Array.from({ length: ROUNDS }, () => {
    const before = process.cpuUsage();
    for (let i = 0; i < SIGNED; i++) if (seal.open('news', seal.sign('news', text)) !== text) throw new Error('not verified');
    const { user, system } = process.cpuUsage(before);
    return (user + system) / SIGNED;
  });
  return spread(rounds, 1);
}

/** Has each worker of each pod send, and waits until all of them have received everything. */
async function sendFromAll({ count, perTurn, everyMs }: typeof PACED): Promise<void> {
  await forEachWorker(`/send?count=${count}&perTurn=${perTurn}&everyMs=${everyMs}`);
  sent += WORKERS * count;
  const deadline = performance.now() + PATIENCE_MS;
  for (;;) {
    const answers = await forEachWorker('/');
    if (answers.every(({ total }) => total >= sent)) return;
    if (performance.now() > deadline) throw new Error(`${sent} events expected, received ${answers.map(({ total }) => total)}`);
    await sleep(20);
  }
}

/** What each worker has measured since the last time. */
function take(): Promise<Answer[]> {
  return forEachWorker('/take');
}

/** One answer of each worker: on connections of their own they take turns. */
async function forEachWorker(path: string): Promise<Answer[]> {
  const answers = new Map<string, Answer>();
  for (const { port } of pods) {
    for (let i = 0; i < WORKERS / pods.length; i++) {
      const response = await fetch(`http://127.0.0.1:${port}${path}`, { headers: { connection: 'close' } });
      const answer = (await response.json()) as Answer;
      answers.set(answer.self, answer);
    }
  }
  if (answers.size !== WORKERS) throw new Error(`${WORKERS} workers expected to take turns, got ${[...answers.keys()]}`);
  return [...answers.values()];
}

async function bareDelays(): Promise<number[]> {
  const delays: number[] = [];
  const received = (_: string, text: string) => delays.push(performance.now() - JSON.parse(text).at);
  subscriber.on('message', received);
  const filler = 'x'.repeat(1000);
  for (let i = 0; i < PACED.count; i++) {
    await publisher.publish('bare', JSON.stringify({ at: performance.now(), filler }));
    await sleep(PACED.everyMs);
  }
  subscriber.off('message', received);
  return delays;
}

function quantile(values: readonly number[], share: number): number {
  return values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) * share)] ?? Number.NaN;
}

function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}
