import assert from 'node:assert/strict';
import { closeSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { Suspects } from '../src/balancing/accept-gate.ts';
import { Balancing, ListenerAssignment } from '../src/balancing/balancing.ts';
import {
  averageWith,
  betterOff,
  excessConnections,
  faded,
  type GatedPolicy,
  type Load,
  RULES,
  turnsAfter,
} from '../src/balancing/policy.ts';
import { type Entry, Scoreboard } from '../src/balancing/scoreboard.ts';
import type { Policy } from '../src/config/config.ts';
import { temporaryFolder } from './process/operator.ts';

const load = (connections: number, responseMs = 0, averagedAt = 0): Load => ({
  sequence: 1,
  connections,
  responseMs,
  averagedAt,
  takenAt: 0,
  turns: 0,
});

const shouldLeaveIt = (policy: GatedPolicy, own: Load, others: Load[], now: number) =>
  betterOff(policy, own, others, now).length > 0;

describe('whether a worker leaves a connection to others', () => {
  test('never where it is the only one, or with policy none', () => {
    for (const policy of ['none', 'least-connections', 'response-time', 'rr'] as const) {
      assert.equal(shouldLeaveIt(policy, load(1000), [], 0), false);
    }
    assert.equal(shouldLeaveIt('none', load(1000), [load(0)], 0), false);
  });

  test('with least-connections: exactly where there are few; equals by turns when idle, by who moves when busy', () => {
    const leaves = (own: Load, ...others: Load[]) => shouldLeaveIt('least-connections', own, others, 0);
    assert.equal(leaves(load(1), load(0)), true);
    assert.equal(leaves(load(0), load(0)), false, 'nobody has had a turn');
    assert.equal(leaves({ ...load(0), takenAt: 2 }, { ...load(0), takenAt: 1 }), true);
    assert.equal(leaves({ ...load(0), takenAt: 1 }, { ...load(0), takenAt: 2 }, load(3)), false);
    assert.equal(leaves({ ...load(2), averagedAt: 1, takenAt: 1 }, { ...load(2), averagedAt: 2, takenAt: 2 }), true);
    assert.equal(leaves({ ...load(2), averagedAt: 2, takenAt: 2 }, { ...load(2), averagedAt: 1, takenAt: 1 }), false);
    assert.equal(leaves(load(2), load(2)), false, 'neither has answered');
    const [first] = betterOff('least-connections', { ...load(2), takenAt: 9 }, [load(1), { ...load(0), takenAt: 5 }, load(0)], 0);
    assert.deepEqual(first, load(0), 'the best first');
    const hardly = betterOff('least-connections', load(1), [load(0)], 0, 2);
    assert.deepEqual(hardly, [], 'it goes on while they wake up');
  });

  test('with least-connections: more than one above the least loaded where there are more, a little more where there are many', () => {
    const leaves = (own: number, ...others: number[]) =>
      shouldLeaveIt(
        'least-connections',
        load(own),
        others.map(n => load(n)),
        0,
      );
    assert.equal(leaves(6, 5, 9), false);
    assert.equal(leaves(7, 5, 9), true);
    assert.equal(leaves(104, 100), false);
    assert.equal(leaves(105, 100), true);
  });

  test('with rr: to the worker with fewer turns, or with as many and an earlier last one, whatever its connections', () => {
    const own = { ...load(0), turns: 5, takenAt: 2 };
    const leaves = (other: Partial<Load>, margins?: number) =>
      betterOff('rr', own, [{ ...load(100), ...other }], 0, margins).length > 0;
    assert.deepEqual([leaves({ turns: 4, takenAt: 3 }), leaves({ turns: 5, takenAt: 1 })], [true, true]);
    assert.deepEqual([leaves({ turns: 5, takenAt: 3 }), leaves({ turns: 6, takenAt: 1 })], [false, false]);
    assert.deepEqual([leaves({ turns: 4 }, 2), leaves({ turns: 3 }, 2)], [false, true], 'it goes on while the other wakes up');
    const [next] = betterOff(
      'rr',
      own,
      [
        { ...load(0), turns: 4 },
        { ...load(9), turns: 3 },
      ],
      0,
    );
    assert.deepEqual(next, { ...load(9), turns: 3 }, 'whose turn it is first');
  });

  test('with rr: a worker that was blocked does not make up for missed turns', () => {
    const others = [
      { ...load(0), turns: 1000 },
      { ...load(0), turns: 999 },
    ];
    const turns = [turnsAfter({ ...load(0), turns: 2 }, others), turnsAfter({ ...load(0), turns: 998 }, others)];
    assert.deepEqual(turns, [998, 999]);
    assert.equal(turnsAfter({ ...load(0), turns: 2 }, []), 3);
  });

  test('somebody always takes it, whatever the loads', () => {
    for (let round = 0; round < 2000; round++) {
      const most = [1, 5, 300][round % 3] ?? 0;
      const loads = Array.from({ length: 1 + (round % 9) }, () => ({
        ...load(Math.floor(Math.random() * most), Math.random() * 900),
        averagedAt: Math.floor(Math.random() * 5),
        takenAt: Math.floor(Math.random() * 5),
        turns: Math.floor(Math.random() * 5),
      }));
      for (const policy of ['least-connections', 'response-time', 'rr'] as const) {
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

  test('with response-time: differences that may be chance count for nothing', () => {
    const weights = (...loads: Load[]) => loads.map(RULES['response-time'].weigh(loads, 0));
    assert.deepEqual(weights(load(9, 20), load(9, 45), load(9, 21)), [10, 10, 10]);
    assert.deepEqual(weights(load(9, 0.1), load(9, 8)), [10, 10], 'both fast');
    assert.deepEqual(weights(load(9, 20), load(9, 100), load(9, 20)), [10, 50, 10]);
  });

  test('a worker gives away what it has far beyond its share, a tenth a second at most', () => {
    const given = (own: number, ...others: number[]) =>
      excessConnections(
        load(own),
        others.map(n => load(n)),
      );
    assert.deepEqual([given(9), given(10, 10, 10), given(12, 10, 8), given(3, 0)], [0, 0, 0, 0]);
    assert.deepEqual([given(20, 0), given(100, 0), given(100, 95, 60), given(10, 4)], [2, 10, 0, 0]);
  });

  test('a peak counts at once and fades', () => {
    const peak = { ...load(0), responseMs: averageWith(load(0, 50), 800, 0) };
    assert.equal(peak.responseMs, 800);
    assert.ok(faded(peak, 2000) < 300);
    assert.ok(faded(peak, 10_000) < 10);
    assert.ok(averageWith(peak, 50, 1000) < 600);
  });
});

test('a worker that left a connection waiting is not waited for until it says something, longer each time', () => {
  const suspects = new Suspects();
  const silent: Entry = { ...load(0), id: 2, pid: 2, state: 'open' };
  suspects.remember([silent]);
  assert.deepEqual(suspects.silentAmong([silent, { ...silent, id: 3 }]), [silent]);
  assert.deepEqual(suspects.silentAmong([{ ...silent, sequence: 2 }]), []);
  suspects.add(silent, 1000);
  assert.deepEqual(
    [1049, 1050].map(now => suspects.has(silent, now)),
    [true, false],
  );
  suspects.add(silent, 1050);
  assert.equal(suspects.has(silent, 1149), true);
  assert.equal(suspects.has({ ...silent, sequence: 2 }, 1149), false);
});

const requested = (policy: Policy) => ({ policy, address: '127.0.0.1', port: 0, workers: 2 });

describe('the scoreboard', () => {
  test('the scoreboard has a name that no other user can create first', () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, `bosun-scoreboard-${process.pid}`), '');
    closeSync(Scoreboard.create(folder).fd);
    assert.equal(readdirSync(folder).length, 1, 'and none once it is open');
  });

  test('shows each worker what the others have written, the policy, and nobody who has gone', () => {
    const primary = Scoreboard.create();
    const [first, last] = [new Scoreboard(primary.fd), new Scoreboard(primary.fd)];
    primary.setPolicy('least-connections');
    for (const id of [1, 1025]) primary.clear(id);
    const open: Entry = { ...load(3, 12.5, 99), id: 1, pid: 77, state: 'open' };
    const shut: Entry = { ...load(7), id: 1025, pid: 78, state: 'closed' };
    first.report(open);
    last.report(shut);
    assert.deepEqual(first.read(), { policy: 'least-connections', entries: [open, shut] });
    primary.setPolicy('response-time');
    primary.clear(1025);
    assert.deepEqual(last.read(), { policy: 'response-time', entries: [open] });
    first.report({ ...open, state: 'stopped' });
    assert.deepEqual(last.read().entries, []);
    closeSync(primary.fd);
  });

  test('a scoreboard that cannot be created makes the policy none, with a warning', () => {
    for (const folder of ['/proc/no-such-folder', '/dev/full']) {
      const balancing = new Balancing(requested('least-connections'), { createScoreboard: () => Scoreboard.create(folder) });
      assert.equal(balancing.policy, 'none');
      assert.match(
        String(balancing.warning),
        /^the policy is none instead of least-connections: cannot create the scoreboard in memory: .*(ENOENT|ENOTDIR)/,
      );
      assert.match(
        String(balancing.change('least-connections')),
        /^cannot switch from none at run time; set NODE_CLUSTER_SCHED_POLICY and restart$/,
      );
    }
  });
});

test('if Node.js cannot pause a listener the policy is none, with a warning', () => {
  const balancing = new Balancing(requested('rr'), { canPause: () => false });
  assert.equal(balancing.policy, 'none');
  assert.match(String(balancing.warning), /^the policy is none instead of rr: Node\.js v[\d.]+ cannot pause a listening socket$/);
});

test('reuseport where the system has no SO_REUSEPORT is bad configuration', () => {
  const bindMany = () => {
    throw new Error('bind ENOTSUP');
  };
  assert.throws(() => new Balancing(requested('reuseport'), { bindMany }), {
    name: 'ConfigError',
    message:
      /NODE_CLUSTER_SCHED_POLICY must be one of rr, none, least-connections, response-time, got "reuseport", which is not supported on this platform \(bind ENOTSUP\)/,
  });
});

describe('slots', () => {
  /** Each step: the ids that serve, and the size of the pool. */
  const follow = (most: number, ...steps: [number[], number][]) => {
    const slots = new ListenerAssignment(most);
    return steps.map(([serving, wanted]) => Object.fromEntries(slots.assign(serving, wanted)));
  };

  test('are one for each worker, whatever the order in which they come', () => {
    assert.deepEqual(new ListenerAssignment(4).forNewcomer(3), [0, 1, 2], 'the first one serves all');
    assert.deepEqual(follow(4, [[2], 3], [[2, 1], 3], [[1, 2, 3], 3]), [
      { 2: [0, 1, 2] },
      { 1: [2], 2: [0, 1] },
      { 1: [2], 2: [0], 3: [1] },
    ]);
  });

  test('of a worker that leaves go to its replacement, which shared one until then', () => {
    const [, surge, after] = follow(4, [[1, 2], 2], [[1, 2, 3], 2], [[2, 3], 2]);
    assert.deepEqual(
      Object.values(surge ?? {})
        .flat()
        .toSorted(),
      [0, 0, 1],
    );
    assert.deepEqual(
      Object.values(after ?? {})
        .flat()
        .toSorted(),
      [0, 1],
    );
  });

  test('of a dead worker are served by others until there is a new one', () => {
    const [before, without, again] = follow(2, [[1, 2], 2], [[2], 2], [[2, 1], 2]);
    assert.deepEqual(Object.values(without ?? {}), [[0, 1]]);
    assert.deepEqual(
      Object.values(again ?? {})
        .flat()
        .toSorted(),
      [0, 1],
    );
    assert.equal(Object.keys(before ?? {}).length, 2);
  });

  test('never lack a server, and no worker lacks a slot, over any history', () => {
    for (let history = 0; history < 200; history++) {
      const most = 1 + (history % 5);
      const slots = new ListenerAssignment(most);
      let opened = 0;
      for (let step = 0; step < 30; step++) {
        const wanted = 1 + Math.floor(Math.random() * 8);
        const serving = Array.from({ length: 10 }, (_, id) => id + 1).filter(() => Math.random() < 0.5);
        opened = Math.max(opened, Math.min(most, wanted));
        const assigned = slots.assign(serving, wanted);
        assert.deepEqual([...assigned.keys()], serving);
        if (serving.length === 0) continue;
        assert.equal(new Set([...assigned.values()].flat()).size, opened);
        const sizes = [...assigned.values()].map(({ length }) => length);
        assert.ok(Math.min(...sizes) > 0);
        // As even as it can be without moving more than it must: no worker has several while another shares.
        if (serving.length >= opened) assert.equal(Math.max(...sizes), 1, JSON.stringify([...assigned]));
      }
    }
  });
});
