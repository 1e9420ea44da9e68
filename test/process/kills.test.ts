/**
 * A worker killed again and again under load: who loses something, and how soon the pool is whole.
 * `make soak` kills 60 of them, one a second; the suite kills a few.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { freePort } from '../free-port.ts';
import { until } from '../until.ts';
import { type Kit, startKit } from './kit.ts';
import { namedLoad } from './named-load.ts';

const KILLS = Number(process.env.KILLS ?? 5);
const KILL_EVERY_MS = 1000;
const CLIENTS = 8;

async function whole(kit: Kit, without: ReadonlySet<number>): Promise<void> {
  await until(
    async () => {
      const { workers } = await kit.status();
      const serving = workers.filter(({ pid, state }) => state === 'ready' && !without.has(pid));
      return serving.length === 2 || undefined;
    },
    () => `the pool is not whole: ${kit.transcript()}`,
  );
}

// Not rr: a client whose connection was being handed to the killed worker hangs there (docs/limits.md).
for (const policy of ['none', 'least-connections']) {
  test(`a worker killed by SIGKILL every second loses only the requests open on it (case 15), policy ${policy}`, async t => {
    const kit = await startKit({
      app: 'koa.mjs',
      env: { NODE_CLUSTER_SCHED_POLICY: policy, PORT: String(await freePort()), RESTART_INTENSITY: String(KILLS) },
    });
    const { port } = await kit.ready();
    const load = namedLoad(port, CLIENTS);
    after(load.stop);
    const killed = new Set<number>();
    const wholeAfterMs: number[] = [];
    for (let count = 0; count < KILLS; count++) {
      const victim = (await kit.status()).workers.find(({ state }) => state === 'ready')?.pid ?? 0;
      const killedAt = performance.now();
      process.kill(victim, 'SIGKILL');
      killed.add(victim);
      await whole(kit, killed);
      wholeAfterMs.push(performance.now() - killedAt);
      const answered = load.answered;
      await until(
        () => load.answered > answered + CLIENTS || undefined,
        () => `the new pool does not answer: ${kit.transcript()}`,
      );
      await pause(Math.max(0, KILL_EVERY_MS - (performance.now() - killedAt)));
    }
    await load.stop();
    // A connection that was being made when its worker died has no answer yet that names it: one for each client and kill at most.
    const known = load.losses.filter(({ pid }) => pid !== undefined);
    assert.deepEqual(
      known.filter(({ pid = 0 }) => !killed.has(pid)),
      [],
      'a request of a worker that lived was lost',
    );
    assert.ok(load.losses.length <= KILLS * CLIENTS, JSON.stringify(load.losses));
    assert.deepEqual((await kit.status()).restarts, { total: KILLS, byReason: { killed: KILLS } });
    assert.deepEqual(kit.all('pool.backoff'), []);
    assert.deepEqual(await kit.stop(), { code: 0, signal: null }, kit.transcript());
    const sorted = wholeAfterMs.map(Math.round).sort((a, b) => a - b);
    t.diagnostic(
      `${KILLS} kills, ${load.answered} answered, ${load.losses.length} lost; whole again after ${sorted[0]}/${sorted[sorted.length >> 1]}/${sorted.at(-1)} ms (min/median/max)`,
    );
  });
}
