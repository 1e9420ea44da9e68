/**
 * The component redis-sentinel in three containers, and the kit's image beside it with SESSION_WAIT_REPLICAS=1: the master is killed, frozen
 * and drained while visitors count, and the group starts in each order. No acknowledged session is lost. SOAK_ROUNDS (3) of each.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { type App, startApp } from '../container/app.ts';
import { withEngine } from '../container/engine.ts';
import { SentinelGroup } from '../container/redis-sentinels.ts';
import { Visitor } from '../visitor.ts';

const ROUNDS = Number(process.env.SOAK_ROUNDS ?? 3);
const VISITORS = 8;
/** The aim is 5 s; a busy machine takes longer. */
const MAX_OUTAGE_MS = 15_000;
const FREEZE_MS = 9000;
const PODS = [0, 1, 2];
const LIMIT = { ...withEngine, timeout: 1_800_000 };

test('first starts of the Sentinel group, and starts after all were killed, in any order', LIMIT, async () => {
  for (const order of [PODS, [2, 1, 0], [1, 2, 0]]) {
    const group = await SentinelGroup.create('password');
    for (const pod of order) {
      await group.startNew(pod);
      await pause(1000);
    }
    const master = await group.settled();
    await group.command(master, 'SET', 'session', 'kept');
    assert.equal(await group.command(master, 'WAIT', '2', '5000'), '2');
    await group.kill(...PODS);
    for (const pod of order) {
      await group.startAgain(pod);
      await pause(1000);
    }
    await group.settled();
    for (const pod of PODS) assert.equal(await group.command(pod, 'GET', 'session'), 'kept', await group.log(pod));
    await group.remove(...PODS);
  }
});

test('a group whose first pod is missing starts with another one, which that pod joins later', LIMIT, async () => {
  const group = await SentinelGroup.create('password');
  await group.startNew(1, 2);
  await pause(15_000);
  await group.startNew(0);
  assert.notEqual(await group.settled(), 0);
});

test('no acknowledged session is lost while the master is killed, frozen and drained', LIMIT, async t => {
  const group = await SentinelGroup.create('password');
  await group.startNew(...PODS);
  await group.settled();
  const app = await startApp({
    network: group.network,
    env: { ...group.env, SESSION_WAIT_REPLICAS: '1', NODE_CLUSTER_WORKERS: '2' },
  });
  await app.ready();
  const ways: Record<string, (master: number) => Promise<unknown>> = {
    killed: async master => {
      await group.kill(master);
      await group.startAgain(master);
    },
    frozen: async master => {
      await group.freeze(master);
      await pause(FREEZE_MS);
      await group.thaw(master);
    },
    drained: async master => {
      await group.drain(master);
      await group.startAgain(master);
    },
    'replaced without its data': async master => {
      await group.remove(master);
      await group.startNew(master);
    },
  };
  for (const [name, harm] of Object.entries(ways)) {
    const outages: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const master = await group.settled();
      await pause(5000); // every Sentinel knows every replica
      outages.push(await outageDuring(t, app, () => harm(master)));
    }
    outages.sort((a, b) => a - b);
    t.diagnostic(`${name}: 503 for ${outages.map(ms => (ms / 1000).toFixed(1)).join(', ')} s`);
    assert.ok((outages.at(-1) ?? 0) < MAX_OUTAGE_MS, `${name}: ${outages} ms`);
  }
});

/** From the first to the last 503 of visitors who count meanwhile, in milliseconds. */
async function outageDuring(t: TestContext, app: App, harm: () => Promise<unknown>): Promise<number> {
  const failures: number[] = [];
  const over = new AbortController();
  const visits = Array.from({ length: VISITORS }, async () => {
    const visitor = new Visitor();
    let acknowledged = 0;
    while (!over.signal.aborted) {
      const { status, body } = await visitor.request(app.port, '/api/counter');
      if (status === 200) {
        const { counter } = JSON.parse(body) as { counter: number };
        assert.ok(counter > acknowledged, `${counter} after ${acknowledged} was acknowledged`);
        acknowledged = counter;
      } else {
        assert.equal(status, 503, body);
        failures.push(performance.now());
      }
      await pause(20, undefined, { signal: t.signal });
    }
  });
  await pause(1000);
  await harm();
  await pause(MAX_OUTAGE_MS);
  over.abort();
  await Promise.all(visits);
  return failures.length === 0 ? 0 : Math.max(...failures) - Math.min(...failures);
}
