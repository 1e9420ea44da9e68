/**
 * Where a container's /dev/shm is not what the policies with a gate need.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withEngine } from './engine.ts';
import { runLimited } from './limits.ts';

const POLICY = { NODE_CLUSTER_SCHED_POLICY: 'least-connections', NODE_CLUSTER_WORKERS: '2' };

for (const [title, flags, why] of [
  ['a /dev/shm of one page', ['--shm-size=4k'], /ENOSPC/],
  ['a read-only /dev/shm', ['--ipc=private', '--mount=type=bind,src=/sys/kernel,dst=/dev/shm,readonly'], /EROFS|EACCES|EPERM/],
] as const) {
  test(`with ${title} the balancing policy falls back to none, with a warning`, withEngine, async () => {
    const app = await runLimited([...flags], POLICY);
    const { warning } = await app.event('balancing.fallback');
    assert.match(String(warning), why);
    assert.match(String(warning), /^the policy is none instead of least-connections: cannot create the scoreboard in memory: /);
    const status = JSON.parse((await app.probe('/status')).body) as { policy: string; workers: { state: string }[] };
    assert.equal(status.policy, 'none');
    assert.equal((await app.request('/')).status, 200);
  });
}

test('without /dev/shm the scoreboard is in the temporary folder', withEngine, async () => {
  const app = await runLimited(['--ipc=none', '--tmpfs=/tmp'], POLICY);
  assert.deepEqual(app.all('balancing.fallback'), []);
  assert.equal((await app.event('primary.start')).policy, 'least-connections');
  assert.equal((await app.request('/')).status, 200);
});
