/**
 * What a worker is started with, as a table; no process starts here.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isInspected, type SpawnSettings, spawnOptions } from '../src/pool/spawn.ts';

const SETTINGS: SpawnSettings = {
  id: 3,
  entry: '/kit/src/main.ts',
  directory: '/app',
  appModule: '/app/server.js',
  commandLine: ['--max-old-space-size=200'],
  nodeOptions: '--enable-source-maps',
  environment: { PATH: '/bin', NODE_ENV: 'production' },
  secrets: { BOSUN_SECRETS: '{}' },
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
      BOSUN_SECRETS: '{}',
      APP_MODULE: '/app/server.js',
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
    APP_MODULE: '/app/server.js',
    NODE_OPTIONS: '--enable-source-maps',
    BOSUN_WORKER_ID: '3',
    BOSUN_SECRETS: '{}',
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
