/**
 * What looking costs: a scrape of /metrics with many workers, and an open dashboard in the primary's CPU time.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { fullSpeed } from '../../src/loadtest/generator.ts';
import { Recorder } from '../../src/loadtest/result.ts';
import { Server, spread } from './servers.ts';

const ROUNDS = Number(process.env.ROUNDS ?? 5);
const SECONDS = Number(process.env.SECONDS ?? 4);
const SCRAPES = 30;
const CONNECTIONS = 16;

async function start(workers: number): Promise<Server> {
  const server = await Server.start('kit, 2 workers', { NODE_CLUSTER_WORKERS: String(workers) });
  await server.firstAnswer();
  while ((await server.status()).workers.filter(({ state }) => state === 'ready').length < workers) await sleep(100);
  await sleep(2000); // each has reported
  return server;
}

async function scrape(workers: number): Promise<void> {
  const server = await start(workers);
  const times: number[] = [];
  let bytes = 0;
  for (let count = 0; count <= SCRAPES; count++) {
    const startedAt = performance.now();
    bytes = (await (await server.admin('/metrics')).text()).length;
    if (count > 0) times.push(performance.now() - startedAt); // the first one loads what it needs
    await sleep(100);
  }
  await server.stop();
  console.log(`/metrics of ${workers} workers (${Math.round(bytes / 1024)} KiB), ${SCRAPES} scrapes: ${spread(times, 1)} ms`);
}

/** The primary's share of one CPU in percent, under load. */
async function share(server: Server): Promise<number> {
  const before = server.primaryCpuMicroseconds();
  await sleep(SECONDS * 1000);
  return (server.primaryCpuMicroseconds() - before) / (SECONDS * 10_000);
}

async function dashboard(workers: number): Promise<void> {
  const server = await start(workers);
  const load = fullSpeed(`http://127.0.0.1:${server.port}/`, CONNECTIONS, new Recorder());
  const [closed, open]: [number[], number[]] = [[], []];
  for (let round = 0; round < ROUNDS; round++) {
    closed.push(await share(server));
    const close = await server.openDashboard();
    open.push(await share(server));
    await close();
  }
  await load.stop();
  await server.stop();
  const added = open.map((value, round) => value - (closed[round] ?? Number.NaN));
  console.log(
    `primary of ${workers} workers under load, % of a CPU: without a dashboard ${spread(closed, 1)}, with one ${spread(open, 1)}, added ${spread(added, 1)}`,
  );
}

await scrape(32);
await dashboard(8);
