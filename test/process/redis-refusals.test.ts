/**
 * A Redis that refuses commands: a master that has become a replica while connections stay open, full memory, missing permissions.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { after, test } from 'node:test';
import { until } from '../until.ts';
import { Visitor } from '../visitor.ts';
import { RawClient } from './clients.ts';
import { type Operated, startOperated } from './operator.ts';
import { LocalRedis, withRedis } from './redis.ts';

async function startRedis(): Promise<LocalRedis> {
  const redis = await LocalRedis.start();
  after(() => redis.stop());
  return redis;
}

async function command(redis: LocalRedis, line: string): Promise<void> {
  await using client = await RawClient.open(redis.port);
  client.write(`${line}\r\n`);
  await client.received(/^[+:$*]/);
}

const metric = async ({ kit }: Operated, pattern: RegExp) => Number(pattern.exec((await kit.probe('/metrics')).body)?.[1] ?? 0);

test(
  'after a failover under the same name a session is written, and events reach other pods through the new master',
  withRedis,
  async () => {
    const [old, next] = [await startRedis(), await startRedis()];
    await command(next, `REPLICAOF 127.0.0.1 ${old.port}`);
    let master = old;
    // Like the endpoint of a managed Redis: open connections stay on their server.
    const endpoint = createServer({ allowHalfOpen: true }, client => {
      const server = connect({ port: master.port, host: '127.0.0.1', allowHalfOpen: true });
      client.pipe(server).pipe(client);
      client.on('error', () => server.destroy()).on('close', () => server.destroy());
      server.on('error', () => client.destroy()).on('close', () => client.destroy());
    }).listen(0, '127.0.0.1');
    after(() => endpoint.close());
    await once(endpoint, 'listening');
    const env = { REDIS_URL: `redis://127.0.0.1:${(endpoint.address() as AddressInfo).port}`, NODE_CLUSTER_WORKERS: '1' };
    const operated = await startOperated({ app: 'sessions.ts', env });
    const visitor = new Visitor();
    const counter = async () => JSON.parse((await visitor.request(operated.port, '/increment')).body).counter;
    assert.equal(await counter(), 1);
    await until(
      async () => {
        await using client = await RawClient.open(next.port);
        client.write('DBSIZE\r\n');
        await client.received(/^:\d+\r\n/);
        return /^:[1-9]/.test(client.unread) || undefined;
      },
      () => 'the replica has nothing',
    );
    await command(next, 'REPLICAOF NO ONE');
    master = next;
    await command(old, `REPLICAOF 127.0.0.1 ${next.port}`);
    assert.equal(await counter(), 2, 'the write that meets the replica is made again at the new master');
    await using listener = await RawClient.open(next.port);
    listener.write('SUBSCRIBE koa-bosun:koa:sess:fleet\r\n');
    // The primary, which only publishes, finds the new master too.
    await listener.received(/"origin"/);
    assert.match(String((await operated.kit.event('redis.refusing')).code), /^READONLY$/);
  },
);

test(
  'a lasting refusal by Redis is logged once at its begin and end, and shown to the operator; sessions get a quick 503',
  withRedis,
  async () => {
    const [redis, other] = [await startRedis(), await startRedis()];
    const env = { REDIS_URL: redis.url, SESSION_KEYS: 'a key that is given', NODE_CLUSTER_WORKERS: '1' };
    const operated = await startOperated({ app: 'sessions.ts', env });
    const { kit, bosun } = operated;
    const visitor = new Visitor();
    const request = (path: string) => visitor.request(operated.port, path);
    assert.equal((await request('/increment')).status, 200);

    const phases = [
      { code: 'READONLY', begin: `REPLICAOF 127.0.0.1 ${other.port}`, end: 'REPLICAOF NO ONE' },
      { code: 'OOM', begin: 'CONFIG SET maxmemory 1kb', end: 'CONFIG SET maxmemory 0' },
      { code: 'NOPERM', begin: 'ACL SETUSER default -eval', end: 'ACL SETUSER default +eval' },
    ];
    for (const { code, begin, end } of phases) {
      await command(redis, begin);
      const isEval = (event: object) => 'command' in event && 'code' in event && event.code === code && event.command === 'eval';
      await until(
        async () => {
          const { status, headers } = await request('/increment');
          assert.deepEqual([status, headers['retry-after']], [503, '1']);
          return kit.events.some(event => event.event === 'redis.refusing' && isEval(event)) || undefined;
        },
        () => kit.transcript(),
      );
      // At the time of a new connection it does not.
      await until(
        async () => (await request('/read')).status === 200 || undefined,
        () => `what reads goes on: ${kit.transcript()}`,
      );
      const { redisRefusals } = await kit.statusWhere(({ redisRefusals }) =>
        JSON.stringify(redisRefusals ?? []).includes('eval'),
      );
      assert.ok((redisRefusals as { code: string }[]).some(isEval));
      assert.ok((await metric(operated, new RegExp(`^bosun_redis_refusals\\{code="${code}"\\} (\\d+)`, 'm'))) >= 1);
      assert.match((await bosun('doctor')).stdout, new RegExp(`Redis.*refuses.*eval \\(\\d+ times?\\): ${code} `));

      await command(redis, end);
      await until(
        async () => {
          await request('/increment');
          return kit.events.some(event => event.event === 'redis.accepting' && isEval(event)) || undefined;
        },
        () => kit.transcript(),
      );
      assert.equal((await request('/increment')).status, 200);
      assert.equal(kit.all('redis.refusing').filter(isEval).length, 1, `${code} is logged once`);
    }
    // A replica that is never promoted: a new connection at most every few seconds, not with each request.
    assert.ok((await metric(operated, /^bosun_redis_reconnects_total (\d+)/m)) < 20);
    assert.deepEqual(kit.all('worker.exit'), []);
  },
);
