/**
 * The kit against its peers: the same Koa app, the same generator, all up at once.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { generate, MIXES, type MixName, versionOf, wrkVersion } from './generate.ts';
import { compare } from './machine.ts';
import { type Benchmark, report } from './report.ts';
import { CPU_PER_REQUEST, P99, REQUESTS, type Rounds } from './rounds.ts';
import { PEERS, type Server, type ServerName, withServers } from './servers.ts';
import { installed, startable } from './startup.ts';

/** A server needs that long after its first answer until it rests. */
const SETTLE_MS = 2_000;
const KIT: ServerName = 'kit, 2 workers';

/** Rates of short connections differ most from round to round. */
const ROUNDS: Record<MixName, Rounds> = {
  'keep-alive': 5,
  'new connection per request': { least: 7, most: 15, spread: 0.1 },
  'new connections, 5 % heavy': 5,
};

export const peers: Benchmark = async settings => {
  if (wrkVersion === undefined)
    process.stderr.write('wrk is not installed: autocannon is used, which takes more of the machine\n');
  const pairs = await startable([KIT, ...installed()]);
  return withServers(pairs, async server => {
    await sleep(SETTLE_MS);
    const idle = {
      name: 'idle',
      title: 'idle',
      subjects: pairs,
      baseline: KIT,
      figures: { memory: MEMORY },
      ignoresNoise: true,
    } as const;
    const comparisons = [await compare({ ...idle, rounds: 1, measure: async name => ({ memory: server(name).pssMib() }) })];
    const mixes = Object.keys(MIXES) as MixName[];
    for (const name of pairs) for (const mix of mixes) await generate(server(name).port, mix, 1); // lets the compiler settle
    for (const mix of mixes) {
      comparisons.push(
        await compare({
          name: mix,
          title: mix,
          subjects: pairs,
          baseline: KIT,
          figures: { cpu: CPU_PER_REQUEST, rate: REQUESTS, p99: P99, failed: { unit: 'failed', kind: 'other', digits: 0 } },
          rounds: settings.rounds(ROUNDS[mix]),
          measure: name => cost(server(name), mix, settings.seconds(2)),
        }),
      );
    }
    return comparisons;
  });
};

const MEMORY = { unit: 'MiB (PSS)', kind: 'other', digits: 1 } as const;

async function cost(server: Server, mix: MixName, seconds: number) {
  const before = server.cpuMicroseconds();
  const { requests, rate, p99Ms, errors } = await generate(server.port, mix, seconds);
  if (requests === 0) throw new Error(`no answer under ${mix}`);
  return { cpu: (server.cpuMicroseconds() - before) / requests, rate, p99: p99Ms, failed: errors };
}

export function peerVersions(): Record<string, string> {
  const { dependencies } = JSON.parse(readFileSync(join(PEERS, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>;
  };
  const [nginx, wrk] = [versionOf('nginx', '-v'), wrkVersion];
  return { ...dependencies, ...(nginx !== undefined && { nginx }), ...(wrk !== undefined && { wrk }) };
}

if (import.meta.main) await report([peers], peerVersions());
