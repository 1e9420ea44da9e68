/**
 * How late the first 200 comes after the start of the process: the kit against one plain Koa process, interleaved, paired.
 */
import { Server, type ServerName, spread } from './servers.ts';

const ROUNDS = Number(process.env.ROUNDS ?? 15);
const NAMES: ServerName[] = ['plain Koa, 1 process', 'node:cluster, 2 workers', 'kit, 2 workers'];

async function firstAnswerMs(name: ServerName): Promise<number> {
  const startedAt = performance.now();
  const server = await Server.start(name);
  await server.firstAnswer();
  const ms = performance.now() - startedAt;
  await server.stop();
  return ms;
}

const measured = new Map(NAMES.map(name => [name, [] as number[]]));
for (const name of NAMES) await firstAnswerMs(name); // fills the caches of the disk and the compiler
for (let round = 0; round < ROUNDS; round++) {
  for (const name of NAMES) measured.get(name)?.push(await firstAnswerMs(name));
  process.stderr.write(`\rstart-up: round ${round + 1} of ${ROUNDS}`);
}
process.stderr.write('\n');
const baseline = measured.get('plain Koa, 1 process') ?? [];
console.log(`first 200 after the start, ${ROUNDS} rounds, min/median/max; node ${process.version}`);
for (const [name, values] of measured) {
  const ratios = values.map((value, round) => value / (baseline[round] ?? Number.NaN));
  console.log(`  ${name.padEnd(28)} ${spread(values, 0).padStart(12)} ms   ratio ${spread(ratios, 2)}`);
}
