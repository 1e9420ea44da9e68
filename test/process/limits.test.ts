/**
 * What bounds the requests and connections of a worker, in a running pool.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { test } from 'node:test';
import type { ConcurrencyStatus } from '../../src/protocol/snapshot.ts';
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
  const concurrency = async (isIt: (of: ConcurrencyStatus) => boolean): Promise<ConcurrencyStatus> => {
    const { workers } = await kit.statusWhere(
      ({ workers: [worker] }) => worker?.concurrency !== undefined && isIt(worker.concurrency),
    );
    return workers[0]?.concurrency ?? assert.fail('no concurrency');
  };
  const many = (path: string, count = MANY) => Array.from({ length: count }, () => request(port, path));
  // Until the limit falls for the first time it would rise when it is in the way.
  let sent = 25;
  for (let count = 0; count < sent; count++) await request(port, '/slow?ms=1');
  let before = 0;
  for (let limit = 50; limit >= 50; ) {
    sent += BURST;
    await Promise.all(many('/slow?ms=150', BURST));
    await kit.statusWhere(({ workers }) => (workers[0]?.requests ?? 0) >= sent);
    ({ limit, rejected: before } = await concurrency(({ inFlight }) => inFlight === 0));
  }

  const folder = temporaryFolder();
  const first = many(`/hold?until=${folder}/first`);
  const { inFlight } = await concurrency(
    ({ inFlight, queued, rejected }) => queued === 0 && inFlight + rejected === MANY + before,
  );
  writeFileSync(`${folder}/first`, '');
  const answers = await Promise.all(first);
  assert.equal(answers.filter(({ status }) => status === 200).length, inFlight);
  for (const { status, headers } of answers) if (status !== 200) assert.deepEqual([status, headers['retry-after']], [503, '1']);
  assert.equal((await request(port, '/')).status, 200);

  const rejected = MANY - inFlight + before;
  assert.equal(typeof (await kit.event('concurrency.turning-away')).limit, 'number');
  const { limit } = await concurrency(status => status.inFlight === 0);
  const metrics = (await kit.probe('/metrics')).body;
  assert.ok(metrics.includes(`\nbosun_concurrency_limit{worker="1"} ${limit}\n`));
  assert.ok(metrics.includes(`\nbosun_concurrency_rejected_total ${rejected}\n`));
  const shown = new RegExp(
    `^worker 1 handles 0 of at most ${limit} requests, 0 wait, ${rejected} turned away \\(.* a second\\)$`,
    'm',
  );
  assert.match((await bosun('status')).stdout, shown);
  const { recentErrors } = await kit.status();
  assert.deepEqual([...new Set(recentErrors.map(error => error.class))], ['ConcurrencyLimit']);

  const last = many(`/hold?until=${folder}/last`);
  await concurrency(status => status.queued > 0 || status.rejected > rejected);
  kit.signal('SIGTERM');
  await kit.event('shutdown.drain');
  writeFileSync(`${folder}/last`, '');
  for (const { status } of await Promise.all(last)) assert.ok([200, 503].includes(status), `${status}`);
  assert.deepEqual(await kit.exit(), CLEAN);
});

/** More than the limit, and less than it. */
const MANY = 60;
const BURST = 45;
