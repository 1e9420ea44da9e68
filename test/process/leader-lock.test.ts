/**
 * The scripts of a leader's lock on a real Redis, with a replica that takes over and one that does not answer.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { type Acquired, type Held, RedisLock, releaseLock } from '../../src/state/leader-lock.ts';
import type { RedisClient } from '../../src/state/redis.ts';
import { isSessionKey, leaderKeys } from '../../src/state/redis-names.ts';
import { NotReplicatedError } from '../../src/state/replica-wait.ts';
import { connected } from '../connected.ts';
import { until } from '../until.ts';
import { LocalRedis, withRedis } from './redis.ts';
import { hasConfirmed } from './redis-pair.ts';

const ROOT = 'shop:koa:sess';
const TTL_MS = 10_000;
const [LOCK, TOKEN] = leaderKeys(ROOT, 'cron');

const lockOf = (client: RedisClient, worker = 1, root = () => ROOT) =>
  new RedisLock(client, { name: 'cron', root, ttlMs: TTL_MS, pod: 'web-1', worker });

const isAcquired = (answer: Acquired | Held): answer is Acquired => 'token' in answer;

async function tokenOf(lock: RedisLock, owner: string, seen = 0): Promise<number> {
  const answer = await lock.acquire(owner, seen);
  assert.ok(isAcquired(answer), JSON.stringify(answer));
  return answer.token;
}

async function startRedis() {
  const redis = await LocalRedis.start();
  after(() => redis.stop());
  const { client, close } = await connected(redis);
  after(close);
  return { redis, client };
}

test('a lock has one owner, expires, and its tokens grow by the clock of Redis', withRedis, async () => {
  const { client } = await startRedis();
  const [first, second] = [lockOf(client, 1), lockOf(client, 2)];
  const token = await tokenOf(first, 'a');
  assert.ok(Math.abs(token / 1000 - Date.now()) < 5000, String(token));
  const held = await second.acquire('b', 0);
  assert.ok(!isAcquired(held));
  const { holder, lastToken, leftMs } = held;
  assert.deepEqual([holder?.pod, holder?.worker, holder?.token, lastToken], ['web-1', 1, token, token]);
  assert.ok(leftMs > 0 && leftMs <= TTL_MS);
  assert.equal(await tokenOf(first, 'a'), token, 'an attempt whose answer was lost finds its own lock');
  assert.deepEqual([await first.renew('a'), await second.renew('b')], [true, false]);
  await second.release('b');
  assert.equal(await client.hget(LOCK, 'owner'), 'a', 'only its owner releases it');
  const lifeMs = await client.pttl(LOCK);
  assert.ok(lifeMs > 0 && lifeMs <= TTL_MS, `${lifeMs} ms`);
  await client.pexpire(LOCK, 0); // its time is over
  assert.equal(await first.renew('a'), false, 'it has expired');
  assert.ok((await tokenOf(second, 'b')) > token);
  await releaseLock(client, ROOT, 'cron', 'b');
  assert.equal(await client.exists(LOCK), 0, 'for a worker that has died');
  assert.equal(isSessionKey(LOCK, ROOT) || isSessionKey(TOKEN, ROOT), false);
});

test(
  'a token is above the last one and the highest that was seen, whatever the clock says and Redis has lost',
  withRedis,
  async () => {
    const { client } = await startRedis();
    const lock = lockOf(client);
    const ahead = (Date.now() + 3_600_000) * 1000; // the clock of the server before was an hour ahead
    await client.set(TOKEN, ahead);
    assert.equal(await tokenOf(lock, 'a'), ahead + 1);
    await client.flushall();
    assert.equal(await tokenOf(lock, 'b', ahead + 1), ahead + 2);
    await client.flushall();
    for (const nonsense of ['nonsense', '1e400', '-5', String(2 ** 53)]) {
      await client.set(TOKEN, nonsense);
      const token = await tokenOf(lock, nonsense);
      assert.ok(Number.isSafeInteger(token) && Math.abs(token / 1000 - Date.now()) < 5000, `${nonsense}: ${token}`);
      await lock.release(nonsense);
    }
    await client.set(LOCK, 'a string');
    await assert.rejects(lock.acquire('c', 0), /WRONGTYPE/);
  },
);

test('when the name of the service changes, the lock moves with it', withRedis, async () => {
  const { client } = await startRedis();
  let root = 'before:koa:sess';
  const lock = lockOf(client, 1, () => root);
  await tokenOf(lock, 'a');
  root = ROOT;
  assert.equal(await lock.renew('a'), false);
  assert.equal(await client.exists(...leaderKeys('before:koa:sess', 'cron').slice(0, 1)), 0);
});

test('a replica has the lock before its owner uses it, and keeps its token when it takes over', withRedis, async () => {
  const { redis, client } = await startRedis();
  const replica = await startRedis();
  await client.config('SET', 'repl-diskless-sync-delay', '0');
  await replica.client.replicaof('127.0.0.1', redis.port);
  await until(
    () => hasConfirmed(client),
    () => 'no replica',
  );
  const lock = lockOf(client);
  await client.set(TOKEN, 8e15); // no clock is above it
  assert.equal(await tokenOf(lock, 'a'), 8e15 + 1);
  assert.equal(await replica.client.get(TOKEN), String(8e15 + 1));
  await lock.release('a');
  await client.wait(1, 1000);
  await assert.rejects(lockOf(replica.client).acquire('b', 0), /READONLY/);
  replica.redis.freeze();
  await assert.rejects(lock.acquire('b', 0), NotReplicatedError);
  assert.equal(await client.exists(LOCK), 0, 'nobody leads by a lock that a failover may lose');
  replica.redis.thaw();
  await redis.stop();
  // Its client may connect again first: commands to a frozen server have timed out.
  await until(
    () => replica.client.replicaof('NO', 'ONE').catch(() => undefined),
    () => 'the replica cannot be promoted',
  );
  const token = await until(
    async () => tokenOf(lockOf(replica.client), 'c').catch(() => undefined),
    () => 'the replica does not take over',
  );
  assert.ok(token > 8e15 + 1);
});
