/**
 * Heap snapshots and CPU profiles: files that load, and no request lost for them.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { basename, join } from 'node:path';
import { describe, test } from 'node:test';
import { FakeRoot } from '../fake-root.ts';
import { ask, freshLoad, keepAliveLoad, RawClient, requestText } from './clients.ts';
import { freePort, type Kit, until } from './kit.ts';
import { type Operated, postControl, Running, startOperated, temporaryFolder } from './operator.ts';

const MIB = 2 ** 20;
const CLEAN = { code: 0, signal: null };
/** Writing a heap is work: not more at a time than there are CPUs. */
const CONCURRENCY = 2;
/** A snapshot of a small heap takes about a second; of two at a time on busy CPUs, some. */
const PATIENCE_MS = 40_000;

/** A folder in which nothing is free. */
const FULL_DISK = '/proc';

interface Folders {
  folder: string;
}

async function start(env: Record<string, string> = {}): Promise<Operated & Folders> {
  const folder = temporaryFolder();
  return { folder, ...(await startOperated({ app: 'koa.mjs', env: { DIAGNOSTICS_DIR: folder, ...env } })) };
}

describe('bosun heap-snapshot', { concurrency: CONCURRENCY }, () => {
  test('writes to DIAGNOSTICS_DIR, named by pid and time, readable by nobody else', async () => {
    const { kit, folder, bosun } = await start();
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

  test('writes to the file that --output names, seen from where the operator is', async () => {
    const { socket, folder } = await start();
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

  test('streams to standard output with --output -, and leaves no file', async () => {
    const { folder, bosun } = await start({ DIAGNOSTICS_DIR: '/nowhere' });
    const { code, stdout, stderr } = await bosun('heap-snapshot', '--output', '-');
    assert.deepEqual([code, stderr], [0, '']);
    assertSnapshot(stdout);
    assert.deepEqual(readdirSync(folder), []);
  });

  // With rr: see SIGUSR2.
  test('loses no request: the others answer while one writes, policy none', async () => {
    const { kit, port, bosun } = await start({ NODE_CLUSTER_SCHED_POLICY: 'none' });
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

  test('of the only worker makes its clients wait, and refuses none', async () => {
    const { kit, port, bosun } = await start({ NODE_CLUSTER_WORKERS: '1', PORT: String(await freePort()) });
    const load = freshLoad(port, { everyMs: 5 });
    await load.answered(20);
    assert.equal((await bosun('heap-snapshot')).code, 0);
    await load.answered(load.result.answered + 20);
    const { failures, refused } = await load.stop();
    assert.deepEqual({ failures, refused }, { failures: [], refused: 0 });
    assert.deepEqual(kit.all('worker.exit'), []);
  });

  test('is no hang, however long it takes', async t => {
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
    // As long as nobody is answered, the loop is blocked.
    let longestMs = 0;
    let isOver = false;
    void snapshot.ended.finally(() => {
      isOver = true;
    });
    while (!isOver) {
      const askedAt = performance.now();
      assert.equal((await ask(port, '/')).status, 200);
      longestMs = Math.max(longestMs, performance.now() - askedAt);
    }
    const { code, stderr } = await snapshot.ended;
    assert.equal(code, 0, stderr);
    t.diagnostic(`the loop was blocked for ${Math.round(longestMs)} ms`);
    assert.ok(longestMs > timeoutMs * 1.3, `the loop was blocked for ${longestMs} ms only: this shows nothing`);
    assert.deepEqual(kit.all('worker.replace'), []);
  });
});

describe('bosun cpu-profile', { concurrency: CONCURRENCY }, () => {
  test('writes a profile with the samples of that time', async () => {
    const { kit, folder, port, bosun } = await start();
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

  test('streams with --output -, and the worker takes connections meanwhile', async () => {
    const { kit, port, bosun } = await start();
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
  test('to the primary snapshots every worker, one at a time', async () => {
    const { kit, folder, port } = await start({ NODE_CLUSTER_WORKERS: '3' });
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

  test('to a worker snapshots that one', async () => {
    const { kit, folder } = await start();
    process.kill(pidOf(kit, 2), 'SIGUSR2');
    const { worker, file } = await kit.event('worker.diagnosed');
    assert.equal(worker, 2);
    assert.deepEqual(readdirSync(folder), [basename(String(file))]);
    assertSnapshot(readFileSync(String(file), 'utf8'));
    assert.deepEqual(kit.all('worker.exit'), []);
  });
});

describe('a diagnosis is refused', { concurrency: CONCURRENCY }, () => {
  test('while another one is under way', async () => {
    const short = await startShort();
    const { kit, bosun, start: run, room } = short;
    const first = run('cpu-profile', '--worker', '1', '--seconds', '8', '--output', '-');
    await busy(short);
    for (const command of ['cpu-profile', 'heap-snapshot']) {
      const { code, stdout, stderr } = await bosun(command, '--worker', '2');
      assert.deepEqual([code, stdout, stderr], [1, '', BUSY]);
    }
    kit.signal('SIGUSR2');
    assert.match(String((await kit.event('worker.snapshot-refused')).error), /one at a time/);
    const { code, stdout } = await first.ended;
    assert.equal(code, 0);
    assertProfile(stdout, 8);
    room();
    assert.equal((await bosun('heap-snapshot', '--worker', '2')).code, 0, 'and then no more');
  });

  test('where the memory limit leaves no room, with the figures', async () => {
    const { kit, folder, bosun, room } = await startShort();
    for (const output of [[], ['--output', '-'], ['--output', join(folder, 'mine')]]) {
      const { code, stdout, stderr } = await bosun('heap-snapshot', '--worker', '1', ...output);
      assert.deepEqual([code, stdout], [1, '']);
      assert.match(
        stderr,
        /^bosun: a snapshot of worker 1 needs about \d+ MiB of memory, and 4 MiB are left of 1024 MiB \(\/sys\/fs\/cgroup\/memory\.max\)\n$/,
      );
    }
    assert.deepEqual(readdirSync(folder), []);
    kit.signal('SIGUSR2');
    assert.match(String((await kit.event('worker.snapshot-refused')).error), /4 MiB are left/);
    assert.deepEqual(
      (await kit.status()).workers.map(({ state }) => state),
      ['ready', 'ready'],
    );
    room();
    assert.equal((await bosun('heap-snapshot', '--worker', '1')).code, 0);
  });

  test('where the disk is short, with the figures', { skip: existsSync(FULL_DISK) ? false : 'there is no /proc' }, async () => {
    const { bosun } = await start({ DIAGNOSTICS_DIR: FULL_DISK });
    const { code, stdout, stderr } = await bosun('heap-snapshot');
    assert.deepEqual([code, stdout], [1, '']);
    assert.match(stderr, /^bosun: a snapshot of worker \d needs about \d+ MiB of disk, and 0 MiB are free in /);
  });

  test('for a worker that drains', async () => {
    const { kit, port, bosun, start: run } = await start();
    await using client = await RawClient.open(port);
    client.write(requestText('/slow?ms=5000&tell=slow'));
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

describe('an operator', { concurrency: CONCURRENCY }, () => {
  test('who goes away in the middle of the stream leaves no worker busy', async () => {
    const { kit, socket, bosun } = await start();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const asking = request({ socketPath: socket, path: '/heap-snapshot', method: 'POST' }, response => {
      // The first bytes, and then nobody reads any more: several MiB are left.
      response.once('readable', () => {
        response.destroy();
        resolve();
      });
    });
    asking.once('error', reject).end(JSON.stringify({ worker: 1, stream: true }));
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

  test('whose snapshot outlasts the begin of a drain puts no draining worker back into the rotation', async () => {
    // With rr a worker that is back listens anew.
    const { kit, port, socket, start: run } = await start({ NODE_CLUSTER_SCHED_POLICY: 'rr', SHUTDOWN_TIMEOUT_MS: '60000' });
    await using client = await RawClient.open(port);
    client.write(requestText('/slow?ms=55000&tell=slow'));
    const { workerPid } = await kit.begun('slow');
    const id = (await kit.status()).workers.find(({ pid }) => pid === workerPid)?.id ?? 0;
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const asking = request({ socketPath: socket, path: '/heap-snapshot', method: 'POST' }, resolve);
    asking.once('error', reject).end(JSON.stringify({ worker: id, stream: true }));
    const stream = await promise; // and nobody reads it yet: most of it is still in the worker
    const restart = run('restart', '--worker', String(id));
    await restart.printed(/^draining worker/m);
    stream.resume();
    await once(stream, 'end');
    assert.equal((await kit.event('worker.diagnosed')).worker, id);
    const load = freshLoad(port);
    await load.answered(100);
    assert.equal(kit.all('worker.exit').length, 0, 'it drains still');
    const { failures, byPid } = await load.stop();
    assert.deepEqual([failures, byPid.get(Number(workerPid))], [[], undefined]);
    client.close(); // nobody waits for the rest of it
    assert.equal((await restart.ended).code, 0);
  });

  test('who leaves by Ctrl-C during a profile leaves no worker busy after its end', async () => {
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

  test('is told when the worker dies while it is looked into', async () => {
    const short = await startShort();
    const { kit, start: run, bosun } = short;
    const pid = pidOf(kit, 1);
    const profile = run('cpu-profile', '--worker', '1', '--seconds', '60');
    await busy(short);
    process.kill(pid, 'SIGKILL');
    const { code, stderr } = await profile.ended;
    assert.deepEqual([code, stderr], [1, 'bosun: worker 1 died meanwhile: signal SIGKILL\n']);
    assert.equal((await bosun('cpu-profile', '--worker', '2', '--seconds', '0.01')).code, 0);
  });
});

test('many profiles of one worker leave nothing behind', async () => {
  const { kit, socket } = await start();
  for (let count = 0; count < 12; count++) {
    const { status } = await postControl(socket, '/cpu-profile', JSON.stringify({ worker: 1, seconds: 0.01 }));
    assert.equal(status, 200);
  }
  // The answers overtake the log lines.
  await until(
    () => kit.all('worker.diagnosed').length === 12 || undefined,
    () => kit.transcript(),
  );
  assert.equal(kit.stderr, '', 'no warning of Node.js about listeners');
});

const BUSY = 'bosun: another worker is being looked into: one at a time\n';

/** In a container whose memory is used up, until `room` is called. */
async function startShort(): Promise<Operated & Folders & { room: () => void }> {
  const root = new FakeRoot({ cpuMax: '200000 100000', memoryMax: String(1024 * MIB) });
  const used = (bytes: number) => root.write('/sys/fs/cgroup/memory.current', `${bytes}\n`);
  used(1020 * MIB);
  return { ...(await start({ SIZING_ROOT: root.path })), room: () => used(100 * MIB) };
}

/** Resolves when a worker is being looked into. The question itself is refused for lack of memory before that: it is never in the way. */
async function busy({ socket }: Operated): Promise<void> {
  let last = '';
  await until(
    async () => {
      last = (await postControl(socket, '/heap-snapshot', JSON.stringify({ worker: 2, stream: true }))).body;
      return last.includes('another worker is being looked into') || undefined;
    },
    () => last,
  );
}

function pidOf(kit: Kit, id: number): number {
  return Number(kit.all('worker.ready').find(({ worker }) => worker === id)?.workerPid);
}

async function statesOf(kit: Kit): Promise<string[]> {
  return (await kit.status()).workers.map(({ state }) => state);
}

/** As Chrome's developer tools check it. */
function assertSnapshot(text: string): void {
  const { snapshot, nodes, edges, strings } = JSON.parse(text) as {
    snapshot: { meta: { node_fields: string[] }; node_count: number; edge_count: number };
    nodes: number[];
    edges: number[];
    strings: string[];
  };
  assert.ok(snapshot.node_count > 10_000, `${snapshot.node_count} nodes`);
  assert.equal(nodes.length, snapshot.node_count * snapshot.meta.node_fields.length);
  assert.ok(edges.length > nodes.length / 10 && strings.length > 1000);
}

function assertProfile(text: string, seconds: number): void {
  const profile = JSON.parse(text) as { nodes: unknown[]; samples: number[]; startTime: number; endTime: number };
  assert.ok(profile.nodes.length > 2, `${profile.nodes.length} nodes`);
  assert.ok(profile.samples.length > 20, `${profile.samples.length} samples`);
  const tookSeconds = (profile.endTime - profile.startTime) / 1e6;
  assert.ok(tookSeconds >= seconds * 0.95, `of ${tookSeconds} s`);
}
