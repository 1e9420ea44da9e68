import assert from 'node:assert/strict';
import { test } from 'node:test';
import { renderFleet } from '../src/cli/fleet.ts';
import { Fleet } from '../src/primary/fleet.ts';

const beat = (origin: string, more: object = {}) =>
  JSON.stringify({
    origin,
    pod: `pod-${origin}`,
    version: '0.1.0',
    state: 'ready',
    generation: 1,
    workers: 2,
    wanted: 2,
    requestsPerSecond: 12.5,
    p99Ms: 3,
    ...more,
  });

function fleetAt(clock: { ms: number }): Fleet {
  const ownPod = () => {
    throw new Error('not asked for');
  };
  return new Fleet('self', ownPod, () => clock.ms);
}

test('the fleet is what was heard of: the silent are shown as such, and forgotten after half a minute; the gone at once', () => {
  const clock = { ms: 0 };
  const fleet = fleetAt(clock);
  for (const origin of ['b', 'a', 'c']) fleet.heard(beat(origin));
  clock.ms = 5000;
  fleet.heard(beat('a', { workers: 1 }));
  fleet.heard(beat('c', { state: 'gone' }));
  assert.deepEqual(
    fleet.members.map(({ pod, workers, silentSeconds }) => [pod, workers, silentSeconds]),
    [
      ['pod-a', 1, 0],
      ['pod-b', 2, 5],
    ],
  );
  const [, silent = ''] = renderFleet(fleet.members).split('\n').slice(1);
  assert.match(silent, /^pod-b +0\.1\.0 +ready +1 +2 of 2 +12\.5 +3 ms +silent for 5 s$/);
  clock.ms = 31_000;
  assert.deepEqual(
    fleet.members.map(({ pod }) => pod),
    ['pod-a'],
  );
});

test('what is no beat is left alone, and so is one that says that it is ours', () => {
  const fleet = fleetAt({ ms: 0 });
  for (const text of ['', 'null', '[]', '{}', beat('a', { state: 'fine' }), beat('a', { workers: '2' }), beat('self')])
    fleet.heard(text);
  assert.deepEqual(fleet.members, []);
});
