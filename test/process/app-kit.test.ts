/**
 * What `kit` gives to an app, and the sessions that it keeps in cookies.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Visitor } from '../visitor.ts';
import { everyWorker, RawClient, requestJson } from './clients.ts';
import { scrape, settles, sum } from './exposition.ts';
import { CLEAN, startKit } from './kit.ts';
import { assertReceived } from './received.ts';

const CONCURRENCY = 3;

describe('kit', { concurrency: CONCURRENCY }, () => {
  test('kit.config is frozen and has the settings in effect', async () => {
    const kit = await startKit({ app: 'factory.ts' });
    const { port } = await kit.ready();
    const { frozen, worker } = await requestJson<{ frozen: boolean; worker: number }>(port, '/');
    assert.equal(frozen, true);
    assert.ok([1, 2].includes(worker));
  });

  test('metrics of the app are summed over the workers, and do not go down when a worker is killed', async () => {
    const kit = await startKit({ app: 'factory.ts' });
    const { port } = await kit.ready();
    let greeted = 0;
    const greet = async (client: RawClient) => {
      const { pid } = await client.requestJson<{ pid: number }>('/greet');
      greeted++;
      return pid;
    };
    const greetings = async () => sum(await scrape(kit), 'test_greetings_total');
    const before = await everyWorker(port, 2, greet);
    assert.deepEqual([...before].sort(), kit.workerPids.sort());
    await settles(greetings, greeted);

    const [killed = 0] = before;
    process.kill(killed, 'SIGKILL');
    const isReplaced = kit.event('worker.ready', ({ workerPid }) => !before.has(Number(workerPid))).then(() => true);
    let scrapes = 0;
    while (!(await Promise.race([isReplaced, false]))) {
      const series = await scrape(kit);
      const counts = ['test_greetings_total', 'test_greeting_chars_count', 'test_greeting_chars_sum'].map(name =>
        sum(series, name),
      );
      assert.deepEqual(counts, [greeted, greeted, 5 * greeted], 'while a worker is missing');
      scrapes++;
    }
    assert.ok(scrapes > 0, 'scraped while a worker was missing');
    await everyWorker(port, 2, greet);
    await settles(greetings, greeted);
    const series = await scrape(kit);
    assert.equal(series.get('bosun_worker_exits_total{reason="killed"}'), 1);
    assert.equal(sum(series, 'http_request_duration_seconds_count'), greeted);
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });

  test('kit.broadcast reaches every worker once, in the order of the sender', async () => {
    const kit = await startKit({ app: 'factory.ts', env: { NODE_CLUSTER_WORKERS: '3' } });
    const { port } = await kit.ready();
    await using sender = await RawClient.open(port);
    for (const text of ['one', 'two', 'three']) assert.equal((await sender.request(`/send?text=${text}`)).status, 200);
    await assertReceived(kit, port, 3, ['one', 'two', 'three']);
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });

  test('handlers of kit.onClose are called in every worker before it exits', async () => {
    const kit = await startKit({ app: 'factory.ts' });
    await kit.ready();
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
    assert.deepEqual(
      kit
        .all('test.closed')
        .map(({ worker }) => worker)
        .sort(),
      [1, 2],
    );
  });
});

describe('a session in cookies', { concurrency: CONCURRENCY }, () => {
  test('a session in a cookie is kept on any worker and through a login, and ends with a logout', async () => {
    const kit = await startKit();
    const { port } = await kit.ready();
    const visitor = new Visitor();
    await visitor.countOnEveryWorker(port, 2);
    const before = visitor.cookies.get('koa:sess');
    assert.deepEqual((await visitor.json<{ user: string }>(port, '/login?user=ada')).user, 'ada');
    assert.notEqual(visitor.cookies.get('koa:sess'), before);
    await everyWorker(port, 2, async client => {
      const { body } = await visitor.requestOn(client, '/');
      assert.match(body, /Hello, ada</);
      return Number(/worker <b>(\d+)/.exec(body)?.[1]);
    });
    assert.deepEqual((await visitor.json<{ user: null }>(port, '/logout')).user, null);
    assert.deepEqual(visitor.cookies, new Map(), 'the cookies are taken back');
    assert.equal((await visitor.count(port)).counter, 1);
    assert.match((await visitor.request(port, '/')).body, /Hello, stranger</);
  });

  test('a session cookie is hidden from scripts and other sites, and a forged one is not accepted', async () => {
    const kit = await startKit({ env: { SESSION_COOKIE: 'sailor' } });
    const { port } = await kit.ready();
    const visitor = new Visitor();
    const { headers } = await visitor.request(port, '/api/counter');
    const set = (headers['set-cookie'] ?? '').split('\n');
    assert.equal(set.length, 2);
    for (const cookie of set) assert.match(cookie, /^sailor(\.sig)?=.*; samesite=lax; httponly$/);
    const forged = Buffer.from(JSON.stringify({ visits: 41, _expire: Date.now() + 1e6, _maxAge: 1e6 })).toString('base64');
    visitor.cookies.set('sailor', forged);
    assert.equal((await visitor.count(port)).counter, 1);
  });

  test('36 a session in a cookie is accepted by every pod with its key in SESSION_KEYS, also an older key', async () => {
    const [one, two] = await Promise.all([
      startKit({ env: { SESSION_KEYS: 'old-key' } }),
      startKit({ env: { SESSION_KEYS: 'new-key,old-key' } }),
    ]);
    const visitor = new Visitor();
    assert.equal((await visitor.count((await one.ready()).port)).counter, 1);
    assert.equal((await visitor.count((await two.ready()).port)).counter, 2);
    assert.deepEqual(one.all('session.keys-generated'), []);
  });

  test('sessions without SESSION_KEYS and Redis use generated keys, with a warning in the log', async () => {
    const kit = await startKit();
    assert.match(String((await kit.event('session.keys-generated')).warning), /SESSION_KEYS and Redis are not configured/);
  });
});
