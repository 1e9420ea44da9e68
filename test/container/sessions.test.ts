import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';
import type { StartedNetwork } from 'testcontainers';
import { type App, startApp } from './app.ts';
import { startNetwork, withEngine } from './engine.ts';
import { Redis } from './redis.ts';
import { type Count, Visitor } from './visitor.ts';

const COOKIE = 'koa:sess';
const KEYS = `${COOKIE}:keys`;
/** In the place of a destroyed session. */
const TOMBSTONE = 'destroyed';
const WORKERS = 2;
const env = { REDIS_URL: 'redis://redis:6379', NODE_CLUSTER_WORKERS: String(WORKERS) };

/** The command timeout, and a tenth for the way. */
const FROZEN_MS = { least: 450, most: 600 };
/** What nothing takes, however busy this machine is: of several times, the shortest tells of the kit, the longest of the machine. */
const MOST_MS = 1000;
const RECOVERY_MS = 2000;
/** A container's start and end on a busy machine; the reason itself takes no time. */
const END_MS = 30_000;
/** A connection attempt that runs into nothing takes a second, and so may a look-up of the name. */
const CUT_RECOVERY_MS = 15_000;

test('a session is one, whichever worker of whichever container answers', withEngine, async () => {
  const { apps, redis } = await startPods(2);
  const visitor = new Visitor();
  const seen: Count[] = [];
  for (let i = 0; i < 5 * WORKERS; i++) for (const app of apps) seen.push(await visitor.count(app.port));
  assert.deepEqual(
    seen.map(({ counter }) => counter),
    seen.map((_, index) => index + 1),
  );
  assert.equal(new Set(seen.map(({ pod }) => pod)).size, 2);
  assert.equal(new Set(seen.map(workerOf)).size, 2 * WORKERS);
  const ttl = Number(await redis.command('TTL', `${COOKIE}:${visitor.cookies.get(COOKIE)}`));
  assert.ok(ttl > 2591900 && ttl <= 2592010, `${ttl} s`);
});

test('twenty workers that start at once without SESSION_KEYS verify the cookies of each other', withEngine, async () => {
  const workers = 10;
  const { apps } = await startPods(2, { NODE_CLUSTER_WORKERS: String(workers) });
  const issued = new Map<string, Visitor>();
  for (const app of apps) {
    await everyWorker(workers, async () => {
      const visitor = new Visitor();
      const worker = workerOf(await visitor.count(app.port));
      issued.set(worker, visitor);
      return worker;
    });
  }
  assert.equal(issued.size, 2 * workers, 'every worker has issued a session');
  // The cookie of one is good at every worker, and those of all the others at some: so all sign with the same key.
  const [[, first] = [], ...others] = issued;
  assert.ok(first !== undefined);
  const seen: Count[] = [];
  for (const app of apps) {
    await everyWorker(workers, async () => {
      const count = await first.count(app.port);
      seen.push(count);
      return workerOf(count);
    });
  }
  assert.deepEqual(
    seen.map(({ counter }) => counter),
    seen.map((_, index) => index + 2),
  );
  assert.deepEqual(new Set(seen.map(workerOf)), new Set(issued.keys()));
  for (const [issuer, visitor] of others) {
    for (const [index, { port }] of apps.entries())
      assert.equal((await visitor.count(port)).counter, index + 2, `the session that ${issuer} has issued`);
  }
});

/** Visits until each of so many workers has answered: whose turn it is, is the policy's matter, and on a busy machine chance. */
async function everyWorker(count: number, visit: () => Promise<string>): Promise<void> {
  const seen = new Set<string>();
  for (let visits = 0; seen.size < count; visits++) {
    assert.ok(visits < 20 * count, `${seen.size} of ${count} workers answered ${visits} visits`);
    seen.add(await visit());
  }
}

test('/login gives the session a new id and /logout ends it: what was known before is worth nothing', withEngine, async () => {
  const { app, redis } = await startPod();
  const visitor = new Visitor();
  await visitor.count(app.port);
  const before = new Visitor(visitor.cookies);

  assert.equal((await visitor.ask(app.port, '/login?user=captain')).status, 200);
  const loggedIn = new Visitor(visitor.cookies);
  assert.notEqual(loggedIn.cookies.get(COOKIE), before.cookies.get(COOKIE));
  assert.match((await loggedIn.ask(app.port, '/')).body, /Hello, captain/);
  assert.equal(await redis.command('GET', `${COOKIE}:${before.cookies.get(COOKIE)}`), TOMBSTONE);
  assert.match((await before.ask(app.port, '/')).body, /Hello, stranger/);
  assert.notEqual(before.cookies.get(COOKIE), loggedIn.cookies.get(COOKIE));

  assert.equal((await visitor.ask(app.port, '/logout')).status, 200);
  assert.deepEqual([...visitor.cookies.keys()], [], 'the browser forgets it');
  assert.equal(await redis.command('GET', `${COOKIE}:${loggedIn.cookies.get(COOKIE)}`), TOMBSTONE);
  assert.match((await loggedIn.ask(app.port, '/')).body, /Hello, stranger/);
});

test('an id that somebody else has signed, or nobody, is not adopted', withEngine, async () => {
  const { app, redis } = await startPod();
  const victim = new Visitor();
  assert.equal((await victim.count(app.port)).counter, 1);
  const id = victim.cookies.get(COOKIE) ?? '';
  const [key = ''] = (await redis.command('GET', KEYS)).split(',');
  const signed = (sessionId: string, by: string) => cookies(sessionId, sign(by, `${COOKIE}=${sessionId}`));

  assert.equal((await signed(id, key).count(app.port)).counter, 2, 'this is how the app signs');
  for (const [name, thief] of Object.entries({
    'an id of an open session, signed with another key': signed(id, 'another key'),
    'the same, not signed': cookies(id),
    'an id of no session, signed with another key': signed('planted', 'another key'),
    'the same, signed well': signed('planted', key),
  })) {
    assert.equal((await thief.count(app.port)).counter, 1, name);
    assert.ok(![id, 'planted'].includes(thief.cookies.get(COOKIE) ?? ''), name);
  }
  assert.equal(await redis.command('EXISTS', `${COOKIE}:planted`), '0');
  assert.equal((await victim.count(app.port)).counter, 3);
});

/** As the `cookies` package does. */
function sign(key: string, text: string): string {
  return createHmac('sha1', key).update(text).digest('base64url');
}

function cookies(id: string, signature?: string): Visitor {
  return new Visitor(new Map([[COOKIE, id], ...(signature ? [[`${COOKIE}.sig`, signature] as const] : [])]));
}

test('30, 31 without Redis only the routes with a session fail, at once, and they come back with it', withEngine, async () => {
  const { app, redis } = await startPod();
  const visitor = new Visitor();
  await visitor.count(app.port);
  const keys = await redis.command('GET', KEYS);

  await redis.stop();
  for (let i = 0; i < 2 * WORKERS; i++) {
    const { answer, ms } = await timed(() => visitor.ask(app.port, '/api/counter'));
    assert.equal(answer.status, 503, answer.body);
    assert.equal(answer.headers['retry-after'], '1');
    assert.ok(ms < 200, `${ms} ms`);
    assert.equal(
      (await timed(() => new Visitor().ask(app.port, '/api/counter'))).answer.status,
      503,
      'a visitor without a cookie',
    );
  }
  await assertOtherwiseWell(app);

  await redis.startAgain();
  await assertCountsAgain(app, visitor, 2);
  assert.equal(await redis.command('GET', KEYS), keys);
  assert.deepEqual(app.all('worker.exit'), []);
});

test('a Redis that comes back empty gets the session keys that are in use', withEngine, async () => {
  const { app, redis } = await startPod();
  await new Visitor().count(app.port);
  const keys = await redis.command('GET', KEYS);
  assert.match(keys, /^[\w-]{43}$/);
  await redis.command('CONFIG', 'SET', 'save', '');
  await redis.kill();
  await redis.startAgain();
  await assertCountsAgain(app, new Visitor(), 1);
  assert.equal(await redis.command('GET', KEYS), keys);
});

test('30, 31 a frozen Redis costs half a second and a 503, and after three such only the 503', withEngine, async () => {
  const { app, redis } = await startPod();
  const visitor = new Visitor();
  await visitor.count(app.port);

  await redis.pause();
  const waits = await refusals(app, visitor);
  const first = waits.slice(0, WORKERS);
  assert.ok(Math.min(...first) >= FROZEN_MS.least && Math.min(...first) < FROZEN_MS.most, `${waits} ms`);
  assert.ok(Math.max(...waits) < MOST_MS, `${waits} ms`);
  assert.ok(Math.min(...(await refusals(app, visitor))) < FROZEN_MS.least, 'at once');
  await assertOtherwiseWell(app);

  await redis.unpause();
  await assertCountsAgain(app, visitor, 2);
});

test(
  'a network that swallows everything costs no more than a frozen Redis, and is noticed when it is there again',
  withEngine,
  async () => {
    const { apps, redis, network } = await startPods(1);
    const [app] = apps as [App];
    const visitor = new Visitor();
    await visitor.count(app.port);
    await redis.cut(network);
    await refusals(app, visitor);
    assert.ok(Math.min(...(await refusals(app, visitor))) < FROZEN_MS.least, 'at once');
    await assertOtherwiseWell(app);
    await redis.join(network);
    await assertCountsAgain(app, visitor, 2, CUT_RECOVERY_MS);
    assert.deepEqual(app.all('worker.exit'), []);
  },
);

/** The milliseconds that each worker's 503 took, to a visitor with a session and to a new one. */
async function refusals(app: App, visitor: Visitor): Promise<number[]> {
  const waits: number[] = [];
  for (let i = 0; i < 2 * WORKERS; i++) {
    for (const who of [visitor, new Visitor()]) {
      const { answer, ms } = await timed(() => who.ask(app.port, '/api/counter'));
      assert.equal(answer.status, 503, answer.body);
      assert.equal(answer.headers['retry-after'], '1');
      waits.push(ms);
    }
  }
  return waits;
}

async function assertOtherwiseWell(app: App): Promise<void> {
  const { answer, ms } = await timed(() => app.ask('/slow?ms=1'));
  assert.equal(answer.status, 200);
  assert.ok(ms < MOST_MS, `${ms} ms`);
  assert.equal((await app.probe('/livez')).status, 200);
  assert.equal((await app.probe('/readyz')).status, 200, 'otherwise every pod would leave at once');
}

/** On every worker, soon. */
async function assertCountsAgain(app: App, visitor: Visitor, counter: number, withinMs = RECOVERY_MS): Promise<void> {
  const startedAt = performance.now();
  const workers = new Set<string>();
  const counters: number[] = [];
  while (workers.size < WORKERS) {
    const ms = performance.now() - startedAt;
    assert.ok(ms < withinMs, `after ${ms} ms: ${[...workers]}; ${app.transcript()}`);
    const { status, body } = await visitor.ask(app.port, '/api/counter');
    if (status !== 200) continue;
    const count = JSON.parse(body) as Count;
    workers.add(workerOf(count));
    counters.push(count.counter);
  }
  assert.deepEqual(
    counters,
    counters.map((_, index) => counter + index),
  );
}

test('an app that starts before its Redis waits for it, and says so', withEngine, async () => {
  const network = await startNetwork();
  const app = await startApp({ network, env });
  for (let worker = 1; worker <= WORKERS; worker++) await app.event('worker.ready', event => event.worker === worker);
  for (let worker = 1; worker <= WORKERS; worker++) await app.event('redis.unreachable', event => event.worker === worker);
  const { status, body } = await app.probe('/readyz');
  assert.equal(status, 503);
  assert.match(body, /waiting for Redis: Redis at redis:6379 does not answer/);
  const healthcheck = await app.exec('node', '/app/docker/healthcheck.mjs');
  assert.equal(healthcheck.exitCode, 1);
  assert.match(healthcheck.output, /waiting for Redis/);
  assert.equal((await app.probe('/livez')).status, 200);
  assert.equal((await app.ask('/slow?ms=1')).status, 200);
  assert.equal((await app.ask('/api/counter')).status, 503);
  assert.deepEqual(app.all('pool.ready'), []);

  await Redis.start(network);
  const startedAt = performance.now();
  await app.ready();
  const ms = performance.now() - startedAt;
  assert.ok(ms < RECOVERY_MS, `${ms} ms`);
  assert.equal((await app.probe('/readyz')).status, 200);
  assert.equal((await new Visitor().count(app.port)).counter, 1);
});

test('a Redis that refuses the app ends it with 78 and a reason without the password', withEngine, async t => {
  const network = await startNetwork();
  await Redis.start(network, { password: 'right-one' });
  for (const [name, { url, reason }] of Object.entries({
    'a wrong password': { url: 'redis://:wrong-one@redis:6379', reason: /WRONGPASS/ },
    'no password': { url: 'redis://redis:6379', reason: /NOAUTH/ },
    'a database that does not exist': { url: 'redis://:right-one@redis:6379/99', reason: /DB index is out of range/ },
  })) {
    await t.test(name, async () => {
      const startedAt = performance.now();
      const app = await startApp({ network, env: { ...env, REDIS_URL: url }, published: false });
      assert.equal(await app.exited(), 78, app.transcript());
      const ms = performance.now() - startedAt;
      assert.ok(ms < END_MS, `${ms} ms`);
      const { error } = await app.event('primary.abort');
      assert.match(String(error), /^Redis at redis:6379(\/99)? refuses this client: /);
      assert.match(String(error), reason);
      assert.doesNotMatch(app.transcript(), /wrong-one|right-one/);
    });
  }
});

test('the right password and a database that exists are taken', withEngine, async () => {
  const network = await startNetwork();
  const redis = await Redis.start(network, { password: 'right-one' });
  const app = await startApp({ network, env: { ...env, REDIS_URL: 'redis://:right-one@redis:6379/3' } });
  await app.ready();
  assert.equal((await new Visitor().count(app.port)).counter, 1);
  assert.match(await redis.command('INFO', 'keyspace'), /^db3:keys=2,/m);
  assert.doesNotMatch(app.transcript(), /right-one/);
});

/** Redis, and app containers that start at the same time; resolves when all of them are ready. */
async function startPods(
  count: number,
  more: Record<string, string> = {},
): Promise<{ redis: Redis; apps: App[]; network: StartedNetwork }> {
  const network = await startNetwork();
  const redis = await Redis.start(network);
  const apps = await Promise.all(Array.from({ length: count }, () => startApp({ network, env: { ...env, ...more } })));
  await Promise.all(apps.map(app => app.ready()));
  return { redis, apps, network };
}

async function startPod(): Promise<{ redis: Redis; app: App }> {
  const { redis, apps } = await startPods(1);
  const [app] = apps;
  assert.ok(app);
  return { redis, app };
}

const workerOf = ({ pod, worker }: Count) => `${pod}/${worker}`;

async function timed<T>(ask: () => Promise<T>): Promise<{ answer: T; ms: number }> {
  const startedAt = performance.now();
  const answer = await ask();
  return { answer, ms: performance.now() - startedAt };
}
