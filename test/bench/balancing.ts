/**
 * The balancing policies against `rr`: keep-alive, a connection per request, and requests of very different length on connections of their own.
 *   ROUNDS=5 SECONDS=3 node test/bench/balancing.ts      about 3 minutes
 */
import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { generate, type MixName } from './generate.ts';
import { Server, spread } from './servers.ts';

const ROUNDS = Number(process.env.ROUNDS ?? 5);
const SECONDS = Number(process.env.SECONDS ?? 3);
const POLICIES = (process.env.POLICIES ?? 'rr,none,least-connections,response-time').split(',');

/** A figure of each policy, larger by how much than that of `rr` in the same round. */
type Series = Map<string, Map<string, number[]>>;

const start = async (workers: number, policy: string): Promise<Server> => {
  const server = await Server.start('kit, 2 workers', {
    NODE_CLUSTER_SCHED_POLICY: policy,
    NODE_CLUSTER_WORKERS: String(workers),
    APP_MODULE: 'test/bench/apps/uneven.mjs',
  });
  await server.firstAnswer();
  while ((await server.status()).workers.filter(({ state }) => state === 'ready').length < workers) await sleep(20);
  return server;
};

/** All servers up at once, measured in turn, the order turned by one each round. */
async function compare(
  title: string,
  workers: number,
  measure: (server: Server) => Promise<Record<string, number>>,
): Promise<void> {
  const servers = await Promise.all(POLICIES.map(async policy => [policy, await start(workers, policy)] as const));
  const series: Series = new Map(POLICIES.map(policy => [policy, new Map<string, number[]>()]));
  for (let round = -1; round < ROUNDS; round++) {
    const turn = (round + POLICIES.length) % POLICIES.length;
    const figures = new Map<string, Record<string, number>>();
    for (const [policy, server] of [...servers.slice(turn), ...servers.slice(0, turn)])
      figures.set(policy, await measure(server));
    if (round < 0) continue; // the compiler settles
    for (const [policy, values] of figures) {
      for (const [name, value] of Object.entries(values)) {
        const of = series.get(policy);
        of?.set(name, [...(of.get(name) ?? []), value / (figures.get('rr')?.[name] ?? Number.NaN)]);
      }
    }
  }
  await Promise.all(servers.map(([, server]) => server.stop()));
  console.log(`${title}, against rr, min/median/max of ${ROUNDS} rounds`);
  for (const [policy, names] of series) {
    console.log(`  ${policy.padEnd(18)} ${[...names].map(([name, ratios]) => `${name} ${spread(ratios, 2)}`).join('   ')}`);
  }
}

/** At full speed. */
const fullSpeed = (mix: MixName) => async (server: Server) => {
  const cpuBefore = server.cpuMicroseconds();
  const { requests, rate, p99Ms, errors } = await generate(server.port, mix, SECONDS);
  if (errors > 0) throw new Error(`${errors} failed`);
  return { requests: rate, 'CPU each': (server.cpuMicroseconds() - cpuBefore) / requests, p99: p99Ms };
};

/** Open loop: requests come when they come (Poisson), each on a connection of its own; latency counts from when it was due. */
async function poisson(server: Server): Promise<Record<string, number>> {
  const latencies: { short: number[]; all: number[] } = { short: [], all: [] };
  const pending: Promise<void>[] = [];
  const startedAt = performance.now();
  let dueAt = startedAt;
  while (dueAt - startedAt < SECONDS * 1000) {
    dueAt += -Math.log(1 - Math.random()) * (1000 / RATE);
    await sleep(Math.max(0, dueAt - performance.now()));
    const isLong = Math.random() < 0.05;
    const due = dueAt;
    pending.push(
      ask(server.port, `/pool?ms=${isLong ? 1000 : 50}`).then(() => {
        latencies.all.push(performance.now() - due);
        if (!isLong) latencies.short.push(performance.now() - due);
      }),
    );
  }
  await Promise.all(pending);
  const { short, all } = latencies;
  return { p90: percentile(all, 0.9), 'p99 of the short': percentile(short, 0.99) };
}
/** Requests per second; 8 workers with a pool of two can do 165. */
const RATE = 110;

function ask(port: number, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = http.get({ port, host: '127.0.0.1', path, agent: false }, response => {
      response.resume().once('end', resolve);
    });
    request.once('error', reject);
  });
}

function percentile(values: number[], share: number): number {
  return values.sort((a, b) => a - b)[Math.floor(values.length * share)] ?? Number.NaN;
}

await compare('keep-alive, 2 workers', 2, fullSpeed('keep-alive'));
await compare('new connection per request, 2 workers', 2, fullSpeed('new connection per request'));
await compare('8 workers with a pool of 2 each, 95 % 50 ms and 5 % 1 s', 8, poisson);
