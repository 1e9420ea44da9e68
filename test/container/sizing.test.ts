/**
 * The pool follows the limits that a real engine sets, at the start and while it runs, and no request fails.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { readyPids } from '../process/capacity.ts';
import { freshLoad, keepAliveLoad, type Load, type LoadResult } from '../process/loads.ts';
import { until } from '../until.ts';
import type { App } from './app.ts';
import { withEngine } from './engine.ts';
import { hasCpus, kernelKills, makeParent, memory, runLimited, setParentCpus, update, whyNoParent } from './limits.ts';
import { exits, sizingOf } from './sized.ts';

const MIB = 2 ** 20;

test('docker run --cpuset-cpus 0 starts one worker on a machine with more CPUs', withEngine, async t => {
  if (!(await hasCpus(2))) return t.skip('this machine has fewer than 2 CPUs');
  const app = await runLimited(['--cpuset-cpus', '0']);
  const { quota, cpuset, effective, source } = (await sizingOf(app)).cpus;
  assert.deepEqual({ quota, cpuset, effective }, { quota: null, cpuset: 1, effective: 1 });
  assert.match(source, /^\/sys\/fs\/cgroup\/.*cpus/);
  assert.equal((await readyPids(app)).length, 1);
});

test('a tighter memory limit of a parent cgroup counts, though the container cannot see the parent', withEngine, async t => {
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
    semiSpaceMb: sized.semiSpaceMb,
  });
  assert.ok(Number(sized.heapPerWorkerMb) < 100, `${sized.heapPerWorkerMb} MiB`);
  if (sizing.wanted > 1) assert.match(reason, /for memory: 200 MiB \(\/sys\/fs\/cgroup\/memory\/memory\.stat\)/);

  const explained = await app.output('bosun', 'sizing');
  assert.match(explained, new RegExp(`^memory +${own} +${512 * MIB} +${512 * MIB}$`, 'm'));
  assert.match(explained, /^memory +\S+memory\.stat +hierarchical_memory_limit 209715200 +209715200$/m);
  assert.match(explained, /^memory limit +200 MiB \(\/sys\/fs\/cgroup\/memory\/memory\.stat\)$/m);
});

// The kernel refuses a quota above the parent's (v1): only a container without one can have a tighter parent.
test('a container cannot see the CPU quota of a parent cgroup, but reports its throttling', withEngine, async t => {
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
      assert.equal((await app.request('/cpu?ms=1000')).status, 200);
      const usage = await usageIn(app);
      return Number(usage.parentThrottledSeconds) > Number(before.parentThrottledSeconds) + 0.3 ? usage : undefined;
    },
    () => 'not throttled',
    60_000,
  );
  assert.equal(after.throttledSeconds, 0);
});

test('docker update --cpus 0.5 → 2 → 0.5 grows and shrinks the pool, and no request fails', withEngine, async t => {
  if (!(await hasCpus(2))) return t.skip('this machine has fewer than 2 CPUs');
  const app = await runLimited(['--cpus', '0.5']);
  const [first, ...more] = await readyPids(app);
  assert.ok(first);
  assert.deepEqual(more, []);

  const up = await underLoad(app, async () => {
    const startedAt = performance.now();
    await update(app, '--cpus', '2');
    await app.event('worker.ready', ({ worker }) => worker === 2);
    const ms = Math.round(performance.now() - startedAt);
    await app.event('pool.rebalanced', ({ to }) => String(to) === '2'); // the new worker gets its share of the kept connections
    return ms;
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
  assert.ok(Number((await app.status()).moved) > 0, 'the connections of the worker that went have moved');
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
  'docker update -m restarts the workers with the new heap, also together with --cpus, and no request fails',
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

/** Every worker has the heap that the sizing says, and there are so many. */
async function assertHeap(app: App, workers: number): Promise<number> {
  const { heapPerWorkerMb, semiSpaceMb } = (await sizingOf(app)).memory;
  const pids = await readyPids(app);
  assert.equal(pids.length, workers);
  for (const pid of pids) {
    const commandLine = (await app.output('cat', `/proc/${pid}/cmdline`)).split('\0');
    assert.ok(commandLine.includes(`--max-old-space-size=${heapPerWorkerMb}`), commandLine.join(' '));
    assert.ok(commandLine.includes(`--max-semi-space-size=${semiSpaceMb}`), commandLine.join(' '));
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
