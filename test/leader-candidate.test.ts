/**
 * The rules of kit.leader in virtual time: first single rules, then four candidates over a simulated Redis that freezes, loses its last writes or
 * all of them, and whose clock jumps, while the candidates are paused, killed and replaced.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Candidate, type CandidateEffect, type CandidateEvent, GRACE_MS, LEADER_TIMES } from '../src/state/leader-candidate.ts';
import { VirtualFleet } from './virtual-fleet.ts';

const { ttl, margin, renewEvery, holdOff } = LEADER_TIMES;
const HELD_MS = ttl - margin;

function candidate() {
  let owners = 0;
  const it = new Candidate(
    LEADER_TIMES,
    () => `owner ${++owners}`,
    () => 1,
  );
  const typesOf = (effects: CandidateEffect[]) => effects.map(({ type }) => type);
  return { it, apply: (event: CandidateEvent, now: number) => typesOf(it.apply(event, now)) };
}

function leader(token = 7) {
  const { it, apply } = candidate();
  apply({ type: 'tick' }, 0);
  assert.deepEqual(apply({ type: 'acquired', token, sentAt: 0 }, 10), ['start']);
  return { it, apply };
}

const GIVE_UP = { type: 'give-up', why: 'request', graceMs: GRACE_MS, isFinal: false } as const;
const DRAIN = { type: 'give-up', why: 'drain', graceMs: GRACE_MS, isFinal: true } as const;

test('a term ends a margin before the lock can expire, counted from when the renewal was sent', () => {
  const { it, apply } = leader();
  assert.equal(it.heldUntil, HELD_MS);
  assert.deepEqual(apply({ type: 'tick' }, renewEvery), ['renew']);
  apply({ type: 'renewed', sentAt: renewEvery }, renewEvery + 450);
  assert.equal(it.heldUntil, renewEvery + HELD_MS);
  apply({ type: 'tick' }, renewEvery * 2); // a renewal is in flight
  assert.equal(it.dueAt, renewEvery + HELD_MS, 'an answer that never comes does not hold the end up');
  assert.deepEqual(it.apply({ type: 'tick' }, renewEvery + HELD_MS), [
    { type: 'lost', token: 7, why: 'expired' },
    { type: 'abort' },
  ]);
});

test('an answer that arrives too late starts nothing, and the lock is released', () => {
  const { apply } = candidate();
  apply({ type: 'tick' }, 0);
  assert.deepEqual(apply({ type: 'acquired', token: 7, sentAt: 0 }, HELD_MS), ['release']);
});

test('an attempt without an answer is repeated with the same owner, and the next term has another one', () => {
  const { it } = candidate();
  const ownerOf = (effects: CandidateEffect[]) => effects.flatMap(effect => ('owner' in effect ? [effect.owner] : []));
  assert.deepEqual(ownerOf(it.apply({ type: 'tick' }, 0)), ['owner 1']);
  it.apply({ type: 'not-acquired' }, 500);
  assert.deepEqual(ownerOf(it.apply({ type: 'tick' }, 2000)), ['owner 1']);
  it.apply({ type: 'acquired', token: 7, sentAt: 2000 }, 2000);
  it.apply({ type: 'taken' }, 3000);
  it.apply({ type: 'settled', hasFailed: false }, 3000);
  assert.deepEqual(ownerOf(it.apply({ type: 'tick' }, 9000)), ['owner 2']);
});

test('a lock that is given up is kept until the start function has ended', () => {
  const { it, apply } = leader();
  assert.deepEqual(apply(GIVE_UP, 100), ['abort']);
  assert.deepEqual(apply({ type: 'tick' }, renewEvery), ['renew']);
  assert.deepEqual(it.apply({ type: 'settled', hasFailed: false }, 1500), [
    { type: 'release', owner: 'owner 1', term: { token: 7, why: 'request' } },
  ]);
  apply({ type: 'renewed', sentAt: renewEvery }, 1510);
  assert.equal(it.dueAt, 1500 + holdOff, 'others have the time to take over');
});

test('a start function that ignores its abort loses the lock after the grace period, and is not called again while it runs', () => {
  const { it, apply } = leader();
  apply(GIVE_UP, 100);
  for (let now = 500; now < 100 + GRACE_MS; now += 500)
    if (apply({ type: 'tick' }, now).includes('renew')) apply({ type: 'renewed', sentAt: now }, now);
  assert.deepEqual(apply({ type: 'tick' }, 100 + GRACE_MS), ['release', 'ignored']);
  assert.equal(it.dueAt, Number.POSITIVE_INFINITY);
  assert.deepEqual(apply({ type: 'tick' }, 100_000), []);
  assert.deepEqual(apply({ type: 'settled', hasFailed: false }, 100_000), ['acquire']);
});

test('a start function that resolves leads on; one that rejects is tried again later each time', () => {
  const { it, apply } = leader();
  assert.deepEqual(apply({ type: 'settled', hasFailed: false }, 20), []);
  assert.deepEqual(apply(GIVE_UP, 50), ['abort', 'release'], 'nothing to wait for');
  const failing = leader();
  assert.deepEqual(failing.apply({ type: 'settled', hasFailed: true }, 20), ['release', 'abort']);
  failing.apply({ type: 'seen', token: 7, isFree: true }, 30);
  assert.equal(failing.it.dueAt, 20 + 1000, 'others have the first chance');
  failing.apply({ type: 'tick' }, 1020);
  failing.apply({ type: 'acquired', token: 8, sentAt: 1020 }, 1020);
  failing.apply({ type: 'settled', hasFailed: true }, 1030);
  assert.equal(failing.it.dueAt, 1030 + 2000);
  assert.ok(it.dueAt > 50);
});

test('a drain stops a worker that waits, and takes back what it may have acquired', () => {
  const { it, apply } = candidate();
  apply({ type: 'tick' }, 0);
  assert.deepEqual(apply(DRAIN, 10), ['release'], 'an attempt is in flight');
  assert.deepEqual(apply({ type: 'acquired', token: 7, sentAt: 0 }, 20), ['release']);
  assert.ok(it.isStopped);
  assert.equal(it.dueAt, Number.POSITIVE_INFINITY);
});

test('a released lock is taken at once, by each candidate at another moment', () => {
  const { it, apply } = candidate();
  apply({ type: 'tick' }, 0);
  apply({ type: 'held', token: 7, leftMs: 5000 }, 1);
  assert.equal(it.dueAt, 1001);
  assert.deepEqual(apply({ type: 'seen', token: 9, isFree: true }, 100), []);
  assert.equal(it.dueAt, 300);
  assert.deepEqual(it.apply({ type: 'tick' }, 300), [{ type: 'acquire', owner: 'owner 2', seen: 9 }]);
});

test('a token that another one has led with meanwhile starts nothing', () => {
  const { apply } = candidate();
  apply({ type: 'tick' }, 0);
  apply({ type: 'seen', token: 7, isFree: false }, 1);
  assert.deepEqual(apply({ type: 'acquired', token: 7, sentAt: 0 }, 2), ['release']);
});

const SEEDS = 25;

test('without lost writes and clock steps never two lead at once, whatever is paused, killed, frozen or lost on the way', () => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    const fleet = new VirtualFleet(seed, ['pause', 'kill', 'loss', 'freeze', 'release', 'fail']);
    fleet.run(120_000);
    assert.deepEqual(fleet.overlaps, [], `seed ${seed}`);
    assert.deepEqual(fleet.disorders, [], `seed ${seed}`);
    assert.ok(fleet.terms.length > 1, `seed ${seed}: ${fleet.terms.length} terms`);
    assert.deepEqual(fleet.unaborted, [], `seed ${seed}`);
  }
});

test('with a failover that loses the last writes, and clocks that jump, a later leader has a higher token', () => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    const fleet = new VirtualFleet(seed, ['pause', 'kill', 'loss', 'freeze', 'fail', 'failover', 'clock']);
    fleet.run(120_000);
    assert.deepEqual(fleet.disorders, [], `seed ${seed}`);
  }
});

test('with a Redis that loses everything and whose clock goes back, a later leader has a higher token', () => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    const fleet = new VirtualFleet(seed, ['pause', 'loss', 'freeze', 'release', 'flush', 'clock']);
    fleet.run(120_000);
    assert.deepEqual(fleet.disorders, [], `seed ${seed}`);
  }
});

test('a holder that is killed is followed within 6 s, and a calm fleet has one leader', () => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    const fleet = new VirtualFleet(seed, []);
    fleet.run(3000);
    for (let kills = 0; kills < 5; kills++) {
      assert.equal(fleet.holding.length, 1, `seed ${seed}`);
      const terms = fleet.terms.length;
      fleet.killHolder();
      fleet.run(6000);
      assert.equal(fleet.terms.length, terms + 1, `seed ${seed}`);
    }
  }
});
