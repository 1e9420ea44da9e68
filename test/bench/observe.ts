/**
 * What looking costs: a scrape of /metrics with many workers, and an open dashboard in the primary's CPU time.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { fullSpeed } from '../../src/loadtest/generator.ts';
import { Recorder } from '../../src/loadtest/result.ts';
import { compare } from './machine.ts';
import { type Benchmark, report } from './report.ts';
import { type Comparison, summaryOf } from './rounds.ts';
import { Server } from './servers.ts';

/** Of one measurement. */
const SCRAPES = 10;
const CONNECTIONS = 16;

async function start(workers: number): Promise<Server> {
  const server = await Server.start('kit, 2 workers', { NODE_CLUSTER_WORKERS: String(workers) });
  await server.firstAnswer();
  while ((await server.status()).workers.filter(({ state }) => state === 'ready').length < workers) await sleep(100);
  await sleep(2000); // each has reported
  return server;
}

const scrape: Benchmark = async settings => {
  const workers = 32;
  const server = await start(workers);
  try {
    const bytes = (await (await server.admin('/metrics')).text()).length; // the first one loads what it needs
    const subject = `/metrics of ${workers} workers`;
    return [
      await compare({
        name: 'scrape',
        title: `a scrape of ${Math.round(bytes / 1024)} KiB`,
        subjects: [subject],
        baseline: subject,
        figures: { ms: { unit: 'ms', kind: 'other', digits: 1 } },
        rounds: settings.rounds(5),
        measure: async () => {
          const times: number[] = [];
          for (let count = 0; count < SCRAPES; count++) {
            const startedAt = performance.now();
            await (await server.admin('/metrics')).text();
            times.push(performance.now() - startedAt);
            await sleep(100);
          }
          return { ms: summaryOf(times).median };
        },
      }),
    ];
  } finally {
    await server.stop();
  }
};

/** The primary's share of one CPU in percent, under load. */
async function share(server: Server, seconds: number): Promise<{ share: number }> {
  const before = server.primaryCpuMicroseconds();
  await sleep(seconds * 1000);
  return { share: (server.primaryCpuMicroseconds() - before) / (seconds * 10_000) };
}

const dashboard: Benchmark = async settings => {
  const workers = 8;
  const server = await start(workers);
  const load = fullSpeed(`http://127.0.0.1:${server.port}/`, CONNECTIONS, new Recorder());
  const seconds = settings.seconds(4);
  const comparison: Comparison = await compare({
    name: 'dashboard',
    title: `the primary of ${workers} workers under load`,
    subjects: ['no dashboard', 'a dashboard'],
    baseline: 'no dashboard',
    figures: { share: { unit: '% of a CPU', kind: 'cpu', digits: 1 } },
    rounds: settings.rounds(5),
    measure: async subject => {
      if (subject === 'no dashboard') return share(server, seconds);
      const close = await server.openDashboard();
      const measured = await share(server, seconds);
      await close();
      return measured;
    },
  });
  await load.stop();
  await server.stop();
  return [comparison];
};

export const observe: Benchmark = async settings => [...(await scrape(settings)), ...(await dashboard(settings))];

if (import.meta.main) await report([observe]);
