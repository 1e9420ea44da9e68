/**
 * Twice the load that a worker can sustain: how many requests are still answered, and how late, without a limit, with MAX_EVENT_LOOP_DELAY_MS, and with
 * ADAPTIVE_CONCURRENCY. Requests come when they come, over kept connections; clients leave after a second.
 *   ONLY=waits,computes ROUNDS=5 SECONDS=5 make bench-overload      about 6 minutes
 */
import http from 'node:http';
import { seededRandom } from '../random.ts';
import { compare, progress } from './machine.ts';
import { arrivals, percentile } from './open-loop.ts';
import { type Benchmark, report, type Settings } from './report.ts';
import { Server } from './servers.ts';

const VARIANTS = {
  off: {},
  'event loop delay': { MAX_EVENT_LOOP_DELAY_MS: '100' },
  adaptive: { ADAPTIVE_CONCURRENCY: 'true' },
} as const;
type Variant = keyof typeof VARIANTS;

/** Both answer 200 requests a second at most. */
const WORKLOADS = {
  waits: { title: 'a downstream of 10 places and 50 ms', path: '/pool?ms=50' },
  computes: { title: '5 ms of CPU', path: '/cpu?ms=5' },
} as const;
const CAPACITY = 200;
const PLACES = '10';

const CONNECTIONS = 400;
/** More of the limit at a time would be turned away. */
const CONNECTIONS_AT_ONCE = 40;
const PATIENCE_MS = 1000;
const WARM_UP_SECONDS = 1.5;
/** The first seconds of the overload are not counted. */
const SETTLE_SECONDS = 2;
/** Shares of the capacity that are tried; the sustainable one answers 99 % within a second. */
const SHARES = [0.6, 0.7, 0.8, 0.9];
const SUSTAINED = 0.99;

interface Load {
  /** Answered with 200 within a second, per second. */
  goodput: number;
  offered: number;
  /** Of those; the clients' patience where there are none. */
  p99Ms: number;
}

interface Target {
  port: number;
  path: string;
  agent: http.Agent;
}

async function load(target: Target, perSecond: number, seconds: number, seed: number, settleSeconds = 0): Promise<Load> {
  const latencies: number[] = [];
  let offered = 0;
  const countFrom = performance.now() + settleSeconds * 1000;
  await arrivals(perSecond, settleSeconds + seconds, seededRandom(seed), async due => {
    const isAnswered = await answered(target);
    if (due < countFrom) return;
    offered++;
    if (isAnswered) latencies.push(performance.now() - due);
  });
  const p99Ms = latencies.length > 0 ? percentile(latencies, 0.99) : PATIENCE_MS;
  return { goodput: latencies.length / seconds, offered: offered / seconds, p99Ms };
}

/** Whether the answer is 200 and comes in time. */
function answered({ port, path, agent }: Target): Promise<boolean> {
  return new Promise(resolve => {
    const request = http.get({ port, host: '127.0.0.1', path, agent }, response => {
      response.resume().once('end', () => resolve(response.statusCode === 200));
    });
    const timer = setTimeout(() => request.destroy(), PATIENCE_MS);
    request.once('error', () => resolve(false));
    request.once('close', () => {
      clearTimeout(timer);
      resolve(false);
    });
  });
}

/** Runs a task with a server that has answered for a while over as many connections as a proxy keeps. */
async function withServer<T>(variant: Variant, path: string, task: (target: Target) => Promise<T>): Promise<T> {
  const server = await Server.start('kit, 2 workers', {
    ...VARIANTS[variant],
    NODE_CLUSTER_WORKERS: '1',
    PLACES,
    SHUTDOWN_TIMEOUT_MS: '100',
    APP_MODULE: `${import.meta.dirname}/apps/uneven.mjs`,
  });
  const agent = new http.Agent({ keepAlive: true, maxFreeSockets: CONNECTIONS });
  try {
    await server.firstAnswer();
    const target = { port: server.port, path, agent };
    for (let opened = 0; opened < CONNECTIONS; opened += CONNECTIONS_AT_ONCE)
      await Promise.all(Array.from({ length: opened + CONNECTIONS_AT_ONCE }, () => answered({ ...target, path: '/' })));
    await load(target, CAPACITY / 2, WARM_UP_SECONDS, 1);
    return await task(target);
  } finally {
    agent.destroy();
    await server.stop();
  }
}

/** The largest load of those tried that a server without a limit answers in time. */
async function peakOf(path: string, seconds: number): Promise<Load> {
  let peak: Load | undefined;
  for (const share of SHARES) {
    progress(`the sustainable load: ${share * CAPACITY} requests/s`);
    const once = () => withServer('off', path, target => load(target, share * CAPACITY, seconds, 2));
    let now = await once();
    if (now.goodput < SUSTAINED * now.offered) now = await once(); // something else ran
    if (now.goodput < SUSTAINED * now.offered) break;
    peak = now;
  }
  if (peak === undefined) throw new Error(`not even ${SHARES[0]} of ${CAPACITY} requests a second are answered in time`);
  return peak;
}

async function overload(workload: keyof typeof WORKLOADS, settings: Settings) {
  const { title, path } = WORKLOADS[workload];
  const seconds = settings.seconds(5);
  const peak = await peakOf(path, seconds);
  return compare({
    name: `overload, ${workload}`,
    title: `${title}: twice the sustainable load of ${peak.goodput.toFixed(0)} requests/s, p99 ${peak.p99Ms.toFixed(0)} ms`,
    subjects: Object.keys(VARIANTS) as Variant[],
    baseline: 'off',
    figures: {
      goodput: { unit: 'goodput ÷ peak', kind: 'rate', digits: 2 },
      p99: { unit: 'p99 ÷ p99 at the peak', kind: 'other', digits: 1 },
    },
    rounds: settings.rounds(5),
    measure: variant =>
      withServer(variant, path, async target => {
        const { goodput, p99Ms } = await load(target, 2 * peak.offered, seconds, 3, SETTLE_SECONDS);
        return { goodput: goodput / peak.goodput, p99: p99Ms / peak.p99Ms };
      }),
  });
}

const chosen = (process.env.ONLY ?? Object.keys(WORKLOADS).join()).split(',') as (keyof typeof WORKLOADS)[];
const benchmarks = chosen.map(
  (workload): Benchmark =>
    async settings => [await overload(workload, settings)],
);
if (import.meta.main) await report(benchmarks);
