/**
 * CPU per request over keep-alive connections: the kit against the same Koa app on plain node:cluster, all up at once, interleaved.
 * With everything on, and one dashboard open. CPU time of all server processes from /proc is steadier than rates on a busy machine.
 */
import autocannon from 'autocannon';
import { Server, type ServerName, spread } from './servers.ts';

const ROUNDS = Number(process.env.ROUNDS ?? 9);
const SECONDS = Number(process.env.SECONDS ?? 4);
const CONNECTIONS = 64;
const BASELINE: ServerName = 'node:cluster, 2 workers';
const NAMES: ServerName[] = ['node:cluster, 2 workers', 'kit, 2 workers', 'kit, 2 workers, no header'];

async function cost(server: Server, seconds: number): Promise<{ microseconds: number; rate: number }> {
  const before = server.cpuMicroseconds();
  const result = await autocannon({ url: `http://127.0.0.1:${server.port}`, connections: CONNECTIONS, duration: seconds });
  const requests = result['2xx'];
  if (requests === 0 || result.errors > 0 || result.non2xx > 0)
    throw new Error(`${result.errors} errors, ${result.non2xx} bad answers, ${requests} good`);
  return { microseconds: (server.cpuMicroseconds() - before) / requests, rate: requests / result.duration };
}

const servers = new Map<ServerName, Server>();
for (const name of NAMES) servers.set(name, await Server.start(name));
for (const server of servers.values()) await server.firstAnswer();
for (const server of servers.values()) await cost(server, 2); // lets the compiler settle
const kits = [...servers].filter(([name]) => name.startsWith('kit')).map(([, server]) => server);
const dashboards = await Promise.all(kits.map(server => server.openDashboard()));

const measured = new Map(NAMES.map(name => [name, [] as { microseconds: number; rate: number }[]]));
for (let round = 0; round < ROUNDS; round++) {
  for (const [name, server] of servers) measured.get(name)?.push(await cost(server, SECONDS));
  process.stderr.write(`\rkeep-alive: round ${round + 1} of ${ROUNDS}`);
}
process.stderr.write('\n');
await Promise.all(dashboards.map(close => close()));
await Promise.all([...servers.values()].map(server => server.stop()));

const baseline = measured.get(BASELINE) ?? [];
console.log(`keep-alive, ${CONNECTIONS} connections, ${ROUNDS} rounds of ${SECONDS} s, min/median/max; node ${process.version}`);
for (const [name, rounds] of measured) {
  const cpu = rounds.map(({ microseconds }, round) => microseconds / (baseline[round]?.microseconds ?? Number.NaN));
  const rate = rounds.map(({ rate }, round) => rate / (baseline[round]?.rate ?? Number.NaN));
  const perRequest = spread(
    rounds.map(({ microseconds }) => microseconds),
    1,
  );
  console.log(
    `  ${name.padEnd(28)} ${perRequest.padStart(16)} CPU µs per request   ratio ${spread(cpu, 2)}   rate ratio ${spread(rate, 2)}`,
  );
}
