/**
 * Heap snapshots and CPU profiles: the files load, and no request is lost.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, test } from 'node:test';
import { freePort } from '../free-port.ts';
import { until } from '../until.ts';
import { request } from './clients.ts';
import { assertProfile, assertSnapshot, pidOf, startWithFolder } from './diagnoses.ts';
import { CLEAN, type Kit } from './kit.ts';
import { freshLoad, keepAliveLoad } from './loads.ts';
import { postControl, Running, startOperated, temporaryFolder } from './operator.ts';

/** A heap snapshot keeps a CPU busy. */
const CONCURRENCY = 2;
/** A snapshot of a small heap takes about a second, and longer beside another one on busy CPUs. */
const PATIENCE_MS = 40_000;

describe('bosun heap-snapshot', { concurrency: CONCURRENCY }, () => {
  test('bosun heap-snapshot writes a file of mode 0600 to DIAGNOSTICS_DIR, named by pid and time', async () => {
    const { kit, folder, bosun } = await startWithFolder();
    const { code, stdout, stderr } = await bosun('heap-snapshot', '--worker', '2', '--json');
    assert.deepEqual([code, stderr], [0, '']);
    const { worker, file } = JSON.parse(stdout) as { worker: number; file: string };
    const pid = pidOf(kit, 2);
    assert.equal(worker, 2);
    assert.match(file, new RegExp(`^${folder}/bosun-${pid}-\\d{4}-\\d\\d-\\d\\dT[\\d-]+Z\\.heapsnapshot$`));
    assert.deepEqual(readdirSync(folder), [basename(file)]);
    assert.equal(statSync(file).mode & 0o777, 0o600);
    assertSnapshot(readFileSync(file, 'utf8'));
    const event = await kit.event('worker.diagnosed');
    assert.deepEqual([event.worker, event.kind, event.file], [2, 'heap-snapshot', file]);
    const states = (await kit.statusWhere(({ workers }) => workers.every(({ state }) => state === 'ready'))).workers;
    assert.deepEqual(
      states.map(state => state.pid),
      [pidOf(kit, 1), pid],
    );
  });

  test('bosun heap-snapshot writes to --output, relative to the working directory of the operator', async () => {
    const { socket, folder } = await startWithFolder();
    const options = { cwd: folder };
    const args = ['heap-snapshot', '--socket', socket, '--output'];
    const { code, stdout } = await new Running([...args, 'mine.heapsnapshot'], options).ended;
    assert.equal(code, 0);
    assert.match(stdout, new RegExp(`^worker \\d: ${folder}/mine\\.heapsnapshot\n$`));
    assertSnapshot(readFileSync(join(folder, 'mine.heapsnapshot'), 'utf8'));
    const missing = await new Running([...args, 'missing/mine.heapsnapshot'], options).ended;
    assert.deepEqual([missing.code, missing.stdout], [1, '']);
    assert.match(missing.stderr, /^bosun: ENOENT: .*missing/);
  });

  test('heap-snapshot and cpu-profile overwrite no file and follow no link', async () => {
    const { kit, folder, bosun } = await startWithFolder();
    const [precious, link, dangling] = ['precious', 'link', 'dangling'].map(name => join(folder, name)) as [
      string,
      string,
      string,
    ];
    writeFileSync(precious, 'data');
    symlinkSync(precious, link);
    symlinkSync(join(folder, 'elsewhere'), dangling);
    for (const file of [precious, link, dangling]) {
      for (const command of [['heap-snapshot'], ['cpu-profile', '--seconds', '0.1']]) {
        const { code, stdout, stderr } = await bosun(...command, '--output', file);
        assert.deepEqual([code, stdout], [1, '']);
        assert.equal(stderr, `bosun: ${file} exists and is not overwritten; remove it or name another file\n`);
      }
    }
    assert.deepEqual(readdirSync(folder).sort(), ['dangling', 'link', 'precious']);
    assert.equal(readFileSync(precious, 'utf8'), 'data');
    await kit.statusWhere(({ workers }) => workers.every(({ state }) => state === 'ready'));
  });

  test('bosun heap-snapshot --output - streams to standard output and leaves no file', async () => {
    const { folder, bosun } = await startWithFolder({ DIAGNOSTICS_DIR: '/nowhere' });
    const { code, stdout, stderr } = await bosun('heap-snapshot', '--output', '-');
    assert.deepEqual([code, stderr], [0, '']);
    assertSnapshot(stdout);
    assert.deepEqual(readdirSync(folder), []);
  });

  // With rr: see SIGUSR2.
  test('a heap snapshot loses no request: the other workers answer meanwhile, policy none', async () => {
    const { kit, port, bosun } = await startWithFolder({ NODE_CLUSTER_SCHED_POLICY: 'none' });
    const loads = [keepAliveLoad(port), freshLoad(port), keepAliveLoad(port, { path: '/slow?ms=100' })];
    for (const load of loads) await load.answered(20);
    let isWriting = true;
    const writing = bosun('heap-snapshot', '--worker', '1').finally(() => {
      isWriting = false;
    });
    let wasCordoned = false;
    while (isWriting) {
      const { workers } = await kit.status();
      wasCordoned ||= workers[0]?.state === 'cordoned';
      assert.equal(workers[1]?.state, 'ready');
    }
    assert.equal((await writing).code, 0);
    assert.ok(wasCordoned, 'it took no new connections meanwhile');
    for (const load of loads) {
      await load.answered(load.result.answered + 20);
      const { failures, refused } = await load.stop();
      assert.deepEqual({ failures, refused }, { failures: [], refused: 0 });
    }
    await kit.statusWhere(({ workers }) => workers.every(({ state }) => state === 'ready'));
    assert.deepEqual(kit.all('worker.exit'), []);
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });

  test('a heap snapshot of the only worker delays its clients and refuses none', async () => {
    const { kit, port, bosun } = await startWithFolder({ NODE_CLUSTER_WORKERS: '1', PORT: String(await freePort()) });
    const load = freshLoad(port, { everyMs: 5 });
    await load.answered(20);
    assert.equal((await bosun('heap-snapshot')).code, 0);
    await load.answered(load.result.answered + 20);
    const { failures, refused } = await load.stop();
    assert.deepEqual({ failures, refused }, { failures: [], refused: 0 });
    assert.deepEqual(kit.all('worker.exit'), []);
  });

  test('a worker that writes a heap snapshot does not count as hung, however long it takes', async t => {
    // A heap with so many objects blocks the loop for longer than that.
    const timeoutMs = 1000;
    const env = { APP_MODULE: 'big.mjs', WORKER_HEARTBEAT_TIMEOUT_MS: String(timeoutMs), NODE_CLUSTER_WORKERS: '1' };
    const cwd = temporaryFolder();
    writeFileSync(
      join(cwd, 'big.mjs'),
      'const big = Array.from({ length: 4e5 }, (_, id) => ({ id, name: String(id) })); export default (req, res) => res.end(String(big.length));',
    );
    const { kit, port, start: run } = await startOperated({ cwd, env: { ...env, DIAGNOSTICS_DIR: cwd } });
    const snapshot = run('heap-snapshot');
    // While no request is answered, the event loop is blocked.
    let longestMs = 0;
    let isOver = false;
    void snapshot.ended.finally(() => {
      isOver = true;
    });
    while (!isOver) {
      const sentAt = performance.now();
      assert.equal((await request(port, '/')).status, 200);
      longestMs = Math.max(longestMs, performance.now() - sentAt);
    }
    const { code, stderr } = await snapshot.ended;
    assert.equal(code, 0, stderr);
    t.diagnostic(`the loop was blocked for ${Math.round(longestMs)} ms`);
    assert.ok(longestMs > timeoutMs * 1.3, `the loop was blocked for ${longestMs} ms only: this shows nothing`);
    assert.deepEqual(kit.all('worker.replace'), []);
  });
});

describe('bosun cpu-profile', { concurrency: CONCURRENCY }, () => {
  test('bosun cpu-profile writes a profile with the samples of --seconds', async () => {
    const { kit, folder, port, bosun } = await startWithFolder();
    const load = keepAliveLoad(port, { pauseMs: 0 });
    await load.answered(10);
    const startedAt = performance.now();
    const { code, stdout, stderr } = await bosun('cpu-profile', '--worker', '1', '--seconds', '1.5');
    assert.ok(performance.now() - startedAt >= 1500);
    assert.deepEqual([code, stderr], [0, '']);
    const file = stdout.trim().replace('worker 1: ', '');
    assert.match(file, new RegExp(`^${folder}/bosun-${pidOf(kit, 1)}-.+\\.cpuprofile$`));
    assertProfile(readFileSync(file, 'utf8'), 1.5);
    const { failures } = await load.stop();
    assert.deepEqual(failures, []);
  });

  test('bosun cpu-profile --output - streams, and the worker accepts connections meanwhile', async () => {
    const { kit, port, bosun } = await startWithFolder();
    const load = freshLoad(port, { everyMs: 5 });
    const profile = bosun('cpu-profile', '--worker', '1', '--seconds', '1', '--output', '-');
    let isOver = false;
    void profile.finally(() => {
      isOver = true;
    });
    while (!isOver) assert.deepEqual(await statesOf(kit), ['ready', 'ready']);
    const { code, stdout } = await profile;
    assert.equal(code, 0);
    assertProfile(stdout, 1);
    const { failures, refused } = await load.stop();
    assert.deepEqual({ failures, refused }, { failures: [], refused: 0 });
  });
});

describe('SIGUSR2', { concurrency: CONCURRENCY }, () => {
  test('SIGUSR2 to the primary writes a heap snapshot of every worker, one at a time', async () => {
    const { kit, folder, port } = await startWithFolder({ NODE_CLUSTER_WORKERS: '3' });
    const load = freshLoad(port);
    await load.answered(5);
    kit.signal('SIGUSR2');
    let most = 0;
    await until(
      async () => {
        most = Math.max(most, (await kit.status()).workers.filter(({ state }) => state === 'cordoned').length);
        return kit.all('worker.diagnosed').length === 3 || undefined;
      },
      () => kit.transcript(),
      PATIENCE_MS,
    );
    assert.equal(most, 1, 'never two at a time');
    const files = kit.all('worker.diagnosed').map(({ file }) => String(file));
    assert.deepEqual(
      files.map(file => Number(/bosun-(\d+)-/.exec(file)?.[1])),
      [1, 2, 3].map(id => pidOf(kit, id)),
    );
    assert.deepEqual(readdirSync(folder).sort(), files.map(file => basename(file)).sort());
    for (const file of files) assertSnapshot(readFileSync(file, 'utf8'));
    const { failures, refused } = await load.stop();
    assert.deepEqual({ failures, refused }, { failures: [], refused: 0 });
    await kit.statusWhere(({ workers }) => workers.every(({ state }) => state === 'ready'));
  });

  test('SIGUSR2 to a worker writes a heap snapshot of that worker', async () => {
    const { kit, folder } = await startWithFolder();
    process.kill(pidOf(kit, 2), 'SIGUSR2');
    const { worker, file } = await kit.event('worker.diagnosed');
    assert.equal(worker, 2);
    assert.deepEqual(readdirSync(folder), [basename(String(file))]);
    assertSnapshot(readFileSync(String(file), 'utf8'));
    assert.deepEqual(kit.all('worker.exit'), []);
  });
});

test('many profiles of one worker leave nothing behind', async () => {
  const { kit, socket } = await startWithFolder();
  for (let count = 0; count < 12; count++) {
    const { status } = await postControl(socket, '/cpu-profile', JSON.stringify({ worker: 1, seconds: 0.01 }));
    assert.equal(status, 200);
  }
  // The responses may arrive before the log lines.
  await until(
    () => kit.all('worker.diagnosed').length === 12 || undefined,
    () => kit.transcript(),
  );
  assert.equal(kit.stderr, '', 'no warning of Node.js about listeners');
});

async function statesOf(kit: Kit): Promise<string[]> {
  return (await kit.status()).workers.map(({ state }) => state);
}
