/**
 * Rolling restarts under mixed load lose nothing, and there are never fewer workers than wanted.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { watchCapacity } from './capacity.ts';
import { CLEAN } from './kit.ts';
import { freshLoad, keepAliveLoad, pipelineLoad, uploadLoad } from './loads.ts';
import { startOperated } from './operator.ts';
import { POLICIES, SOAKS } from './policies.ts';

const WORKERS = 2;
const MIN_REQUESTS = SOAKS ? 20_000 : 4000;
const MIN_ROLLS = 3;
/** More rolls than that are not needed by any machine for so many requests. */
const MAX_ROLLS = 15;

describe('a rolling restart under mixed load', () => {
  for (const policy of SOAKS ? POLICIES : ['least-connections']) {
    test(`18 of ${MIN_ROLLS} rolls and more loses none of ${MIN_REQUESTS} requests, policy ${policy}`, async t => {
      const { kit, port, bosun } = await startOperated({ app: 'koa.mjs', env: { NODE_CLUSTER_SCHED_POLICY: policy } });
      const capacity = watchCapacity(kit);
      const bounds = { mostRequests: 1e6, longestMs: 180_000 };
      const loads = [
        keepAliveLoad(port, { clients: 4, pauseMs: SOAKS ? 0 : 10, ...bounds }),
        keepAliveLoad(port, { clients: 8, pauseMs: 0, path: '/slow?ms=500', ...bounds }),
        freshLoad(port, { everyMs: 10, ...bounds }),
        uploadLoad(port, bounds),
        pipelineLoad(port, bounds),
      ];
      const answered = () => loads.reduce((sum, { result }) => sum + result.answered, 0);
      const startedAt = performance.now();
      let rolls = 0;
      while (rolls < MIN_ROLLS || (answered() < MIN_REQUESTS && rolls < MAX_ROLLS)) {
        const before = loads.map(({ result }) => result.answered);
        if (rolls++ % 2 === 0) {
          kit.signal('SIGHUP');
          await kit.event('pool.restarted', ({ generation }) => generation === rolls + 1);
        } else {
          const { code, stdout, stderr } = await bosun('restart');
          assert.equal(code, 0, stderr);
          assert.ok(stdout.endsWith(`done: generation ${rolls + 1} serves\n`), stdout);
        }
        for (const [index, load] of loads.entries())
          assert.ok(load.result.answered > Number(before[index]), `load ${index} goes on`);
      }
      const tookMs = performance.now() - startedAt;
      const results = await Promise.all(loads.map(load => load.stop()));
      const { least, samples } = await capacity.stop();
      t.diagnostic(
        `${answered()} requests in ${rolls} rolls, ${Math.round(tookMs)} ms; at least ${least} ready in ${samples} looks`,
      );

      for (const { failures, refused } of results) assert.deepEqual({ failures, refused }, { failures: [], refused: 0 });
      assert.ok(answered() >= MIN_REQUESTS, `${answered()} answers`);
      assert.equal(least, WORKERS, 'never fewer workers than wanted');
      assert.ok(samples >= rolls * 20, `${samples} looks at the pool`);
      const { generation, workers, restarts, drains } = await kit.status();
      assert.equal(generation, rolls + 1);
      assert.deepEqual(
        workers.map(worker => [worker.generation, worker.state]),
        Array(WORKERS).fill([rolls + 1, 'ready']),
      );
      assert.deepEqual(restarts, { total: rolls * WORKERS, byReason: { restart: rolls * WORKERS } });
      assert.equal(drains.count, rolls * WORKERS);
      assert.equal(drains.cutRequests, 0);
      assert.ok(drains.finishedRequests >= rolls * WORKERS, `${drains.finishedRequests} requests were finished in drains`);
      assert.equal(new Set(kit.workerPids).size, (rolls + 1) * WORKERS, 'each worker is a new process');
      const answering = new Set(results.flatMap(({ byPid }) => [...byPid.keys()]));
      assert.ok(
        kit.workerPids.every(pid => answering.has(pid)),
        'each of them answered',
      );
      assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
    });
  }
});
