/**
 * 200 take-overs of a leader (SOAK_TAKEOVERS), 4 workers in 2 pods: kills of workers and pods, paused workers, blocked loops, drains, a Redis
 * that freezes, fails over or loses everything, and tokens ahead of the clock. No two leaders by the order of tokens.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { call } from '../../src/cli/client.ts';
import { leaderKeys } from '../../src/state/redis-names.ts';
import { connected } from '../connected.ts';
import { Fence } from '../process/fence.ts';
import { type Kit, startKit } from '../process/kit.ts';
import { withRedis } from '../process/redis.ts';
import { RedisPair } from '../process/redis-pair.ts';
import { seededRandom } from '../random.ts';
import { until } from '../until.ts';

const TAKE_OVERS = Number(process.env.SOAK_TAKEOVERS ?? 200);
const SEED = Number(process.env.SEED ?? Date.now() % 1e6);
const LIMIT = { ...withRedis, timeout: 3_600_000 };
/** How often each fault comes. */
const WEIGHTS = {
  'worker killed': 40,
  'start function failed': 16,
  released: 12,
  'Redis lost everything': 12,
  'Redis failed over': 8,
  'worker drained': 6,
  'pod killed': 4,
  'pod drained': 2,
  'loop blocked': 4,
  'worker paused': 4,
  'Redis frozen': 4,
} as const;
type Fault = keyof typeof WEIGHTS;

test(`${TAKE_OVERS} take-overs of a leader: each next one has a higher token, seed ${SEED}`, LIMIT, async () => {
  const random = seededRandom(SEED);
  const redis = await RedisPair.start();
  after(() => redis.stop());
  const fence = new Fence();
  const FENCE_PORT = String(await fence.open());
  after(() => fence.close());
  const start = async () => {
    const kit = await startKit({ app: 'leads.mjs', env: { FENCE_PORT, SHUTDOWN_DELAY_MS: '0', REDIS_URL: redis.url } });
    await kit.ready();
    return kit;
  };
  let pods: Kit[] = await Promise.all([start(), start()]);
  const podOf = (pid: number) => pods.find(kit => kit.workerPids.includes(pid)) ?? assert.fail(`no pod of ${pid}`);
  const socketOf = async (kit: Kit) => String((await kit.event('control.listening')).path);
  const replace = async (pod: Kit, end: () => Promise<unknown>) => {
    await end();
    pods = [...pods.filter(each => each !== pod), await start()];
  };

  const times = new Map<Fault, number[]>();
  let leader = await fence.after(0);
  const causes: Record<Fault, () => Promise<unknown> | unknown> = {
    'worker killed': () => process.kill(leader.pid, 'SIGKILL'),
    'start function failed': () => fence.command('fail'),
    released: async () => call(await socketOf(podOf(leader.pid)), 'leader', { name: 'cron', release: true }),
    'Redis lost everything': async () => {
      const { client, close } = await connected(redis.primary);
      // As if the clock of this server had been ahead until now.
      if (random() < 0.5) await client.set(leaderKeys('koa-bosun:koa:sess', 'cron')[1], leader.token + 1e9 * random());
      await client.flushall();
      await close();
    },
    'Redis failed over': async () => {
      const { pid } = leader;
      await redis.failOver();
      // The lock has survived, and the leader leads on: its last writes may be lost, and the next token depends on them.
      process.kill(pid, 'SIGKILL');
    },
    'worker drained': async () => {
      const status = await podOf(leader.pid).status();
      const worker = status.workers.find(({ pid }) => pid === leader.pid)?.id ?? assert.fail();
      await call(await socketOf(podOf(leader.pid)), 'restart', { worker });
    },
    'pod killed': () => replace(podOf(leader.pid), () => podOf(leader.pid).kill()),
    'pod drained': () => replace(podOf(leader.pid), () => podOf(leader.pid).stop()),
    'loop blocked': () => fence.command('block 7000'),
    'worker paused': async () => {
      const { pid } = leader;
      process.kill(pid, 'SIGSTOP');
      await fence.after(leader.token);
      process.kill(pid, 'SIGCONT');
    },
    'Redis frozen': async () => {
      redis.primary.freeze();
      await pause(4000 + 3000 * random());
      redis.primary.thaw();
    },
  };
  const bag = Object.entries(WEIGHTS).flatMap(([fault, weight]) => Array<Fault>(weight).fill(fault as Fault));

  const begunAt = performance.now();
  while (fence.writers.size <= TAKE_OVERS) {
    const fault = bag[Math.floor(random() * bag.length)] ?? 'released';
    const before = leader.token;
    const startedAt = performance.now();
    const caused = Promise.resolve(causes[fault]()).catch((error: Error) => error);
    leader = await untilFollowed(fence, before, fault);
    times.set(fault, [...(times.get(fault) ?? []), performance.now() - startedAt]);
    const error = await caused;
    if (error instanceof Error && fault !== 'released') throw error;
    assert.deepEqual(fence.violations, [], fault);
    leader = fence.leader; // another fault may have ended the term that followed
    await pause(300 * random());
  }
  const minutes = ((performance.now() - begunAt) / 60_000).toFixed(1);
  console.log(
    `${fence.writers.size - 1} take-overs in ${minutes} min, ${fence.refused} writes refused, no token twice; seed ${SEED}`,
  );
  for (const [fault, all] of times) {
    const sorted = all.toSorted((a, b) => a - b).map(Math.round);
    console.log(`${fault}: ${all.length} times, ${sorted[0]}/${sorted[sorted.length >> 1]}/${sorted.at(-1)} ms`);
  }
  const tokens = [...fence.writers.keys()];
  assert.deepEqual(
    tokens,
    tokens.toSorted((a, b) => a - b),
    'the first accepted write of each leader has a higher token',
  );
});

/** Longer than a take-over may take on a busy machine. */
async function untilFollowed(fence: Fence, token: number, fault: Fault) {
  return until(
    () => (fence.leader.token > token ? fence.leader : undefined),
    () => `no leader after ${token}: ${fault}`,
    40_000,
  );
}
