import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import type { Sizing } from '../../src/resources/sizing.ts';
import { ask, freshLoad, keepAliveLoad, type Load, type LoadResult } from '../process/clients.ts';
import { until } from '../process/kit.ts';
import type { App } from './app.ts';
import { withEngine } from './engine.ts';
import { hasCpus, kernelKills, makeParent, memory, runLimited, setParentCpus, update, whyNoParent } from './limits.ts';

const MIB = 2 ** 20;
/** A leak of 10 MiB a second; at 40 the kernel is faster than the check once a second and the start of a new worker. */
const LEAK_EVERY_MS = 100;
const DEVELOPMENT = { NODE_ENV: 'development' };

test('--cpuset-cpus 0 gives one worker on a machine with more CPUs', withEngine, async t => {
  if (!(await hasCpus(2))) return t.skip('this machine has fewer than 2 CPUs');
  const app = await runLimited(['--cpuset-cpus', '0']);
  const { quota, cpuset, effective, source } = (await sizingOf(app)).cpus;
  assert.deepEqual({ quota, cpuset, effective }, { quota: null, cpuset: 1, effective: 1 });
  assert.match(source, /^\/sys\/fs\/cgroup\/.*cpus/);
  assert.equal((await readyPids(app)).length, 1);
});

test("a parent's tighter memory limit counts, though the container can't see the parent", withEngine, async t => {
  const why = await whyNoParent();
  if (why !== undefined) return t.skip(why);
  const app = await runLimited([...memory(512), '--cgroup-parent', makeParent({ memoryMb: 200 })]);
  const own = '/sys/fs/cgroup/memory/memory.limit_in_bytes';
  assert.equal(await app.output('cat', own), `${512 * MIB}\n`);
  const { memory: sized, reason, ...sizing } = await sizingOf(app);
  assert.deepEqual(sized, {
    limitBytes: 200 * MIB,
    source: '/sys/fs/cgroup/memory/memory.stat',
    heapPerWorkerMb: sized.heapPerWorkerMb,
  });
  assert.ok(Number(sized.heapPerWorkerMb) < 100, `${sized.heapPerWorkerMb} MiB`);
  if (sizing.wanted > 1) assert.match(reason, /for memory: 200 MiB \(\/sys\/fs\/cgroup\/memory\/memory\.stat\)/);

  const explained = await app.output('bosun', 'sizing');
  assert.match(explained, new RegExp(`^memory +${own} +${512 * MIB} +${512 * MIB}$`, 'm'));
  assert.match(explained, /^memory +\S+memory\.stat +hierarchical_memory_limit 209715200 +209715200$/m);
  assert.match(explained, /^memory limit +200 MiB \(\/sys\/fs\/cgroup\/memory\/memory\.stat\)$/m);
});

// The kernel refuses a quota above the parent's (v1): only a container without one can have a tighter parent.
test("a parent's CPU quota stays unknown in the container, its throttling does not", withEngine, async t => {
  const why = await whyNoParent();
  if (why !== undefined) return t.skip(why);
  if (!existsSync('/sys/fs/cgroup/cpu/cpu.stat.local')) return t.skip('this kernel has no cpu.stat.local');
  const parent = makeParent({ cpus: 1 });
  const app = await runLimited(['--cgroup-parent', parent]);
  const { workers, cpus } = await sizingOf(app);
  assert.equal(cpus.quota, null);
  assert.equal(workers, cpus.cpuset);
  const explained = await app.output('bosun', 'sizing');
  assert.match(explained, /^cpu +\/sys\/fs\/cgroup\/cpu\/cpu\.cfs_quota_us +-1 100000 +no limit$/m);
  assert.match(explained, /^CPU quota +none$/m);

  const before = await usageIn(app);
  setParentCpus(parent, 0.2); // less than it is given on the busiest machine
  const after = await until(
    async () => {
      assert.equal((await app.ask('/cpu?ms=1000')).status, 200);
      const usage = await usageIn(app);
      return Number(usage.parentThrottledSeconds) > Number(before.parentThrottledSeconds) + 0.3 ? usage : undefined;
    },
    () => 'not throttled',
    60_000,
  );
  assert.equal(after.throttledSeconds, 0);
});

test('docker update --cpus 0.5 → 2 → 0.5 takes the pool up and down, and no request fails', withEngine, async t => {
  if (!(await hasCpus(2))) return t.skip('this machine has fewer than 2 CPUs');
  const app = await runLimited(['--cpus', '0.5']);
  const [first, ...more] = await readyPids(app);
  assert.ok(first);
  assert.deepEqual(more, []);

  const up = await underLoad(app, async () => {
    const startedAt = performance.now();
    await update(app, '--cpus', '2');
    await app.event('worker.ready', ({ worker }) => worker === 2);
    return Math.round(performance.now() - startedAt);
  });
  assert.equal((await sizingOf(app)).cpus.quota, 2);
  assert.equal((await readyPids(app)).length, 2);

  const down = await underLoad(
    app,
    async () => {
      const startedAt = performance.now();
      await update(app, '--cpus', '0.5');
      await app.event('worker.exit');
      return Math.round(performance.now() - startedAt);
    },
    2,
  );
  assert.ok(down.kept.lastOnConnection > 0, 'the connections of the worker that went were ended by an answer');
  assert.ok(up.ms < 10_000 && down.ms > 10_000, `up in ${up.ms} ms, at once; down in ${down.ms} ms, after ten seconds of calm`);
  assert.deepEqual(await readyPids(app), [first]);
  assert.deepEqual(await exits(app), { 'scale-down': 1 });
  assert.deepEqual(
    app.all('pool.scale').map(({ from, to }) => [from, to]),
    [
      [1, 2],
      [2, 1],
    ],
  );
  t.diagnostic(`up in ${up.ms} ms (${answeredIn(up)}), down in ${down.ms} ms (${answeredIn(down)})`);
});

test(
  'docker update -m rolls the workers with the new heap, also together with the CPUs, and no request fails',
  withEngine,
  async t => {
    if (!(await hasCpus(2))) return t.skip('this machine has fewer than 2 CPUs');
    const app = await runLimited(['--cpus', '1', ...memory(512)]);
    const heap = await assertHeap(app, 1);
    const old = await readyPids(app);

    const grown = await underLoad(app, async () => {
      const startedAt = performance.now();
      await update(app, '--cpus', '2', ...memory(2048));
      await app.event('pool.restarted', ({ generation }) => generation === 2);
      return Math.round(performance.now() - startedAt);
    });
    const grownHeap = await assertHeap(app, 2);
    assert.ok(grownHeap > 2 * heap, `${heap} → ${grownHeap} MiB`);
    const grownPids = await readyPids(app);
    for (const pid of grownPids) assert.ok(!old.includes(pid));

    const shrunk = await underLoad(app, async () => {
      const startedAt = performance.now();
      await update(app, ...memory(256));
      await app.event('pool.restarted', ({ generation }) => generation === 3);
      return Math.round(performance.now() - startedAt);
    });
    const shrunkHeap = await assertHeap(app, 1);
    assert.ok(shrunkHeap < heap, `${heap} → ${shrunkHeap} MiB`);
    for (const pid of await readyPids(app)) assert.ok(!grownPids.includes(pid));
    assert.deepEqual(await exits(app), { restart: 2, 'scale-down': 1 });
    assert.equal(await kernelKills(app), 0);
    t.diagnostic(`grown in ${grown.ms} ms (${answeredIn(grown)}), shrunk in ${shrunk.ms} ms (${answeredIn(shrunk)})`);
  },
);

for (const [asked, workers, reason, warnings] of [
  ['auto', 1, /^1 worker: 2 CPUs, .*; lowered from 2 for memory: 256 MiB \(\/sys\/fs\/cgroup\//, []],
  ['100%', 1, /^1 worker: 100% of 2 CPUs, .*; lowered from 2 for memory: 256 MiB \(\/sys\/fs\/cgroup\//, []],
  ['max', 2, /^2 workers: 2 CPUs, rounded up/, [/^a heap of \d+ MiB per worker is less than a workable 64 MiB/]],
  [
    '4',
    4,
    /^4 workers: as set; 2 CPUs/,
    [/^4 workers on 2 CPUs: they will wait for each other$/, /^a heap of \d+ MiB per worker is less than a workable 64 MiB/],
  ],
] as const) {
  test(`${asked} in 256 MiB: ${workers} on 2 CPUs, says why, and takes 60 MiB more without an OOM kill`, withEngine, async t => {
    if (!(await hasCpus(2))) return t.skip('this machine has fewer than 2 CPUs');
    const env = { ...DEVELOPMENT, NODE_CLUSTER_WORKERS: asked, NODE_CLUSTER_SCHED_POLICY: 'rr' }; // an even share for each
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
  });
}

test('a worker that leaks is replaced before the kernel kills it, and no request fails', withEngine, async t => {
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

test("the kernel's OOM kill takes a worker, says `oom`, and the pool comes back", withEngine, async () => {
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
  assert.equal((await app.ask('/')).status, 200);
  const { State } = await app.inspect();
  assert.deepEqual([State.Running, State.StartedAt], [true, StartedAt]);

  // What somebody else kills is not the kernel's doing, although its counter is not 0 any more.
  await app.output('node', '-e', `process.kill(${pids[0]}, 'SIGKILL')`);
  const next = await app.event('worker.exit', event => event.workerPid === pids[0]);
  assert.equal(next.reason, 'killed');
  await backTo(app, 2);
  assert.deepEqual(await exits(app), { oom: kills, killed: 1 });
});

for (const [given, primary, worker] of [
  [0, 0, 300],
  [900, 900, 1000],
] as const) {
  test(`started with oom_score_adj ${given}, workers have ${worker}: the kernel takes them first`, withEngine, async () => {
    const app = await runLimited(['--oom-score-adj', String(given)], { NODE_CLUSTER_WORKERS: '2' });
    const score = async (pid: number) => Number(await app.output('cat', `/proc/${pid}/oom_score_adj`));
    assert.equal(await score(1), primary);
    const pids = await readyPids(app);
    assert.equal(pids.length, 2);
    for (const pid of pids) assert.equal(await score(pid), worker);
  });
}

async function sizingOf(app: App): Promise<Sizing> {
  return (await app.status()).sizing as Sizing;
}

async function readyPids(app: App): Promise<number[]> {
  return (await app.status()).workers.filter(({ state }) => state === 'ready').map(({ pid }) => pid);
}

async function exits(app: App): Promise<Record<string, number>> {
  return (await app.status()).restarts.byReason;
}

/** Resolves when so many workers serve, with their ids. */
async function backTo(app: App, count: number): Promise<number[]> {
  return until(
    async () => {
      const pids = await readyPids(app);
      return pids.length === count ? pids : undefined;
    },
    () => `${count} workers expected; ${app.transcript()}`,
  );
}

async function leak(app: App, mb: number): Promise<{ worker: number; leakedMb: number }> {
  const { status, body } = await ask(app.port, `/leak?mb=${mb}`);
  assert.equal(status, 200, body);
  return JSON.parse(body) as { worker: number; leakedMb: number };
}

/** Every worker has the heap that the sizing says, and there are so many. */
async function assertHeap(app: App, workers: number): Promise<number> {
  const { heapPerWorkerMb } = (await sizingOf(app)).memory;
  const pids = await readyPids(app);
  assert.equal(pids.length, workers);
  for (const pid of pids) {
    const commandLine = (await app.output('cat', `/proc/${pid}/cmdline`)).split('\0');
    assert.ok(commandLine.includes(`--max-old-space-size=${heapPerWorkerMb}`), commandLine.join(' '));
  }
  return Number(heapPerWorkerMb);
}

interface Change {
  /** What `change` has measured. */
  ms: number;
  kept: LoadResult;
  fresh: LoadResult;
}

/** Carries out a change while clients come on kept connections, to so many workers, and on new ones; none of them may lose anything. */
async function underLoad(app: App, change: () => Promise<number>, workers = 1): Promise<Change> {
  const path = '/api/counter';
  const [kept, fresh] = [await keptBy(app, path, workers), freshLoad(app.port, { path, everyMs: 50 })];
  const loads = { kept, fresh };
  await fresh.answered(20);
  const ms = await change();
  for (const load of Object.values(loads)) {
    await load.answered(load.result.answered + 20); // it was still busy
    const { failures, refused } = await load.stop();
    assert.deepEqual(failures, [], app.transcript());
    assert.equal(refused, 0);
  }
  return { ms, kept: loads.kept.result, fresh: loads.fresh.result };
}

/** Clients that keep their connections, to so many workers: where the machine is busy, the first that gets to run may take them all. */
async function keptBy(app: App, path: string, workers: number): Promise<Load> {
  for (let tries = 1; ; tries++) {
    const load = keepAliveLoad(app.port, { path, pauseMs: 20 });
    await load.answered(20);
    if (load.result.byPid.size >= workers) return load;
    assert.deepEqual((await load.stop()).failures, [], app.transcript());
    assert.ok(tries < 10, `kept connections to ${load.result.byPid.size} of ${workers} workers; ${app.transcript()}`);
  }
}

const answeredIn = ({ kept, fresh }: Change) => `${kept.answered} + ${fresh.answered} requests answered, none failed`;

/** What the kit's own reader says of the container. */
async function usageIn(app: App): Promise<{ throttledSeconds: number | null; parentThrottledSeconds: number | null }> {
  const script = `
    import { readerBelow, resolveLimits } from '/app/src/resources/cgroup.ts';
    import { readUsage } from '/app/src/resources/usage.ts';
    const read = readerBelow();
    console.log(JSON.stringify(readUsage(read, resolveLimits(read).usage)));`;
  return JSON.parse(await app.output('node', '--input-type=module', '--eval', script));
}
