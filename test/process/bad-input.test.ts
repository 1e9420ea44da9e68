/**
 * Invalid settings: all problems are listed at once, with an exit code, and no process is left.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { freePort } from '../free-port.ts';
import { request, requestJson } from './clients.ts';
import { CLEAN, startKit } from './kit.ts';

const BAD_CONFIG = { code: 78, signal: null };
const CONCURRENCY = 3;

describe('bad configuration', { concurrency: CONCURRENCY }, () => {
  test('bad configuration exits with 78, lists all problems on standard error and starts nothing (case 38)', async () => {
    const kit = await startKit({
      app: 'koa.mjs',
      env: {
        NODE_CLUSTER_WORKERS: 'two',
        NODE_CLUSTER_SCHED_POLICY: 'fastest',
        PORT: '70000',
        SHUTDOWN_TIMEOUT_MS: '-1',
        TRUST_PROXY: 'perhaps',
        LOG_LEVEL: 'loud',
        LOG_REQUESTS: '101%',
      },
      detached: true,
    });
    assert.deepEqual(await kit.exit(), BAD_CONFIG);
    const [title, ...problems] = kit.stderr.trimEnd().split('\n');
    assert.equal(title, 'bad configuration:');
    const names = [
      'NODE_CLUSTER_WORKERS',
      'NODE_CLUSTER_SCHED_POLICY',
      'PORT',
      'SHUTDOWN_TIMEOUT_MS',
      'TRUST_PROXY',
      'LOG_LEVEL',
      'LOG_REQUESTS',
    ];
    const given = ['"two"', '"fastest"', '"70000"', '"-1"', '"perhaps"', '"loud"', '"101%"'];
    assert.equal(problems.length, names.length, kit.stderr);
    for (const [index, name] of names.entries()) {
      const problem = problems.find(line => line.trimStart().startsWith(`${name} must be `)) ?? '';
      assert.ok(problem.endsWith(`got ${given[index]} (environment)`), `${name}: ${problem}`);
    }
    assert.deepEqual(kit.events, []);
    await kit.workersGone();
  });

  test('the error about bad configuration shows no secret', async () => {
    const kit = await startKit({ env: { REDIS_URL: 'http://user:s3cret@127.0.0.1', ADMIN_PORT: 'x' } });
    assert.deepEqual(await kit.exit(), BAD_CONFIG);
    assert.match(kit.stderr, /REDIS_URL must be /);
    assert.match(kit.stderr, /ADMIN_PORT must be .*, got "x"/);
    assert.doesNotMatch(kit.stderr, /s3cret/);
  });

  test('two settings that contradict each other are bad configuration', async () => {
    const port = String(await freePort());
    const kit = await startKit({ app: 'koa.mjs', env: { PORT: port, ADMIN_PORT: port } });
    assert.deepEqual(await kit.exit(), BAD_CONFIG);
    assert.match(kit.stderr, new RegExp(`ADMIN_PORT must differ from PORT, got ${port} for both`));
    assert.deepEqual(kit.events, []);
  });
});

describe('a port in use', { concurrency: CONCURRENCY }, () => {
  for (const policy of ['rr', 'none', 'reuseport']) {
    test(`a PORT in use causes a clear error and exit code 1, and leaves no process, policy ${policy}`, async () => {
      await using other = await listening();
      const env = { PORT: String(other.port), NODE_CLUSTER_SCHED_POLICY: policy };
      const kit = await startKit({ app: 'koa.mjs', env, detached: true });
      assert.deepEqual(await kit.exit(), { code: 1, signal: null }, kit.transcript());
      const { error, code } = await kit.event('primary.abort');
      assert.equal(code, 1);
      assert.match(String(error), new RegExp(`^127\\.0\\.0\\.1:${other.port}: cannot listen: .*EADDRINUSE.*\\(HOST, PORT\\)$`));
      assert.deepEqual([kit.all('worker.ready'), kit.all('app.listening')], [[], []]);
      await kit.workersGone();
    });
  }

  test('an ADMIN_PORT in use causes a clear error and exit code 1, and leaves no process', async () => {
    await using other = await listening();
    const kit = await startKit({ app: 'koa.mjs', env: { ADMIN_PORT: String(other.port) }, detached: true });
    assert.deepEqual(await kit.exit(), { code: 1, signal: null }, kit.transcript());
    const { error } = await kit.event('primary.abort');
    assert.match(String(error), new RegExp(`127\\.0\\.0\\.1:${other.port}: cannot listen: .*EADDRINUSE.*ADMIN_PORT`));
    await kit.workersGone();
  });
});

describe('.env', { concurrency: CONCURRENCY }, () => {
  test('.env of the working directory is loaded, and real variables win', async () => {
    const cwd = await folderWith({
      'app.mjs': 'export default (_req, res) => res.end(JSON.stringify(process.env.GREETING));',
      '.env': 'APP_MODULE=app.mjs\nGREETING="hello from .env"\nRESPONSE_TIME_HEADER=false\nNODE_CLUSTER_WORKERS=7\n',
    });
    const kit = await startKit({ cwd });
    const { port } = await kit.ready();
    assert.equal(await requestJson(port, '/'), 'hello from .env');
    assert.equal((await request(port, '/')).headers['x-response-time'], undefined);
    assert.equal((await kit.status()).workers.length, 2, 'NODE_CLUSTER_WORKERS=2 is in the environment');
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });

  test('an error about a variable from .env names that file', async () => {
    const cwd = await folderWith({ '.env': 'KEEP_ALIVE_TIMEOUT_MS=soon\nPORT=nowhere\n' });
    const kit = await startKit({ cwd, env: { LOG_LEVEL: 'loud' } });
    assert.deepEqual(await kit.exit(), BAD_CONFIG);
    assert.match(kit.stderr, /KEEP_ALIVE_TIMEOUT_MS must be .*, got "soon" \(\.env\)\n/);
    assert.match(kit.stderr, /LOG_LEVEL must be .*, got "loud" \(environment\)\n/);
    assert.doesNotMatch(kit.stderr, /PORT must/, 'PORT=0 is in the environment');
  });

  test('.env is not loaded in production', async () => {
    const cwd = await folderWith({
      'app.mjs': 'export default (_req, res) => res.end(JSON.stringify(process.env.GREETING ?? null));',
      '.env': 'GREETING=hello\nPORT=nowhere\nLOG_LEVEL=loud\n',
    });
    const kit = await startKit({ cwd, env: { NODE_ENV: 'production', APP_MODULE: 'app.mjs', SHUTDOWN_DELAY_MS: '0' } });
    const { port } = await kit.ready();
    assert.equal(await requestJson(port, '/'), null);
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });
});

interface Listening {
  port: number;
  [Symbol.asyncDispose](): Promise<void>;
}

async function listening(): Promise<Listening> {
  const server: Server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  assert.ok(typeof address === 'object' && address !== null);
  return {
    port: address.port,
    [Symbol.asyncDispose]: async () => {
      server.close();
      await once(server, 'close');
    },
  };
}

/** A temporary working directory. */
async function folderWith(files: Record<string, string>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'bosun-test-'));
  after(() => rm(folder, { recursive: true, force: true }));
  for (const [name, content] of Object.entries(files)) await writeFile(join(folder, name), content);
  return folder;
}
