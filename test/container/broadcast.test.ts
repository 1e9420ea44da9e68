/**
 * Events between pods, over a real Redis: each worker of each pod gets them once and in its sender's order, and what happens without
 * Redis is what the README says. A pod here is a kit on this machine: it has all that matters but a container.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestOptions, test } from 'node:test';
import { screenshot, visit, withBrowser } from '../browser.ts';
import { ask, askJson } from '../process/clients.ts';
import { type Kit, type KitOptions, until } from '../process/kit.ts';
import { type Operated, startOperated, temporaryFolder } from '../process/operator.ts';
import { withEngine } from './engine.ts';
import { Redis } from './redis.ts';

const CLEAN = { code: 0, signal: null };
const WORKERS = 2;
const PATIENCE_MS = 60_000;

interface Account {
  self: string;
  sent: number;
  heard: Record<string, { count: number; outOfOrder: number; last: number }>;
}

/** Pods over one Redis; each describes itself by its worker and its primary's process id. */
async function startPods(redis: Redis, count: number, options: KitOptions = {}): Promise<Operated[]> {
  const env = { REDIS_URL: `redis://127.0.0.1:${redis.port}`, NODE_CLUSTER_WORKERS: String(WORKERS), ...options.env };
  return Promise.all(Array.from({ length: count }, () => startOperated({ app: 'broadcasts.ts', ...options, env })));
}

/** What every worker of these pods has heard, by worker. */
async function accounts(pods: readonly Operated[]): Promise<Map<string, Account>> {
  const found = new Map<string, Account>();
  await until(
    async () => {
      for (const { port } of pods) {
        const account = await askJson<Account>(port, '/');
        found.set(account.self, account);
      }
      return found.size === pods.length * WORKERS || undefined;
    },
    () => `${[...found.keys()]}`,
  );
  return found;
}

/** Resolves when every worker has heard all these numbers from all these senders, each once and in order. */
async function everybodyHears(pods: readonly Operated[], expected: Record<string, number>): Promise<void> {
  let seen: Map<string, Account> = new Map();
  const transcripts = () => pods.map(({ kit }) => kit.transcript()).join('\n\n');
  await until(
    async () => {
      seen = await accounts(pods);
      const isComplete = ({ heard }: Account) => Object.entries(expected).every(([from, n]) => (heard[from]?.last ?? 0) >= n);
      return [...seen.values()].every(isComplete) || undefined;
    },
    () => `${JSON.stringify(expected)} expected, heard ${JSON.stringify([...seen])}; ${transcripts()}`,
    PATIENCE_MS,
  );
  for (const [worker, { heard }] of seen) {
    for (const [from, n] of Object.entries(expected))
      assert.deepEqual(heard[from], { count: n, outOfOrder: 0, last: n }, `${worker} from ${from}`);
  }
}

async function metric(kit: Kit, series: string): Promise<number> {
  const { body } = await ask(kit.adminPort, '/metrics');
  return Number(
    body
      .split('\n')
      .find(line => line.startsWith(`${series} `))
      ?.slice(series.length + 1),
  );
}

test('events between pods', { ...withEngine, concurrency: 2 }, async t => {
  const redis = await Redis.start(undefined);
  const cases: Promise<void>[] = [];
  const promise = (name: string, run: () => Promise<void>, options: TestOptions = {}) =>
    void cases.push(t.test(name, options, run));

  promise('every worker of every pod gets each event of each sender once, in order', async () => {
    const pods = await startPods(redis, 2, { env: { SESSION_COOKIE: 'everybody' } });
    const [stranger] = await startPods(redis, 1, { env: { SESSION_COOKIE: 'stranger' } });
    const count = 500;
    const senders = [...(await accounts(pods)).keys()];
    const sent: Record<string, number> = {};
    // Until each of the four has sent: who answers is for the kernel and the primary to say.
    while (Object.keys(sent).length < senders.length) {
      await Promise.all(
        pods.map(async ({ port }) => {
          const account = await askJson<Account>(port, `/send?count=${count}&bytes=1000`);
          sent[account.self] = account.sent;
        }),
      );
    }
    await everybodyHears(pods, sent);
    const total = Object.values(sent).reduce((sum, n) => sum + n, 0);
    for (const [index, { kit }] of pods.entries()) {
      const out = await metric(kit, 'bosun_broadcasts_total{direction="out"}');
      assert.equal(out + (await metric(kit, 'bosun_broadcasts_total{direction="in"}')), total, `pod ${index}`);
      for (const reason of ['unsent', 'missed', 'unread'])
        assert.equal(await metric(kit, `bosun_broadcasts_lost_total{reason="${reason}"}`), 0, reason);
    }
    assert.ok(stranger);
    assert.deepEqual((await askJson<Account>(stranger.port, '/')).heard, {}, 'another app on the same Redis hears nothing');
    for (const { kit } of [...pods, stranger]) assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });

  promise('what Redis has twice is passed on once', async () => {
    const pods = await startPods(redis, 1, { env: { SESSION_COOKIE: 'twice' } });
    const [{ kit, port }] = pods as [Operated];
    const envelope = (seq: number) =>
      JSON.stringify({ origin: 'elsewhere', sender: 1, seq, event: 'load', json: JSON.stringify({ from: 'elsewhere', n: seq }) });
    for (const seq of [1, 2, 2, 1, 3]) await redis.command('PUBLISH', 'twice:broadcast', envelope(seq));
    await redis.command('PUBLISH', 'twice:broadcast', 'no event');
    await redis.command('PUBLISH', 'twice:broadcast', envelope(6));
    await until(
      async () => (await askJson<Account>(port, '/')).heard.elsewhere?.last === 6 || undefined,
      () => kit.transcript(),
    );
    for (const { heard } of (await accounts(pods)).values())
      assert.deepEqual(heard.elsewhere, { count: 4, outOfOrder: 1, last: 6 }, 'four and five never came');
    assert.equal(await metric(kit, 'bosun_broadcasts_ignored_total{reason="duplicate"}'), 2);
    assert.equal(await metric(kit, 'bosun_broadcasts_ignored_total{reason="malformed"}'), 1);
    assert.equal(await metric(kit, 'bosun_broadcasts_lost_total{reason="missed"}'), 2);
  });

  promise('each pod knows the others: versions, workers, and that one has gone', async () => {
    const pods = await startPods(redis, 2, { env: { SESSION_COOKIE: 'fleet' } });
    const [one, other] = pods as [Operated, Operated];
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

  promise(
    'the dashboard lists the pods',
    async () => {
      const pods = await startPods(redis, 2, { env: { SESSION_COOKIE: 'dashboard' } });
      const [{ kit }] = pods as [Operated];
      const { page, problems } = await visit(`http://127.0.0.1:${kit.adminPort}/`, { width: 1280, height: 800 });
      await page.locator('#pods tr:nth-child(2)').waitFor();
      assert.match(await page.locator('#pods tr').first().innerText(), /\(this one\)\s+0\.1\.0\s+ready\s+2 of 2/);
      await screenshot(page, 'dashboard-fleet');
      assert.deepEqual(problems, []);
    },
    withBrowser,
  );

  promise('a rolling restart takes the primary to another Redis too', async () => {
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

  promise('configUpdate reaches every pod, and one that starts later begins with it', async () => {
    const env = { SESSION_COOKIE: 'config' };
    const demo = { app: undefined as never, env };
    const pods = await startPods(redis, 2, demo);
    const [first, second] = pods as [Operated, Operated];
    const ran = await first.bosun('broadcast', 'configUpdate', '{"greeting":"Ahoy"}');
    assert.deepEqual([ran.code, ran.stdout], [0, 'sent to 2 workers, and to the other pods\n']);
    for (const { kit } of pods) for (let worker = 1; worker <= WORKERS; worker++) await greets(kit, worker, 'Ahoy');
    const [third] = (await startPods(redis, 1, demo)) as [Operated];
    // It was ready with it: nobody has been greeted otherwise.
    assert.match((await ask(third.port, '/')).body, /<h1>Ahoy, stranger</);
    await second.bosun('broadcast', 'configUpdate', '{"greeting":"Hej"}');
    for (const { kit } of [...pods, third]) for (let worker = 1; worker <= WORKERS; worker++) await greets(kit, worker, 'Hej');
  });
  await Promise.all(cases);
});

test('without Redis a pod is on its own; what is retained is exchanged when Redis is back', withEngine, async () => {
  const redis = await Redis.start(undefined);
  const pods = await startPods(redis, 2, { env: { BROADCAST_RETAINED: 'load' } });
  const [one, other] = pods as [Operated, Operated];
  await redis.stop();
  for (const { kit } of pods) await kit.event('redis.unreachable', ({ connection }) => connection === 'primary');
  const ran = await one.bosun('broadcast', 'news', '1');
  assert.deepEqual([ran.code, ran.stdout], [1, 'sent to 2 workers; Redis is away: the other pods do not get it\n']);
  const kept = await one.bosun('broadcast', 'load', '{"from":"operator","n":1}');
  assert.deepEqual([kept.code, kept.stdout], [1, 'sent to 2 workers; Redis is away: the other pods get it when it is back\n']);
  await everybodyHears([one], { operator: 1 });
  for (const { heard } of (await accounts([other])).values()) assert.deepEqual(heard, {});
  assert.equal(await metric(one.kit, 'bosun_broadcasts_lost_total{reason="unsent"}'), 2);
  await redis.startAgain();
  await everybodyHears(pods, { operator: 1 });
  assert.equal((await other.bosun('broadcast', 'load', '{"from":"operator","n":2}')).code, 0);
  await everybodyHears(pods, { operator: 2 });
  for (const { kit } of pods) {
    assert.equal((await ask(kit.adminPort, '/readyz')).status, 200);
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  }
});

test(
  'durable events reach a pod that was cut off, and wait for a Redis that is away: all of them, once and in order',
  withEngine,
  async () => {
    const redis = await Redis.start(undefined);
    const pods = await startPods(redis, 2, { env: { BROADCAST_DURABLE: 'true', NODE_CLUSTER_WORKERS: '2' } });
    const [one] = pods as [Operated, Operated];
    const sent: Record<string, number> = {};
    const send = async (count: number) => {
      const account = await askJson<Account>(one.port, `/send?count=${count}&bytes=100`);
      sent[account.self] = account.sent;
    };
    await send(100);
    await everybodyHears(pods, sent);
    const sending = send(2000);
    // In the middle of it every connection breaks, again and again.
    for (let i = 0; i < 5; i++) await redis.command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    await sending;
    await everybodyHears(pods, sent);
    await redis.stop();
    await send(300);
    const ran = await one.bosun('broadcast', 'news', '1');
    assert.deepEqual([ran.code, ran.stdout], [1, 'sent to 2 workers; Redis is away: the other pods get it when it is back\n']);
    await redis.startAgain();
    await everybodyHears(pods, sent);
    for (const { kit } of pods) {
      for (const reason of ['unsent', 'missed', 'unread'])
        assert.equal(await metric(kit, `bosun_broadcasts_lost_total{reason="${reason}"}`), 0, reason);
      assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
    }
  },
);

async function greets(kit: Kit, worker: number, greeting: string): Promise<void> {
  await kit.event('demo.configured', event => event.worker === worker && event.greeting === greeting);
}
