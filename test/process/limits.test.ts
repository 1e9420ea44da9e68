/**
 * What bounds the requests and connections of a worker, in a running pool.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { request } from './clients.ts';
import { CLEAN, startKit } from './kit.ts';
import { startOperated, temporaryFolder } from './operator.ts';

test('with HANDLER_TIMEOUT_MS a request without an answer gets 503, is counted and named, also at a drain', async () => {
  const kit = await startKit({ app: 'koa.mjs', env: { HANDLER_TIMEOUT_MS: '150', NODE_CLUSTER_WORKERS: '1' } });
  const { port } = await kit.ready();
  const hung = await request(port, '/slow?ms=800&secret=1');
  assert.deepEqual([hung.status, hung.body], [503, 'This server did not answer in time.\n']);
  const { method, path, ms } = await kit.event('request.timed-out');
  assert.deepEqual([method, path], ['GET', '/slow']);
  assert.ok(Number(ms) >= 150 && Number(ms) < 800, `${ms} ms`);
  // The handler has gone on, and has answered a connection that is gone.
  assert.equal((await request(port, '/slow?ms=100')).status, 200);
  await kit.statusWhere(({ workers }) => (workers[0]?.requests ?? 0) >= 2);
  const metrics = (await kit.probe('/metrics')).body;
  assert.match(metrics, /^bosun_timed_out_requests_total 1$/m);
  assert.match(metrics, /^http_request_duration_seconds_count\{method="GET",status="503"\} 1$/m);

  const last = request(port, '/slow?ms=60000&mark=last');
  await kit.begun('last');
  kit.signal('SIGTERM');
  assert.equal((await last).status, 503);
  assert.deepEqual(await kit.exit(), CLEAN);
  assert.equal(kit.all('worker.exit')[0]?.reason, 'shutdown');
});

test('with ADAPTIVE_CONCURRENCY requests above the limit get 503 with Retry-After, are shown, and a drain loses none of those that wait', async () => {
  const { kit, bosun } = await startOperated({
    app: 'koa.mjs',
    env: { ADAPTIVE_CONCURRENCY: 'true', NODE_CLUSTER_WORKERS: '1' },
  });
  const { port } = await kit.ready();
  // The limit falls once, and then stays: until then it would rise when it is in the way.
  for (let count = 0; count < 25; count++) await request(port, '/slow?ms=1');
  await Promise.all(Array.from({ length: 40 }, () => request(port, '/slow?ms=150')));
  const calm = await kit.statusWhere(({ workers: [worker] }) => (worker?.concurrency?.limit ?? 50) < 50);
  const limit = calm.workers[0]?.concurrency?.limit ?? assert.fail('no concurrency');
  const folder = temporaryFolder();
  const hold = async (count: number, name: string) => {
    const file = join(folder, name);
    const answers = Array.from({ length: count }, () => request(port, `/hold?until=${file}`));
    await kit.statusWhere(({ workers }) => workers[0]?.concurrency?.inFlight === count);
    return { answers, release: () => writeFileSync(file, '') };
  };
  const first = await hold(limit, 'first');
  const turnedAway = await Promise.all([request(port, '/'), request(port, '/')]);
  for (const { status, headers } of turnedAway) assert.deepEqual([status, headers['retry-after']], [503, '1']);
  first.release();
  for (const { status } of await Promise.all(first.answers)) assert.equal(status, 200);
  assert.equal((await request(port, '/')).status, 200);

  assert.equal((await kit.event('concurrency.turning-away')).limit, limit);
  const { workers } = await kit.statusWhere(status => status.workers[0]?.concurrency?.inFlight === 0);
  const { limit: after, rejectedPerSecond, ...shown } = workers[0]?.concurrency ?? assert.fail('no concurrency');
  assert.equal(typeof rejectedPerSecond, 'number');
  assert.deepEqual(shown, { inFlight: 0, queued: 0, rejected: 2 });
  const metrics = (await kit.probe('/metrics')).body;
  assert.ok(metrics.includes(`\nbosun_concurrency_limit{worker="1"} ${after}\n`));
  assert.match(metrics, /^bosun_concurrency_rejected_total 2$/m);
  assert.match(
    (await bosun('status')).stdout,
    /^worker 1 handles 0 of at most \d+ requests, 0 wait, 2 turned away \(.* a second\)$/m,
  );

  const last = await hold(after, 'last');
  const waiting = [request(port, '/'), request(port, '/')];
  await kit.statusWhere(status => status.workers[0]?.inFlight === after + 2 || status.workers[0]?.concurrency?.rejected === 4);
  kit.signal('SIGTERM');
  await kit.event('shutdown.drain');
  last.release();
  for (const { status } of await Promise.all(last.answers)) assert.equal(status, 200);
  for (const { status } of await Promise.all(waiting)) assert.ok([200, 503].includes(status), `${status}`);
  assert.deepEqual(await kit.exit(), CLEAN);
});
