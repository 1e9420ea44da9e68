/**
 * What a worker is started with, as a table; no process starts here.
 */
import assert from 'node:assert/strict';
import cluster from 'node:cluster';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { currentSetpriv, endOrphans, forkWorker, isInspected, type SpawnSettings, spawnOptions } from '../src/pool/spawn.ts';
import { SimulatedWorker } from './simulated-worker.ts';

const SETTINGS: SpawnSettings = {
  id: 3,
  entry: '/kit/src/main.ts',
  directory: '/app',
  loading: { module: '/app/server.js', asMain: false },
  commandLine: ['--max-old-space-size=200'],
  nodeOptions: '--enable-source-maps',
  environment: { PATH: '/bin', NODE_ENV: 'production' },
  secrets: { BOSUN_SECRETS: '{}' },
  service: { name: 'shop', isGiven: true, app: 'shop', directory: '/srv/shop', module: 'app.js' },
  resource: { OTEL_RESOURCE_ATTRIBUTES: 'service.name=shop' },
  workerSockets: '/tmp/bosun-workers-a1B2c3',
  colours: { FORCE_COLOR: '1' },
  compileCache: '/cache',
  inherited: { fds: [17, 18], environment: { BOSUN_SCOREBOARD: '4', BOSUN_SOCKETS: '5' } },
  primary: { pid: 7, port: 3000, execPath: '/usr/bin/node' },
  setpriv: undefined,
};

test('a worker is started with its entry, its Node.js options, its heap and the inherited descriptors', () => {
  assert.deepEqual(spawnOptions(SETTINGS), {
    execPath: '/usr/bin/node',
    cluster: {
      exec: '/kit/src/main.ts',
      cwd: '/app',
      execArgv: ['--max-old-space-size=200', '--inspect-publish-uid=stderr'],
      stdio: ['inherit', 'pipe', 'pipe', 'ipc', 17, 18],
      inspectPort: 0,
    },
    environment: {
      PATH: '/bin',
      NODE_ENV: 'production',
      NODE_COMPILE_CACHE: '/cache',
      FORCE_COLOR: '1',
      OTEL_RESOURCE_ATTRIBUTES: 'service.name=shop',
      BOSUN_SECRETS: '{}',
      APP_MODULE: '/app/server.js',
      BOSUN_LOADING: '{"module":"/app/server.js","asMain":false}',
      BOSUN_SERVICE: '{"name":"shop","isGiven":true,"app":"shop","directory":"/srv/shop","module":"app.js"}',
      BOSUN_WORKER_SOCKETS: '/tmp/bosun-workers-a1B2c3',
      NODE_OPTIONS: '--enable-source-maps',
      BOSUN_WORKER_ID: '3',
      BOSUN_SCOREBOARD: '4',
      BOSUN_SOCKETS: '5',
      BOSUN_PRIMARY: '7:3000',
    },
  });
});

test('with setpriv the system ends a worker with its primary', () => {
  const { execPath, cluster } = spawnOptions({ ...SETTINGS, setpriv: '/usr/bin/setpriv' });
  assert.equal(execPath, '/usr/bin/setpriv');
  assert.deepEqual(cluster.execArgv, [
    '--pdeathsig',
    'KILL',
    '/usr/bin/node',
    '--max-old-space-size=200',
    '--inspect-publish-uid=stderr',
  ]);
});

test('a worker that the user inspects keeps its inspector and gets a port of its own', () => {
  for (const change of [{ commandLine: ['--inspect=0'] }, { nodeOptions: '--trace-warnings --inspect-brk' }]) {
    const { cluster } = spawnOptions({ ...SETTINGS, ...change });
    assert.equal(cluster.inspectPort, undefined);
    assert.equal(cluster.execArgv.includes('--inspect-publish-uid=stderr'), false);
  }
});

test('what the operator sets wins over colours and the compile cache, and the kit over all that it needs', () => {
  const environment = {
    NODE_COMPILE_CACHE: '/own',
    FORCE_COLOR: '0',
    APP_MODULE: './server.js',
    NODE_OPTIONS: '--max-old-space-size=9999',
    BOSUN_WORKER_ID: '99',
    BOSUN_SECRETS: 'forged',
    BOSUN_SOCKETS: '0',
    BOSUN_PRIMARY: '1:1',
  };
  assert.deepEqual(spawnOptions({ ...SETTINGS, environment }).environment, {
    NODE_COMPILE_CACHE: '/own',
    FORCE_COLOR: '0',
    OTEL_RESOURCE_ATTRIBUTES: 'service.name=shop',
    APP_MODULE: '/app/server.js',
    BOSUN_LOADING: '{"module":"/app/server.js","asMain":false}',
    BOSUN_SERVICE: '{"name":"shop","isGiven":true,"app":"shop","directory":"/srv/shop","module":"app.js"}',
    NODE_OPTIONS: '--enable-source-maps',
    BOSUN_WORKER_ID: '3',
    BOSUN_SECRETS: '{}',
    BOSUN_WORKER_SOCKETS: '/tmp/bosun-workers-a1B2c3',
    BOSUN_SCOREBOARD: '4',
    BOSUN_SOCKETS: '5',
    BOSUN_PRIMARY: '7:3000',
  });
});

describe('options that open the inspector', () => {
  for (const [option, opens] of [
    ['--inspect', true],
    ['--inspect=127.0.0.1:9229', true],
    ['--inspect-brk', true],
    ['--inspect_wait=1', true],
    ['--inspect-port=9230', false],
    ['--inspect-publish-uid=http', false],
    ['--no-inspect', false],
    ['', false],
  ] as const) {
    test(`${option || 'no option'}: ${opens}`, () => {
      assert.equal(isInspected([option], ''), opens);
      assert.equal(isInspected([], `--a ${option}  --b`), opens);
    });
  }
});

const linuxOnly = { skip: process.platform !== 'linux' || process.pid === 1 };

/** Finds these programs in PATH until the end of the test: a folder for each, in this order. */
function programs(t: TestContext, files: { text: string; mode: number }[]): string[] {
  const root = mkdtempSync(join(tmpdir(), 'bosun-spawn-'));
  const paths = files.map(({ text, mode }, index) => {
    const folder = join(root, String(index));
    mkdirSync(folder);
    writeFileSync(join(folder, 'setpriv'), text, { mode });
    return join(folder, 'setpriv');
  });
  const before = process.env.PATH;
  process.env.PATH = ['relative', join(root, 'none'), ...paths.map(dirname)].join(delimiter);
  t.after(() => {
    process.env.PATH = before;
    rmSync(root, { recursive: true, force: true });
  });
  return paths;
}

/** A fork without a process; `during` sees what node:cluster would. */
function simulateForks(t: TestContext, during: (environment: unknown) => void = () => undefined): SimulatedWorker {
  const worker = new SimulatedWorker();
  t.mock.method(cluster, 'setupPrimary', () => undefined);
  t.mock.method(cluster, 'fork', (environment: unknown) => {
    during(environment);
    return worker.asWorker;
  });
  return worker;
}

test('a worker is started by the program that its options name, which is no longer in force afterwards', t => {
  const { execPath } = process;
  const seen: unknown[] = [];
  const worker = simulateForks(t, environment => void seen.push(process.execPath, environment));
  const options = spawnOptions({ ...SETTINGS, setpriv: '/usr/bin/setpriv' });
  assert.equal(forkWorker(options), worker.asWorker);
  assert.deepEqual(seen, ['/usr/bin/setpriv', options.environment]);
  assert.equal(process.execPath, execPath);
  assert.equal(cluster.schedulingPolicy, cluster.SCHED_NONE);
});

test('the program is no longer in force after a fork that the system refuses', t => {
  const { execPath } = process;
  simulateForks(t, () => {
    throw new Error('spawn ENOMEM');
  });
  assert.throws(() => forkWorker(spawnOptions({ ...SETTINGS, setpriv: '/usr/bin/setpriv' })), /ENOMEM/);
  assert.equal(process.execPath, execPath);
});

test('the setpriv in PATH is used that has --pdeathsig; where it fails, the next worker starts without one', linuxOnly, t => {
  const [, , able = ''] = programs(t, [
    { text: 'BusyBox', mode: 0o755 },
    { text: 'pdeathsig', mode: 0o644 },
    { text: 'with --pdeathsig', mode: 0o755 },
  ]);
  const options = spawnOptions({ ...SETTINGS, setpriv: able });
  const ends = (event: 'exit' | 'error', value: unknown, execPath = options.execPath) => {
    const worker = simulateForks(t);
    forkWorker({ ...options, execPath });
    worker.process.on('error', () => undefined);
    worker.process.emit(event, value);
    t.mock.restoreAll();
  };
  ends('error', new Error('ENOENT')); // searches again, whatever was found before
  assert.equal(currentSetpriv(), able);
  for (const code of [0, 1, 125, null]) ends('exit', code);
  ends('exit', 127, process.execPath); // not its exit code
  assert.equal(currentSetpriv(), able, 'the worker itself has ended');
  rmSync(able);
  assert.equal(currentSetpriv(), able, 'it is searched once');
  ends('exit', 126);
  assert.equal(currentSetpriv(), undefined);
  ends('error', new Error('ENOENT'));
  assert.equal(currentSetpriv(), undefined, 'it was removed');
});

test('a port without workers of a dead primary has no orphans', async () => {
  assert.equal(await endOrphans(1, () => assert.fail('nothing to log')), 0);
});
