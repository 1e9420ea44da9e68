import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import type { Sizing } from '../../src/protocol/sizing.ts';
import { FakeRoot } from '../fake-root.ts';
import { type Kit, startKit } from './kit.ts';
import { freshLoad, keepAliveLoad } from './loads.ts';

const MIB = 2 ** 20;

/** A kit that takes its limits from a folder. Workers are counted by `auto` but where a test says otherwise. */
async function kitIn(root: FakeRoot, env: Record<string, string> = {}): Promise<Kit> {
  return startKit({ app: 'koa.mjs', env: { SIZING_ROOT: root.path, NODE_CLUSTER_WORKERS: 'auto', ...env } });
}

async function sizingOf(kit: Kit): Promise<Sizing> {
  return (await kit.status()).sizing as Sizing;
}

const commandLine = (pid: unknown) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');

async function workerPids(kit: Kit): Promise<number[]> {
  return (await kit.status()).workers.filter(({ state }) => state === 'ready').map(({ pid }) => pid);
}

describe('the pool follows the limits', { concurrency: 3 }, () => {
  test('a higher CPU quota starts workers, a lower one drains one worker at a time, and no request is lost', async () => {
    const root = new FakeRoot({ cpuMax: '50000 100000' });
    const kit = await kitIn(root);
    const { port } = await kit.ready();
    assert.equal((await workerPids(kit)).length, 1);
    const loads = [keepAliveLoad(port), freshLoad(port)];

    const raisedAt = performance.now();
    root.cpuMax('300000 100000');
    await kit.event('worker.ready', ({ worker }) => worker === 3);
    // A change lasts 2 s until it counts, one for fewer CPUs 10 s; the rest is the machine's.
    const upMs = Math.round(performance.now() - raisedAt);
    assert.ok(upMs > 2000 && upMs < 10_000, `up in ${upMs} ms`);
    assert.equal((await sizingOf(kit)).workers, 3);

    const loweredAt = performance.now();
    root.cpuMax('100000 100000');
    for (let count = 0; count < 2; count++) {
      await kit.event('worker.exit', ({ reason, worker }) => reason === 'scale-down' && worker === 3 - count);
    }
    const downMs = Math.round(performance.now() - loweredAt);
    assert.ok(downMs > 10_000, `down in ${downMs} ms`);
    assert.equal((await workerPids(kit)).length, 1);

    for (const load of loads) {
      const { answered, failures, refused } = await load.stop();
      assert.ok(answered > 100, `${answered} answered`);
      assert.deepEqual(failures, []);
      assert.equal(refused, 0);
    }
    const metrics = (await kit.probe('/metrics')).body;
    assert.match(metrics, /^bosun_resizes_total\{direction="up"\} 1$/m);
    assert.match(metrics, /^bosun_resizes_total\{direction="down"\} 1$/m);
    assert.deepEqual(await kit.stop(), { code: 0, signal: null });
  });

  test('a new memory limit restarts the workers with the new heap', async () => {
    const root = new FakeRoot({ cpuMax: '200000 100000', memoryMax: String(1024 * MIB) });
    const kit = await kitIn(root);
    await kit.ready();
    const before = await workerPids(kit);
    const { heapPerWorkerMb, semiSpaceMb } = (await sizingOf(kit)).memory;
    assert.equal(semiSpaceMb, 16);
    for (const pid of before) {
      assert.ok(commandLine(pid).includes(`--max-old-space-size=${heapPerWorkerMb}`));
      assert.ok(commandLine(pid).includes('--max-semi-space-size=16'));
    }

    root.memoryMax(String(2048 * MIB));
    await kit.event('pool.restarted');
    const after = await workerPids(kit);
    const { heapPerWorkerMb: raised, semiSpaceMb: raisedSemiSpace } = (await sizingOf(kit)).memory;
    assert.equal(raisedSemiSpace, 32);
    assert.ok(Number(raised) > Number(heapPerWorkerMb) * 1.9);
    assert.equal(after.length, 2);
    for (const pid of after) {
      assert.ok(!before.includes(pid));
      assert.ok(commandLine(pid).includes(`--max-old-space-size=${raised}`));
      assert.ok(commandLine(pid).includes('--max-semi-space-size=32'));
    }
    await kit.stop();
  });

  test('a fixed number of workers ignores a new CPU quota, but its heap follows the memory limit', async () => {
    const root = new FakeRoot({ cpuMax: '100000 100000', memoryMax: String(1024 * MIB) });
    const kit = await kitIn(root, { NODE_CLUSTER_WORKERS: '2' });
    await kit.ready();
    root.cpuMax('400000 100000');
    root.memoryMax(String(2048 * MIB));
    await kit.event('pool.restarted');
    assert.equal((await workerPids(kit)).length, 2);
    assert.deepEqual(kit.all('pool.scale'), []);
    await kit.stop();
  });

  test('four wanted workers in 256 MiB become one, with memory as the reason', async () => {
    const kit = await kitIn(new FakeRoot({ cpuMax: '400000 100000', memoryMax: String(256 * MIB) }));
    await kit.ready();
    const sizing = await sizingOf(kit);
    assert.deepEqual([sizing.wanted, sizing.workers], [4, 1]);
    assert.match(sizing.reason, /lowered from 4 for memory: 256 MiB \(\/sys\/fs\/cgroup\/memory\.max\)/);
    await kit.stop();
  });

  test('a heap size in NODE_OPTIONS takes precedence over the share of the memory limit', async () => {
    const root = new FakeRoot({ cpuMax: '100000 100000', memoryMax: String(1024 * MIB) });
    const kit = await kitIn(root, { NODE_OPTIONS: '--max-old-space-size-percentage=50 --no-deprecation' });
    await kit.ready();
    const [pid] = await workerPids(kit);
    assert.ok(commandLine(pid).includes('--max-old-space-size=512'));
    assert.match(readFileSync(`/proc/${pid}/environ`, 'utf8'), /\0NODE_OPTIONS=--no-deprecation\0/);
    await kit.stop();
  });
});
