/**
 * The limit of ADAPTIVE_CONCURRENCY before simulated downstreams, in virtual time: random capacities, times and spreads.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConcurrencyLimit, MAX_LATENCY_MS, MIN_LIMIT, WINDOW_MS } from '../src/worker/concurrency/limit.ts';
import { seededRandom } from './random.ts';
import { exponential, type Phase, type Result, Simulation } from './simulated-downstream.ts';

const SEEDS = Array.from({ length: 8 }, (_, index) => index + 1);

const median = (values: readonly number[]) => percentile(values, 0.5);

function percentile(values: readonly number[], share: number): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length * share)] ?? assert.fail('no values');
}

/** A downstream of up to 40 places, with at least 100 answers a second, fixed or exponential. */
function randomDownstream(seed: number): {
  capacity: number;
  ms: number;
  perSecond: number;
  phase: (of: Partial<Phase>) => Phase;
} {
  const random = seededRandom(seed);
  const capacity = Math.ceil(40 ** random());
  const ms = Math.min(10 * capacity, Math.round(20 * 5 ** random()));
  const spread = random() < 0.5 ? exponential : () => 1;
  const perSecond = (capacity * 1000) / ms;
  const phase = (of: Partial<Phase>) => ({
    seconds: 10,
    rate: perSecond,
    capacity,
    routes: [{ path: '/', share: 1, ms }],
    spread,
    ...of,
  });
  return { capacity, ms, perSecond, phase };
}

const goodput = ({ answered }: Result, { seconds }: Phase) => answered / seconds;

for (const seed of SEEDS) {
  const { capacity, ms, perSecond, phase } = randomDownstream(seed);
  const name = `a downstream of ${capacity} places and ${ms} ms`;

  test(`${name}: at twice its capacity the limit settles near it, and nearly all of it is used`, () => {
    const simulation = new Simulation(seed);
    simulation.run(phase({ seconds: 3, rate: perSecond / 4 }));
    simulation.run(phase({ seconds: 5, rate: 2 * perSecond }));
    const overload = phase({ seconds: 10, rate: 2 * perSecond });
    const result = simulation.run(overload);
    const limit = median(result.limits);
    assert.ok(limit >= capacity && limit <= 2.5 * capacity + 10, `limit ${limit}`);
    assert.ok(goodput(result, overload) >= 0.9 * perSecond, `${goodput(result, overload)} of ${perSecond}`);
    // At a fixed time of service: what is in flight above the capacity waits in the downstream, the rest for at most half as long.
    const expected = ms * Math.max(1, limit / capacity);
    assert.ok(median(result.latencies) <= 1.8 * expected + 25, `median ${median(result.latencies)}, ${expected} expected`);
    assert.ok(Math.min(...result.limits) >= MIN_LIMIT);
  });

  test(`${name}: after an overload everything is answered again, in its usual time`, () => {
    const simulation = new Simulation(seed);
    simulation.run(phase({ seconds: 5, rate: 3 * perSecond }));
    simulation.run(phase({ seconds: 5, rate: perSecond / 2 }));
    const after = simulation.run(phase({ seconds: 10, rate: perSecond / 2 }));
    assert.ok(after.turnedAway <= after.answered / 50, `${after.turnedAway} turned away, ${after.answered} answered`);
    assert.ok(median(after.latencies) <= 1.5 * ms, `median ${median(after.latencies)}`);
  });

  test(`${name}: one that becomes three times as slow for good is soon used in full`, () => {
    const simulation = new Simulation(seed);
    simulation.run(phase({ rate: 0.8 * perSecond }));
    const slower = phase({ seconds: 10, rate: 0.8 * perSecond, routes: [{ path: '/', share: 1, ms: 3 * ms }] });
    simulation.run(slower);
    const result = simulation.run(slower);
    assert.ok(goodput(result, slower) >= 0.85 * (perSecond / 3), `${goodput(result, slower)} of ${perSecond / 3}`);
  });
}

test('without the limit the same overload makes every answer late', () => {
  const { phase, perSecond, ms } = randomDownstream(1);
  const result = new Simulation(1, false).run(phase({ seconds: 5, rate: 2 * perSecond }));
  assert.ok(median(result.latencies) > 10 * ms, `median ${median(result.latencies)}`);
});

test('while less than half of the limit is used it stays, however the latencies vary', () => {
  const random = seededRandom(1);
  const limit = new ConcurrencyLimit(50);
  let now = 0;
  for (let window = 0; window < 200; window++) {
    const open = Array.from({ length: 24 }, () => limit.begin(() => '/', now));
    now += 2 * WINDOW_MS * random();
    for (const handled of open) {
      limit.answered(handled, true, now);
      limit.release(handled);
    }
    limit.tick(now);
    assert.equal(limit.limit, 50);
  }
});

test('the limit is never below 2, whatever comes', () => {
  for (const seed of SEEDS) {
    const random = seededRandom(seed);
    const limit = new ConcurrencyLimit();
    const open: ReturnType<ConcurrencyLimit['begin']>[] = [];
    let now = 0;
    for (let step = 0; step < 20_000; step++) {
      now += 10 * random();
      if (random() < 0.6) {
        if (limit.isFull) limit.onWaiting();
        else open.push(limit.begin(() => `/${Math.floor(3 * random())}`, now));
      } else {
        const [handled] = open.splice(Math.floor(random() * open.length), 1);
        if (handled === undefined) continue;
        limit.answered(handled, random() < 0.8, now);
        limit.release(handled);
      }
      if (random() < 0.05) limit.tick(now);
      assert.ok(limit.limit >= MIN_LIMIT, `${limit.limit}`);
      assert.ok(limit.inFlight >= 0 && limit.inFlight <= open.length);
    }
  }
});

test('routes that take 1 ms and 2 s are compared with themselves', () => {
  for (const seed of SEEDS.slice(0, 4)) {
    const simulation = new Simulation(seed);
    const mix = (slow: number): Phase => ({
      seconds: 30,
      rate: 200,
      capacity: 100,
      routes: [
        { path: '/fast', share: 1 - slow, ms: 1, isFree: true },
        { path: '/slow', share: slow, ms: 2000 },
      ],
      spread: exponential,
    });
    // 20 and 60 slow ones at a time: their share has tripled, and they are no slower.
    simulation.run(mix(0.05));
    const busy = simulation.run(mix(0.15));
    assert.equal(busy.turnedAway, 0);
    assert.ok(Math.min(...busy.limits) >= 40, `${Math.min(...busy.limits)}`);
  }
});

test('a new worker with the load of the one before it turns nearly nothing away', () => {
  const simulation = new Simulation(1);
  const { answered, turnedAway } = simulation.run({
    seconds: 10,
    rate: 600,
    capacity: 1000,
    routes: [{ path: '/', share: 1, ms: 500 }],
    spread: exponential,
  });
  assert.ok(turnedAway <= answered / 100, `${turnedAway} turned away, ${answered} answered`);
});

test('errors that come at once do not make the usual time look long', () => {
  for (const seed of SEEDS) {
    const { phase, perSecond, ms } = randomDownstream(seed);
    const simulation = new Simulation(seed);
    simulation.run(phase({ rate: perSecond / 2 }));
    simulation.run(phase({ seconds: 20, rate: perSecond / 2, failing: 0.95 }));
    const after = simulation.run(phase({ rate: perSecond / 2 }));
    assert.ok(after.turnedAway <= after.answered / 50, `${after.turnedAway} turned away, ${after.answered} answered`);
    assert.ok(median(after.latencies) <= 1.5 * ms);
  }
});

test('clients that leave before their answers do not keep the limit high', () => {
  const { phase, perSecond } = randomDownstream(3);
  const simulation = new Simulation(3);
  simulation.run(phase({ rate: perSecond / 2 }));
  simulation.run(phase({ rate: 2 * perSecond, patienceMs: 1000 }));
  const overload = phase({ rate: 2 * perSecond, patienceMs: 1000 });
  const result = simulation.run(overload);
  assert.ok(goodput(result, overload) >= 0.85 * perSecond, `${goodput(result, overload)} of ${perSecond}`);
});

/** So many requests at once, which are all answered after `ms`. Returns that time. */
function answerAtOnce(
  limit: ConcurrencyLimit,
  count: number,
  { route = '/', ms, isGood = true }: { route?: string; ms: number; isGood?: boolean },
  now: number,
): number {
  const open = Array.from({ length: count }, () => limit.begin(() => route, now));
  for (const handled of open) {
    limit.answered(handled, isGood, now + ms);
    limit.release(handled);
  }
  return now + ms;
}

test('what errors take does not become the usual time, but counts where it is longer', () => {
  const limit = new ConcurrencyLimit(20);
  let now = 0;
  for (let round = 0; round < 10; round++) now = answerAtOnce(limit, 5, { ms: 50 }, now);
  for (let round = 0; round < 200; round++) now = answerAtOnce(limit, 5, { ms: 1, isGood: false }, now);
  limit.tick(now);
  now = answerAtOnce(limit, 15, { ms: 50 }, now);
  limit.tick(now);
  assert.ok(limit.limit > 20, `${limit.limit} after answers in their usual time`);
  now = answerAtOnce(limit, 20, { ms: 200, isGood: false }, now);
  limit.tick(now);
  assert.ok(limit.limit < 20, `${limit.limit} after errors that took long`);
  const before = limit.limit;
  for (let round = 0; round < 10; round++) now = answerAtOnce(limit, 10, { ms: 1, isGood: false }, now);
  now = answerAtOnce(limit, before, { ms: 200 }, now);
  limit.tick(now);
  assert.ok(limit.limit < before, `${limit.limit} after slow answers beside errors that came at once`);
});

test('more requests of a slow route than before do not lower the limit, a slower one does', () => {
  const limit = new ConcurrencyLimit(20);
  let now = 0;
  for (let round = 0; round < 50; round++) now = answerAtOnce(limit, 9, { route: '/fast', ms: 1 }, now);
  for (let round = 0; round < 10; round++) now = answerAtOnce(limit, 9, { route: '/slow', ms: 200 }, now);
  limit.tick(now);
  now = answerAtOnce(limit, 15, { route: '/slow', ms: 200 }, now);
  limit.tick(now);
  assert.ok(limit.limit > 20, `${limit.limit}`);
  now = answerAtOnce(limit, 20, { route: '/fast', ms: 10 }, now);
  limit.tick(now);
  assert.ok(limit.limit < 20, `${limit.limit}`);
});

test('a request without an answer counts for ten seconds', () => {
  const limit = new ConcurrencyLimit(2);
  const hung = limit.begin(() => '/poll', 0);
  limit.begin(() => '/poll', 1);
  assert.ok(limit.isFull);
  limit.tick(MAX_LATENCY_MS - 1);
  assert.equal(limit.inFlight, 2);
  limit.tick(MAX_LATENCY_MS);
  assert.equal(limit.inFlight, 1);
  limit.answered(hung, true, MAX_LATENCY_MS + 1);
  limit.release(hung);
  assert.equal(limit.inFlight, 1);
  limit.tick(MAX_LATENCY_MS + 1);
  assert.equal(limit.inFlight, 0);
});

test('a request whose body arrives does not count, and its time begins when it is there', () => {
  const limit = new ConcurrencyLimit(2);
  const upload = limit.begin(() => '/upload', 0);
  limit.suspend(upload);
  assert.equal(limit.inFlight, 0);
  limit.tick(5 * MAX_LATENCY_MS);
  limit.resume(upload, 5 * MAX_LATENCY_MS);
  assert.equal(limit.inFlight, 1);
  limit.tick(5 * MAX_LATENCY_MS + WINDOW_MS);
  assert.equal(limit.inFlight, 1);
  limit.answered(upload, true, 5 * MAX_LATENCY_MS + WINDOW_MS);
  limit.release(upload);
  assert.equal(limit.inFlight, 0);
});
