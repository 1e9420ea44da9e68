import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  averageWith,
  betterOff,
  faded,
  GATED_POLICIES,
  type GatedPolicy,
  isGated,
  type Load,
  lastTurn,
  RULES,
  turnsAfter,
} from '../src/balancing/policy.ts';
import { POLICIES } from '../src/config/variables.ts';

const load = (connections: number, responseMs = 0, averagedAt = 0): Load => ({
  sequence: 1,
  connections,
  responseMs,
  averagedAt,
  takenAt: 0,
  turns: 0,
});

const leaves = (policy: GatedPolicy, own: Load, ...others: Load[]) => betterOff(policy, own, others, 0).length > 0;

const aLoad = fc.record({
  sequence: fc.constant(1),
  connections: fc.oneof(fc.nat(2), fc.nat(6), fc.nat(300)),
  responseMs: fc.float({ min: 0, max: 900, noNaN: true }),
  averagedAt: fc.nat(5),
  takenAt: fc.nat(5),
  turns: fc.nat(5),
});

test('every policy has rules, and the gated ones keep their numbers on the scoreboard', () => {
  assert.deepEqual(Object.keys(RULES).toSorted(), POLICIES.toSorted());
  assert.deepEqual(GATED_POLICIES, ['none', 'least-connections', 'response-time', 'rr']);
  assert.deepEqual([isGated('reuseport'), isGated('toString'), isGated('rr')], [false, false, true]);
  assert.deepEqual(
    POLICIES.filter(policy => RULES[policy].rebalances === 'always'),
    ['least-connections', 'response-time'],
  );
  assert.deepEqual(
    POLICIES.filter(policy => RULES[policy].whileWaking === 'queued'),
    ['rr'],
  );
});

test('a worker that is alone, or has the policy none or reuseport, leaves no connection to others', () => {
  for (const policy of GATED_POLICIES) assert.equal(leaves(policy, load(1000)), false);
  for (const policy of ['none', 'reuseport'] as const) {
    assert.deepEqual(RULES[policy].betterOff(load(1000), [load(0)], 0, 1), []);
  }
});

test('least-connections up to 4 connections: a worker leaves the next one to a worker with fewer', () => {
  const own = (...numbers: [number, ...number[]]) => {
    const [first, ...others] = numbers.map(number => load(number)) as [Load, ...Load[]];
    return leaves('least-connections', first, ...others);
  };
  assert.deepEqual([own(1, 0), own(0, 1), own(4, 3), own(4, 4), own(4, 5)], [true, false, true, false, false]);
  assert.deepEqual(betterOff('least-connections', load(1), [load(0)], 0, 2), [], 'it goes on while the other one wakes up');
  assert.equal(betterOff('least-connections', load(4), [load(0)], 0, 2).length, 1, 'but not if the difference is large');
});

test('least-connections: idle workers take turns; of equally busy workers the next is the one that responded last', () => {
  const policy = 'least-connections';
  assert.equal(leaves(policy, load(0), load(0)), false, 'none has had a turn');
  assert.equal(leaves(policy, { ...load(0), takenAt: 2 }, { ...load(0), takenAt: 1 }), true);
  assert.equal(leaves(policy, { ...load(0), takenAt: 1 }, { ...load(0), takenAt: 2 }, load(3)), false);
  // For idle workers the last response does not matter, for busy ones the last connection does not.
  assert.equal(leaves(policy, { ...load(0), takenAt: 1, averagedAt: 1 }, { ...load(0), takenAt: 2, averagedAt: 2 }), false);
  assert.equal(leaves(policy, { ...load(2), averagedAt: 1, takenAt: 1 }, { ...load(2), averagedAt: 2, takenAt: 2 }), true);
  assert.equal(leaves(policy, { ...load(2), averagedAt: 2, takenAt: 2 }, { ...load(2), averagedAt: 1, takenAt: 1 }), false);
  assert.equal(leaves(policy, load(2), load(2)), false, 'neither has responded');
});

test('least-connections above 4: a worker may have one more than another, and one more for each 32 connections', () => {
  const own = (mine: number, ...others: number[]) => leaves('least-connections', load(mine), ...others.map(n => load(n)));
  assert.deepEqual([own(5, 4), own(6, 5, 9), own(7, 5, 9)], [false, false, true]);
  assert.deepEqual([own(104, 100), own(105, 100)], [false, true]);
  assert.deepEqual([own(31, 30), own(32, 30)], [false, true]);
  assert.deepEqual([own(33, 31), own(34, 31)], [false, true], 'from a weight of 32 on the margin is 2');
  const byTwo = (mine: number, other: number) => betterOff('least-connections', load(mine), [load(other)], 0, 2).length > 0;
  assert.deepEqual([byTwo(7, 5), byTwo(8, 5)], [false, true], 'by two margins');
});

test('the best worker comes first: by weight, then by turns if one is idle, by last response if both are busy', () => {
  const idle = { ...load(0), takenAt: 7 };
  const idleLonger = { ...load(0), takenAt: 5 };
  const busy = { ...load(1), averagedAt: 1 };
  const busyWhoResponded = { ...load(1), averagedAt: 2 };
  const all = [busy, idle, busyWhoResponded, idleLonger];
  const expected = [idleLonger, idle, busyWhoResponded, busy];
  assert.deepEqual(betterOff('least-connections', { ...load(3), takenAt: 9 }, all, 0), expected);
  assert.deepEqual(betterOff('least-connections', { ...load(3), takenAt: 9 }, all.toReversed(), 0), expected);
});

test('rr: the next connection goes to the worker with fewer turns, or with an earlier last one, whatever its connections', () => {
  const own = { ...load(0), turns: 5, takenAt: 2 };
  const leavesTo = (other: Partial<Load>, margins?: number) =>
    betterOff('rr', own, [{ ...load(100), ...other }], 0, margins).length > 0;
  assert.deepEqual([leavesTo({ turns: 4, takenAt: 3 }), leavesTo({ turns: 5, takenAt: 1 })], [true, true]);
  assert.deepEqual([leavesTo({ turns: 5, takenAt: 3 }), leavesTo({ turns: 6, takenAt: 1 })], [false, false]);
  assert.equal(leavesTo({ turns: 5, takenAt: 2 }), false, 'equal workers do not wait for each other');
  assert.deepEqual([leavesTo({ turns: 4 }, 2), leavesTo({ turns: 3 }, 2)], [false, true], 'it goes on while the other wakes up');
  const others = [
    { ...load(0), turns: 4 },
    { ...load(9), turns: 3, takenAt: 1 },
    { ...load(9), turns: 3 },
  ];
  assert.deepEqual(betterOff('rr', own, others, 0), [others[2], others[1], others[0]], 'whose turn it is comes first');
});

test('rr: a worker that was blocked catches up on three missed turns at most', () => {
  const others = [
    { ...load(0), turns: 1000 },
    { ...load(0), turns: 999 },
  ];
  const next = (turns: number) => turnsAfter({ ...load(0), turns }, others);
  assert.deepEqual([next(2), next(997), next(998), next(1000)], [998, 998, 999, 1001]);
  assert.equal(turnsAfter({ ...load(0), turns: 2 }, []), 3);
  assert.deepEqual([lastTurn(others), lastTurn([])], [1000, 0]);
});

test('response-time: connections of a worker more than 2.5 times slower than the median count that many times', () => {
  const weights = (...loads: Load[]) => loads.map(RULES['response-time'].weigh(loads, 0));
  assert.deepEqual(weights(load(9, 20), load(9, 45), load(9, 21)), [10, 10, 10], 'smaller differences are noise');
  assert.deepEqual(weights(load(9, 20), load(9, 50), load(9, 20)), [10, 10, 10], 'exactly 2.5 times');
  assert.deepEqual(weights(load(9, 20), load(9, 100), load(9, 20)), [10, 50, 10]);
  assert.deepEqual(weights(load(9, 0.1), load(9, 8)), [10, 10], 'both are fast');
  assert.deepEqual(weights(load(9, 1), load(9, 40), load(9, 1)), [10, 100, 10], 'compared with 4 ms at least');
  assert.deepEqual(weights(load(9, 100), load(9, 10)), [100, 10], 'of two workers the faster is the median');
  assert.deepEqual(weights(load(9, 10), load(9, 100), load(9, 90), load(9, 20)), [10, 50, 45, 10]);
});

test('response-time: a slow worker gets a connection when the others have as much to do as it is slower', () => {
  const own = (...others: Load[]) => leaves('response-time', load(0, 250), ...others);
  assert.deepEqual([own(load(0, 50)), own(load(2, 50)), own(load(5, 50))], [true, true, false]);
  assert.equal(leaves('response-time', load(0, 45), load(1, 20)), false, 'slow only compared with the median of both');
});

test('response-time: old averages fade, so that a worker without connections is tried again', () => {
  const slow = load(0, 500);
  const fast = { ...load(1, 50), averagedAt: 5000 };
  assert.deepEqual(betterOff('response-time', slow, [fast], 500).length, 1);
  assert.deepEqual(betterOff('response-time', slow, [fast], 5000).length, 0);
});

test('for each policy, some worker takes the next connection, whatever the loads', () => {
  fc.assert(
    fc.property(fc.constantFrom(...GATED_POLICIES), fc.array(aLoad, { minLength: 1, maxLength: 9 }), (policy, loads) =>
      loads.some(
        own =>
          betterOff(
            policy,
            own,
            loads.filter(other => other !== own),
            10,
          ).length === 0,
      ),
    ),
    { numRuns: 2000 },
  );
});

test('a worker leaves connections only to workers that would not leave them back to it', () => {
  fc.assert(
    fc.property(fc.constantFrom(...GATED_POLICIES), aLoad, aLoad, (policy, a, b) => {
      return betterOff(policy, a, [b], 10).length === 0 || betterOff(policy, b, [a], 10).length === 0;
    }),
    { numRuns: 2000 },
  );
});

test('a peak of the response time counts at once and fades over seconds', () => {
  const peak = { ...load(0), responseMs: averageWith(load(0, 50), 800, 0) };
  assert.equal(peak.responseMs, 800);
  assert.equal(averageWith(load(0, 800), 800, 5000), 800);
  assert.equal(faded(peak, 2000), 800 / Math.E);
  assert.equal(faded(peak, -1), 800, 'the clocks of two processes may differ slightly');
  assert.equal(averageWith(peak, 50, 2000), 800 / Math.E + 50 * (1 - 1 / Math.E));
  assert.equal(averageWith({ ...peak, averagedAt: 2000 }, 50, 2000), 800, 'better times come in gradually');
});
