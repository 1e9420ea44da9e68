/**
 * The admin port's answers are true, and contain no secret.
 */
import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { describe, test } from 'node:test';
import { everyWorker, RawClient, request } from './clients.ts';
import { scrape, settles, sum } from './exposition.ts';
import { CLEAN, startKit } from './kit.ts';
import { shapeOf } from './shape.ts';

const CONCURRENCY = 3;

describe('the admin port', { concurrency: CONCURRENCY }, () => {
  test('the admin port answers GET and HEAD on its paths, with or without a query, and nothing else', async () => {
    const kit = await startKit({ app: 'koa.mjs' });
    await kit.ready();
    for (const path of ['/livez', '/readyz', '/startupz', '/metrics', '/status']) {
      for (const query of ['', '?verbose', '?x=1&y=%20']) assert.equal((await kit.probe(path + query)).status, 200, path + query);
      for (const method of ['POST', 'PUT', 'DELETE']) {
        const { status, headers } = await request(kit.adminPort, path, { method, headers: { 'Content-Length': '0' } });
        assert.equal(status, 405, `${method} ${path}`);
        assert.equal(headers.allow, 'GET, HEAD');
      }
    }
    for (const path of ['/nothing', '/livez/', '/STATUS', '//livez', '/..%2flivez']) {
      assert.equal((await kit.probe(path)).status, 404, path);
    }
  });

  test('while workers start /readyz and /startupz answer 503 with the reason, and /livez answers 200 (case 32)', async () => {
    const kit = await startKit({ app: 'never-ready.mjs' });
    await kit.event('admin.listening');
    assert.equal((await kit.probe('/livez')).status, 200);
    for (const path of ['/readyz', '/startupz']) {
      const { status, body } = await kit.probe(path);
      assert.equal(status, 503);
      assert.match(body, /0 of 2 workers serve/);
    }
    assert.equal((await kit.status()).state, 'starting');
  });

  test('/status has the shape of the contract', async () => {
    const kit = await startKit({ app: 'koa.mjs' });
    const { port } = await kit.ready();
    const answeredBy = new Map<number, number>();
    let requested = 0;
    await everyWorker(port, 2, async client => {
      const { pid } = await client.requestJson<{ pid: number }>('/');
      requested++;
      answeredBy.set(pid, (answeredBy.get(pid) ?? 0) + 1);
      return pid;
    });
    const status = await kit.statusWhere(({ workers }) => workers.reduce((all, { requests }) => all + requests, 0) === requested);
    const rate = { count: 'number', perSecond: 'number' };
    const errors = { '4xx': rate, '5xx': rate, share: 'number', abandoned: rate };
    const worker = {
      id: 'number',
      pid: 'number',
      state: 'string',
      generation: 'number',
      uptimeSeconds: 'number',
      connections: 'number',
      maxConnections: 'number',
      inFlight: 'number',
      requests: 'number',
      responseTimeMs: { mean: 'number', p50: 'number', p99: 'number' },
      eventLoopUtilization: 'number',
      eventLoopDelayMs: 'number',
      memory: { rss: 'number', heapTotal: 'number', heapUsed: 'number' },
      load: 'number',
      errors,
      silentSeconds: 'number',
    };
    // Where the kernel measures it, `pressure` is there too.
    const { sizing, drains, memory: used, pressure: _, ...rest } = status;
    assert.deepEqual(shapeOf(rest), {
      version: 'string',
      pid: 'number',
      pod: 'string',
      state: 'string',
      generation: 'number',
      uptimeSeconds: 'number',
      service: { name: 'string' },
      policy: 'string',
      utilization: 'number',
      errors,
      recentErrors: [],
      moved: 'number',
      workers: [worker, worker],
      failedStarts: { count: 'number', last: 'null' },
      rollingRestarts: { success: 'number', failure: 'number', refused: 'number', lastRefused: 'null' },
      restarts: { total: 'number', byReason: {} },
    });
    assert.deepEqual(Object.keys(used as object), ['usedBytes', 'headroomBytes', 'freshWorkerBytes', 'restart']);
    const { workers, wanted, reason, cpus, memory } = sizing as Record<string, unknown>;
    assert.deepEqual([workers, wanted, typeof reason], [2, 2, 'string']);
    assert.deepEqual(Object.keys(cpus as object).sort(), ['cpuset', 'effective', 'quota', 'source']);
    assert.deepEqual(Object.keys(memory as object).sort(), ['heapPerWorkerMb', 'limitBytes', 'semiSpaceMb', 'source']);
    assert.equal(drains.cutRequests, 0);
    assert.deepEqual([status.pid, status.state, status.policy], [kit.pid, 'ready', 'least-connections']);
    assert.deepEqual(
      status.workers.map(({ id, state }) => [id, state]),
      [
        [1, 'ready'],
        [2, 'ready'],
      ],
    );
    for (const { pid, requests } of status.workers) assert.equal(requests, answeredBy.get(pid) ?? 0);
    assert.deepEqual(status.workers.map(({ pid }) => pid).sort(), kit.workerPids.sort());
  });

  test('/metrics counts every request by method and status', async () => {
    const kit = await startKit({ app: 'koa.mjs' });
    const { port } = await kit.ready();
    for (let i = 0; i < 7; i++) await request(port, '/');
    for (let i = 0; i < 3; i++) await request(port, '/nothing');
    for (let i = 0; i < 2; i++) await request(port, '/throw');
    await request(port, '/slow?ms=300');
    await request(port, '/', { method: 'POST', headers: { 'Content-Length': '0' } });
    await request(port, '/', { method: 'PROPFIND' });
    await using open = await RawClient.open(port);
    open.write('GET /slow?ms=60000&mark=open HTTP/1.1\r\nHost: x\r\n\r\n');
    await kit.begun('open');
    const count = 'http_request_duration_seconds_count';
    await settles(async () => sum(await scrape(kit), count), 15);
    await settles(async () => sum(await scrape(kit), 'http_requests_in_flight'), 1);
    await settles(async () => sum(await scrape(kit), 'http_connections'), 1);
    const series = await scrape(kit);
    assert.deepEqual(Object.fromEntries([...series].filter(([name]) => name.startsWith(count))), {
      [`${count}{method="GET",status="200"}`]: 8,
      [`${count}{method="GET",status="404"}`]: 3,
      [`${count}{method="GET",status="500"}`]: 2,
      [`${count}{method="POST",status="200"}`]: 1,
      [`${count}{method="other",status="200"}`]: 1,
    });
    const bucket = (le: string) => series.get(`http_request_duration_seconds_bucket{le="${le}",method="GET",status="200"}`) ?? 0;
    assert.ok(bucket('0.25') > 0 && bucket('0.25') <= 7, 'all but the slow one, on a machine that is not busy');
    assert.deepEqual([bucket('10'), bucket('+Inf')], [8, 8]);
    const seconds = sum(series, 'http_request_duration_seconds_sum');
    assert.ok(seconds >= 0.295 && seconds < 5, String(seconds));
    assert.equal(series.get('bosun_workers{state="ready"}'), 2);
    assert.equal(series.get('bosun_workers_wanted'), 2);
    assert.match((await kit.probe('/metrics')).headers['content-type'] ?? '', /^text\/plain; version=0\.0\.4/);
  });

  test('the admin port shows no secret', async () => {
    const kit = await startKit({ env: { SESSION_KEYS: 's3cret-key' } });
    const { port } = await kit.ready();
    assert.equal((await request(port, '/api/counter')).status, 200);
    for (const path of ['/status', '/metrics', '/readyz', '/s3cret']) {
      const { body, headers } = await kit.probe(path);
      assert.ok(body.length > 0);
      assert.doesNotMatch(body + JSON.stringify(headers), /s3cret-key/);
    }
    assert.doesNotMatch(kit.transcript(), /s3cret-key/);
  });

  test('ADMIN_PORT=0 switches the admin port off, and SIGTERM still drains', async () => {
    const kit = await startKit({ app: 'koa.mjs', env: { ADMIN_PORT: '0' } });
    const { port } = await kit.ready();
    await using client = await RawClient.open(port);
    client.write('GET /slow?ms=400&mark=slow HTTP/1.1\r\nHost: x\r\n\r\n');
    await kit.begun('slow');
    kit.signal('SIGTERM');
    const { status, headers } = await client.answer();
    assert.deepEqual([status, headers.connection], [200, 'close']);
    assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
    assert.deepEqual(kit.all('admin.listening'), []);
  });

  test('outside production a pool whose default admin port is taken serves without one, and warns', async () => {
    const other = createServer();
    await new Promise<void>(resolve => {
      other.once('error', () => resolve()).listen(9090, '127.0.0.1', resolve); // or another process has it already
    });
    const kit = await startKit({ app: 'koa.mjs', env: { ADMIN_PORT: undefined } });
    const { port } = await kit.ready();
    assert.equal((await kit.event('admin.port-taken')).port, 9090);
    assert.equal((await request(port, '/')).status, 200);
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
    other.close();
  });
});
