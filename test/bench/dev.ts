/**
 * How long a save takes under `bosun dev`: from the write to the first answer of the new code, for the demo app; and what the time goes into.
 */
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { request } from '../process/clients.ts';
import { type LogEvent, ROOT, startKit } from '../process/kit.ts';
import { spread } from './rounds.ts';

const ROUNDS = Number(process.env.ROUNDS ?? 20);
/** Between two rounds: the old worker has exited by then. */
const REST_MS = 800;

const folder = mkdtempSync(join(tmpdir(), 'bosun-bench-'));
process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
const source = readFileSync(join(ROOT, 'src', 'demo', 'app.ts'), 'utf8');
const save = (greeting: string) =>
  writeFileSync(join(folder, 'app.ts'), source.replace("const GREETING = 'Hello'", `const GREETING = '${greeting}'`));
save('Hello');
symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');

const kit = await startKit({
  command: [process.execPath, join(ROOT, 'src', 'cli', 'bosun.ts'), 'dev', '--json', 'app.ts'],
  cwd: folder,
});
const { port } = await kit.ready();
const at = (event: LogEvent) => Date.parse(String(event.time));

const phases = {
  'save → first answer': [] as number[],
  'save → seen, 20 ms of quiet included': [] as number[],
  'settings read, worker chosen': [] as number[],
  'new worker: fork → ready': [] as number[],
  'ready → first answer': [] as number[],
};
for (let round = 0; round <= ROUNDS; round++) {
  const greeting = `round ${round}`;
  const before = kit.all('dev.reloaded').length;
  const savedAt = Date.now();
  const startedAt = performance.now();
  save(greeting);
  while (!(await request(port, '/')).body.includes(greeting));
  const ms = performance.now() - startedAt;
  const { time } = await kit.event('dev.reloaded', event => kit.all('dev.reloaded').indexOf(event) >= before);
  const [seen, ready] = [kit.all('dev.reload').at(-1), kit.all('worker.ready').at(-1)];
  if (seen !== undefined && ready !== undefined && time !== undefined && round > 0) {
    phases['save → first answer'].push(ms);
    phases['save → seen, 20 ms of quiet included'].push(at(seen) - savedAt);
    phases['settings read, worker chosen'].push(at(ready) - Number(ready.ms) - at(seen));
    phases['new worker: fork → ready'].push(Number(ready.ms));
    phases['ready → first answer'].push(savedAt + ms - at(ready));
  }
  process.stderr.write(`\rbosun dev: round ${round} of ${ROUNDS}`);
  await sleep(REST_MS);
}
process.stderr.write('\n');
console.log(`bosun dev, demo app, ${ROUNDS} saves, min/median/max in ms; node ${process.version}`);
for (const [phase, values] of Object.entries(phases)) console.log(`  ${phase.padEnd(38)} ${spread(values, 0).padStart(14)}`);
await kit.stop('SIGINT');
process.exit(); // else node:test would print a summary
