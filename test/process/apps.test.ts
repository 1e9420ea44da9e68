/**
 * What the kit promises to an app, to its users and to its operator: every kind of app serves, `kit` does what it says, the admin
 * port tells the truth.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { Visitor } from '../visitor.ts';
import { ask, askJson, everyWorker, RawClient } from './clients.ts';
import { APPS, assertHeard, freePort, type Kit, startKit, until } from './kit.ts';

const CLEAN = { code: 0, signal: null };
const CONCURRENCY = 3;
const RESPONSE_TIME = /^\d+\.\dms$/;

describe('an app', { concurrency: CONCURRENCY }, () => {
  const APPS_THAT_SERVE = ['koa.mjs', 'factory.ts', 'listener.mjs', 'express-style.cjs', undefined];
  for (const app of APPS_THAT_SERVE) {
    test(`${app ?? 'of the demo'} serves in every worker`, async () => {
      const kit = await startKit({ ...(app && { app }) });
      const { port } = await kit.ready();
      const path = app === undefined ? '/api/counter' : '/';
      const visit = async (client: RawClient): Promise<number> => {
        const { status, headers, body } = await client.ask(path);
        assert.equal(status, 200);
        assert.match(headers['x-response-time'] ?? '', RESPONSE_TIME);
        return JSON.parse(body).pid;
      };
      const pids = await everyWorker(port, 2, visit);
      assert.deepEqual([...pids].sort(), kit.workerPids.sort());
      assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
    });
  }

  test('X-Response-Time is on every response, whatever its status and method', async () => {
    const kit = await startKit({ app: 'koa.mjs' });
    const { port } = await kit.ready();
    const cases = [
      { path: '/', expected: 200 },
      { path: '/nothing-here', expected: 404 },
      { path: '/throw', expected: 500 },
      { path: '/upload', method: 'POST', expected: 200 },
      { path: '/', method: 'DELETE', expected: 200 },
    ];
    for (const { path, method = 'GET', expected } of cases) {
      const { status, headers } = await ask(port, path, { method, headers: { 'Content-Length': '0' } });
      assert.equal(status, expected, path);
      assert.match(headers['x-response-time'] ?? '', RESPONSE_TIME, path);
    }
    const { headers } = await ask(port, '/slow?ms=120');
    const tookMs = Number.parseFloat(headers['x-response-time'] ?? '');
    assert.ok(tookMs >= 115 && tookMs < 1000, String(tookMs));
  });

  test('X-Response-Time is off with RESPONSE_TIME_HEADER=false', async () => {
    const kit = await startKit({ app: 'koa.mjs', env: { RESPONSE_TIME_HEADER: 'false' } });
    const { port } = await kit.ready();
    for (const [path, expected] of [
      ['/', 200],
      ['/nothing-here', 404],
      ['/throw', 500],
    ] as const) {
      const { status, headers } = await ask(port, path);
      assert.equal(status, expected);
      assert.equal(headers['x-response-time'], undefined);
    }
  });

  for (const [trusted, ip] of [
    ['true', '203.0.113.7'],
    ['false', '127.0.0.1'],
  ] as const) {
    test(`sees ${ip} with TRUST_PROXY=${trusted} behind a proxy that says 203.0.113.7`, async () => {
      const kit = await startKit({ app: 'factory.ts', env: { TRUST_PROXY: trusted } });
      const { port } = await kit.ready();
      const { body } = await ask(port, '/', { headers: { 'X-Forwarded-For': '203.0.113.7' } });
      assert.equal(JSON.parse(body).ip, ip);
    });
  }

  for (const [file, expected] of [
    ['wrong-export.mjs', 'must export a Koa instance, a function (kit) that returns one, or a request listener'],
    ['no-default.mjs', 'got no default export'],
    ['throws.mjs', "can't be loaded: no database"],
    ['missing.mjs', 'expected a module that exports a Koa instance'],
    ['returns-nothing.mjs', 'must return a Koa instance, got undefined'],
  ] as const) {
    test(`in ${file} can't be used, and the error names the file and what was expected`, async () => {
      const kit = await startKit({ app: file, env: { RESTART_INTENSITY: '0' }, detached: true });
      assert.deepEqual(await kit.exit(), { code: 70, signal: null }, kit.transcript());
      const { stage, error } = await kit.event('worker.failed');
      assert.equal(stage, 'app');
      const abort = await kit.event('primary.abort');
      for (const words of [String(error), String(abort.error)]) {
        assert.ok(words.includes(join(APPS, file)), `${words} must name the file`);
        assert.ok(words.includes(expected), `${words} must say: ${expected}`);
      }
      await kit.workersGone();
    });
  }

  for (const policy of ['rr', 'none', 'reuseport'])
    for (const [LISTEN_WHEN, LISTEN_EXPORT] of [
      ['while loaded', 'app'],
      ['while loaded', 'nothing'],
      ['later', 'app'],
    ] as const)
      test(`that listens on PORT ${LISTEN_WHEN}, and exports ${LISTEN_EXPORT}, is told to leave that to the kit, policy ${policy}`, async () => {
        const PORT = String(await freePort());
        const env = {
          PORT,
          LISTEN_ON: PORT,
          LISTEN_WHEN,
          LISTEN_EXPORT,
          NODE_CLUSTER_SCHED_POLICY: policy,
          RESTART_INTENSITY: '0',
        };
        const kit = await startKit({ app: 'listens-itself.cjs', env, detached: true });
        assert.deepEqual(await kit.exit(), { code: 70, signal: null }, kit.transcript());
        const { error } = await kit.event('primary.abort');
        assert.match(
          String(error),
          new RegExp(`listens-itself\\.cjs must leave listening on port ${PORT} \\(PORT\\) to the kit: export a Koa`),
        );
        assert.doesNotMatch(kit.transcript(), /EADDRINUSE/);
        await kit.workersGone();
      });

  test('that listens on another port serves, and the log warns of what nobody drains', async () => {
    const elsewhere = await freePort();
    const env = { PORT: String(await freePort()), LISTEN_ON: String(elsewhere), LISTEN_WHEN: 'later' };
    const kit = await startKit({ app: 'listens-itself.cjs', env });
    const { port } = await kit.ready();
    assert.equal((await ask(port, '/')).body, 'hello');
    assert.equal((await kit.event('app.listens')).port, elsewhere);
    await until(
      () =>
        ask(elsewhere, '/').then(
          ({ body }) => body === 'hello' || undefined,
          () => undefined,
        ),
      () => kit.transcript(),
    );
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });
});

describe('kit', { concurrency: CONCURRENCY }, () => {
  test('config is frozen and has the real settings', async () => {
    const kit = await startKit({ app: 'factory.ts' });
    const { port } = await kit.ready();
    const { frozen, worker } = await askJson<{ frozen: boolean; worker: number }>(port, '/');
    assert.equal(frozen, true);
    assert.ok([1, 2].includes(worker));
  });

  test('metrics are summed over the workers, and never go down when one is killed', async () => {
    const kit = await startKit({ app: 'factory.ts' });
    const { port } = await kit.ready();
    let greeted = 0;
    const greet = async (client: RawClient) => {
      const { pid } = await client.askJson<{ pid: number }>('/greet');
      greeted++;
      return pid;
    };
    const greetings = async () => sum(await scrape(kit), 'test_greetings_total');
    const before = await everyWorker(port, 2, greet);
    assert.deepEqual([...before].sort(), kit.workerPids.sort());
    await settles(greetings, greeted);

    const [killed = 0] = before;
    process.kill(killed, 'SIGKILL');
    const isReplaced = kit.event('worker.ready', ({ workerPid }) => !before.has(Number(workerPid))).then(() => true);
    let scrapes = 0;
    while (!(await Promise.race([isReplaced, false]))) {
      assert.equal(await greetings(), greeted, 'while a worker is missing');
      scrapes++;
    }
    assert.ok(scrapes > 0, 'scraped while a worker was missing');
    await everyWorker(port, 2, greet);
    await settles(greetings, greeted);
    const series = await scrape(kit);
    assert.equal(series.get('bosun_worker_exits_total{reason="killed"}'), 1);
    assert.equal(sum(series, 'http_request_duration_seconds_count'), greeted);
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });

  test('broadcast reaches every worker once, in the order of the sender', async () => {
    const kit = await startKit({ app: 'factory.ts', env: { NODE_CLUSTER_WORKERS: '3' } });
    const { port } = await kit.ready();
    await using sender = await RawClient.open(port);
    for (const text of ['one', 'two', 'three']) assert.equal((await sender.ask(`/tell?text=${text}`)).status, 200);
    await assertHeard(kit, port, 3, ['one', 'two', 'three']);
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });

  test('onClose is called in every worker before it exits', async () => {
    const kit = await startKit({ app: 'factory.ts' });
    await kit.ready();
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
    assert.deepEqual(
      kit
        .all('test.closed')
        .map(({ worker }) => worker)
        .sort(),
      [1, 2],
    );
  });
});

describe('a session in cookies', { concurrency: CONCURRENCY }, () => {
  test('goes on over workers, through a login, and ends with a logout', async () => {
    const kit = await startKit();
    const { port } = await kit.ready();
    const visitor = new Visitor();
    await visitor.countOnEveryWorker(port, 2);
    const before = visitor.cookies.get('koa:sess');
    assert.deepEqual((await visitor.json<{ user: string }>(port, '/login?user=ada')).user, 'ada');
    assert.notEqual(visitor.cookies.get('koa:sess'), before);
    await everyWorker(port, 2, async client => {
      const { body } = await visitor.askOn(client, '/');
      assert.match(body, /Hello, ada</);
      return Number(/worker <b>(\d+)/.exec(body)?.[1]);
    });
    assert.deepEqual((await visitor.json<{ user: null }>(port, '/logout')).user, null);
    assert.deepEqual(visitor.cookies, new Map(), 'the cookies are taken back');
    assert.equal((await visitor.count(port)).counter, 1);
    assert.match((await visitor.ask(port, '/')).body, /Hello, stranger</);
  });

  test('is out of reach of scripts and of other sites, and a forged one is none', async () => {
    const kit = await startKit({ env: { SESSION_COOKIE: 'sailor' } });
    const { port } = await kit.ready();
    const visitor = new Visitor();
    const { headers } = await visitor.ask(port, '/api/counter');
    const set = (headers['set-cookie'] ?? '').split('\n');
    assert.equal(set.length, 2);
    for (const cookie of set) assert.match(cookie, /^sailor(\.sig)?=.*; samesite=lax; httponly$/);
    const forged = Buffer.from(JSON.stringify({ visits: 41, _expire: Date.now() + 1e6, _maxAge: 1e6 })).toString('base64');
    visitor.cookies.set('sailor', forged);
    assert.equal((await visitor.count(port)).counter, 1);
  });

  test('36 is known to every pod with the same SESSION_KEYS, an older key of theirs included', async () => {
    const [one, two] = await Promise.all([
      startKit({ env: { SESSION_KEYS: 'old-key' } }),
      startKit({ env: { SESSION_KEYS: 'new-key,old-key' } }),
    ]);
    const visitor = new Visitor();
    assert.equal((await visitor.count((await one.ready()).port)).counter, 1);
    assert.equal((await visitor.count((await two.ready()).port)).counter, 2);
    assert.deepEqual(one.all('session.keys-generated'), []);
  });

  test('is kept by keys that the log warns of where SESSION_KEYS is not set', async () => {
    const kit = await startKit();
    assert.match(String((await kit.event('session.keys-generated')).warning), /SESSION_KEYS is not set/);
  });
});

describe('the admin port', { concurrency: CONCURRENCY }, () => {
  test('answers GET on its paths, with or without a query, and nothing else', async () => {
    const kit = await startKit({ app: 'koa.mjs' });
    await kit.ready();
    for (const path of ['/livez', '/readyz', '/startupz', '/metrics', '/status']) {
      for (const query of ['', '?verbose', '?x=1&y=%20']) assert.equal((await kit.probe(path + query)).status, 200, path + query);
      for (const method of ['POST', 'PUT', 'DELETE']) {
        const { status, headers } = await ask(kit.adminPort, path, { method, headers: { 'Content-Length': '0' } });
        assert.equal(status, 405, `${method} ${path}`);
        assert.equal(headers.allow, 'GET');
      }
    }
    for (const path of ['/nothing', '/livez/', '/STATUS', '//livez', '/..%2flivez']) {
      assert.equal((await kit.probe(path)).status, 404, path);
    }
  });

  test('32 /readyz and /startupz say why not while workers start, and /livez says yes', async () => {
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
    let asked = 0;
    await everyWorker(port, 2, async client => {
      const { pid } = await client.askJson<{ pid: number }>('/');
      asked++;
      answeredBy.set(pid, (answeredBy.get(pid) ?? 0) + 1);
      return pid;
    });
    const status = await kit.statusWhere(({ workers }) => workers.reduce((all, { requests }) => all + requests, 0) === asked);
    const worker = {
      id: 'number',
      pid: 'number',
      state: 'string',
      generation: 'number',
      uptimeSeconds: 'number',
      connections: 'number',
      inFlight: 'number',
      requests: 'number',
      responseTimeMs: { mean: 'number', p50: 'number', p99: 'number' },
      eventLoopUtilization: 'number',
      eventLoopDelayMs: 'number',
      memory: { rss: 'number', heapTotal: 'number', heapUsed: 'number' },
      load: 'number',
    };
    const { sizing, drains, ...rest } = status;
    assert.deepEqual(shapeOf(rest), {
      version: 'string',
      pid: 'number',
      state: 'string',
      generation: 'number',
      uptimeSeconds: 'number',
      policy: 'string',
      workers: [worker, worker],
      restarts: { total: 'number', byReason: {} },
    });
    const { workers, wanted, reason, cpus, memory } = sizing as Record<string, unknown>;
    assert.deepEqual([workers, wanted, typeof reason], [2, 2, 'string']);
    assert.deepEqual(Object.keys(cpus as object).sort(), ['cpuset', 'effective', 'quota', 'source']);
    assert.deepEqual(Object.keys(memory as object).sort(), ['heapPerWorkerMb', 'limitBytes', 'source']);
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
    for (let i = 0; i < 7; i++) await ask(port, '/');
    for (let i = 0; i < 3; i++) await ask(port, '/nothing');
    for (let i = 0; i < 2; i++) await ask(port, '/throw');
    await ask(port, '/slow?ms=300');
    await ask(port, '/', { method: 'POST', headers: { 'Content-Length': '0' } });
    await ask(port, '/', { method: 'PROPFIND' });
    await using open = await RawClient.open(port);
    open.write('GET /slow?ms=60000&tell=open HTTP/1.1\r\nHost: x\r\n\r\n');
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

  test('tells no secret', async () => {
    const kit = await startKit({ env: { SESSION_KEYS: 's3cret-key' } });
    const { port } = await kit.ready();
    assert.equal((await ask(port, '/api/counter')).status, 200);
    for (const path of ['/status', '/metrics', '/readyz', '/s3cret']) {
      const { body, headers } = await kit.probe(path);
      assert.ok(body.length > 0);
      assert.doesNotMatch(body + JSON.stringify(headers), /s3cret-key/);
    }
    assert.doesNotMatch(kit.transcript(), /s3cret-key/);
  });

  test('is off with ADMIN_PORT=0, and SIGTERM still drains', async () => {
    const kit = await startKit({ app: 'koa.mjs', env: { ADMIN_PORT: '0' } });
    const { port } = await kit.ready();
    await using client = await RawClient.open(port);
    client.write('GET /slow?ms=400&tell=slow HTTP/1.1\r\nHost: x\r\n\r\n');
    await kit.begun('slow');
    kit.signal('SIGTERM');
    const { status, headers } = await client.answer();
    assert.deepEqual([status, headers.connection], [200, 'close']);
    assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
    assert.deepEqual(kit.all('admin.listening'), []);
  });
});

describe('the demo app', { concurrency: CONCURRENCY }, () => {
  for (const [environment, expected] of [
    ['production', 404],
    ['development', 200],
  ] as const) {
    test(`answers /crash with ${expected} in ${environment}`, async () => {
      const kit = await startKit({ env: { NODE_ENV: environment, SHUTDOWN_DELAY_MS: '0' } });
      const { port } = await kit.ready();
      assert.equal((await ask(port, '/crash')).status, expected);
      if (expected === 200) assert.equal((await kit.event('worker.exit')).reason, 'crash');
      assert.equal((await ask(port, '/slow?ms=1')).status, 200);
      assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
      assert.equal(kit.all('worker.uncaught-exception').length, expected === 200 ? 1 : 0);
    });
  }

  test('escapes what a user calls themselves, and refuses to wait for ever', async () => {
    const kit = await startKit();
    const { port } = await kit.ready();
    const visitor = new Visitor();
    await visitor.ask(port, '/login?user=%3Cscript%3E');
    const { body } = await visitor.ask(port, '/');
    assert.match(body, /Hello, &#60;script&#62;/);
    assert.equal((await ask(port, '/slow?ms=60001')).status, 400);
    assert.equal((await ask(port, '/slow?ms=x')).status, 400);
  });
});

/** Every series of `/metrics` by its name and labels. */
async function scrape(kit: Kit): Promise<Map<string, number>> {
  const { status, body } = await kit.probe('/metrics');
  assert.equal(status, 200, body);
  const lines = body.split('\n').filter(line => line !== '' && !line.startsWith('#'));
  return new Map(lines.map(line => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]));
}

/** Over all labels. */
function sum(series: ReadonlyMap<string, number>, name: string): number {
  return [...series].reduce((total, [key, value]) => (key.replace(/\{.*/, '') === name ? total + value : total), 0);
}

/** Workers report once a second: waits for `expected`, and fails on more than that. */
async function settles(read: () => Promise<number>, expected: number): Promise<void> {
  let last = Number.NaN;
  await until(
    async () => {
      last = await read();
      assert.ok(last <= expected, `${last} is more than ${expected}`);
      return last === expected || undefined;
    },
    () => `${expected} expected, got ${last}`,
  );
}

/** The names and types of a value, without its values. */
function shapeOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(shapeOf);
  if (typeof value !== 'object' || value === null) return value === null ? 'null' : typeof value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, shapeOf(inner)]));
}
