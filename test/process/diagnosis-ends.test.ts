/**
 * Diagnoses that are refused, and those whose operator disconnects or whose worker exits meanwhile.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { FakeRoot } from '../fake-root.ts';
import { until } from '../until.ts';
import { RawClient, requestText } from './clients.ts';
import { assertProfile, assertSnapshot, busy, type Folders, pidOf, startWithFolder } from './diagnoses.ts';
import { freshLoad } from './loads.ts';
import type { Operated } from './operator.ts';

const MIB = 2 ** 20;
/** A heap snapshot keeps a CPU busy. */
const CONCURRENCY = 2;
/** A folder on a file system without free space. */
const FULL_DISK = '/proc';

describe('a diagnosis', { concurrency: CONCURRENCY }, () => {
  test('a diagnosis is refused while another one is running', async () => {
    const short = await startShort();
    const { kit, bosun, start: run, room } = short;
    const first = run('cpu-profile', '--worker', '1', '--seconds', '8', '--output', '-');
    await busy(short);
    for (const command of ['cpu-profile', 'heap-snapshot']) {
      const { code, stdout, stderr } = await bosun(command, '--worker', '2');
      assert.deepEqual([code, stdout, stderr], [1, '', BUSY]);
    }
    kit.signal('SIGUSR2');
    assert.match(String((await kit.event('worker.snapshot-refused')).error), /only one can run at a time/);
    const { code, stdout, stderr } = await first.ended;
    assert.equal(code, 0, stderr);
    assertProfile(stdout, 8);
    room();
    assert.equal((await bosun('heap-snapshot', '--worker', '2')).code, 0);
  });

  test('a heap snapshot that does not fit into the memory limit is refused, with the figures', async () => {
    const { kit, folder, bosun, room } = await startShort();
    for (const output of [[], ['--output', '-'], ['--output', join(folder, 'mine')]]) {
      const { code, stdout, stderr } = await bosun('heap-snapshot', '--worker', '1', ...output);
      assert.deepEqual([code, stdout], [1, '']);
      assert.match(
        stderr,
        /^bosun: a snapshot of worker 1 needs about \d+ MiB of memory, but only 4 MiB of 1024 MiB are free \(\/sys\/fs\/cgroup\/memory\.max\)\n$/,
      );
    }
    assert.deepEqual(readdirSync(folder), []);
    kit.signal('SIGUSR2');
    // Both, before there is room: the signal's snapshot of worker 2 would run beside the one below.
    for (const id of [1, 2]) {
      const { error } = await kit.event('worker.snapshot-refused', ({ worker }) => worker === id);
      assert.match(String(error), /only 4 MiB of 1024 MiB are free/);
    }
    assert.deepEqual(
      (await kit.status()).workers.map(({ state }) => state),
      ['ready', 'ready'],
    );
    room();
    const { code, stderr } = await bosun('heap-snapshot', '--worker', '1');
    assert.equal(code, 0, stderr);
  });

  test('a heap snapshot that does not fit on the disk is refused, with the figures', {
    skip: existsSync(FULL_DISK) ? false : 'there is no /proc',
  }, async () => {
    const { bosun } = await startWithFolder({ DIAGNOSTICS_DIR: FULL_DISK });
    const { code, stdout, stderr } = await bosun('heap-snapshot');
    assert.deepEqual([code, stdout], [1, '']);
    assert.match(stderr, /^bosun: a snapshot of worker \d needs about \d+ MiB of disk, and 0 MiB are free in /);
  });

  test('a heap snapshot of a draining worker is refused', async () => {
    const { kit, port, bosun, start: run } = await startWithFolder();
    await using client = await RawClient.open(port);
    client.write(requestText('/slow?ms=5000&mark=slow'));
    const { workerPid } = await kit.begun('slow');
    const id = (await kit.status()).workers.find(({ pid }) => pid === workerPid)?.id ?? 0;
    const restart = run('restart', '--worker', String(id));
    await restart.printed(/^draining worker/m);
    const { code, stderr } = await bosun('heap-snapshot', '--worker', String(id));
    assert.deepEqual([code, stderr], [1, `bosun: worker ${id} is draining\n`]);
    assert.equal((await client.answer()).status, 200);
    assert.equal((await restart.ended).code, 0);
  });
});

describe('the operator of a diagnosis', { concurrency: CONCURRENCY }, () => {
  test('an operator who disconnects during a streamed snapshot leaves no worker busy', async () => {
    const { kit, socket, bosun } = await startWithFolder();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const pending = request({ socketPath: socket, path: '/heap-snapshot', method: 'POST' }, response => {
      // Disconnects after the first bytes, while several MiB are left.
      response.once('readable', () => {
        response.destroy();
        resolve();
      });
    });
    pending.once('error', reject).end(JSON.stringify({ worker: 1, stream: true }));
    await promise;
    await kit.statusWhere(({ workers }) => workers.every(({ state }) => state === 'ready'));
    const again = await until(
      async () => {
        const ran = await bosun('heap-snapshot', '--worker', '1', '--output', '-');
        return ran.code === 0 ? ran : undefined;
      },
      () => kit.transcript(),
    );
    assertSnapshot(again.stdout);
    assert.deepEqual(kit.all('worker.exit'), []);
  });

  test('a snapshot that ends after its worker began to drain does not put the worker back into the rotation', async () => {
    const {
      kit,
      port,
      socket,
      start: run,
    } = await startWithFolder({ NODE_CLUSTER_SCHED_POLICY: 'rr', SHUTDOWN_TIMEOUT_MS: '60000' });
    await using client = await RawClient.open(port);
    client.write(requestText('/slow?ms=55000&mark=slow'));
    const { workerPid } = await kit.begun('slow');
    const id = (await kit.status()).workers.find(({ pid }) => pid === workerPid)?.id ?? 0;
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const pending = request({ socketPath: socket, path: '/heap-snapshot', method: 'POST' }, resolve);
    pending.once('error', reject).end(JSON.stringify({ worker: id, stream: true }));
    const stream = await promise; // not read yet: most of it is still in the worker
    const restart = run('restart', '--worker', String(id));
    await restart.printed(/^draining worker/m);
    stream.resume();
    await once(stream, 'end');
    assert.equal((await kit.event('worker.diagnosed')).worker, id);
    const load = freshLoad(port);
    await load.answered(100);
    assert.equal(kit.all('worker.exit').length, 0, 'it is still draining');
    const { failures, byPid } = await load.stop();
    assert.deepEqual([failures, byPid.get(Number(workerPid))], [[], undefined]);
    client.close(); // the rest of the response is not needed
    assert.equal((await restart.ended).code, 0);
  });

  test('an operator who presses Ctrl-C during a profile leaves no worker busy after its end', async () => {
    const short = await startShort();
    const { kit, start: run, bosun } = short;
    const profile = run('cpu-profile', '--worker', '1', '--seconds', '1', '--output', '-');
    await busy(short);
    profile.process.kill('SIGINT');
    assert.equal((await profile.ended).signal, 'SIGINT');
    await until(
      async () => (await bosun('cpu-profile', '--worker', '1', '--seconds', '0.1', '--output', '-')).code === 0 || undefined,
      () => kit.transcript(),
    );
    assert.deepEqual(kit.all('worker.exit'), []);
  });

  test('the operator of a diagnosis gets an error if the worker dies during it', async () => {
    const short = await startShort();
    const { kit, start: run, bosun } = short;
    const pid = pidOf(kit, 1);
    const profile = run('cpu-profile', '--worker', '1', '--seconds', '60');
    await busy(short);
    process.kill(pid, 'SIGKILL');
    const { code, stderr } = await profile.ended;
    assert.deepEqual([code, stderr], [1, 'bosun: worker 1 exited during the diagnosis: signal SIGKILL\n']);
    assert.equal((await bosun('cpu-profile', '--worker', '2', '--seconds', '0.01')).code, 0);
  });
});

const BUSY = 'bosun: another diagnosis is running; only one can run at a time\n';

/** In a container without free memory, until `room` is called. */
async function startShort(): Promise<Operated & Folders & { room: () => void }> {
  const root = new FakeRoot({ cpuMax: '200000 100000', memoryMax: String(1024 * MIB) });
  const used = (bytes: number) => root.write('/sys/fs/cgroup/memory.current', `${bytes}\n`);
  used(1020 * MIB);
  // With a limit of its own no worker is recycled for lack of headroom, as one would be after some seconds.
  const env = { SIZING_ROOT: root.path, WORKER_MAX_RSS_MB: '1024' };
  return { ...(await startWithFolder(env)), room: () => used(100 * MIB) };
}
