import assert from 'node:assert/strict';
import { test } from 'node:test';
import { renderFleet } from '../src/cli/fleet.ts';
import { Fleet } from '../src/primary/peers.ts';

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

test('what a pod reports about itself is bounded and printable, without unknown fields', () => {
  const fleet = fleetAt({ ms: 0 });
  fleet.heard(beat('a', { pod: '\x1b[2J\u202epod\n', version: 'v'.repeat(1000), more: 'x'.repeat(100) }));
  fleet.heard(beat('b', { pod: 'x'.repeat(100_000) }));
  for (const more of [{ workers: -1 }, { p99Ms: null }, { generation: '1' }, { keysRead: 7 }]) fleet.heard(beat('c', more));
  fleet.heard(beat('d\x07'));
  const [member, ...others] = fleet.members;
  assert.deepEqual(others, []);
  assert.equal(member?.pod, '?[2J?pod?');
  assert.equal(member?.version.length, 65);
  assert.ok(!('more' in (member ?? {})));
  assert.equal(fleet.ignored.malformed, 6);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they must not occur
  assert.doesNotMatch(renderFleet(fleet.members).replaceAll('\n', ''), /[\0-\x1f]/);
});

test('at most a thousand pods are kept', () => {
  const fleet = fleetAt({ ms: 0 });
  for (let i = 0; i < 1500; i++) fleet.heard(beat(`pod-${i}`));
  assert.equal(fleet.members.length, 1000);
  assert.equal(fleet.ignored.crowded, 500);
});

test('a replayed signed heartbeat does not count', () => {
  let now = 1_000_000;
  const fleet = new Fleet(
    'self',
    () => {
      throw new Error('not asked for');
    },
    () => now,
    () => now,
  );
  const recorded = beat('a', { beat: 7, at: now });
  fleet.heard(recorded, true);
  assert.equal(fleet.members.length, 1);
  now += 31_000;
  assert.deepEqual(fleet.members, []);
  fleet.heard(recorded, true);
  fleet.heard(beat('a', { beat: 6, at: now }), true);
  fleet.heard(beat('b', { beat: 1, at: now - 301_000 }), true);
  fleet.heard(beat('c'), true);
  assert.deepEqual(fleet.members, []);
  assert.equal(fleet.ignored.stale, 4);
  fleet.heard(beat('a', { beat: 8, at: now + 299_000 }), true);
  assert.equal(fleet.members.length, 1, 'the clocks of two pods differ');
});
