/**
 * Workers that fail to start: a serving pool is unaffected, a first start ends at a known time, and the reason is visible.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { until } from '../until.ts';
import { request } from './clients.ts';
import { CLEAN, type Kit, ROOT, startKit } from './kit.ts';
import { bosun as runBosun, startOperated, temporaryFolder } from './operator.ts';
import { rewriteApp, writtenApp } from './written-app.ts';

/** Most of a test is waiting. */
const CONCURRENCY = 4;
const SERVES = "return (req, res) => res.end('ok');";
const NO_DATABASE = "throw Object.assign(new Error('connect to secret.example'), { code: 'ECONNREFUSED' });";
const FAILED: { code: number; signal: null } = { code: 1, signal: null };

describe('a serving pool', { concurrency: CONCURRENCY }, () => {
  test('a worker that becomes ready in time serves, though the primary runs only after WORKER_START_TIMEOUT_MS', async () => {
    const folder = temporaryFolder();
    const app = writtenApp(`
      const { writeFileSync } = await import('node:fs');
      writeFileSync(\`${folder}/\${process.pid}\`, '');
      await sleep(300);
      return (req, res) => res.end('ok');
    `);
    const kit = await startKit({ env: { APP_MODULE: app, WORKER_START_TIMEOUT_MS: '3000' } });
    await kit.ready();
    const before = readdirSync(folder);
    const [killed = 0] = kit.workerPids;
    process.kill(killed, 'SIGKILL');
    const look = () => readdirSync(folder).find(pid => !before.includes(pid));
    const fresh = Number(await until(look, () => `no new worker; ${kit.transcript()}`));
    kit.signal('SIGSTOP');
    await sleep(4000);
    kit.signal('SIGCONT');
    await kit.event('worker.ready', ({ workerPid }) => workerPid === fresh);
    assert.equal((await kit.event('worker.exit')).workerPid, killed);
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
    assert.ok(!kit.all('worker.exit').some(({ reason }) => reason === 'start-timeout'), kit.transcript());
  });

  test('a serving pool goes on when no new worker starts, shows why, and recovers when one does', async () => {
    const app = writtenApp(SERVES);
    const env = { APP_MODULE: app, RESTART_INTENSITY: '1', WORKER_MAX_AGE_MS: '3000' };
    const { kit, port, bosun } = await startOperated({ env });
    rewriteApp(app, NO_DATABASE);
    for (let count = 0; count < 3; count++) {
      const { code, stderr } = await bosun('restart');
      assert.equal(code, 1);
      assert.match(stderr, /failed to start: .*connect to secret\.example/);
    }
    await kit.event('worker.replace-failed');
    const [victim = 0] = kit.workerPids;
    process.kill(victim, 'SIGKILL');
    await kit.event('pool.backoff', ({ ms }) => ms === 5000);
    assert.equal((await request(port, '/')).status, 200);

    const { status, body } = await kit.probe('/readyz');
    assert.equal(status, 200);
    assert.match(body, /1 of 2 workers serve; the last start failed: crash, Error ECONNREFUSED at \S+app\.mjs:\d+/);
    const { failedStarts } = await kit.status();
    const { count, last } = failedStarts as { count: number; last: { reason: string; error: { class: string; code: string } } };
    assert.ok(count > 5, `${count} failed starts`);
    assert.deepEqual([last.reason, last.error.class, last.error.code], ['crash', 'Error', 'ECONNREFUSED']);
    const metrics = (await kit.probe('/metrics')).body;
    assert.match(metrics, /^bosun_failed_starts_total [1-9]\d*$/m);
    for (const open of [body, JSON.stringify(await kit.status()), metrics]) assert.doesNotMatch(open, /secret\.example/);
    assert.match((await bosun('status', '--json')).stdout, /secret\.example/, 'the control socket shows the text');
    const text = (await bosun('status')).stdout;
    assert.match(text, /^koa-bosun .* ready for \d+ s \(1 of 2 workers serve; the last start failed: crash, .*\), generation/);
    const doctor = await bosun('doctor');
    assert.equal(doctor.code, 1);
    assert.match(doctor.stdout, /^problem +workers +1 of 2 serve: worker \d failed \(crash\): .*secret\.example/m);
    assert.match(text, /^failed starts: \d+; the last \d+ s ago, worker \d \(crash\): .*secret\.example/m);
    const { stack } = await kit.event('worker.failed');
    assert.match(String(stack), /^Error: connect to secret\.example\n +at .*app\.mjs:\d+/);

    rewriteApp(app, SERVES);
    await kit.statusWhere(({ workers }) => workers.filter(({ state }) => state === 'ready').length >= 2);
    assert.doesNotMatch((await kit.probe('/readyz')).body, /workers serve/);
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });

  test('a serving pool goes on when every fork throws, and answers the operator', async () => {
    const refused = join(temporaryFolder(), 'refused');
    const { kit, socket } = await startRefusing(refused);
    const { port } = await kit.ready();
    await kit.event('control.listening');
    writeFileSync(refused, '');
    const [victim = 0] = kit.workerPids;
    const { code, stderr } = await runBosun(socket, ['restart']);
    assert.equal(code, 1);
    assert.match(stderr, /failed to start: cannot be started: spawn ENOMEM/);
    process.kill(victim, 'SIGKILL');
    await kit.event('pool.backoff', ({ ms }) => Number(ms) >= 400);
    assert.equal((await request(port, '/')).status, 200);
    rmSync(refused);
    await kit.statusWhere(({ workers }) => workers.filter(({ state }) => state === 'ready').length >= 2);
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });
});

describe('a pool with a worker that cannot start', { concurrency: CONCURRENCY }, () => {
  test('a pool is ready without a failing worker after WORKER_START_TIMEOUT_MS, and the probe shows why', async () => {
    const app = writtenApp(`if (kit.workerId === 2) { ${NO_DATABASE} }\n${SERVES}`);
    const kit = await startKit({ env: { APP_MODULE: app, WORKER_START_TIMEOUT_MS: '3000' } });
    await kit.event('worker.failed');
    assert.equal((await kit.probe('/readyz')).status, 503);
    const { workers, wanted } = await kit.event('pool.ready');
    assert.deepEqual([workers, wanted], [1, 2]);
    const { status, body } = await kit.probe('/readyz');
    assert.equal(status, 200);
    assert.match(body, /1 of 2 workers serve; the last start failed: crash, Error ECONNREFUSED/);
    assert.equal((await kit.probe('/startupz')).status, 200);
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });
});

describe('a first start', { concurrency: CONCURRENCY }, () => {
  test('a first start that fails is retried until it serves', async () => {
    const folder = temporaryFolder();
    const app = writtenApp(`const { existsSync } = createRequire(import.meta.url)('node:fs');
      if (!existsSync(${JSON.stringify(join(folder, 'database'))})) { ${NO_DATABASE} }
      ${SERVES}`);
    const kit = await startKit({ env: { APP_MODULE: app, RESTART_INTENSITY: '0' } });
    await kit.event('pool.backoff', ({ ms }) => ms === 400);
    writeFileSync(join(folder, 'database'), '');
    await kit.ready();
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });

  test('a first start that keeps failing backs off, and ends after START_TIMEOUT_MS with code 1 and the last error', async () => {
    const env = { NODE_CLUSTER_WORKERS: '1', RESTART_INTENSITY: '0', START_TIMEOUT_MS: '6000' };
    const kit = await startKit({ app: 'throws.mjs', env, detached: true });
    assert.deepEqual(await kit.exit(), FAILED, kit.transcript());
    assert.deepEqual(
      kit
        .all('pool.backoff')
        .map(({ ms }) => ms)
        .slice(0, 3),
      [100, 200, 400],
    );
    const { error, code } = await kit.event('primary.abort');
    assert.equal(code, 1);
    assert.match(
      String(error),
      /no worker became ready within 6000 ms \(START_TIMEOUT_MS\); last failure: worker 1: .*throws\.mjs.*no database/,
    );
    await kit.workersGone();
  });

  test('a first start whose workers are killed backs off, and ends after START_TIMEOUT_MS', async () => {
    const app = writtenApp("process.kill(process.pid, 'SIGKILL');");
    const env = { APP_MODULE: app, START_TIMEOUT_MS: '3000' };
    const kit = await startKit({ env, detached: true });
    assert.deepEqual(await kit.exit(), FAILED, kit.transcript());
    const exits = kit.all('worker.exit').filter(({ reason }) => reason === 'killed');
    assert.ok(exits.length >= 3 && exits.length <= 12, `${exits.length} forks in 3 s`);
    for (const { level } of exits) assert.equal(level, 'error');
    assert.ok(kit.all('pool.backoff').length >= 2);
    await kit.workersGone();
  });

  test('bosun status works while a first start fails, also with PORT=0', async () => {
    const socket = join(temporaryFolder(), 'control.sock');
    const kit = await startKit({ app: 'throws.mjs', env: { CONTROL_SOCKET: socket, NODE_CLUSTER_WORKERS: '1' } });
    await kit.event('control.listening');
    const { stdout } = await runBosun(socket, ['status', '--json']);
    assert.equal(JSON.parse(stdout).state, 'starting');
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });

  test('a first start that is always too slow ends after START_TIMEOUT_MS', async () => {
    const env = { WORKER_START_TIMEOUT_MS: '300', START_TIMEOUT_MS: '5000' };
    const kit = await startKit({ app: 'never-ready.mjs', env, detached: true });
    assert.deepEqual(await kit.exit(), FAILED, kit.transcript());
    const late = kit.all('worker.exit').filter(({ reason }) => reason === 'start-timeout');
    assert.ok(late.length >= 2, `${late.length} worker(s) timed out`);
    for (const { failure } of late) assert.match(String(failure), /not ready within 300 ms \(WORKER_START_TIMEOUT_MS\)/);
    await kit.workersGone();
  });

  test('a first start whose forks the system refuses ends after START_TIMEOUT_MS', async () => {
    const refused = join(temporaryFolder(), 'refused');
    writeFileSync(refused, '');
    const { kit } = await startRefusing(refused, { START_TIMEOUT_MS: '1000' });
    assert.deepEqual(await kit.exit(), FAILED, kit.transcript());
    assert.match(String((await kit.event('primary.abort')).error), /cannot be started: spawn ENOMEM/);
  });

  for (const [what, body] of [
    ['imports a module that is missing', "await import('./nowhere.mjs');"],
    [
      'listens on a port in use',
      "(await import('node:net')).createServer().listen(Number(process.env.TAKEN), '127.0.0.1'); await sleep(60000);",
    ],
  ] as const)
    test(`a first start of an app that ${what} ends at once`, async () => {
      await using blocker = createServer().listen(0, '127.0.0.1');
      await once(blocker, 'listening');
      const TAKEN = String((blocker.address() as AddressInfo).port);
      const kit = await startKit({
        env: { APP_MODULE: writtenApp(body), TAKEN, START_TIMEOUT_MS: '600000' },
        detached: true,
      });
      assert.deepEqual(await kit.exit(), FAILED, kit.transcript());
      assert.deepEqual(kit.all('pool.backoff'), []);
      await kit.workersGone();
    });
});

test('a pool whose workers all die soon after they are ready exits with 70', async () => {
  const app = writtenApp(`setTimeout(() => process.exit(3), 700);\n${SERVES}`);
  const kit = await startKit({ env: { APP_MODULE: app, RESTART_INTENSITY: '2' }, detached: true });
  assert.deepEqual(await kit.exit(), { code: 70, signal: null }, kit.transcript());
  const { error } = await kit.event('primary.abort');
  assert.match(
    String(error),
    /^workers keep crashing: more than 2 times .*, and none serves; last failure: worker \d: .*exit.*3/,
  );
  await kit.workersGone();
});

/** A kit whose forks throw ENOMEM while there is a file `refused`. */
async function startRefusing(refused: string, env: Record<string, string> = {}): Promise<{ kit: Kit; socket: string }> {
  const folder = temporaryFolder();
  const preload = join(folder, 'refuse.mjs');
  writeFileSync(
    preload,
    `import cluster from 'node:cluster';
    import { existsSync } from 'node:fs';
    const fork = cluster.fork;
    if (cluster.isPrimary)
      cluster.fork = environment => {
        if (existsSync(${JSON.stringify(refused)})) throw Object.assign(new Error('spawn ENOMEM'), { code: 'ENOMEM' });
        return fork.call(cluster, environment);
      };`,
  );
  const socket = join(folder, 'control.sock');
  const command: [string, ...string[]] = [process.execPath, '--import', preload, join(ROOT, 'src', 'main.ts')];
  const kit = await startKit({ app: 'koa.mjs', command, env: { CONTROL_SOCKET: socket, ...env } });
  return { kit, socket };
}
