/**
 * The kit against its peers: the same Koa app, the same generator, all up at once, A B C A B C; ratios are paired per round.
 * CPU time of all server processes is steadier than rates on a busy machine: the generator shares it.
 *   ROUNDS=5 SECONDS=2 OUT=test/output/bench.json node test/bench/peers.ts      about 6 minutes
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Generated, generate, MIXES, type MixName, versionOf, wrkVersion } from './generate.ts';
import { PEERS, Server, type ServerName, spread } from './servers.ts';

const ROUNDS = Number(process.env.ROUNDS ?? 5);
const SECONDS = Number(process.env.SECONDS ?? 2);
const OUT = process.env.OUT ?? 'test/output/bench.json';
/** A server needs that long after its first answer until it rests. */
const SETTLE_MS = 2_000;

const KIT: ServerName = 'kit, 2 workers';
const PLAIN: ServerName = 'plain Koa, 1 process';
const MIX_NAMES = Object.keys(MIXES) as MixName[];

const nginx = versionOf('nginx', '-v');
let names: ServerName[] = [KIT, 'node:cluster, 2 workers'];
if (existsSync(join(PEERS, 'node_modules'))) names.push('throng, 2 workers', 'pm2, 2 workers', 'wattpm, 2 workers');
else process.stderr.write('throng, pm2 and wattpm are not installed (make bench installs them): left out\n');
if (nginx !== undefined) names.push('nginx + 2 processes');
else process.stderr.write('nginx is not installed: left out\n');
if (wrkVersion === undefined) process.stderr.write('wrk is not installed: autocannon is used, which takes more of the machine\n');

interface Cost extends Generated {
  cpuMicroseconds: number;
}

const firstMs = await firstAnswers([PLAIN, ...names]);
names = names.filter(name => firstMs.has(name));

const servers = new Map<ServerName, Server>();
for (const name of names) servers.set(name, await Server.start(name));
for (const server of servers.values()) await server.firstAnswer();
await sleep(SETTLE_MS);
const pssMib = Object.fromEntries([...servers].map(([name, server]) => [name, Math.round(server.pssMib() * 10) / 10]));

const costs = Object.fromEntries(MIX_NAMES.map(mix => [mix, new Map(names.map(name => [name, [] as Cost[]]))])) as Record<
  MixName,
  Map<ServerName, Cost[]>
>;
for (const server of servers.values()) for (const mix of MIX_NAMES) await generate(server.port, mix, 1); // lets the compiler settle
for (let round = 1; round <= ROUNDS; round++) {
  for (const mix of MIX_NAMES) {
    for (const [name, server] of servers) costs[mix].get(name)?.push(await cost(server, mix));
    process.stderr.write(`\rpeers: round ${round} of ${ROUNDS}, ${mix}\u001b[K`);
  }
}
process.stderr.write('\n');
await Promise.all([...servers.values()].map(server => server.stop()));
report();

async function firstAnswers(wanted: readonly ServerName[]): Promise<Map<ServerName, number[]>> {
  const found = new Map(wanted.map(name => [name, [] as number[]]));
  for (let round = 0; round <= ROUNDS; round++) {
    for (const name of found.keys()) {
      const startedAt = performance.now();
      const server = await Server.start(name);
      try {
        await server.firstAnswer();
        if (round > 0) found.get(name)?.push(performance.now() - startedAt); // the first start fills the caches
      } catch (error) {
        process.stderr.write(`${name} does not start here, and is left out: ${(error as Error).message}\n`);
        found.delete(name);
        if (name === KIT || name === PLAIN) throw error;
      }
      await server.stop();
    }
    process.stderr.write(`\rfirst 200: round ${round} of ${ROUNDS}`);
  }
  process.stderr.write('\n');
  return found;
}

async function cost(server: Server, mix: MixName): Promise<Cost> {
  const before = server.cpuMicroseconds();
  const generated = await generate(server.port, mix, SECONDS);
  if (generated.requests === 0) throw new Error(`no answer under ${mix}`);
  return { ...generated, cpuMicroseconds: (server.cpuMicroseconds() - before) / generated.requests };
}

function report(): void {
  const machine = `${availableParallelism()} × ${cpus()[0]?.model.trim()}`;
  const versions = { node: process.version, ...peerVersions(), nginx, wrk: wrkVersion };
  const command = `ROUNDS=${ROUNDS} SECONDS=${SECONDS} make bench`;
  const date = new Date().toISOString().slice(0, 10);
  const json = {
    ...{ date, machine, versions, command, pssMib },
    firstAnswerMs: Object.fromEntries(firstMs),
    costs: Object.fromEntries(MIX_NAMES.map(mix => [mix, Object.fromEntries(costs[mix])])),
  };
  mkdirSync(dirname(OUT), { recursive: true });
  writeFileSync(OUT, `${JSON.stringify(json, undefined, 1)}\n`);
  const known = Object.entries(versions).filter(([, version]) => version !== undefined);
  console.log(`${machine}; ${known.map(([name, version]) => `${name} ${version}`).join(', ')}; ${date}; \`${command}\`\n`);
  console.log('| | kit ÷ it, rate | it ÷ kit, CPU | CPU µs per request | p99 ms | failed |\n|---|---|---|---|---|---|');
  for (const mix of MIX_NAMES) for (const name of names) console.log(rowOf(mix, name));
  console.log('\n| | first 200, ms | ÷ plain Koa | idle memory (PSS), MiB |\n|---|---|---|---|');
  const plain = firstMs.get(PLAIN) ?? [];
  for (const [name, ms] of firstMs)
    console.log(`| ${name} | ${spread(ms, 0)} | ${spread(ratios(ms, plain), 2)} | ${pssMib[name] ?? ''} |`);
  console.log(`\n${OUT}`);
}

/** Paired with the kit, round by round. */
function rowOf(mix: MixName, name: ServerName): string {
  const [kit = [], own = []] = [costs[mix].get(KIT), costs[mix].get(name)];
  const rate = ratios(
    kit.map(({ rate }) => rate),
    own.map(({ rate }) => rate),
  );
  const cpu = own.map(({ cpuMicroseconds }) => cpuMicroseconds);
  const cpuRatio = ratios(
    cpu,
    kit.map(({ cpuMicroseconds }) => cpuMicroseconds),
  );
  const p99 = own.map(({ p99Ms }) => p99Ms);
  const failed = own.reduce((sum, { errors }) => sum + errors, 0);
  return `| ${mix}: ${name} | ${spread(rate, 2)} | ${spread(cpuRatio, 2)} | ${spread(cpu, 0)} | ${spread(p99, 1)} | ${failed} |`;
}

function ratios(values: readonly number[], base: readonly number[]): number[] {
  return values.map((value, round) => value / (base[round] ?? Number.NaN));
}

function peerVersions(): Record<string, string> {
  const { dependencies } = JSON.parse(readFileSync(join(PEERS, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>;
  };
  return dependencies;
}
