/**
 * What SESSION_WAIT_REPLICAS=1 costs: session writes with and without it, in turns, to a Redis of this machine with one replica.
 */
import assert from 'node:assert/strict';
import { readConfig } from '../../src/config/config.ts';
import { closeRedis, connectRedis, type RedisClient } from '../../src/state/redis.ts';
import { ReplicatedWrites, sessionWriterOf, type WriteSession } from '../../src/state/replica-wait.ts';
import { LocalRedis } from '../process/redis.ts';
import { until } from '../until.ts';

const ROUNDS = 7;
const ROUND_MS = 1000;
/** As many requests at once. */
const LEVELS = [1, 50];
/** A session of 300 bytes. */
const SESSION = JSON.stringify({ user: 'u'.repeat(280) });

const [primary, replica] = await Promise.all([LocalRedis.start(), LocalRedis.start()]);
const connect = async (redis: LocalRedis): Promise<RedisClient> => {
  const client = connectRedis(readConfig({ REDIS_URL: redis.url }), 'bench', () => undefined);
  assert.ok(client);
  await until(
    async () => client.status === 'ready' || undefined,
    () => client.status,
  );
  return client;
};
const clients = await Promise.all([connect(primary), connect(primary), connect(replica)]);
const [plain, own, copy] = clients;
await plain.call('CONFIG', 'SET', 'repl-diskless-sync-delay', '0');
await copy.call('REPLICAOF', '127.0.0.1', String(primary.port));
await until(
  async () => (await copy.role()).includes('connected') || undefined,
  () => 'the replica is not connected',
);
const waiting = new ReplicatedWrites(own, 1);
const ways: Record<string, WriteSession> = { 0: sessionWriterOf(plain), 1: send => waiting.write(send) };

async function measure(write: WriteSession, level: number): Promise<{ ms: number; perSecond: number }> {
  const times: number[] = [];
  const end = performance.now() + ROUND_MS;
  const one = async (n: number) => {
    for (let at = performance.now(); at < end; at = performance.now()) {
      await write(client => client.set(`session:${n}`, SESSION, 'EX', 60));
      times.push(performance.now() - at);
    }
  };
  await Promise.all(Array.from({ length: level }, (_, n) => one(n)));
  return { ms: times.sort((a, b) => a - b)[times.length >> 1] ?? Number.NaN, perSecond: (times.length * 1000) / ROUND_MS };
}

const spread = (values: number[], digits: number) => {
  const sorted = values.sort((a, b) => a - b);
  return [sorted[0], sorted[sorted.length >> 1], sorted.at(-1)].map(value => value?.toFixed(digits)).join('/');
};

for (const level of LEVELS) {
  const rounds = Object.keys(ways).map(name => ({ name, results: [] as Awaited<ReturnType<typeof measure>>[] }));
  for (let round = 0; round < ROUNDS; round++)
    for (const { name, results } of rounds) results.push(await measure(ways[name] ?? assert.fail(name), level));
  for (const { name, results } of rounds)
    console.log(
      `SESSION_WAIT_REPLICAS=${name}, ${level} at once: median ${spread(
        results.map(({ ms }) => ms),
        2,
      )} ms, ${spread(
        results.map(({ perSecond }) => perSecond),
        0,
      )} writes/s (min/median/max of ${ROUNDS} rounds)`,
    );
}
await Promise.all(clients.map(client => closeRedis(client)));
await Promise.all([primary.stop(), replica.stop()]);
