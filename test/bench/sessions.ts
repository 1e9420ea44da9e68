/**
 * What a route with a session costs its user while Redis is stopped, frozen, and when it is back; and a route without one meanwhile.
 */
import { join } from 'node:path';
import { LocalRedis } from '../process/redis.ts';
import { spread } from './rounds.ts';
import { Server } from './servers.ts';

const ROUNDS = Number(process.env.ROUNDS ?? 5);
const REQUESTS = 100;
const APP = join(import.meta.dirname, '..', 'fixtures', 'apps', 'sessions.ts');

const redis = await LocalRedis.start();
const server = await Server.start('kit, 2 workers', { REDIS_URL: redis.url, APP_MODULE: APP });
await server.firstAnswer();
await server.generation(1);
const measured: Record<string, number[]> = {};

for (let round = 0; round < ROUNDS; round++) {
  await expectStatus(200);
  await redis.stop();
  await note('stopped: 503, p99', () => p99('/increment', 503));
  await note('stopped: other routes, p99', () => p99('/', 200));
  await redis.startAgain();
  await note('started again: first success', firstSuccessMs);
  await expectStatus(200);
  redis.freeze();
  await note('frozen: 503, p99', () => p99('/increment', 503));
  await note('frozen: other routes, p99', () => p99('/', 200));
  redis.thaw();
  await note('thawed: first success', firstSuccessMs);
  process.stderr.write(`\rsessions: round ${round + 1} of ${ROUNDS}`);
}
process.stderr.write('\n');
await server.stop();
await redis.stop();
console.log(
  `sessions without Redis, ${ROUNDS} rounds of ${REQUESTS} requests one by one, ms, min/median/max; node ${process.version}`,
);
for (const [name, values] of Object.entries(measured)) console.log(`  ${name.padEnd(30)} ${spread(values, 1)}`);

async function note(name: string, measure: () => Promise<number>): Promise<void> {
  measured[name] = [...(measured[name] ?? []), await measure()];
}

async function p99(path: string, expected: number): Promise<number> {
  const waits: number[] = [];
  for (let i = 0; i < REQUESTS; i++) {
    const startedAt = performance.now();
    const status = await request(path);
    waits.push(performance.now() - startedAt);
    if (status !== expected) throw new Error(`${path} must answer ${expected}, got ${status}`);
  }
  return waits.sort((a, b) => a - b)[Math.ceil(REQUESTS * 0.99) - 1] ?? Number.NaN;
}

/** From now, which is when Redis can answer again. */
async function firstSuccessMs(): Promise<number> {
  const startedAt = performance.now();
  while ((await request('/increment')) !== 200);
  return performance.now() - startedAt;
}

/** Of both workers, which take turns: two in a row are not enough, their breakers close each at its time. */
async function expectStatus(expected: number): Promise<void> {
  for (let inARow = 0; inARow < 10; inARow = (await request('/increment')) === expected ? inARow + 1 : 0);
}

async function request(path: string): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${server.port}${path}`, { headers: { connection: 'close' } });
  await response.arrayBuffer();
  return response.status;
}
