/**
 * Replacements with little memory. The limits and the use come from a folder; the workers are real.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FakeRoot } from '../fake-root.ts';
import { until } from '../until.ts';
import { readyPids } from './capacity.ts';
import { CLEAN, type Kit } from './kit.ts';
import { freshLoad, keepAliveLoad } from './loads.ts';
import { startOperated } from './operator.ts';
import { childrenOf } from './processes.ts';

/** Most of a test is waiting. */
const CONCURRENCY = 3;
const MIB = 2 ** 20;
const LIMIT = 512 * MIB;

/** Of a container of 512 MiB of which so much is free. */
function rootWith(freeMib: number): FakeRoot {
  const root = new FakeRoot({ memoryMax: String(LIMIT), cpuMax: '200000 100000' });
  root.memoryUsed(LIMIT - freeMib * MIB);
  return root;
}

/** A worker of these tests has about 45 MiB of private pages. */
const NO_ROOM_MIB = 20;

describe('without room for a second worker', { concurrency: CONCURRENCY }, () => {
  for (const policy of ['least-connections', 'rr', 'none', 'reuseport']) {
    test(`without memory for a second worker the only one is replaced while its clients wait, and no request fails, policy ${policy}`, async () => {
      const { kit, port, bosun } = await startOperated({
        app: 'koa.mjs',
        env: { SIZING_ROOT: rootWith(NO_ROOM_MIB).path, NODE_CLUSTER_WORKERS: '1', NODE_CLUSTER_SCHED_POLICY: policy },
      });
      const loads = [freshLoad(port, { everyMs: 10 }), keepAliveLoad(port), keepAliveLoad(port, { path: '/slow?ms=200' })];
      const seen = watch(kit);
      const { code, stdout } = await bosun('restart');
      assert.equal(code, 0, stdout);
      assert.match(
        stdout,
        /^draining worker 1 before its successor starts \(a new worker needs \d+ MiB beside the others, but only 20 MiB of \d+ MiB are free/,
      );
      assert.match(stdout, /^worker 1 is gone: \d+ requests finished, 0 cut/m);
      for (const load of loads) {
        const { answered, failures, refused } = await load.stop();
        assert.ok(answered > 10, `${answered} answers`);
        assert.deepEqual({ failures, refused }, { failures: [], refused: 0 });
      }
      const { mostWorkers, probes } = await seen.stop();
      assert.equal(mostWorkers, 1);
      assert.deepEqual(
        probes.filter(probe => !probe.startsWith('200')),
        [],
      );
      assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
    });
  }

  test('without memory for a third worker two are replaced one after the other, and no request fails', async () => {
    const env = { SIZING_ROOT: rootWith(NO_ROOM_MIB).path };
    const { kit, port, bosun } = await startOperated({ app: 'koa.mjs', env });
    const before = await readyPids(kit);
    const loads = [freshLoad(port), keepAliveLoad(port, { path: '/slow?ms=100' })];
    const seen = watch(kit);
    const doctor = JSON.parse((await bosun('doctor', '--json')).stdout) as { check: string; verdict: string; detail: string }[];
    assert.match(
      doctor.find(({ check }) => check === 'restart')?.detail ?? '',
      /^the old worker ends first while clients wait: a new/,
    );
    assert.equal((await bosun('restart')).code, 0);
    for (const load of loads) {
      const { failures, refused } = await load.stop();
      assert.deepEqual({ failures, refused }, { failures: [], refused: 0 });
    }
    assert.equal((await seen.stop()).mostWorkers, 2);
    const after = await readyPids(kit);
    assert.ok(after.length === 2 && after.every(pid => !before.includes(pid)));
  });

  test('without memory for a second worker a crashed one exits before its successor starts', async () => {
    const env = { SIZING_ROOT: rootWith(NO_ROOM_MIB).path, NODE_CLUSTER_WORKERS: '1' };
    const { kit, port } = await startOperated({ app: 'koa.mjs', env });
    const seen = watch(kit);
    const slow = keepAliveLoad(port, { path: '/slow?ms=1000', clients: 2 });
    await slow.answered(2);
    const crashing = freshLoad(port, { path: '/crash?ms=500' });
    await crashing.answered(1);
    await crashing.stop();
    await kit.event('worker.exit', ({ reason }) => reason === 'crash');
    await slow.answered(slow.result.answered + 2);
    await slow.stop();
    assert.equal((await seen.stop()).mostWorkers, 1);
  });
});

test('a restart without enough memory is refused, and log, status and metrics show it', async () => {
  const { kit, bosun } = await startOperated({ app: 'koa.mjs', env: { SIZING_ROOT: rootWith(-500).path } });
  const before = await readyPids(kit);
  const { code, stdout, stderr } = await bosun('restart');
  assert.deepEqual([code, stdout], [1, '']);
  const why = /worker 1 is not replaced: a new worker needs \d+ MiB in place of the old one, but only 0 MiB of 512 MiB are free/;
  assert.match(stderr, why);
  kit.signal('SIGHUP');
  await until(
    () => kit.all('pool.restart-refused').length === 2 || undefined,
    () => kit.transcript(),
  );
  assert.match(String(kit.all('pool.restart-refused')[1]?.why), why);
  const { generation, rollingRestarts } = await kit.status();
  assert.equal(generation, 1);
  const { lastRefused, ...counts } = rollingRestarts as Record<string, unknown> & { lastRefused: { why: string } };
  assert.deepEqual(counts, { success: 0, failure: 0, refused: 2 });
  assert.match(lastRefused.why, why);
  assert.match((await kit.probe('/metrics')).body, /^bosun_rolling_restarts_total\{result="refused"\} 2$/m);
  assert.match((await bosun('doctor')).stdout, /restart +would be refused: a new worker needs/);
  assert.deepEqual(await readyPids(kit), before);
});

test('RESTART_SURGE=never always ends the old worker first, RESTART_SURGE=always never does', async () => {
  for (const [surge, freeMib, first] of [
    ['never', 400, /^draining worker 1 before its successor starts \(RESTART_SURGE=never\)/],
    ['always', NO_ROOM_MIB, /^starting worker 2 to replace worker 1/],
  ] as const) {
    const env = { SIZING_ROOT: rootWith(freeMib).path, NODE_CLUSTER_WORKERS: '1', RESTART_SURGE: surge };
    const { bosun } = await startOperated({ app: 'koa.mjs', env });
    const { code, stdout } = await bosun('restart');
    assert.equal(code, 0);
    assert.match(stdout, first);
  }
});

test('a new worker above WORKER_MAX_RSS_MB is never recycled; log and doctor report it once', async () => {
  const { kit, bosun } = await startOperated({ app: 'koa.mjs', env: { WORKER_MAX_RSS_MB: '40' } });
  await kit.event('recycling.pointless');
  await kit.statusWhere(({ uptimeSeconds }) => Number(uptimeSeconds) > 4);
  assert.equal(kit.all('recycling.pointless').length, 1);
  assert.deepEqual(kit.all('worker.replace'), []);
  assert.match((await bosun('doctor')).stdout, /recycling +a new worker uses \d+ MiB when it starts, above WORKER_MAX_RSS_MB=40/);
});

test('/status counts shared memory of the processes once, and has the free memory', async () => {
  const { kit } = await startOperated({ app: 'koa.mjs', env: { SIZING_ROOT: rootWith(300).path } });
  const { memory, workers } = (await kit.statusWhere(({ workers }) => workers.every(worker => rssOf(worker) > 0))) as unknown as {
    memory: Record<string, number>;
    workers: { memory: { rss: number } }[];
  };
  const rss = workers.reduce((sum, worker) => sum + worker.memory.rss, 0);
  const { usedBytes = 0, headroomBytes, freshWorkerBytes = 0, restart } = memory;
  assert.ok(usedBytes > 50 * MIB && usedBytes < rss, `${usedBytes / MIB} MiB, ${rss / MIB} MiB resident`);
  assert.equal(headroomBytes, 300 * MIB);
  assert.ok(freshWorkerBytes > 10 * MIB && freshWorkerBytes < 150 * MIB, `${freshWorkerBytes / MIB} MiB`);
  assert.equal(restart, 'surge');
});

const rssOf = (worker: object) => (worker as { memory: { rss: number } }).memory.rss;

/** Continuously records the number of workers and the answer of the readiness probe. */
function watch(kit: Kit): { stop(): Promise<{ mostWorkers: number; probes: string[] }> } {
  let goesOn = true;
  const seen = { mostWorkers: 0, probes: [] as string[] };
  const looking = (async () => {
    while (goesOn) {
      seen.mostWorkers = Math.max(seen.mostWorkers, childrenOf(kit.pid).length);
      const { status, body } = await kit.probe('/readyz');
      seen.probes.push(`${status} ${body}`);
    }
  })();
  return {
    stop: async () => {
      goesOn = false;
      await looking;
      return seen;
    },
  };
}
