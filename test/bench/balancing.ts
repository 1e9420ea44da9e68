/**
 * The balancing policies against `rr`, workload by workload, and what they do by themselves: spread and idle.
 *   ROUNDS=5 SECONDS=3 POLICIES=rr,none ONLY=spread,idle node test/bench/balancing.ts      about 12 minutes in all
 */
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { generate, type MixName } from './generate.ts';
import { type Mixture, openLoop, percentile } from './open-loop.ts';
import { spread } from './rounds.ts';
import { Server } from './servers.ts';

const ROUNDS = Number(process.env.ROUNDS ?? 5);
const SECONDS = Number(process.env.SECONDS ?? 3);
/** The tails of an open loop need more requests. */
const OPEN_LOOP_FACTOR = 3;
const POLICIES = (process.env.POLICIES ?? 'rr,none,reuseport,least-connections,response-time').split(',');
const MANY = 1000;

type Figures = Record<string, number>;
type Measure = (server: Server, round: number) => Promise<Figures>;

interface Workload {
  title: string;
  workers: number;
  environment?: Record<string, string>;
  measure: Measure;
  /** As they are, and not divided by what `rr` has in the same round. */
  isAbsolute?: boolean;
}

/** At full speed. */
const fullSpeed =
  (mix: MixName): Measure =>
  async server => {
    const cpuBefore = server.cpuMicroseconds();
    const { requests, rate, p99Ms, errors } = await generate(server.port, mix, SECONDS);
    if (errors > 0) throw new Error(`${errors} failed`);
    return { requests: rate, 'CPU each': (server.cpuMicroseconds() - cpuBefore) / requests, p99: p99Ms };
  };

const inOpenLoop =
  (mixture: Mixture): Measure =>
  async (server, round) => {
    const { short, all, failed } = await openLoop(server.port, mixture, SECONDS * OPEN_LOOP_FACTOR, round);
    if (failed > 0) throw new Error(`${failed} failed`);
    const figures = { p90: percentile(all, 0.9), p99: percentile(all, 0.99) };
    return mixture.share > 0 ? { ...figures, 'p99 of the short': percentile(short, 0.99) } : figures;
  };

/** Many keep-alive connections at once, each with a request: the largest share against the mean, and how long the last one waited. */
async function burst(server: Server): Promise<Figures> {
  const startedAt = performance.now();
  const sockets: Socket[] = [];
  const answered = Array.from({ length: MANY }, () => {
    const socket = connect(server.port, '127.0.0.1', () => socket.write('GET / HTTP/1.1\r\nHost: bench\r\n\r\n'));
    sockets.push(socket);
    return new Promise<void>((resolve, reject) => socket.once('data', () => resolve()).once('error', reject));
  });
  await Promise.all(answered);
  const slowest = performance.now() - startedAt;
  let shares: number[] = [];
  while (shares.reduce((sum, share) => sum + share, 0) < MANY) {
    await sleep(100);
    shares = (await server.status()).workers.map(({ connections }) => connections);
  }
  const closed = sockets.map(socket => new Promise(resolve => socket.once('close', resolve).destroy()));
  await Promise.all(closed);
  return { 'max/mean': Math.max(...shares) / (MANY / shares.length), 'slowest ms': slowest };
}

/** With idle keep-alive connections, unevenly spread as chance will have it. */
async function idle(server: Server): Promise<Figures> {
  const sockets = Array.from({ length: 33 }, () => connect(server.port, '127.0.0.1'));
  await sleep(500);
  const [cpuBefore, wakesBefore] = [server.cpuMicroseconds(), server.wakeUps()];
  await sleep(SECONDS * 1000);
  const figures = {
    'CPU in ms/s': (server.cpuMicroseconds() - cpuBefore) / 1000 / SECONDS,
    'wake-ups/s': (server.wakeUps() - wakesBefore) / SECONDS,
  };
  for (const socket of sockets) socket.destroy();
  return figures;
}

const WORKLOADS: Record<string, Workload> = {
  'keep-alive': { title: 'keep-alive, 2 workers', workers: 2, measure: fullSpeed('keep-alive') },
  fresh: { title: 'new connection per request, 2 workers', workers: 2, measure: fullSpeed('new connection per request') },
  pool: {
    title: '8 workers with a pool of 2 each, 95 % 50 ms and 5 % 1 s',
    workers: 8,
    measure: inOpenLoop({ path: '/pool', perSecond: 110, shortMs: 50, longMs: 1000, share: 0.05 }),
  },
  slow: {
    title: '8 workers with a pool of 2 each, 50 ms, one of them 5 times slower',
    workers: 8,
    environment: { SLOW_WORKER: '3' },
    measure: inOpenLoop({ path: '/pool', perSecond: 110, shortMs: 50, longMs: 50, share: 0 }),
  },
  cpu: {
    title: '2 workers, 95 % 1 ms and 5 % 100 ms of work',
    workers: 2,
    measure: inOpenLoop({ path: '/cpu', perSecond: 120, shortMs: 1, longMs: 100, share: 0.05 }),
  },
  spread: { title: `8 workers, ${MANY} keep-alive connections at once`, workers: 8, measure: burst, isAbsolute: true },
  idle: { title: '2 workers, 33 idle keep-alive connections', workers: 2, measure: idle, isAbsolute: true },
};

async function start({ workers, environment }: Workload, policy: string): Promise<Server> {
  const server = await Server.start('kit, 2 workers', {
    NODE_CLUSTER_SCHED_POLICY: policy,
    NODE_CLUSTER_WORKERS: String(workers),
    APP_MODULE: 'test/bench/apps/uneven.mjs',
    ...environment,
  });
  await server.firstAnswer();
  while ((await server.status()).workers.filter(({ state }) => state === 'ready').length < workers) await sleep(20);
  return server;
}

/** All servers up at once, measured in turn, the order turned by one each round. */
async function compare(workload: Workload): Promise<void> {
  const servers = await Promise.all(POLICIES.map(async policy => [policy, await start(workload, policy)] as const));
  const series = new Map<string, Map<string, number[]>>(POLICIES.map(policy => [policy, new Map()]));
  for (let round = -1; round < ROUNDS; round++) {
    const turn = (round + POLICIES.length) % POLICIES.length;
    const figures = new Map<string, Figures>();
    for (const [policy, server] of [...servers.slice(turn), ...servers.slice(0, turn)])
      figures.set(policy, await workload.measure(server, round));
    if (round < 0) continue; // the compiler settles
    for (const [policy, values] of figures) {
      for (const [name, value] of Object.entries(values)) {
        const of = series.get(policy);
        const ratio = workload.isAbsolute ? value : value / (figures.get('rr')?.[name] ?? Number.NaN);
        of?.set(name, [...(of.get(name) ?? []), ratio]);
      }
    }
  }
  await Promise.all(servers.map(([, server]) => server.stop()));
  console.log(`${workload.title}${workload.isAbsolute ? '' : ', against rr'}, min/median/max of ${ROUNDS} rounds`);
  for (const [policy, names] of series) {
    console.log(`  ${policy.padEnd(18)} ${[...names].map(([name, values]) => `${name} ${spread(values, 2)}`).join('   ')}`);
  }
}

for (const name of (process.env.ONLY ?? Object.keys(WORKLOADS).join()).split(',')) {
  const workload = WORKLOADS[name];
  if (workload === undefined) throw new Error(`ONLY: expected some of ${Object.keys(WORKLOADS).join(', ')}, got ${name}`);
  await compare(workload);
}
