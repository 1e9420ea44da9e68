/**
 * Sessions of containers over one Redis: one session for all workers, new ids at a login, nothing adopted from strangers.
 */
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';
import { everyWorker } from '../process/clients.ts';
import { until } from '../until.ts';
import { type Count, jsonOf, Visitor } from '../visitor.ts';
import { withEngine } from './engine.ts';
import { COOKIE, KEYS, type Pods, startApps, startPods, TOMBSTONE, WORKERS } from './pods.ts';

test('sessions of two containers', withEngine, async t => {
  const pods = await startPods(2);
  for (const [name, run] of Object.entries({
    'every worker of every container serves the same session': isOne,
    '/login gives the session a new id and /logout ends it, so that older cookies are not valid': loginAndLogout,
    'a session id without a signature, or with a foreign one, is not accepted': adoptsNone,
    'twenty workers that start at once without SESSION_KEYS verify the cookies of each other': twentyWorkers,
  }))
    await t.test(name, () => run(pods));
});

async function isOne({ apps, redis }: Pods): Promise<void> {
  const visitor = new Visitor();
  const seen: Count[] = [];
  for (const { port } of [...apps, ...apps]) seen.push(...(await visitor.countOnEveryWorker(port, WORKERS, seen.length)));
  assert.equal(new Set(seen.map(({ pod }) => pod)).size, 2);
  const ttl = Number(await redis.command('TTL', `koa-bosun:${COOKIE}:${visitor.cookies.get(COOKIE)}`));
  assert.ok(ttl > 2591900 && ttl <= 2592010, `${ttl} s`);
}

async function loginAndLogout({ apps: [app], redis }: Pods): Promise<void> {
  const visitor = new Visitor();
  await visitor.count(app.port);
  const before = new Visitor(visitor.cookies);

  assert.equal((await visitor.request(app.port, '/login?user=captain')).status, 200);
  const loggedIn = new Visitor(visitor.cookies);
  assert.notEqual(loggedIn.cookies.get(COOKIE), before.cookies.get(COOKIE));
  assert.match((await loggedIn.request(app.port, '/')).body, /Hello, captain/);
  assert.equal(await redis.command('GET', `koa-bosun:${COOKIE}:${before.cookies.get(COOKIE)}`), TOMBSTONE);
  assert.match((await before.request(app.port, '/')).body, /Hello, stranger/);
  assert.notEqual(before.cookies.get(COOKIE), loggedIn.cookies.get(COOKIE));

  assert.equal((await visitor.request(app.port, '/logout')).status, 200);
  assert.deepEqual([...visitor.cookies.keys()], [], 'the browser forgets it');
  assert.equal(await redis.command('GET', `koa-bosun:${COOKIE}:${loggedIn.cookies.get(COOKIE)}`), TOMBSTONE);
  assert.match((await loggedIn.request(app.port, '/')).body, /Hello, stranger/);
}

async function adoptsNone({ apps: [app], redis }: Pods): Promise<void> {
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
  assert.equal(await redis.command('EXISTS', `koa-bosun:${COOKIE}:planted`), '0');
  assert.equal((await victim.count(app.port)).counter, 3);
}

/** As the `cookies` package does. */
function sign(key: string, text: string): string {
  return createHmac('sha1', key).update(text).digest('base64url');
}

function cookies(id: string, signature?: string): Visitor {
  return new Visitor(new Map([[COOKIE, id], ...(signature ? [[`${COOKIE}.sig`, signature] as const] : [])]));
}

async function twentyWorkers({ network, redis }: Pods): Promise<void> {
  const workers = 10;
  const cookie = 'twenty';
  const apps = await startApps(network, 2, { env: { NODE_CLUSTER_WORKERS: String(workers), SESSION_COOKIE: cookie } });
  const issued = new Map<string, Visitor>();
  for (const app of apps) {
    await everyWorker(app.port, workers, async client => {
      const visitor = new Visitor();
      // Twenty workers that start on a busy machine may be late for Redis' command timeout: 503, "try again".
      const answer = await until(
        async () => {
          const answer = await visitor.requestOn(client, '/api/counter');
          return answer.status === 503 ? undefined : answer;
        },
        () => app.transcript(),
      );
      const worker = workerOf(jsonOf<Count>(answer));
      issued.set(worker, visitor);
      return worker;
    });
  }
  assert.equal(issued.size, 2 * workers, 'every worker has issued a session');
  const key = await redis.command('GET', `koa-bosun:${cookie}:keys`);
  for (const [issuer, { cookies }] of issued)
    assert.equal(cookies.get(`${cookie}.sig`), sign(key, `${cookie}=${cookies.get(cookie)}`), `${issuer} signs with the one key`);
  // And all of them verify with it.
  const [visitor = new Visitor()] = issued.values();
  const seen: Count[] = [];
  for (const { port } of apps) seen.push(...(await visitor.countOnEveryWorker(port, workers, seen.length + 1)));
  assert.deepEqual(new Set(seen.map(workerOf)), new Set(issued.keys()));
}

const workerOf = ({ pod, worker }: Count) => `${pod}/${worker}`;
