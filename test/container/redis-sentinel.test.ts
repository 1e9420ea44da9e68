/**
 * The start script of the component redis-sentinel: the longer cases are in test/soak/redis-sentinels.ts.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from '../until.ts';
import { withEngine } from './engine.ts';
import { SETTLE_TIMEOUT_MS, SentinelGroup } from './redis-sentinels.ts';

test('a master of the Sentinel group that comes back empty does not wipe its replicas, and becomes one', withEngine, async () => {
  const group = await SentinelGroup.create('a "password" with \\ in it');
  await group.startNew(2, 1, 0);
  const master = await group.settled();
  const others = [0, 1, 2].filter(pod => pod !== master);
  await group.command(master, 'SET', 'session', 'kept');
  assert.equal(await group.command(master, 'WAIT', '2', '5000'), '2');
  // It is back before they notice.
  await group.setDownAfter(600_000, others);
  await group.remove(master);
  await group.startNew(master);
  let log = '';
  await until(
    async () => {
      log = await group.log(master);
      return /waiting for another master|starting as/.exec(log)?.[0];
    },
    () => log,
    SETTLE_TIMEOUT_MS,
  );
  for (const pod of others) assert.equal(await group.command(pod, 'GET', 'session'), 'kept');
  await group.setDownAfter(1000, others);
  assert.notEqual(await group.settled(), master, await group.log(master));
  for (const pod of [0, 1, 2]) assert.equal(await group.command(pod, 'GET', 'session'), 'kept');
});
