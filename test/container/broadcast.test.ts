/**
 * Events between pods, over a real Redis: each worker of each pod gets them once and in its sender's order, and what happens without
 * docs/guide/events.md lists what holds. A pod is two containers in the first test, later a kit on this machine, which starts sooner.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestOptions, test } from 'node:test';
import { screenshot, visit, withBrowser } from '../browser.ts';
import { everyWorker, type RawClient, request, requestJson } from '../process/clients.ts';
import { APPS, CLEAN, type Kit, type KitOptions } from '../process/kit.ts';
import { type Operated, startOperated, temporaryFolder } from '../process/operator.ts';
import { Wire } from '../process/wire.ts';
import { until } from '../until.ts';
import { type Account, accounts, assertAllReceive, metric, podOf } from './accounts.ts';
import { startNetwork, withEngine } from './engine.ts';
import { startApps, WORKERS } from './pods.ts';
import { Redis } from './redis.ts';

const PATIENCE_MS = 60_000;

async function startOne(redis: Redis, options: KitOptions = {}): Promise<Operated> {
  const env = { REDIS_URL: `redis://127.0.0.1:${redis.port}`, NODE_CLUSTER_WORKERS: String(WORKERS), ...options.env };
  return startOperated({ app: 'broadcasts.ts', ...options, env });
}

async function startTwo(redis: Redis, options: KitOptions = {}): Promise<[Operated, Operated]> {
  return Promise.all([startOne(redis, options), startOne(redis, options)]);
}

test('events between pods', { ...withEngine, concurrency: 3 }, async t => {
  const network = await startNetwork();
  const redis = await Redis.start(network, { published: true });
  const cases: Promise<void>[] = [];
  const promise = (name: string, run: () => Promise<void>, options: TestOptions = {}) =>
    void cases.push(t.test(name, options, run));

  promise('each worker of two containers receives 10,000 events of 1 KB once each, in the order of their sender', async () => {
    const env = { SESSION_COOKIE: 'everybody', APP_MODULE: '/app/test/fixtures/apps/broadcasts.ts' };
    const mounts = { '/app/test/fixtures/apps/broadcasts.ts': join(APPS, 'broadcasts.ts') };
    const [pods, stranger] = await Promise.all([
      startApps(network, 2, { env, mounts }),
      startOne(redis, { env: { SESSION_COOKIE: 'stranger' } }),
    ]);
    const count = 2500;
    const sent: Record<string, number> = {};
    const send = async (client: RawClient) => {
      let account = await client.requestJson<Account>('/');
      // Each of the four once: more than 16 MiB at once a worker may leave unread.
      if (account.sent === 0) account = await client.requestJson<Account>(`/send?count=${count}&bytes=1000`);
      sent[account.self] = account.sent;
      return account.self;
    };
    await Promise.all(pods.map(({ port }) => everyWorker(port, WORKERS, send)));
    const total = pods.length * WORKERS * count;
    assert.equal(
      Object.values(sent).reduce((sum, n) => sum + n),
      total,
    );
    await assertAllReceive(pods, sent);
    for (const [index, pod] of pods.entries()) {
      const out = await metric(pod, 'bosun_broadcasts_total{direction="out"}');
      assert.equal(out + (await metric(pod, 'bosun_broadcasts_total{direction="in"}')), total, `pod ${index}`);
      for (const reason of ['unsent', 'missed', 'unread'])
        assert.equal(await metric(pod, `bosun_broadcasts_lost_total{reason="${reason}"}`), 0, reason);
    }
    assert.deepEqual(
      (await requestJson<Account>(stranger.port, '/')).received,
      {},
      'another app on the same Redis receives nothing',
    );
    for (const pod of pods) assert.equal((await pod.stop()).code, 0, pod.transcript());
  });

  promise('an event that Redis delivers twice reaches each worker once', async () => {
    const one = await startOne(redis, { env: { SESSION_COOKIE: 'twice' } });
    const { kit, port } = one;
    const envelope = (seq: number) =>
      JSON.stringify({ origin: 'elsewhere', sender: 1, seq, event: 'load', json: JSON.stringify({ from: 'elsewhere', n: seq }) });
    for (const seq of [1, 2, 2, 1, 3]) await redis.command('PUBLISH', 'koa-bosun:twice:broadcast', envelope(seq));
    await redis.command('PUBLISH', 'koa-bosun:twice:broadcast', 'no event');
    await redis.command('PUBLISH', 'koa-bosun:twice:broadcast', envelope(6));
    await until(
      async () => (await requestJson<Account>(port, '/')).received.elsewhere?.last === 6 || undefined,
      () => kit.transcript(),
    );
    for (const { received } of (await accounts([podOf(one)])).values())
      assert.deepEqual(received.elsewhere, { count: 4, outOfOrder: 1, last: 6 }, 'four and five never came');
    assert.equal(await metric(podOf(one), 'bosun_broadcasts_ignored_total{reason="duplicate"}'), 2);
    assert.equal(await metric(podOf(one), 'bosun_broadcasts_ignored_total{reason="malformed"}'), 1);
    assert.equal(await metric(podOf(one), 'bosun_broadcasts_lost_total{reason="missed"}'), 2);
  });

  promise('each pod lists the versions and workers of the other pods, and removes one that has stopped', async () => {
    const [one, other] = await startTwo(redis, { env: { SESSION_COOKIE: 'fleet' } });
    const fleet = async () =>
      (JSON.parse((await one.bosun('fleet', '--json')).stdout) as { pods: Record<string, unknown>[] }).pods;
    const known = await until(
      async () => {
        const members = await fleet();
        return members.length === 2 && members.every(({ state }) => state === 'ready') ? members : undefined;
      },
      () => one.kit.transcript(),
    );
    for (const { version, workers, wanted, generation } of known)
      assert.deepEqual([version, workers, wanted, generation], ['0.1.0', WORKERS, WORKERS, 1]);
    assert.deepEqual(
      known.map(({ isSelf }) => isSelf),
      [true, false],
    );
    assert.match(
      (await one.bosun('fleet')).stdout,
      /^pod +version +state .*\n\S+ +0\.1\.0 +ready .*this pod\n\S+ +0\.1\.0 +ready .*\n$/,
    );
    assert.deepEqual(await other.kit.stop(), CLEAN, other.kit.transcript());
    await until(
      async () => (await fleet()).length === 1 || undefined,
      () => 'it has said goodbye',
    );
  });

  promise('a Redis connection that no longer delivers anything is replaced, however busy the other connection is', async () => {
    const wire = await Wire.to(redis.port);
    const env = { SESSION_COOKIE: 'swallowed' };
    const [{ kit, bosun }] = await Promise.all([
      startOne(redis, { env: { ...env, REDIS_URL: `redis://127.0.0.1:${wire.port}` } }),
      startOne(redis, { env }),
    ]);
    const sent = 'sent to 2 workers, and to the other pods\n';
    assert.equal((await bosun('broadcast', 'news')).stdout, sent);
    assert.equal(wire.swallow(':primary'), 1);
    const lost = await bosun('broadcast', 'news');
    assert.deepEqual(
      [lost.code, lost.stdout],
      [1, 'sent to 2 workers; Redis is unavailable: the other pods do not receive it\n'],
    );
    await kit.event('redis.unreachable', ({ connection }) => connection === 'primary');
    await until(
      async () => (await bosun('broadcast', 'news')).stdout === sent || undefined,
      () => kit.transcript(),
    );
  });

  promise(
    'the dashboard lists all pods',
    async () => {
      const [{ kit }] = await startTwo(redis, { env: { SESSION_COOKIE: 'dashboard' } });
      const { page, problems } = await visit(`http://127.0.0.1:${kit.adminPort}/`, { width: 1280, height: 800 });
      await page.locator('#pods tr:nth-child(2)').waitFor();
      assert.match(await page.locator('#pods tr').first().innerText(), /\(this one\)\s+0\.1\.0\s+ready\s+2 of 2/);
      await screenshot(page, 'dashboard-fleet');
      assert.deepEqual(problems, []);
    },
    withBrowser,
  );

  promise('a rolling restart with another REDIS_URL moves the primary to that Redis too', async () => {
    const cwd = temporaryFolder();
    const use = (database: number) => writeFileSync(join(cwd, '.env'), `REDIS_URL=redis://127.0.0.1:${redis.port}/${database}\n`);
    const connected = (database: number) =>
      until(
        async () => {
          const clients = (await redis.command('CLIENT', 'LIST')).split('\n').filter(line => line.includes(` db=${database} `));
          // The workers' numbers change with a restart.
          return ['primary', 'subscriber'].every(name => clients.some(line => line.includes(`:${name} `))) || undefined;
        },
        () => `no connections to database ${database}`,
        PATIENCE_MS,
      );
    use(7);
    const { kit, bosun } = await startOperated({ app: 'broadcasts.ts', cwd, env: { SESSION_COOKIE: 'reloaded' } });
    await connected(7);
    use(8);
    assert.equal((await bosun('restart')).code, 0, kit.transcript());
    await connected(8);
    assert.doesNotMatch(await redis.command('CLIENT', 'LIST'), /:primary .* db=7 /);
    assert.equal((await bosun('broadcast', 'news')).stdout, 'sent to 2 workers, and to the other pods\n');
  });

  promise('configUpdate reaches every pod, and a pod that starts later receives the last one', async () => {
    const env = { SESSION_COOKIE: 'config' };
    const demo = { app: undefined as never, env };
    const [first, second] = await startTwo(redis, demo);
    const ran = await first.bosun('broadcast', 'configUpdate', '{"greeting":"Ahoy"}');
    assert.deepEqual([ran.code, ran.stdout], [0, 'sent to 2 workers, and to the other pods\n']);
    for (const { kit } of [first, second]) for (let worker = 1; worker <= WORKERS; worker++) await greets(kit, worker, 'Ahoy');
    const third = await startOne(redis, demo);
    // It was ready with it: nobody has been greeted otherwise.
    assert.match((await request(third.port, '/')).body, /<h1>Ahoy, stranger</);
    await second.bosun('broadcast', 'configUpdate', '{"greeting":"Hej"}');
    for (const { kit } of [first, second, third])
      for (let worker = 1; worker <= WORKERS; worker++) await greets(kit, worker, 'Hej');
  });

  promise('without Redis events stay within their pod, and retained events are exchanged when Redis is back', isAway);
  promise(
    'BROADCAST_DURABLE delivers all events once and in order, also after a pod was disconnected or Redis was down',
    isDurable,
  );
  await Promise.all(cases);
});

async function isAway(): Promise<void> {
  const redis = await Redis.start(undefined);
  const operated = await startTwo(redis, { env: { BROADCAST_RETAINED: 'load' } });
  const [one, other] = operated;
  const pods = operated.map(podOf);
  await redis.stop();
  for (const { kit } of operated) await kit.event('redis.unreachable', ({ connection }) => connection === 'primary');
  const ran = await one.bosun('broadcast', 'news', '1');
  assert.deepEqual([ran.code, ran.stdout], [1, 'sent to 2 workers; Redis is unavailable: the other pods do not receive it\n']);
  const kept = await one.bosun('broadcast', 'load', '{"from":"operator","n":1}');
  assert.deepEqual(
    [kept.code, kept.stdout],
    [1, 'sent to 2 workers; Redis is unavailable: the other pods receive it once it is back\n'],
  );
  await assertAllReceive([podOf(one)], { operator: 1 });
  for (const { received } of (await accounts([podOf(other)])).values()) assert.deepEqual(received, {});
  assert.equal(await metric(podOf(one), 'bosun_broadcasts_lost_total{reason="unsent"}'), 2);
  await redis.startAgain();
  await assertAllReceive(pods, { operator: 1 });
  // It may have received that before it can speak again: the two have a connection each.
  await until(
    () => other.kit.all('redis.ready').filter(({ connection }) => connection === 'primary').length >= 2 || undefined,
    () => other.kit.transcript(),
  );
  assert.equal((await other.bosun('broadcast', 'load', '{"from":"operator","n":2}')).code, 0);
  await assertAllReceive(pods, { operator: 2 });
  for (const { kit } of operated) {
    assert.equal((await request(kit.adminPort, '/readyz')).status, 200);
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  }
}

async function isDurable(): Promise<void> {
  const redis = await Redis.start(undefined);
  const operated = await startTwo(redis, { env: { BROADCAST_DURABLE: 'true' } });
  const [one] = operated;
  const pods = operated.map(podOf);
  const sent: Record<string, number> = {};
  const send = async (count: number) => {
    const account = await requestJson<Account>(one.port, `/send?count=${count}&bytes=100`);
    sent[account.self] = account.sent;
  };
  await send(100);
  await assertAllReceive(pods, sent);
  const sending = send(2000);
  // In the middle of it every connection breaks, again and again.
  for (let i = 0; i < 5; i++) await redis.command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
  await sending;
  await assertAllReceive(pods, sent);
  await redis.stop();
  await send(300);
  const ran = await one.bosun('broadcast', 'news', '1');
  assert.deepEqual(
    [ran.code, ran.stdout],
    [1, 'sent to 2 workers; Redis is unavailable: the other pods receive it once it is back\n'],
  );
  await redis.startAgain();
  await assertAllReceive(pods, sent);
  for (const each of operated) {
    const { kit } = each;
    for (const reason of ['unsent', 'missed', 'unread'])
      assert.equal(await metric(podOf(each), `bosun_broadcasts_lost_total{reason="${reason}"}`), 0, reason);
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  }
}

async function greets(kit: Kit, worker: number, greeting: string): Promise<void> {
  await kit.event('demo.configured', event => event.worker === worker && event.greeting === greeting);
}
