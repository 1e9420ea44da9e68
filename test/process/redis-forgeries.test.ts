/**
 * Forged writes to the Redis of two pods: floods, malformed data and forgeries. With SESSION_KEYS unsigned data is ignored.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, describe, test } from 'node:test';
import { array } from '../fake-redis.ts';
import { until } from '../until.ts';
import { RawClient, requestJson } from './clients.ts';
import { type Operated, startOperated } from './operator.ts';
import { LocalRedis, withRedis } from './redis.ts';

const SIGNED = /\{"origin".*\n[\w-]{43}/;
const FUTURE = '999999999999999-0123456789ab';
const rssMib = (pid: number) => Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;

/** A whole reply: a line, or a text. */
const REPLY = /^(?:[+:-][^\r]*\r\n|\$-1\r\n|\$\d+\r\n.+\r\n)$/s;

/** An intruder's command to Redis: resolves with the reply. */
async function intrude(redis: LocalRedis, ...command: string[]): Promise<string> {
  await using client = await RawClient.open(redis.port);
  client.write(array(command));
  await client.received(REPLY);
  return client.unread;
}

async function startPods(count: number, env: Record<string, string>): Promise<{ redis: LocalRedis; pods: Operated[] }> {
  const redis = await LocalRedis.start();
  after(() => redis.stop());
  const settings = { REDIS_URL: redis.url, NODE_CLUSTER_WORKERS: '1', ...env };
  const pods = await Promise.all(Array.from({ length: count }, () => startOperated({ app: 'uses-redis.mjs', env: settings })));
  return { redis, pods };
}

const ignored = async ({ kit }: Operated, series: string) =>
  Number(
    (await kit.probe('/metrics')).body
      .split('\n')
      .find(line => line.startsWith(`${series} `))
      ?.split(' ')[1] ?? 0,
  );

async function receives({ port, kit }: Operated, configUpdate: unknown): Promise<void> {
  await until(
    async () =>
      JSON.stringify((await requestJson<{ configUpdate: unknown }>(port, '/received')).configUpdate) ===
        JSON.stringify(configUpdate) || undefined,
    () => `${JSON.stringify(configUpdate)} was not received; ${kit.transcript()}`,
  );
}

const membersOf = async ({ bosun }: Operated) => JSON.parse((await bosun('fleet', '--json')).stdout).pods as { pod: string }[];

describe('forged writes to Redis', { concurrency: 2 }, () => {
  test('floods, malformed data and future stamps use no memory and lose no event of the pods', withRedis, async () => {
    const { redis, pods } = await startPods(1, {});
    const [first] = pods as [Operated];
    const heartbeat = {
      origin: 'x:1',
      version: '1',
      state: 'ready',
      generation: 1,
      workers: 1,
      wanted: 1,
      requestsPerSecond: 0,
      p99Ms: 0,
    };
    const before = rssMib(first.kit.pid);
    for (let i = 0; i < 1000; i++) {
      const text = JSON.stringify({ ...heartbeat, origin: `x:${i}`, pod: 'x'.repeat(100_000) });
      assert.match(await intrude(redis, 'PUBLISH', 'koa-bosun:koa:sess:fleet', text), /^:1/);
    }
    await intrude(redis, 'PUBLISH', 'koa-bosun:koa:sess:fleet', JSON.stringify({ ...heartbeat, pod: '\x1b[2Jevil\u202e' }));
    for (const stamp of ['zzzz', FUTURE]) {
      const event = { origin: 'x:1', sender: 1, seq: 1, event: 'configUpdate', json: '"forged"', stamp };
      await intrude(redis, 'PUBLISH', 'koa-bosun:koa:sess:broadcast', JSON.stringify(event));
      await intrude(redis, 'HSET', 'koa-bosun:koa:sess:retained', 'configUpdate', `${stamp}\n"forged"`);
    }
    await until(
      async () => (await ignored(first, 'bosun_broadcasts_ignored_total{reason="stale"}')) === 2 || undefined,
      () => first.kit.transcript(),
    );
    assert.equal(await ignored(first, 'bosun_heartbeats_ignored_total{reason="malformed"}'), 1000);
    assert.ok(rssMib(first.kit.pid) < before + 60, `${before} MiB became ${rssMib(first.kit.pid)} MiB`);
    assert.deepEqual(new Set((await membersOf(first)).map(({ pod }) => pod).slice(1)), new Set(['?[2Jevil?']));
    const { stdout } = await first.bosun('fleet');
    assert.ok(!stdout.includes('\x1b'), stdout);

    await first.bosun('broadcast', 'configUpdate', '"true"');
    await receives(first, 'true');
    assert.match(
      await intrude(redis, 'HGET', 'koa-bosun:koa:sess:retained', 'configUpdate'),
      /\n"true"/,
      'what is kept is replaced',
    );
  });

  test('with SESSION_KEYS forged, changed, moved and replayed messages are dropped and counted', withRedis, async () => {
    const { redis, pods } = await startPods(2, { SESSION_KEYS: 'a key that nobody knows' });
    const [first, second] = pods as [Operated, Operated];
    await using listener = await RawClient.open(redis.port);
    listener.write(array(['SUBSCRIBE', 'koa-bosun:koa:sess:broadcast']));
    await listener.received(/subscribe/);
    for (const pod of [first, second])
      await until(
        async () => (await membersOf(pod)).length === 2 || undefined,
        () => pod.kit.transcript(),
      );
    await first.bosun('broadcast', 'configUpdate', '"first"');
    await listener.received(SIGNED);
    const [recorded = ''] = SIGNED.exec(listener.unread) ?? [];
    await receives(second, 'first');
    await first.bosun('broadcast', 'configUpdate', '"second"');
    await receives(second, 'second');

    const forged = JSON.stringify({ ...JSON.parse(recorded.split('\n')[0] ?? ''), seq: 1000, json: '"forged"' });
    const lies = [
      forged,
      `${forged}\n${'A'.repeat(43)}`,
      recorded.replace('first', 'forged'),
      `${forged}\n${recorded.split('\n')[1]}`,
    ];
    for (const text of lies) await intrude(redis, 'PUBLISH', 'koa-bosun:koa:sess:broadcast', text);
    await intrude(redis, 'PUBLISH', 'koa-bosun:koa:sess:broadcast', recorded);
    await intrude(redis, 'PUBLISH', 'koa-bosun:koa:sess:fleet', recorded);
    await until(
      async () =>
        (await ignored(second, 'bosun_broadcasts_ignored_total{reason="unauthenticated"}')) === lies.length || undefined,
      () => second.kit.transcript(),
    );
    assert.equal(await ignored(second, 'bosun_broadcasts_ignored_total{reason="duplicate"}'), 1);
    assert.equal(await ignored(second, 'bosun_heartbeats_ignored_total{reason="unauthenticated"}'), 1);

    // Retained values: newer than every other, unsigned, or under another name.
    const now = String(Date.now() + 60_000).padStart(15, '0');
    await intrude(redis, 'HSET', 'koa-bosun:koa:sess:retained', 'configUpdate', `${now}-0123456789ab\n"forged"`);
    const third = await startOperated({
      app: 'uses-redis.mjs',
      env: { REDIS_URL: redis.url, NODE_CLUSTER_WORKERS: '1', SESSION_KEYS: 'a key that nobody knows' },
    });
    await receives(third, null);
    await first.bosun('broadcast', 'configUpdate', '"third"');
    for (const pod of [first, second, third]) await receives(pod, 'third');
    assert.match(await intrude(redis, 'HGET', 'koa-bosun:koa:sess:retained', 'configUpdate'), /\n"third"\n[\w-]{43}/);
  });

  test('reading a stream goes on after unsigned entries and after one larger than any event', withRedis, async () => {
    const { redis, pods } = await startPods(2, { SESSION_KEYS: 'a key that nobody knows', BROADCAST_DURABLE: 'true' });
    const [first, second] = pods as [Operated, Operated];
    await first.bosun('broadcast', 'configUpdate', '"first"');
    await receives(second, 'first');
    const forged = JSON.stringify({
      origin: 'x:1',
      sender: 1,
      seq: 1,
      at: Date.now(),
      event: 'configUpdate',
      json: '"forged"',
    });
    await intrude(redis, 'XADD', 'koa-bosun:koa:sess:journal', '*', 'event', forged);
    await intrude(redis, 'XADD', 'koa-bosun:koa:sess:journal', '*', 'other', 'fields', 'than', 'ours');
    await until(
      async () => (await ignored(second, 'bosun_broadcasts_ignored_total{reason="unauthenticated"}')) >= 1 || undefined,
      () => second.kit.transcript(),
    );
    await intrude(redis, 'XADD', 'koa-bosun:koa:sess:journal', '*', 'event', 'x'.repeat(33 << 20));
    await until(
      async () => (await ignored(second, 'bosun_redis_faults_total')) >= 1 || undefined,
      () => second.kit.transcript(),
    );
    // Entries added between the fault and the new connection are behind the giant one too.
    await until(
      async () => {
        await first.bosun('broadcast', 'configUpdate', '"second"');
        return (await requestJson<{ configUpdate: unknown }>(second.port, '/received')).configUpdate === 'second' || undefined;
      },
      () => second.kit.transcript(),
    );
  });
});
