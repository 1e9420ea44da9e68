/**
 * What it takes until the first 200 after the start of the process: CPU time of all its processes, and how late it comes. The kit is compared
 * with node:cluster, from the sources and as a package, and its first start, without compiled code, with a later one.
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { versionOf } from './generate.ts';
import { ANY_FOREIGN, compare } from './machine.ts';
import { type Benchmark, report } from './report.ts';
import { installPackage, PEERS, Server, type ServerName } from './servers.ts';

const BASELINE: ServerName = 'node:cluster, 2 workers';
const KIT: ServerName = 'kit, 2 workers';
const PACKAGED: ServerName = 'kit of the package, 2 workers';
const [WARM, COLD] = ['with compiled code', 'without'] as const;
/** A process's time is counted in hundredths of a second: of one start, two digits are known. */
const FIRST_ANSWER = {
  cpu: { unit: 'ms CPU until the first 200', kind: 'cpu', digits: 0 },
  ms: { unit: 'ms until the first 200', kind: 'other', digits: 0 },
} as const;

async function firstAnswer(name: ServerName, extra: Record<string, string> = {}): Promise<{ cpu: number; ms: number }> {
  const startedAt = performance.now();
  const server = await Server.start(name, extra);
  try {
    await server.firstAnswer();
    return { ms: performance.now() - startedAt, cpu: server.cpuMicroseconds() / 1000 };
  } finally {
    await server.stop();
  }
}

async function coldAnswer(name: ServerName): Promise<{ cpu: number; ms: number }> {
  const folder = mkdtempSync(join(tmpdir(), 'bosun-cold-'));
  try {
    return await firstAnswer(name, { NODE_COMPILE_CACHE: folder });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

export const startUp: Benchmark = async settings => {
  installPackage();
  const subjects = await startable(['plain Koa, 1 process', KIT, PACKAGED, ...installed()]);
  const plan = { figures: FIRST_ANSWER, rounds: settings.rounds(9) };
  const start = { ...plan, name: 'first answer', title: 'start-up', subjects, baseline: BASELINE };
  const cold = { ...plan, subjects: [WARM, COLD], baseline: WARM };
  const coldOf = (name: ServerName, names: { name: string; title: string }) =>
    compare({ ...cold, ...names, measure: subject => (subject === COLD ? coldAnswer(name) : firstAnswer(name)) }, ANY_FOREIGN);
  return [
    await compare({ ...start, measure: name => firstAnswer(name) }, ANY_FOREIGN),
    await coldOf(KIT, { name: 'cold start', title: 'the first start of a clone that was installed without make' }),
    await coldOf(PACKAGED, { name: 'cold start of the package', title: 'the first start of the package' }),
  ];
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
