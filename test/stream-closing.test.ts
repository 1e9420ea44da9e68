/**
 * How many WebSockets and event streams a drain closes at a time.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Pace } from '../src/worker/stream-closing.ts';

const TICK_MS = 25;

/** When each of `count` is closed, in milliseconds from the beginning of the drain, ticks coming at these times. */
function closings(pace: Pace, count: number, ticks: Iterable<number>): number[] {
  const times: number[] = [];
  for (const now of ticks) {
    const taken = pace.take(count - times.length, now);
    times.push(...Array(taken).fill(now));
    if (times.length === count) break;
  }
  return times;
}

function* everyTick(stepMs = TICK_MS): Generator<number> {
  for (let now = stepMs; ; now += stepMs) yield now;
}

test('the first of a few is closed when the time of the app is over, the others one every 10 ms', () => {
  assert.deepEqual(closings(new Pace(500, 12_250), 3, everyTick(1)), [500, 510, 520]);
  assert.deepEqual(closings(new Pace(500, 12_250), 4, everyTick()), [500, 525, 525, 550]);
});

test('a thousand take ten seconds, and more take half of the time of the drain', () => {
  for (const [count, lastMs] of [
    [1000, 10_500],
    [10_000, 12_750],
  ] as const) {
    const times = closings(new Pace(500, 12_250), count, everyTick());
    const last = times.at(-1) ?? 0;
    assert.ok(Math.abs(last - lastMs) <= TICK_MS, `${count}: ${last} ms`);
    const perSecond = times.filter(ms => ms > 1000 && ms <= 2000).length;
    assert.ok(Math.abs(perSecond - (count * 1000) / (lastMs - 500)) < 5, `${count}: ${perSecond} in a second`);
  }
});

test('those that come late are closed within the time too, and none is left at its end, however the ticks come', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1 }),
      fc.nat(2000),
      fc.nat(20_000),
      (steps, count, ms) => {
        const pace = new Pace(500, ms);
        let [now, open] = [0, count];
        for (let index = 0; now < 500 + ms; index++) {
          now += steps[index % steps.length] ?? 1;
          if (index === 3) open += 7;
          const taken = pace.take(open, now);
          assert.ok(Number.isInteger(taken) && taken >= 0 && taken <= open);
          if (now < 500) assert.equal(taken, 0);
          open -= taken;
        }
        assert.equal(pace.take(open, now), open);
        if (steps.length > 3) assert.equal(open, 0);
      },
    ),
  );
});

test('one that comes when none is open waits for its turn', () => {
  const pace = new Pace(0, 10_000);
  assert.deepEqual([pace.take(0, 5000), pace.take(5, 5001), pace.take(5, 5009)], [0, 0, 0]);
  assert.equal(pace.take(5, 5010), 1);
});
