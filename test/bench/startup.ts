/**
 * What it takes until the first 200 after the start of the process: CPU time of all its processes, and how late it comes.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { versionOf } from './generate.ts';
import { compare } from './machine.ts';
import { type Benchmark, report } from './report.ts';
import { PEERS, Server, type ServerName } from './servers.ts';

const BASELINE: ServerName = 'plain Koa, 1 process';
const KIT: ServerName = 'kit, 2 workers';
/** A process's time is counted in hundredths of a second: of one start, two digits are known. */
const FIRST_ANSWER = {
  cpu: { unit: 'ms CPU until the first 200', kind: 'cpu', digits: 0 },
  ms: { unit: 'ms until the first 200', kind: 'other', digits: 0 },
} as const;

async function firstAnswer(name: ServerName): Promise<{ cpu: number; ms: number }> {
  const startedAt = performance.now();
  const server = await Server.start(name);
  try {
    await server.firstAnswer();
    return { ms: performance.now() - startedAt, cpu: server.cpuMicroseconds() / 1000 };
  } finally {
    await server.stop();
  }
}

export const startUp: Benchmark = async settings => {
  const subjects = await startable([BASELINE, KIT, ...installed()]);
  const plan = { name: 'start-up', title: 'start-up', subjects, baseline: BASELINE, figures: FIRST_ANSWER };
  return [await compare({ ...plan, rounds: settings.rounds(9), measure: firstAnswer })];
};

export function installed(): ServerName[] {
  const names: ServerName[] = ['node:cluster, 2 workers'];
  if (existsSync(join(PEERS, 'node_modules'))) names.push('throng, 2 workers', 'pm2, 2 workers', 'wattpm, 2 workers');
  else process.stderr.write('throng, pm2 and wattpm are not installed (make bench installs them): left out\n');
  if (versionOf('nginx', '-v') !== undefined) names.push('nginx + 2 processes');
  else process.stderr.write('nginx is not installed: left out\n');
  return names;
}

/** Those that start here; the first start fills the caches. @throws if the kit or the plain app does not */
export async function startable(names: readonly ServerName[]): Promise<ServerName[]> {
  const found: ServerName[] = [];
  for (const name of names) {
    try {
      await firstAnswer(name);
      found.push(name);
    } catch (error) {
      if (name === KIT || name === BASELINE) throw error;
      process.stderr.write(`${name} does not start here, and is left out: ${(error as Error).message}\n`);
    }
  }
  return found;
}

if (import.meta.main) await report([startUp]);
