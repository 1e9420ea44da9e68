/**
 * `kit.leader` with 4 workers in 2 pods over a real Redis: ten take-overs, each by another fault. The resource of fence.ts checks the tokens.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { call } from '../../src/cli/client.ts';
import { connected } from '../connected.ts';
import { until } from '../until.ts';
import { Fence } from './fence.ts';
import { CLEAN, type Kit, startKit } from './kit.ts';
import { LocalRedis, withRedis } from './redis.ts';

async function startPods(redis: LocalRedis | undefined, pods: number, env: Record<string, string> = {}) {
  const fence = new Fence();
  const FENCE_PORT = String(await fence.open());
  after(() => fence.close());
  const settings = { FENCE_PORT, SHUTDOWN_DELAY_MS: '0', ...(redis && { REDIS_URL: redis.url }), ...env };
  const kits = await Promise.all(Array.from({ length: pods }, () => startKit({ app: 'leads.mjs', env: settings })));
  await Promise.all(kits.map(kit => kit.ready()));
  const transcript = () => kits.map(kit => kit.transcript()).join('\n\n');
  const podOf = (pid: number) => kits.find(kit => kit.workerPids.includes(pid)) ?? assert.fail(transcript());
  return { fence, kits, transcript, podOf };
}

const socketOf = async (kit: Kit) => String((await kit.event('control.listening')).path);

test('ten take-overs in 2 pods: each next leader has a higher token, and no two have one', withRedis, async () => {
  const redis = await LocalRedis.start();
  after(() => redis.stop());
  const { fence, kits, transcript, podOf } = await startPods(redis, 2);
  let leader = await fence.after(0, transcript);
  const followed = async (cause: () => unknown) => {
    const startedAt = performance.now();
    await cause();
    leader = await fence.after(leader.token, transcript);
    return performance.now() - startedAt;
  };

  // Fewer than there are candidates: those that replace the killed ones take their time to start.
  const killed = async () => {
    const { pid } = leader;
    const ms = await followed(() => process.kill(pid, 'SIGKILL'));
    assert.ok(ms < 4000, `${ms} ms: the primary frees the lock of a worker that is gone`);
    assert.notEqual(leader.pid, pid);
  };
  await killed();
  await killed();
  assert.ok(kits.flatMap(kit => kit.all('leader.lost')).every(({ why }) => why === 'exit'));

  // From the other pod: the notice goes through Redis.
  const other = kits.find(kit => kit !== podOf(leader.pid)) ?? assert.fail();
  const before = leader;
  await until(
    async () => ((await other.status()).leader as never as Leaders)?.cron.holder?.token === before.token || undefined,
    transcript,
  );
  const released = await call(await socketOf(other), 'leader', { name: 'cron', release: true });
  leader = await fence.after(before.token, transcript);
  assert.equal(released.holder?.token, leader.token);
  assert.notEqual(leader.pid, before.pid, 'another worker');
  await fence.received('ends', before.token);

  await killed();

  for (let failures = 0; failures < 2; failures++) assert.ok((await followed(() => fence.command('fail'))) < 4000);
  const { client, close } = await connected(redis);
  await followed(() => client.flushall());
  await close();
  await followed(async () => {
    await redis.stop();
    await redis.startAgain(); // empty
  });

  // Nobody leads while Redis is frozen. A loop that is blocked meanwhile gets no signal, but its next check throws.
  const frozen = leader.token;
  fence.command('block 4500');
  redis.freeze();
  await fence.received('LeaderLostError', frozen);
  assert.equal(fence.leader.token, frozen);
  redis.thaw();
  leader = await fence.after(frozen, transcript);

  // The drain of the pod gives the lead to the other one, before its last request is answered.
  const drained = podOf(leader.pid);
  const last = leader.token;
  drained.signal('SIGTERM');
  leader = await fence.after(last, transcript);
  assert.notEqual(podOf(leader.pid), drained);
  assert.deepEqual(await drained.exit(), CLEAN);
  assert.equal((await drained.event('leader.released', ({ why }) => why === 'drain')).why, 'drain');

  const status = (await podOf(leader.pid).status()).leader as unknown as Leaders;
  assert.deepEqual([status.cron.holder?.token, status.cron.holder?.isSelf, status.cron.scope], [leader.token, true, 'fleet']);
  const metrics = await podOf(leader.pid).probe('/metrics');
  assert.match(metrics.body, /^bosun_leader\{name="cron"\} 1$/m);
  assert.deepEqual(fence.violations, []);
  assert.ok(fence.writers.size >= 11, `${fence.writers.size} leaders`);
});

test('in the scope pod each pod has a leader, without Redis, and a worker that dies is followed at once', async () => {
  const { fence, kits, transcript } = await startPods(undefined, 1, { LEADER_SCOPE: 'pod', SHUTDOWN_TIMEOUT_MS: '1000' });
  const [kit] = kits;
  assert.ok(kit);
  const first = await fence.after(0, transcript);
  process.kill(first.pid, 'SIGKILL');
  const second = await fence.after(first.token, transcript);
  assert.notEqual(second.pid, first.pid);
  const released = await call(await socketOf(kit), 'leader', { name: 'cron', release: true });
  assert.deepEqual([released.scope, released.holder?.isSelf], ['pod', true]);
  const third = await fence.after(second.token, transcript);
  assert.equal(third.token, released.holder?.token);
  await assert.rejects(call(await socketOf(kit), 'leader', { name: 'other' }), /kit\.leader\("other"\); there is cron/);
  // A start function that goes on after its abort has until the deadline of the drain, and ends with the process.
  fence.command('ignore');
  assert.deepEqual(await kit.stop(), CLEAN);
  assert.equal((await kit.event('leader.ignores-abort')).term, third.token);
  assert.equal((await kit.event('leader.released', ({ term }) => term === third.token)).why, 'drain');
  assert.deepEqual(fence.violations, []);
});

interface Leaders {
  cron: { scope: string; holder: { token: number; isSelf: boolean } | null };
}
