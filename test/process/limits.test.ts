/**
 * What bounds the requests and connections of a worker, in a running pool.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { request } from './clients.ts';
import { CLEAN, startKit } from './kit.ts';

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
