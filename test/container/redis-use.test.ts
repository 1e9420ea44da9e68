/**
 * What a request costs Redis, what happens when Redis is full, and the metrics of both, compared with the counters of Redis itself.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RawClient } from '../process/clients.ts';
import type { Kit } from '../process/kit.ts';
import { startOperated } from '../process/operator.ts';
import { until } from '../until.ts';
import { Visitor } from '../visitor.ts';
import { withEngine } from './engine.ts';
import { Redis } from './redis.ts';

const READS = 200;
const FULL = 10;
/** Redis keeps everybody waiting for so long: above the histogram's 0.25 s, below the command timeout. */
const PAUSE_MS = 300;
const COMPUTE_MS = 600;

test('a pod and its Redis', withEngine, async t => {
  const redis = await Redis.start(undefined);
  const env = { REDIS_URL: `redis://127.0.0.1:${redis.port}`, NODE_CLUSTER_WORKERS: '1' };
  const { kit, port } = await startOperated({ app: 'sessions.ts', env });
  const visitor = new Visitor();
  let sent = 0;
  const request = (path: string) => {
    sent++;
    return visitor.request(port, path);
  };
  /** The metrics before and after, without what the primary says to the other pods meanwhile, once a second. */
  const measured = async (run: () => Promise<void>) => {
    // Workers report once a second.
    const before = await withoutHeartbeats(kit, redis, ({ requests }) => requests >= sent);
    await run();
    return { before, after: await withoutHeartbeats(kit, redis, ({ requests }) => requests >= sent) };
  };
  await request('/increment');

  await t.test('a request costs Redis two commands at most, and none without a session', async () => {
    // One command reads, one writes: a script, whose own GET and SETEX Redis counts too.
    const [script, own] = [{ eval: 1, get: 1, setex: 1 }, { get: 1 }];
    assert.deepEqual(await commandsOf(redis, () => request('/increment')), { ...script, get: script.get + own.get });
    assert.deepEqual(await commandsOf(redis, () => request('/read')), own);
    assert.deepEqual(await commandsOf(redis, () => request('/')), {}, 'a route without a session');
  });

  await t.test('bosun_redis_* metrics count every command and reply', async () => {
    const { before, after } = await measured(async () => {
      for (let i = 0; i < READS; i++) await request('/read');
    });
    assert.deepEqual([after.commands - before.commands, after.errors, after.reconnects], [READS, 0, 0]);
    assert.equal(after.answers - before.answers, READS);
    assert.ok(after.seconds > before.seconds);
  });

  await t.test('the Redis latency histogram shows a late reply', async () => {
    const { before, after } = await measured(async () => {
      // Again where a busy machine has added to the pause what made the command fail.
      await until(
        async () => {
          await using client = await RawClient.open(redis.port);
          client.write(`CLIENT PAUSE ${PAUSE_MS} ALL\r\n`);
          await client.received(/^\+OK/);
          return (await request('/read')).status === 200 || undefined;
        },
        () => kit.transcript(),
      );
    });
    assert.ok(after.late > before.late, `${before.late} and ${after.late} above 0.25 s`);
    assert.ok(after.seconds - before.seconds > 0.25, `${after.seconds - before.seconds} s`);
  });

  await t.test(
    'a worker blocked for longer than the command timeout still uses the Redis replies that arrived meanwhile',
    async () => {
      const { before, after } = await measured(async () => {
        for (let i = 0; i < 3; i++) assert.equal((await request(`/read?compute=${COMPUTE_MS}`)).status, 200);
      });
      assert.equal(after.errors - before.errors, 0);
    },
  );

  await t.test(
    'when the memory of Redis is full, requests that write a session get a counted 503 and reads continue',
    async () => {
      const { before, after } = await measured(async () => {
        await redis.command('CONFIG', 'SET', 'maxmemory-policy', 'noeviction');
        await redis.command('CONFIG', 'SET', 'maxmemory', '1kb');
        for (let i = 0; i < FULL; i++) {
          const { status, headers } = await request('/increment');
          assert.deepEqual([status, headers['retry-after']], [503, '1']);
          assert.equal((await request('/read')).status, 200, 'no breaker: Redis is there');
        }
        await redis.command('CONFIG', 'SET', 'maxmemory', '0');
      });
      assert.deepEqual([after.commands - before.commands, after.errors - before.errors], [3 * FULL, FULL]);
      assert.equal(after.answers - before.answers, 2 * FULL, 'an error is no answer in the histogram');
      assert.equal(JSON.parse((await request('/increment')).body).counter, 3);
    },
  );

  await t.test('every broken Redis connection is counted once it is reconnected', async () => {
    await redis.command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    // The worker's and the primary's; its subscriber is of another type.
    await until(
      async () => (await metricsOf(kit)).reconnects === 2 || undefined,
      () => kit.transcript(),
    );
    await until(
      async () => (await request('/read')).status === 200 || undefined,
      () => kit.transcript(),
    );
    assert.deepEqual(kit.all('worker.exit'), []);
  });
});

interface Measured {
  requests: number;
  commands: number;
  errors: number;
  reconnects: number;
  /** Of the histogram: all, those that took more than 0.25 s, and their sum. */
  answers: number;
  late: number;
  seconds: number;
}

async function metricsOf(kit: Kit): Promise<Measured> {
  const { body } = await kit.probe('/metrics');
  const value = (series: string) =>
    Number(
      body
        .split('\n')
        .find(line => line.startsWith(`${series} `))
        ?.slice(series.length + 1),
    );
  const name = 'bosun_redis_command_duration_seconds';
  const requests = [...body.matchAll(/^http_request_duration_seconds_count\{.*\} (\d+)/gm)];
  return {
    requests: requests.reduce((sum, [, count]) => sum + Number(count), 0),
    commands: value('bosun_redis_commands_total'),
    errors: value('bosun_redis_errors_total'),
    reconnects: value('bosun_redis_reconnects_total'),
    answers: value(`${name}_count`),
    late: value(`${name}_count`) - value(`${name}_bucket{le="0.25"}`),
    seconds: value(`${name}_sum`),
  };
}

async function withoutHeartbeats(kit: Kit, redis: Redis, isIt: (now: Measured) => boolean): Promise<Measured> {
  return until(
    async () => {
      const heartbeats = await heartbeatsOf(redis);
      const now = await metricsOf(kit);
      if (!isIt(now) || heartbeats !== (await heartbeatsOf(redis))) return undefined;
      return { ...now, commands: now.commands - heartbeats, answers: now.answers - heartbeats };
    },
    () => kit.transcript(),
  );
}

async function heartbeatsOf(redis: Redis): Promise<number> {
  const found = (await redis.command('INFO', 'commandstats')).matchAll(/^cmdstat_(?:publish|unlink):calls=(\d+)/gm);
  return [...found].reduce((sum, [, calls]) => sum + Number(calls), 0);
}

/** How often Redis has carried out which command meanwhile, without those of the primary's heartbeats and of this test. */
async function commandsOf(redis: Redis, run: () => Promise<unknown>): Promise<Record<string, number>> {
  const counts = async () => {
    const lines = (await redis.command('INFO', 'commandstats')).matchAll(
      /^cmdstat_(get|set|setex|del|eval|evalsha|ping):calls=(\d+)/gm,
    );
    return new Map([...lines].map(([, name = '', calls]) => [name, Number(calls)]));
  };
  const before = await counts();
  await run();
  const after = await counts();
  return Object.fromEntries([...after].map(([name, n]) => [name, n - (before.get(name) ?? 0)] as const).filter(([, n]) => n > 0));
}
