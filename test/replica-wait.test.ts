/**
 * Session writes that wait for replicas, over a real Redis and its replica. No kit runs: `ReplicatedWrites` alone.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { readConfig } from '../src/config/config.ts';
import { closeRedis, connectRedis, type RedisClient } from '../src/state/redis.ts';
import { redisRefusals } from '../src/state/redis-health.ts';
import { NotReplicatedError, ReplicatedWrites } from '../src/state/replica-wait.ts';
import { LocalRedis, withRedis } from './process/redis.ts';
import { until } from './until.ts';

const FREEZES = 5;
const FREEZE_MS = 60;
const SIGNAL_MS = 20;
const WRITERS = 20;

test('session writes that wait for replicas', withRedis, async t => {
  const pair = await startPair();
  for (const [name, run] of Object.entries({
    'an acknowledged one is at the replica, however often that freezes; one that is not is an error': survivesFreezes,
    'many share one WAIT': shareOneWait,
    'one that fails is its own error, and no other one fails with it': failsAlone,
    'one fails that began on a connection that is lost before its WAIT': failsWithItsConnection,
  }))
    await t.test(name, () => run(pair));
});

test('a Redis without replicas is known before the first session is written', withRedis, async () => {
  const client = await connect(await startRedis());
  const writes = new ReplicatedWrites(client, 2);
  client.disconnect(true);
  await until(
    async () => redisRefusals().find(({ message }) => message.startsWith('NOREPLICAS 0 of 2 replicas')),
    () => JSON.stringify(redisRefusals()),
  );
  const write = writes.write(redis => redis.set('key', 'value'));
  await assert.rejects(write, NotReplicatedError);
});

async function startRedis(): Promise<LocalRedis> {
  const redis = await LocalRedis.start();
  after(() => redis.stop());
  return redis;
}

/** Resolves when it takes commands. */
async function connect(redis: LocalRedis) {
  const client = connectRedis(readConfig({ REDIS_URL: redis.url }), 'test', () => undefined);
  assert.ok(client);
  after(() => closeRedis(client));
  await becomes(client, 'ready');
  return client;
}

async function becomes(client: RedisClient, status: RedisClient['status']): Promise<void> {
  await until(
    async () => client.status === status || undefined,
    () => client.status,
  );
}

async function startPair() {
  const [primary, replica] = await Promise.all([startRedis(), startRedis()]);
  const [main, copy, own] = await Promise.all([connect(primary), connect(replica), connect(primary)]);
  await main.config('SET', 'repl-diskless-sync-delay', '0');
  await copy.replicaof('127.0.0.1', primary.port);
  await until(
    async () => (await copy.role()).includes('connected') || undefined,
    () => 'the replica is not connected',
  );
  return { replica, main, copy, writes: new ReplicatedWrites(own, 1) };
}

type Pair = Awaited<ReturnType<typeof startPair>>;

async function survivesFreezes({ replica, main, copy, writes }: Pair): Promise<void> {
  const over = new AbortController();
  const outcomes = { acknowledged: 0, unreplicated: 0, missing: 0, tooEarly: 0 };
  /** When the replica was frozen; undefined while it is not. */
  let frozenAt: number | undefined;
  const writing = Array.from({ length: WRITERS }, async (_, writer) => {
    for (let n = 0; !over.signal.aborted; n++) {
      const key = `${writer}:${n}`;
      // A signal takes a moment.
      const frozenFor = performance.now() - (frozenAt ?? Number.POSITIVE_INFINITY) > SIGNAL_MS ? frozenAt : undefined;
      try {
        await writes.write(client => client.set(key, 'written'));
        outcomes.acknowledged++;
        if (frozenFor !== undefined && frozenFor === frozenAt) outcomes.tooEarly++;
        // While it is frozen it does not answer.
        if ((await copy.get(key).catch(() => undefined)) === null) outcomes.missing++;
      } catch (error) {
        assert.ok(error instanceof NotReplicatedError, String(error));
        assert.match(error.message, /^NOREPLICAS 0 of 1 replicas .* within 400 ms$/);
        assert.equal(await main.get(key), 'written', 'it counts all the same');
        outcomes.unreplicated++;
      }
    }
  });
  for (let freeze = 0; freeze < FREEZES; freeze++) {
    replica.freeze();
    frozenAt = performance.now();
    if (freeze > 0) await pause(FREEZE_MS);
    else
      await until(
        async () => outcomes.unreplicated > 0 || undefined,
        () => JSON.stringify(outcomes),
      );
    frozenAt = undefined;
    const enough = outcomes.acknowledged + WRITERS;
    replica.thaw();
    await until(
      async () => outcomes.acknowledged >= enough || undefined,
      () => JSON.stringify(outcomes),
    );
  }
  over.abort();
  await Promise.all(writing);
  assert.deepEqual([outcomes.missing, outcomes.tooEarly], [0, 0], JSON.stringify(outcomes));
  const refusal = redisRefusals().find(({ code, command }) => code === 'NOREPLICAS' && command === 'wait');
  assert.ok(refusal !== undefined && refusal.count > 0, JSON.stringify(redisRefusals()));
}

async function shareOneWait({ main, writes }: Pair): Promise<void> {
  const waits = async () => Number(/cmdstat_wait:calls=(\d+)/.exec(await main.info('commandstats'))?.[1] ?? 0);
  const before = await waits();
  await Promise.all(Array.from({ length: 100 }, (_, n) => writes.write(client => client.set(String(n), '1'))));
  assert.equal(await waits(), before + 2, 'the first write goes at once, the other 99 together');
}

async function failsAlone({ writes }: Pair): Promise<void> {
  const [bad, good] = await Promise.allSettled([
    writes.write(client => client.call('nonsense')),
    writes.write(client => client.set('key', 'value')),
  ]);
  assert.equal(bad.status === 'rejected' && bad.reason.name, 'ReplyError');
  assert.deepEqual(good, { status: 'fulfilled', value: 'OK' });
}

async function failsWithItsConnection({ main, writes }: Pair): Promise<void> {
  const failed = writes.write(async client => {
    await client.set('key', 'value');
    await main.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    await becomes(client, 'reconnecting');
    await becomes(client, 'ready');
  });
  await assert.rejects(failed, /connection to Redis was replaced between a write and WAIT/);
  await writes.write(client => client.set('key', 'again'));
}
