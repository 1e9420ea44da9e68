/**
 * A faulty or forged Redis server: whatever it sends, the primary and the workers survive, use no memory for it, and recover
 * when it answers correctly again.
 */
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { array, bulk, FakeRedis, type Lie } from '../fake-redis.ts';
import { seededRandom } from '../random.ts';
import { until } from '../until.ts';
import { Visitor } from '../visitor.ts';
import { request } from './clients.ts';
import { CLEAN, type Kit, startKit } from './kit.ts';
import { startOperated } from './operator.ts';

const ROUNDS = 40;
/** As many as come before the back-off grows. */
const MIN_LIES = 10;
const rssMib = (pid: number) => Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;

/** Malformed replies, each to any command. */
const LIES: Record<string, string | Buffer> = {
  'an array of -5': '*-5\r\n',
  'a text of -5 bytes': '$-5\r\n',
  'an unknown type': '@3\r\nabc\r\n',
  'a page of HTML': 'HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n<html></html>\r\n',
  'random bytes': Buffer.from(Array.from({ length: 500 }, (_, i) => (i * 197) % 256)),
  'a list of a billion': '*1000000000\r\n',
  'lists of a million in one another': '*1000000\r\n'.repeat(200),
  'ten thousand levels': '*1\r\n'.repeat(10_000),
  'a text of a terabyte': '$1000000000000\r\nxxx',
  'half a text': '$100\r\nxxx',
  'two replies to one command': '+OK\r\n+OK\r\n',
  'null instead of a string': '_\r\n',
  'a number instead of a string': ':7\r\n',
  'a list instead of a string': '*2\r\n:1\r\n_\r\n',
  'lists of lists': '*2\r\n*0\r\n*1\r\n*1\r\n_\r\n',
  'a map': '%2\r\n_\r\n:1\r\n+a\r\n*0\r\n',
  'an unexpected push': `>3\r\n${bulk('subscribe')}${bulk('x')}:1\r\n`,
  'a push without a type': '>1\r\n_\r\n',
  'a push of two': array(['message', 'koa:sess:broadcast'], '>'),
  'a push of four': array(['message', 'koa:sess:broadcast', 'a', 'b'], '>'),
  'an unexpected unsubscription': `>3\r\n${bulk('unsubscribe')}${bulk('koa:sess:broadcast')}:0\r\n`,
  'a push of nulls': `>3\r\n${bulk('message')}_\r\n_\r\n`,
  EXECABORT: '-EXECABORT Transaction discarded because of previous errors.\r\n',
  LOADING: '-LOADING Redis is loading the dataset in memory\r\n',
  BUSY: '-BUSY Redis is busy running a script.\r\n',
  'MOVED to nowhere': '-MOVED abc nowhere at all\r\n',
  'MOVED to a port of its own': '-MOVED 1 127.0.0.1:1\r\n',
  'an error of 60 KB': `-ERR ${'\x1b[31m'.repeat(12_000)}\r\n`,
  'an error without a code': '-\r\n',
};

/** Serves, on a new connection, once Redis answers correctly again. */
async function recovers(kit: Kit, port: number, what: string): Promise<void> {
  await until(
    async () => (await request(port, '/visit')).status === 200 || undefined,
    () => `${what}: no session any more; ${kit.transcript().slice(-4000)}`,
  );
}

describe('malformed replies from Redis', { concurrency: 2 }, () => {
  for (const [durable, isResp2] of [
    ['false', false],
    ['true', true],
  ] as const) {
    test(`no reply ends the primary or a worker, exhausts its memory or puts it out of step (BROADCAST_DURABLE=${durable}, RESP${isResp2 ? 2 : 3})`, async t => {
      const seed = randomInt(2 ** 31);
      t.diagnostic(`seed ${seed}`);
      const random = seededRandom(seed);
      const redis = await FakeRedis.start();
      redis.isResp2 = isResp2;
      const env = { REDIS_URL: redis.url, NODE_CLUSTER_WORKERS: '1', BROADCAST_DURABLE: durable };
      const { kit, port, bosun } = await startOperated({ app: 'uses-redis.mjs', env });
      const [worker = 0] = kit.workerPids;
      await recovers(kit, port, 'nothing yet');
      const before = [kit.pid, worker].map(rssMib);

      const visitor = new Visitor();
      await visitor.request(port, '/visit');
      for (const bytes of [bulk(JSON.stringify({ visits: 'x'.repeat(3 << 20) })), '*1\r\n:1\r\n', ':7\r\n']) {
        redis.lie = ([name = '', key = '']) =>
          name.toLowerCase() === 'get' && key.startsWith('koa-bosun:koa:sess:') ? bytes : undefined;
        for (let i = 0; i < 5; i++) assert.equal((await visitor.request(port, '/visit')).status, 503);
        assert.equal((await request(port, '/visit')).status, 200, 'a malformed session is not a Redis outage');
      }
      redis.lie = () => undefined;

      const sendLie = (what: string, lie: Lie) => {
        redis.lie = lie;
        return Promise.all([request(port, '/visit'), request(port, '/own'), pause(100)]).then(() => {
          assert.equal(kit.process.exitCode, null, `${what}: ${kit.transcript().slice(-4000)}`);
          assert.deepEqual(kit.all('worker.exit'), [], what);
          redis.lie = () => undefined;
        });
      };
      const lies = Object.entries(LIES);
      for (const [what, bytes] of lies) {
        // A failed handshake hides everything after it: half of the faults begin later.
        await sendLie(what, ([name = '']) => (/^(hello|client|info)$/i.test(name) && random() < 0.7 ? undefined : bytes));
        for (const end of [':primary', ':subscriber', ':reader', ':1', '']) redis.send(end, bytes);
      }
      await recovers(kit, port, 'after each of them');
      for (let round = 0; round < ROUNDS; round++) {
        const pick = () => lies[Math.floor(random() * lies.length)]?.[1] ?? '';
        const bytes = Buffer.concat([Buffer.from(pick() as string), Buffer.from(pick() as string)]);
        const garbled = Buffer.from(bytes);
        for (let i = 0; i < 3; i++) garbled[Math.floor(random() * Math.min(garbled.length, 40))] = Math.floor(random() * 256);
        const share = random();
        await sendLie(`round ${round} (seed ${seed})`, () => (random() < share ? garbled : undefined));
        redis.send(random() < 0.5 ? 'r' : '1', bytes.subarray(0, Math.floor(random() * bytes.length)));
      }
      await recovers(kit, port, `after ${ROUNDS} rounds (seed ${seed})`);
      // As much is open in a worker between two collections.
      for (const [index, pid] of [kit.pid, worker].entries())
        assert.ok(rssMib(pid) < (before[index] ?? 0) + 100, `${before[index]} MiB became ${rssMib(pid)} MiB`);
      assert.ok(kit.events.filter(({ event }) => String(event).startsWith('redis.')).length < 60, kit.transcript().slice(-8000));
      assert.equal((await kit.probe('/readyz')).status, 200);
      await until(
        async () => !/protocol|does not answer|closed/.test((await bosun('doctor')).stdout) || undefined,
        () => `doctor does not report the recovery: ${kit.transcript().slice(-4000)}`,
      );
      assert.match((await kit.probe('/metrics')).body, /^bosun_redis_faults_total [1-9]/m);
      assert.ok(!kit.transcript().includes('\x1b'), 'no control character reaches the log');
      assert.deepEqual(await kit.stop(), CLEAN);
      assert.deepEqual(kit.all('worker.uncaught-exception'), []);
    });
  }

  for (const [what, name] of [
    ['Sentinel', 'REDIS_SENTINELS'],
    ['node of a Cluster', 'REDIS_CLUSTER_NODES'],
  ] as const) {
    test(`a ${what} with false data about other nodes ends neither the primary nor a worker`, async () => {
      const redis = await FakeRedis.start();
      const { host } = new URL(redis.url);
      const env = { [name]: host, NODE_CLUSTER_WORKERS: '1', ...(what === 'Sentinel' && { REDIS_SENTINEL_NAME: 'main' }) };
      const lies = [
        '_\r\n',
        '*1\r\n*2\r\n:0\r\n:999999999999999\r\n',
        ...['*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$1\r\nx\r\n:99999\r\n', '*1\r\n*1\r\n_\r\n', '*1\r\n:1\r\n'],
        ...[
          '*2\r\n$9\r\n127.0.0.1\r\n$5\r\n99999\r\n',
          '*2\r\n_\r\n_\r\n',
          '*2\r\n*0\r\n*0\r\n',
          '*1\r\n*3\r\n+ip\r\n+port\r\n+1\r\n',
        ],
        ...Object.values(LIES),
      ];
      let sent = 0;
      redis.lie = ([name = '']) => (/^(sentinel|cluster|subscribe)$/i.test(name) ? lies[sent++ % lies.length] : undefined);
      const kit = await startKit({ app: 'uses-redis.mjs', env });
      await until(
        () => sent > MIN_LIES || kit.process.exitCode !== null || undefined,
        () => `${sent} lies sent; ${kit.transcript().slice(-4000)}`,
      );
      assert.equal(kit.process.exitCode, null, kit.transcript().slice(-4000));
      assert.deepEqual(kit.all('worker.exit'), []);
      assert.equal((await kit.probe('/livez')).status, 200);
      assert.deepEqual(await kit.stop(), CLEAN);
    });
  }
});
