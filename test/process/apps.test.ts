/**
 * Every kind of app serves, behind a proxy too, and what can't serve is named.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { freePort } from '../free-port.ts';
import { until } from '../until.ts';
import { Visitor } from '../visitor.ts';
import { everyWorker, type RawClient, request } from './clients.ts';
import { APPS, CLEAN, startKit } from './kit.ts';
import { temporaryFolder } from './operator.ts';

const CONCURRENCY = 3;
const RESPONSE_TIME = /^\d+\.\dms$/;

describe('an app', { concurrency: CONCURRENCY }, () => {
  const APPS_THAT_SERVE = ['koa.mjs', 'factory.ts', 'listener.mjs', 'express-style.cjs', undefined];
  for (const app of APPS_THAT_SERVE) {
    test(`the app ${app ?? 'of the demo'} serves in every worker`, async () => {
      const kit = await startKit({ ...(app && { app }) });
      const { port } = await kit.ready();
      const path = app === undefined ? '/api/counter' : '/';
      const visit = async (client: RawClient): Promise<number> => {
        const { status, headers, body } = await client.request(path);
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
      const { status, headers } = await request(port, path, { method, headers: { 'Content-Length': '0' } });
      assert.equal(status, expected, path);
      assert.match(headers['x-response-time'] ?? '', RESPONSE_TIME, path);
    }
    const { headers } = await request(port, '/slow?ms=120');
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
      const { status, headers } = await request(port, path);
      assert.equal(status, expected);
      assert.equal(headers['x-response-time'], undefined);
    }
  });

  for (const [trusted, ip] of [
    ['true', '203.0.113.7'],
    ['false', '127.0.0.1'],
  ] as const) {
    test(`with TRUST_PROXY=${trusted} an app behind a proxy that forwards 203.0.113.7 sees ${ip}`, async () => {
      const kit = await startKit({ app: 'factory.ts', env: { TRUST_PROXY: trusted } });
      const { port } = await kit.ready();
      const { body } = await request(port, '/', { headers: { 'X-Forwarded-For': '203.0.113.7' } });
      assert.equal(JSON.parse(body).ip, ip);
    });
  }

  for (const [file, expected] of [
    [
      'wrong-export.mjs',
      'must export a Koa, Express, Fastify, NestJS or Hapi app, an http.Server, a request listener (req, res), or an object with fetch',
    ],
    ['no-default.mjs', 'got no default export'],
    ['throws.mjs', "can't be loaded: no database"],
    ['missing.mjs', 'does not exist; expected a module that exports a Koa, Express, '],
    ['exports-nothing.cjs', 'got an empty object; is "module.exports = app" missing?'],
    [
      'returns-nothing.mjs',
      'must return a Koa, Express, Fastify, NestJS or Hapi app, an http.Server, a request listener (req, res), or an object with fetch(Request), got undefined',
    ],
  ] as const) {
    test(`a start with the unusable app ${file} fails, and the error names the file and what was expected`, async () => {
      const kit = await startKit({ app: file, env: { START_TIMEOUT_MS: '500' }, detached: true });
      assert.deepEqual(await kit.exit(), { code: 1, signal: null }, kit.transcript());
      const { stage, error, stack } = await kit.event('worker.failed');
      assert.equal(stage, 'app');
      assert.doesNotMatch(String(stack), /at .*src\/worker\//, 'frames of the kit do not concern the app');
      for (const { failure = '' } of kit.all('worker.exit'))
        assert.ok(!String(failure).includes(expected), 'a failure is logged once');
      const abort = await kit.event('primary.abort');
      for (const words of [String(error), String(abort.error)]) {
        assert.ok(words.includes(join(APPS, file)), `${words} must name the file`);
        assert.ok(words.includes(expected), `${words} must say: ${expected}`);
      }
      await kit.workersGone();
    });
  }

  test('an ES module that cannot be parsed ends the start, and the stack has its file, line and text', async () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'app.mjs'), "import './routes.mjs';\nexport default (req, res) => res.end();\n");
    const routes = join(folder, 'routes.mjs');
    writeFileSync(routes, 'export const routes = () => {\n  get(;\n};\n');
    const kit = await startKit({ env: { APP_MODULE: join(folder, 'app.mjs') }, detached: true });
    assert.deepEqual(await kit.exit(), { code: 1, signal: null }, kit.transcript());
    const { stack } = await kit.event('worker.failed');
    assert.ok(String(stack).startsWith(`${routes}:2\n  get(;\n`), String(stack));
    await kit.workersGone();
  });

  test('an app that also listens on another port serves, and the log warns that its connections are not drained', async () => {
    const elsewhere = await freePort();
    const env = { PORT: String(await freePort()), LISTEN_ON: String(elsewhere), LISTEN_WHEN: 'later' };
    const kit = await startKit({ app: 'listens-itself.cjs', env });
    const { port } = await kit.ready();
    assert.equal((await request(port, '/')).body, 'hello');
    assert.equal((await kit.event('app.listens')).port, elsewhere);
    await until(
      () =>
        request(elsewhere, '/').then(
          ({ body }) => body === 'hello' || undefined,
          () => undefined,
        ),
      () => kit.transcript(),
    );
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });
});

describe('the demo app', { concurrency: CONCURRENCY }, () => {
  for (const [environment, expected] of [
    ['production', 404],
    ['development', 200],
  ] as const) {
    test(`the demo app answers /crash with ${expected} in ${environment}`, async () => {
      const kit = await startKit({ env: { NODE_ENV: environment, SHUTDOWN_DELAY_MS: '0' } });
      const { port } = await kit.ready();
      assert.equal((await request(port, '/crash')).status, expected);
      if (expected === 200) assert.equal((await kit.event('worker.exit')).reason, 'crash');
      assert.equal((await request(port, '/slow?ms=1')).status, 200);
      assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
      assert.equal(kit.all('worker.uncaught-exception').length, expected === 200 ? 1 : 0);
    });
  }

  test('the demo app escapes user names, and limits how long a client may make it wait', async () => {
    const kit = await startKit();
    const { port } = await kit.ready();
    const visitor = new Visitor();
    await visitor.request(port, '/login?user=%3Cscript%3E');
    const { body } = await visitor.request(port, '/');
    assert.match(body, /Hello, &#60;script&#62;/);
    assert.equal((await request(port, '/slow?ms=60001')).status, 400);
    assert.equal((await request(port, '/slow?ms=x')).status, 400);
  });
});
