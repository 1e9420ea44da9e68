/**
 * What it takes until the first 200 after the start of the process: CPU time of all its processes, and how late it comes.
 */
import { compare } from './machine.ts';
import { type Benchmark, report } from './report.ts';
import { Server, type ServerName } from './servers.ts';

const BASELINE: ServerName = 'plain Koa, 1 process';
const NAMES: ServerName[] = [BASELINE, 'node:cluster, 2 workers', 'kit, 2 workers'];
/** A process's time is counted in hundredths of a second: of one start, two digits are known. */
export const FIRST_ANSWER = {
  cpu: { unit: 'ms CPU until the first 200', kind: 'cpu', digits: 0 },
  ms: { unit: 'ms until the first 200', kind: 'other', digits: 0 },
} as const;

export async function firstAnswer(name: ServerName): Promise<{ cpu: number; ms: number }> {
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
  for (const name of NAMES) await firstAnswer(name); // fills the caches of the disk and the compiler
  const plan = { name: 'start-up', title: 'start-up', subjects: NAMES, baseline: BASELINE, figures: FIRST_ANSWER };
  return [await compare({ ...plan, rounds: settings.rounds(15), measure: firstAnswer })];
};

if (import.meta.main) await report([startUp]);
