/**
 * CPU per request over keep-alive connections: the kit against the same Koa app on plain node:cluster, all up at once. With everything on,
 * and one dashboard open.
 */
import autocannon from 'autocannon';
import { compare } from './machine.ts';
import { type Benchmark, report } from './report.ts';
import { CPU_PER_REQUEST, REQUESTS } from './rounds.ts';
import { type Server, type ServerName, withServers } from './servers.ts';

const CONNECTIONS = 64;
const BASELINE: ServerName = 'node:cluster, 2 workers';
const NAMES: ServerName[] = [BASELINE, 'kit, 2 workers', 'kit, 2 workers, no header'];

async function cost(server: Server, seconds: number): Promise<{ cpu: number; rate: number }> {
  const before = server.cpuMicroseconds();
  const result = await autocannon({ url: `http://127.0.0.1:${server.port}`, connections: CONNECTIONS, duration: seconds });
  const requests = result['2xx'];
  if (requests === 0 || result.errors > 0 || result.non2xx > 0)
    throw new Error(`${result.errors} errors, ${result.non2xx} bad answers, ${requests} good`);
  return { cpu: (server.cpuMicroseconds() - before) / requests, rate: requests / result.duration };
}

export const keepAlive: Benchmark = settings =>
  withServers(NAMES, async server => {
    for (const name of NAMES) await cost(server(name), 2); // lets the compiler settle
    const kits = NAMES.filter(name => name.startsWith('kit')).map(server);
    const dashboards = await Promise.all(kits.map(kit => kit.openDashboard()));
    const comparison = await compare({
      name: 'keep-alive with a dashboard',
      title: `keep-alive, ${CONNECTIONS} connections, a dashboard open`,
      subjects: NAMES,
      baseline: BASELINE,
      figures: { cpu: CPU_PER_REQUEST, rate: REQUESTS },
      rounds: settings.rounds(9),
      measure: name => cost(server(name), settings.seconds(4)),
    });
    await Promise.all(dashboards.map(close => close()));
    return [comparison];
  });

if (import.meta.main) await report([keepAlive]);
