import assert from 'node:assert/strict';
import { closeSync } from 'node:fs';
import { describe, test } from 'node:test';
import { Balancing } from '../src/balancing/balancing.ts';
import { Board, type Entry } from '../src/balancing/board.ts';
import { averageWith, betterOff, costOf, faded, type Gated, type Load } from '../src/balancing/choice.ts';
import { Distrust } from '../src/balancing/distrust.ts';

const load = (connections: number, responseMs = 0, averagedAt = 0): Load => ({
  sequence: 1,
  connections,
  responseMs,
  averagedAt,
});

const shouldLeaveIt = (policy: Gated, own: Load, others: Load[], now: number) => betterOff(policy, own, others, now).length > 0;

describe('whether a worker leaves a connection to others', () => {
  test('never where it is the only one, or with policy none', () => {
    for (const policy of ['none', 'least-connections', 'response-time'] as const) {
      assert.equal(shouldLeaveIt(policy, load(1000), [], 0), false);
    }
    assert.equal(shouldLeaveIt('none', load(1000), [load(0)], 0), false);
  });

  test('with least-connections: more than one above the least loaded, a little more where there are many', () => {
    const leaves = (own: number, ...others: number[]) =>
      shouldLeaveIt(
        'least-connections',
        load(own),
        others.map(n => load(n)),
        0,
      );
    assert.equal(leaves(1, 0, 9), false);
    assert.equal(leaves(2, 0, 9), true);
    assert.equal(leaves(2, 1, 1), false);
    assert.equal(leaves(104, 100), false);
    assert.equal(leaves(105, 100), true);
  });

  test('somebody always takes it, whatever the loads', () => {
    for (let round = 0; round < 2000; round++) {
      const loads = Array.from({ length: 1 + (round % 9) }, () => load(Math.floor(Math.random() * 300), Math.random() * 900));
      for (const policy of ['least-connections', 'response-time'] as const) {
        const takers = loads.filter(
          own =>
            !shouldLeaveIt(
              policy,
              own,
              loads.filter(other => other !== own),
              10,
            ),
        );
        assert.ok(takers.length > 0, `${policy}: ${JSON.stringify(loads)}`);
      }
    }
  });

  test('with response-time: a slow worker takes one when the others have as much to do as it is slower', () => {
    const leaves = (own: Load, ...others: Load[]) => shouldLeaveIt('response-time', own, others, 0);
    assert.equal(leaves(load(0, 250), load(0, 50)), true);
    assert.equal(leaves(load(0, 250), load(2, 50)), true);
    assert.equal(leaves(load(0, 250), load(5, 50)), false);
  });

  test('a peak counts at once and fades', () => {
    const peak = { ...load(0), responseMs: averageWith(load(0, 50), 800, 0) };
    assert.equal(peak.responseMs, 800);
    assert.ok(faded(peak, 2000) < 300);
    assert.ok(costOf(peak, 10_000) < 10);
    assert.ok(averageWith(peak, 50, 1000) < 600);
  });
});

test('a worker that left a connection waiting is not waited for until it says something, longer each time', () => {
  const distrust = new Distrust();
  const silent: Entry = { ...load(0), id: 2, pid: 2, state: 'open' };
  distrust.remember([silent]);
  assert.deepEqual(distrust.silentAmong([silent, { ...silent, id: 3 }]), [silent]);
  assert.deepEqual(distrust.silentAmong([{ ...silent, sequence: 2 }]), []);
  distrust.add(silent, 1000);
  assert.deepEqual(
    [1049, 1050].map(now => distrust.trusts(silent, now)),
    [false, true],
  );
  distrust.add(silent, 1050);
  assert.equal(distrust.trusts(silent, 1149), false);
  assert.equal(distrust.trusts({ ...silent, sequence: 2 }, 1149), true);
});

describe('the board', () => {
  test('shows each worker what the others have written, the policy, and nobody who has gone', () => {
    const primary = Board.create();
    const [first, last] = [new Board(primary.fd), new Board(primary.fd)];
    primary.setPolicy('least-connections');
    for (const id of [1, 1025]) primary.clear(id);
    const open: Entry = { ...load(3, 12.5, 99), id: 1, pid: 77, state: 'open' };
    const shut: Entry = { ...load(7), id: 1025, pid: 78, state: 'shut' };
    first.report(open);
    last.report(shut);
    assert.deepEqual(first.look(), { policy: 'least-connections', entries: [open, shut] });
    primary.setPolicy('response-time');
    primary.clear(1025);
    assert.deepEqual(last.look(), { policy: 'response-time', entries: [open] });
    first.report({ ...open, state: 'away' });
    assert.deepEqual(last.look().entries, []);
    closeSync(primary.fd);
  });

  test('that can not be made makes the policy rr, with a warning', () => {
    for (const folder of ['/proc/no-such-folder', '/dev/full']) {
      const balancing = new Balancing('least-connections', () => Board.create(folder));
      assert.equal(balancing.policy, 'rr');
      assert.match(
        String(balancing.warning),
        /^the policy is rr and not least-connections: no file in memory .*(ENOENT|ENOTDIR)/,
      );
      assert.match(String(balancing.change('least-connections')), /the policy is rr, and it can't be taken while/);
    }
  });
});
