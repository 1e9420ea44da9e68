/**
 * Changes of the pool that meet another one: a worker that can't even be started, a pool made smaller while one is missing, a restart while
 * something else is under way.
 */
import assert from 'node:assert/strict';
import { chmodSync, copyFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { SOON_MS, until } from '../until.ts';
import { RawClient, requestJson, requestText } from './clients.ts';
import { CLEAN, ROOT, startKit } from './kit.ts';
import { startOperated, temporaryFolder } from './operator.ts';
import { rewriteApp, writtenApp } from './written-app.ts';

const CONCURRENCY = 3;

describe('a pool', { concurrency: CONCURRENCY }, () => {
  test('a pool retries when the system refuses to start a worker, and is complete once it can', async () => {
    const program = join(temporaryFolder(), 'node');
    copyFileSync(process.execPath, program);
    chmodSync(program, 0o755);
    const kit = await startKit({
      app: 'koa.mjs',
      command: [program, join(ROOT, 'src', 'main.ts')],
      env: { RESTART_INTENSITY: '1000' },
    });
    const { port } = await kit.ready();
    renameSync(program, `${program}.away`);
    const [victim] = kit.workerPids;
    assert.ok(victim);
    process.kill(victim, 'SIGKILL');
    const { reason, failure } = await kit.event('worker.exit', ({ workerPid }) => workerPid !== victim);
    assert.equal(reason, 'crash');
    // 127: setpriv, which starts the worker where it exists, cannot find the program.
    assert.match(String(failure), /^(cannot be started: spawn .*ENOENT|exit code 127)$/);
    assert.notEqual((await requestJson<{ pid: number }>(port, '/')).pid, victim);
    renameSync(`${program}.away`, program);
    await kit.statusWhere(({ workers }) => workers.filter(({ state }) => state === 'ready').length === 2);
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });

  test('a pool that is scaled down while it starts is ready with the workers that serve', async () => {
    const app = appThat('if (kit.workerId === 3) await new Promise(() => {});');
    const kit = await startKit({ env: { APP_MODULE: app, NODE_CLUSTER_WORKERS: '3' } });
    for (const id of [1, 2]) await kit.event('worker.ready', ({ worker }) => worker === id);
    assert.equal((await kit.probe('/readyz')).status, 503);
    kit.signal('SIGTTOU');
    await kit.ready();
    assert.equal((await kit.probe('/readyz')).status, 200);
  });

  test('a pool that is scaled down keeps the worker that serves instead of the one that does not', async () => {
    const { kit, port, bosun } = await startOperated({ app: 'koa.mjs' });
    const serving = Number((await kit.event('worker.ready', ({ worker }) => worker === 2)).workerPid);
    assert.equal((await bosun('cordon', '1')).code, 0);
    assert.equal((await bosun('scale', '1')).code, 0);
    assert.notEqual((await kit.event('worker.exit')).workerPid, serving);
    assert.equal((await requestJson<{ pid: number }>(port, '/')).pid, serving);
    assert.equal((await kit.probe('/readyz')).status, 200);
  });
});

describe('a worker that drains', { concurrency: CONCURRENCY }, () => {
  test('a draining worker that throws keeps its deadline, and does not count as crashed', async () => {
    const app = appThat("kit.draining.addEventListener('abort', () => setImmediate(() => { throw new Error('as it goes'); }));");
    const { kit, port } = await startOperated({ env: { APP_MODULE: app, RESTART_INTENSITY: '1' } });
    await using client = await RawClient.open(port);
    client.write(requestText('/?ms=9500')); // a worker that crashes has 8 s
    await kit.statusWhere(({ workers }) => workers.some(({ inFlight }) => inFlight === 1));
    kit.signal('SIGHUP');
    assert.equal((await client.answer()).status, 200);
    await kit.event('pool.restarted');
    assert.equal(kit.all('worker.uncaught-exception').length, 2);
    assert.deepEqual((await kit.status()).restarts, { total: 2, byReason: { restart: 2 } });
  });
});

describe('a rolling restart', { concurrency: CONCURRENCY }, () => {
  test('a rolling restart also replaces a worker that is about to replace another one', async () => {
    const { kit, start } = await startOperated({ env: { APP_MODULE: appThat('await sleep(1500);') } });
    const one = start('restart', '--worker', '1');
    await one.printed(/^starting worker 3/m);
    const all = start('restart');
    assert.equal((await one.ended).code, 0);
    assert.equal((await all.ended).code, 0);
    const { workers, generation } = await kit.status();
    assert.equal(generation, 2);
    assert.deepEqual(
      workers.map(worker => worker.generation),
      [2, 2],
    );
  });

  test('a rolling restart fails if the old worker exits by itself and the new one does not start', async () => {
    const app = appThat();
    const { kit, start } = await startOperated({
      env: { APP_MODULE: app, NODE_CLUSTER_WORKERS: '1', RESTART_INTENSITY: '1000' },
    });
    const [old] = kit.workerPids;
    assert.ok(old);
    rewriteApp(app, "await sleep(2500); throw new Error('no database');");
    const restart = start('restart');
    await restart.printed(/^starting worker 2/m);
    process.kill(old, 'SIGKILL');
    const { code, stderr } = await restart.ended;
    assert.equal(code, 1);
    assert.match(stderr, /worker 2, to replace worker 1, failed to start: .*no database/);
    assert.equal((await kit.event('pool.restart-failed')).generation, 1);
  });

  test('a rolling restart fails if no worker serves', async () => {
    const app = appThat();
    const { kit, bosun } = await startOperated({
      env: { APP_MODULE: app, NODE_CLUSTER_WORKERS: '1', RESTART_INTENSITY: '1000' },
    });
    rewriteApp(app, "throw new Error('no database');");
    for (const pid of kit.workerPids) process.kill(pid, 'SIGKILL');
    // By then the pauses between two attempts are longer than a command takes.
    const none = await until(
      async () => {
        await kit.event('pool.backoff', ({ ms }) => Number(ms) >= 3000);
        const ran = await bosun('restart');
        return ran.stdout === '' ? ran : undefined;
      },
      () => kit.transcript(),
      3 * SOON_MS,
    );
    assert.equal(none.code, 1);
    assert.match(none.stderr, /no worker is up/);
    rewriteApp(app, SERVES);
    await kit.statusWhere(({ workers }) => workers.some(({ state }) => state === 'ready'));
  });
});

/** One that waits for the `ms` of its query; `before` is run before it is returned. */
function appThat(before = ''): string {
  return writtenApp(`${before}\n${SERVES}`);
}

const SERVES = `return async (req, res) => {
  await sleep(Number(new URL(req.url, 'http://app').searchParams.get('ms')));
  res.end('{}');
};`;
