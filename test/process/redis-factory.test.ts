/**
 * Apps that use Redis while they are loaded.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { freePort } from '../free-port.ts';
import { request } from './clients.ts';
import { CLEAN, startKit } from './kit.ts';
import { LocalRedis, withRedis } from './redis.ts';
import { writtenApp } from './written-app.ts';

const QUERIES = writtenApp(`
  const found = await kit.redis.incr('starts');
  return (req, res) => res.end(String(found));`);

/** The delay of the first answer of Redis: longer than loading the app takes, and below the timeout of a command. */
const DELAY_MS = 250;
/** Of each answer: longer than a worker takes from its connection to Redis until it serves. */
const ANSWER_DELAY_MS = 60;
const DEMO = join(import.meta.dirname, '..', '..', 'src', 'demo', 'app.ts');

test('the factory of an app can use Redis, even if connecting takes longer than loading the app', withRedis, async () => {
  await using redis = await startSlowRedis({ connectMs: DELAY_MS });
  const kit = await startKit({ env: { APP_MODULE: QUERIES, REDIS_URL: redis.url, NODE_CLUSTER_WORKERS: '1' } });
  const { port } = await kit.listening();
  assert.equal((await request(port, '/')).body, '1');
  assert.deepEqual(kit.all('worker.failed'), [], 'at the first start');
  kit.signal('SIGTERM');
  assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
});

test('a worker that serves knows where its sessions are, however slowly Redis answers', withRedis, async () => {
  await using redis = await startSlowRedis({ answerMs: ANSWER_DELAY_MS });
  const kit = await startKit({ env: { APP_MODULE: DEMO, REDIS_URL: redis.url, NODE_CLUSTER_WORKERS: '1' } });
  const { port } = await kit.listening();
  const { status, body } = await request(port, '/api/counter');
  assert.deepEqual([status, JSON.parse(body).counter], [200, 1], body);
  kit.signal('SIGTERM');
  assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
});

test('without Redis an app that does not use it serves, and one whose factory does fails with the reason', async () => {
  const REDIS_URL = `redis://127.0.0.1:${await freePort()}`;
  const needsNone = writtenApp("return (req, res) => res.end('hello');");
  const kit = await startKit({ env: { APP_MODULE: needsNone, REDIS_URL, NODE_CLUSTER_WORKERS: '1' } });
  const { port } = await kit.listening();
  assert.equal((await request(port, '/')).body, 'hello');

  const querying = await startKit({
    env: { APP_MODULE: QUERIES, REDIS_URL, NODE_CLUSTER_WORKERS: '1', START_TIMEOUT_MS: '1000' },
  });
  const { error } = await querying.event('worker.failed');
  assert.match(String(error), /exports threw: .*; Redis at 127\.0\.0\.1:\d+ does not answer: .*ECONNREFUSED/);
  assert.deepEqual(await querying.exit(), { code: 1, signal: null }, querying.transcript());
});

/** A Redis whose connections and answers take that long. */
async function startSlowRedis({ connectMs = 0, answerMs = 0 }): Promise<AsyncDisposable & { url: string }> {
  const redis = await LocalRedis.start();
  const slow = createServer(async client => {
    client.on('error', () => undefined);
    await pause(connectMs);
    const upstream = connect(redis.port, '127.0.0.1').on('error', () => undefined);
    client.pipe(upstream);
    upstream.on('data', bytes => setTimeout(() => client.write(bytes), answerMs));
  }).listen(0, '127.0.0.1');
  await once(slow, 'listening');
  const { port } = slow.address() as { port: number };
  return {
    url: `redis://127.0.0.1:${port}`,
    [Symbol.asyncDispose]: async () => {
      slow.close();
      await redis.stop();
    },
  };
}
