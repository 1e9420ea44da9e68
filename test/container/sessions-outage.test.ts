/**
 * Redis is stopped, frozen, cut off, comes back empty, is not there yet, or refuses: what a visitor sees of it, and an operator.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { everyWorker } from '../process/clients.ts';
import { type Count, Visitor } from '../visitor.ts';
import { type App, startApp } from './app.ts';
import { startNetwork, withEngine } from './engine.ts';
import { KEYS, POD_ENV, type Pods, startPods, WORKERS } from './pods.ts';
import { Redis } from './redis.ts';

/** Just below the command timeout. */
const FROZEN_MS = 450;
/** Above any response time, however busy this machine is: of several times the shortest measures the kit, the longest the machine. */
const MAX_MS = 3000;
/** Far above the half second that it takes: the machine may be busy. */
const RECOVERY_MS = 5000;
/** A connection attempt that runs into nothing takes a second, and so may a look-up of the name. */
const CUT_RECOVERY_MS = 15_000;

test('Redis outages', { ...withEngine, concurrency: true }, async t => {
  const pods = await startPods(1);
  // One after the other, with the same pod: each leaves it well. The first is the first: nothing has been saved yet.
  const inTurn = async () => {
    for (const [name, run] of Object.entries({
      'a Redis that restarts empty receives the session keys in use': comesBackEmpty,
      'without Redis only routes with a session fail, at once, and they recover with it (cases 30 and 31)': isStopped,
      'a frozen Redis costs a session route half a second and a 503, after three of these only the 503 (cases 30 and 31)':
        isFrozen,
      'a network that drops everything costs no more than a frozen Redis, and the app recovers with it': isCutOff,
    }))
      await t.test(name, () => run(pods));
  };
  const atTheStart = async () => {
    await t.test('an app that starts before its Redis waits for it and logs that it does', waitsForRedis);
    await t.test('a Redis with a password', { concurrency: true }, withPassword);
  };
  await Promise.all([inTurn(), atTheStart()]);
});

async function comesBackEmpty({ apps: [app], redis }: Pods): Promise<void> {
  await new Visitor().count(app.port);
  const keys = await redis.command('GET', KEYS);
  assert.match(keys, /^[\w-]{43}$/);
  await redis.command('CONFIG', 'SET', 'save', '');
  await redis.kill();
  await redis.startAgain();
  await assertCountsAgain(app, new Visitor(), 1);
  assert.equal(await redis.command('GET', KEYS), keys);
}

async function isStopped({ apps: [app], redis }: Pods): Promise<void> {
  const visitor = new Visitor();
  await visitor.count(app.port);
  const keys = await redis.command('GET', KEYS);

  await redis.stop();
  const waits = await refusals(app, visitor);
  assert.ok(Math.min(...waits) < 200 && Math.max(...waits) < MAX_MS, `${waits} ms`);
  await assertOtherwiseWell(app);

  await redis.startAgain();
  await assertCountsAgain(app, visitor, 2);
  assert.equal(await redis.command('GET', KEYS), keys);
  assert.deepEqual(app.all('worker.exit'), []);
}

async function isFrozen({ apps: [app], redis }: Pods): Promise<void> {
  const visitor = new Visitor();
  await visitor.count(app.port);

  await redis.pause();
  const waits = await refusals(app, visitor);
  const first = waits.slice(0, WORKERS);
  assert.ok(Math.min(...first) >= FROZEN_MS, `${waits} ms`);
  assert.ok(Math.max(...waits) < MAX_MS, `${waits} ms`);
  assert.ok(Math.min(...(await refusals(app, visitor))) < FROZEN_MS, 'at once');
  await assertOtherwiseWell(app);

  await redis.unpause();
  await assertCountsAgain(app, visitor, 2);
}

async function isCutOff({ apps: [app], redis, network }: Pods): Promise<void> {
  const visitor = new Visitor();
  await visitor.count(app.port);
  await redis.cut(network);
  await refusals(app, visitor);
  assert.ok(Math.min(...(await refusals(app, visitor))) < FROZEN_MS, 'at once');
  await assertOtherwiseWell(app);
  await redis.join(network);
  await assertCountsAgain(app, visitor, 2, CUT_RECOVERY_MS);
  assert.deepEqual(app.all('worker.exit'), []);
}

/** The milliseconds that each worker's 503 took, to a visitor with a session and to a new one. */
async function refusals(app: App, visitor: Visitor): Promise<number[]> {
  const waits: number[] = [];
  for (let i = 0; i < 2 * WORKERS; i++) {
    for (const who of [visitor, new Visitor()]) {
      const { answer, ms } = await timed(() => who.request(app.port, '/api/counter'));
      assert.equal(answer.status, 503, answer.body);
      assert.equal(answer.headers['retry-after'], '1');
      waits.push(ms);
    }
  }
  return waits;
}

async function assertOtherwiseWell(app: App): Promise<void> {
  const { answer, ms } = await timed(() => app.request('/slow?ms=1'));
  assert.equal(answer.status, 200);
  assert.ok(ms < MAX_MS, `${ms} ms`);
  assert.equal((await app.probe('/livez')).status, 200);
  assert.equal((await app.probe('/readyz')).status, 200, 'otherwise every pod would leave at once');
}

/** On every worker, soon. */
async function assertCountsAgain(app: App, visitor: Visitor, counter: number, withinMs = RECOVERY_MS): Promise<void> {
  const startedAt = performance.now();
  const counters: number[] = [];
  await everyWorker(app.port, WORKERS, async client => {
    let answer = await visitor.requestOn(client, '/api/counter');
    while (answer.status !== 200) {
      const ms = performance.now() - startedAt;
      assert.ok(ms < withinMs, `${answer.status} after ${ms} ms; ${app.transcript()}`);
      answer = await visitor.requestOn(client, '/api/counter');
    }
    const { worker, counter } = JSON.parse(answer.body) as Count;
    counters.push(counter);
    return worker;
  });
  assert.deepEqual(
    counters,
    counters.map((_, index) => counter + index),
  );
}

async function waitsForRedis(): Promise<void> {
  const network = await startNetwork();
  const app = await startApp({ network, env: POD_ENV });
  for (let worker = 1; worker <= WORKERS; worker++) await app.event('worker.ready', event => event.worker === worker);
  for (let worker = 1; worker <= WORKERS; worker++) await app.event('redis.unreachable', event => event.worker === worker);
  const { status, body } = await app.probe('/readyz');
  assert.equal(status, 503);
  assert.match(body, /waiting for Redis: Redis at redis:6379 does not answer/);
  const healthcheck = await app.exec('node', '/app/docker/healthcheck.mjs');
  assert.equal(healthcheck.exitCode, 1);
  assert.match(healthcheck.output, /waiting for Redis/);
  assert.equal((await app.probe('/livez')).status, 200);
  assert.equal((await app.request('/slow?ms=1')).status, 200);
  assert.equal((await app.request('/api/counter')).status, 503);
  assert.deepEqual(app.all('pool.ready'), []);

  await Redis.start(network);
  const startedAt = performance.now();
  await app.ready();
  const ms = performance.now() - startedAt;
  assert.ok(ms < RECOVERY_MS, `${ms} ms`);
  assert.equal((await app.probe('/readyz')).status, 200);
  assert.equal((await new Visitor().count(app.port)).counter, 1);
}

async function withPassword(t: TestContext): Promise<void> {
  const network = await startNetwork();
  const redis = await Redis.start(network, { password: 'right-one' });
  const refusals = Object.entries({
    'a wrong password': { url: 'redis://:wrong-one@redis:6379', reason: /WRONGPASS/ },
    'no password': { url: 'redis://redis:6379', reason: /NOAUTH/ },
    'a database that does not exist': { url: 'redis://:right-one@redis:6379/99', reason: /DB index is out of range/ },
  }).map(([name, { url, reason }]) =>
    t.test(`REDIS_URL with ${name} ends the app with exit code 78 and a reason that does not contain the password`, async () => {
      const app = await startApp({ network, env: { ...POD_ENV, REDIS_URL: url }, published: false });
      assert.equal(await app.exited(), 78, app.transcript());
      const { error } = await app.event('primary.abort');
      assert.match(String(error), /^Redis at redis:6379(\/99)? refuses this client: /);
      assert.match(String(error), reason);
      assert.doesNotMatch(app.transcript(), /wrong-one|right-one/);
    }),
  );
  const taken = t.test('the right password and a database that exists are taken', async () => {
    const app = await startApp({ network, env: { ...POD_ENV, REDIS_URL: 'redis://:right-one@redis:6379/3' } });
    await app.ready();
    assert.equal((await new Visitor().count(app.port)).counter, 1);
    assert.match(await redis.command('INFO', 'keyspace'), /^db3:keys=3,/m);
    assert.doesNotMatch(app.transcript(), /right-one/);
  });
  await Promise.all([...refusals, taken]);
}

async function timed<T>(request: () => Promise<T>): Promise<{ answer: T; ms: number }> {
  const startedAt = performance.now();
  const answer = await request();
  return { answer, ms: performance.now() - startedAt };
}
