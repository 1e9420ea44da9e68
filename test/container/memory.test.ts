/**
 * Workers and their heaps in the memory of a real container: enough for all, and who goes where it is short.
 */
import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { fullSpeed } from '../../src/loadtest/generator.ts';
import { failuresOf, Recorder } from '../../src/loadtest/result.ts';
import { readyPids } from '../process/capacity.ts';
import { request } from '../process/clients.ts';
import { ROOT } from '../process/kit.ts';
import { freshLoad } from '../process/loads.ts';
import { until } from '../until.ts';
import type { App } from './app.ts';
import { withEngine } from './engine.ts';
import { hasCpus, kernelKills, memory, runLimited } from './limits.ts';
import { exits, sizingOf } from './sized.ts';

/** A leak of 10 MiB a second; at 40 the kernel is faster than the check once a second and the start of a new worker. */
const LEAK_EVERY_MS = 100;
const DEVELOPMENT = { NODE_ENV: 'development' };

for (const [requested, workers, reason, warnings] of [
  ['auto', 1, /^1 worker: 2 CPUs, .*; lowered from 2 for memory: 256 MiB \(\/sys\/fs\/cgroup\//, []],
  ['100%', 1, /^1 worker: 100% of 2 CPUs, .*; lowered from 2 for memory: 256 MiB \(\/sys\/fs\/cgroup\//, []],
  ['max', 2, /^2 workers: 2 CPUs, rounded up/, [/^a heap of \d+ MiB per worker is below the workable 64 MiB/]],
  [
    '4',
    4,
    /^4 workers: as set; 2 CPUs/,
    [/^4 workers on 2 CPUs: they compete for CPU time$/, /^a heap of \d+ MiB per worker is below the workable 64 MiB/],
  ],
] as const) {
  test(
    `NODE_CLUSTER_WORKERS=${requested} in 256 MiB starts ${workers} on 2 CPUs, logs the reason, and takes 60 MiB more without an OOM kill`,
    withEngine,
    async t => {
      if (!(await hasCpus(2))) return t.skip('this machine has fewer than 2 CPUs');
      const env = { ...DEVELOPMENT, NODE_CLUSTER_WORKERS: requested, NODE_CLUSTER_SCHED_POLICY: 'rr' }; // an even share for each
      const app = await runLimited(['--cpus', '2', ...memory(256)], env);
      const sizing = await sizingOf(app);
      assert.equal(sizing.workers, workers);
      assert.match(sizing.reason, reason);
      assert.equal(sizing.warnings.length, warnings.length, sizing.warnings.join('\n'));
      for (const [index, warning] of warnings.entries()) assert.match(sizing.warnings[index] ?? '', warning);
      assert.deepEqual(
        app.all('sizing.warning').map(({ warning }) => warning),
        sizing.warnings,
      );
      const pids = await readyPids(app);
      assert.equal(pids.length, workers);

      const leaked = new Map<number, number>();
      for (let i = 0; i < 20; i++) {
        const { worker, leakedMb } = await leak(app, 3);
        leaked.set(worker, leakedMb);
      }
      assert.equal(leaked.size, workers, 'every worker has taken some');
      assert.equal(
        [...leaked.values()].reduce((sum, mb) => sum + mb),
        60,
      );
      assert.deepEqual(await readyPids(app), pids);
      assert.deepEqual(await exits(app), {});
      assert.equal(await kernelKills(app), 0);
    },
  );
}

test('in 256 MiB, 64 requests at a time that hold data across an await end no worker', withEngine, async () => {
  const app = await runLimited([...memory(256), `--volume=${join(ROOT, 'test', 'bench', 'apps')}:/app/bench:ro`], {
    APP_MODULE: '/app/bench/memory.mjs',
    NODE_CLUSTER_WORKERS: '1',
  });
  assert.equal((await sizingOf(app)).memory.semiSpaceMb, 8);
  const pids = await readyPids(app);
  const recorder = new Recorder();
  const load = fullSpeed(`http://127.0.0.1:${app.port}/held`, 64, recorder);
  await until(
    () => recorder.requests > 1500 || undefined,
    () => `only ${recorder.requests} answers`,
    60_000,
  );
  await load.stop();
  assert.equal(failuresOf(recorder.measured()), 0);
  assert.deepEqual(await readyPids(app), pids);
  assert.deepEqual([await exits(app), await kernelKills(app)], [{}, 0]);
});

test('a leaking worker is replaced before the kernel kills it, and no request fails', withEngine, async t => {
  const app = await runLimited(memory(256), { ...DEVELOPMENT, NODE_CLUSTER_WORKERS: '1' });
  const [leaking] = await readyPids(app);
  await leak(app, 60);
  const startedAt = performance.now();
  let steps = 0;
  while (app.all('worker.exit').length === 0) {
    assert.ok(steps < 300, app.transcript());
    await leak(app, 1);
    await pause(Math.max(1, ++steps * LEAK_EVERY_MS - (performance.now() - startedAt)));
  }
  const { workerPid, reason } = await app.event('worker.exit');
  assert.deepEqual({ workerPid, reason }, { workerPid: leaking, reason: 'recycled-rss' });
  assert.equal((await readyPids(app)).length, 1);
  assert.deepEqual(await exits(app), { 'recycled-rss': 1 });
  assert.equal(await kernelKills(app), 0);
  t.diagnostic(`replaced after ${60 + steps} MiB`);
});

test("a worker killed by the kernel's OOM killer has exit reason `oom`, and the pool recovers", withEngine, async () => {
  const app = await runLimited(memory(256), { ...DEVELOPMENT, NODE_CLUSTER_WORKERS: '2' });
  const before = await readyPids(app);
  const { StartedAt } = (await app.inspect()).State;
  for (let i = 0; i < 10 && app.all('worker.exit').length === 0; i++) {
    await leak(app, 100).catch(() => undefined); // the connection breaks with its worker
  }
  const { workerPid, reason } = await app.event('worker.exit');
  assert.equal(reason, 'oom');
  assert.ok(before.includes(Number(workerPid)));

  const pids = await backTo(app, 2);
  assert.ok(!pids.includes(Number(workerPid)));
  const kills = await kernelKills(app);
  assert.ok(kills > 0);
  assert.deepEqual(await exits(app), { oom: kills });
  assert.equal((await app.request('/')).status, 200);
  const { State } = await app.inspect();
  assert.deepEqual([State.Running, State.StartedAt], [true, StartedAt]);

  // What somebody else kills is not the kernel's doing, although its counter is not 0 any more.
  await app.output('node', '-e', `process.kill(${pids[0]}, 'SIGKILL')`);
  const next = await app.event('worker.exit', event => event.workerPid === pids[0]);
  assert.equal(next.reason, 'killed');
  await backTo(app, 2);
  assert.deepEqual(await exits(app), { oom: kills, killed: 1 });
});

test('a heap snapshot is written even if page cache fills the memory limit', withEngine, async () => {
  const app = await runLimited(memory(256), { NODE_CLUSTER_WORKERS: '1' });
  // Written, then read twice: part of it is on the kernel's list of active pages.
  await app.output('sh', '-c', 'head -c 300M /dev/zero > /tmp/cached; cat /tmp/cached /tmp/cached > /dev/null');
  const used = await app.output(
    'sh',
    '-c',
    'cat /sys/fs/cgroup/memory/memory.usage_in_bytes /sys/fs/cgroup/memory.current 2> /dev/null || true',
  );
  assert.ok(Number(used) > 250 * 2 ** 20, `${used.trim()} bytes are used: this shows nothing`);
  assert.match(await app.output('bosun', 'heap-snapshot'), /^worker 1: .*heapsnapshot$/m);
  assert.deepEqual([await exits(app), await kernelKills(app)], [{}, 0]);
});

test('a CPU profile that does not fit on the disk fails and leaves no file', withEngine, async () => {
  const app = await runLimited(['--tmpfs', '/small:size=4k,mode=1777'], { NODE_CLUSTER_WORKERS: '1' });
  await app.output('sh', '-c', 'head -c 4096 /dev/zero > /small/full');
  const { exitCode, output } = await app.exec('bosun', 'cpu-profile', '--seconds', '0.5', '--output', '/small/profile');
  assert.equal(exitCode, 1);
  assert.match(output, /^bosun: ENOSPC/);
  assert.equal((await app.output('ls', '-A', '/small')).trim(), 'full');
  assert.match(
    await app.output('bosun', 'cpu-profile', '--seconds', '0.1', '--output', '/tmp/profile'),
    /^worker 1: \/tmp\/profile$/m,
  );
});

for (const [given, primary, worker] of [
  [0, 0, 300],
  [900, 900, 1000],
] as const) {
  test(
    `in a container with oom_score_adj ${given} workers have ${worker}, so that the kernel kills them before the primary`,
    withEngine,
    async () => {
      const app = await runLimited(['--oom-score-adj', String(given)], { NODE_CLUSTER_WORKERS: '2' });
      const score = async (pid: number) => Number(await app.output('cat', `/proc/${pid}/oom_score_adj`));
      assert.equal(await score(1), primary);
      const pids = await readyPids(app);
      assert.equal(pids.length, 2);
      for (const pid of pids) assert.equal(await score(pid), worker);
    },
  );
}

describe('two workers of 217 MiB resident in 512 MiB, without room for a third', withEngine, () => {
  const FOLDER = mkdtempSync(join(tmpdir(), 'bosun-memory-'));
  chmodSync(FOLDER, 0o755); // the container's user is another one
  after(() => rmSync(FOLDER, { recursive: true, force: true }));
  writeFileSync(
    join(FOLDER, 'app.mjs'),
    `const held = Buffer.alloc((Number(process.env.HELD_MB) || 150) << 20, 1);
    export default (_, res) => setTimeout(() => res.end(JSON.stringify({ pid: process.pid, held: held.length })), 500);`,
  );
  const flags = ['--cpus', '2', ...memory(512), `--volume=${FOLDER}:/large:ro`];
  const start = (env = {}) => runLimited(flags, { APP_MODULE: '/large/app.mjs', NODE_CLUSTER_WORKERS: '2', ...env });

  test('two workers that fill the memory limit are not recycled, and a rolling restart loses no request', async () => {
    const app = await start();
    const load = freshLoad(app.port, { everyMs: 100 });
    await load.answered(50);
    assert.deepEqual(app.all('worker.replace'), []);
    const before = await readyPids(app);
    const { exitCode, stdout, output } = await app.exec('bosun', 'restart');
    assert.equal(exitCode, 0, output);
    assert.match(
      stdout,
      /^draining worker 1 before its successor starts \(a new worker needs \d+ MiB beside the others, but only \d+ MiB/,
    );
    await load.answered(load.result.answered + 20);
    const { failures, refused } = await load.stop();
    assert.deepEqual({ failures, refused }, { failures: [], refused: 0 });
    assert.equal(await kernelKills(app), 0);
    assert.deepEqual(await exits(app), { restart: 2 });
    assert.ok((await backTo(app, 2)).every(pid => !before.includes(pid)));
  });

  test('RESTART_SURGE=always without room for a third worker ends in an OOM kill, which the restart reports', async () => {
    // Three of 190 MiB do not fit, even if every page of the executable is reclaimed.
    const app = await start({ RESTART_SURGE: 'always', HELD_MB: '190' });
    const load = freshLoad(app.port, { everyMs: 100 });
    await load.answered(10);
    const { exitCode, output } = await app.exec('bosun', 'restart');
    await load.stop();
    assert.equal(exitCode, 1, output);
    assert.match(output, /bosun: .*(for lack of memory \(oom\)|failed to start: oom)/);
    assert.doesNotMatch(output, /is gone: 0 requests finished, 0 cut, 0 ms/);
    const { oom = 0 } = await exits(app);
    assert.ok(oom > 0 && oom === (await kernelKills(app)), `${oom}`);
  });
});

/** Resolves when so many workers serve, with their ids. */
async function backTo(app: App, count: number): Promise<number[]> {
  return until(
    async () => {
      const pids = await readyPids(app).catch(async cause => {
        const { State } = await app.inspect();
        throw new Error(`${JSON.stringify(State)}\n${app.transcript()}`, { cause });
      });
      return pids.length === count ? pids : undefined;
    },
    () => `${count} workers expected; ${app.transcript()}`,
  );
}

async function leak(app: App, mb: number): Promise<{ worker: number; leakedMb: number }> {
  const { status, body } = await request(app.port, `/leak?mb=${mb}`);
  assert.equal(status, 200, body);
  return JSON.parse(body) as { worker: number; leakedMb: number };
}
