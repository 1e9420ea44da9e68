/**
 * The rounds of the benchmarks: order, discarded rounds, ratios and medians, and what /proc says about the machine.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { machineTicks, noiseBetween, ticksWithEnded } from './bench/machine.ts';
import {
  type Comparison,
  CPU_PER_REQUEST,
  measureRounds,
  medianSpread,
  type Noise,
  type Plan,
  ratiosOf,
  spread,
  summaryOf,
  TooNoisy,
} from './bench/rounds.ts';

const BOUNDS: Noise = { steal: 0.02, foreign: 0.05 };

/** Measures subjects of given values; the n-th measurement has the n-th noise, and none where there is no n-th. */
async function run(
  plan: Partial<Plan<'a' | 'b' | 'c', 'cpu'>>,
  noises: readonly Partial<Noise>[] = [],
): Promise<{ comparison: Comparison; order: string; calms: number }> {
  let order = '';
  let calms = 0;
  let watched = 0;
  const comparison = await measureRounds(
    {
      name: 'test',
      title: 'a test',
      subjects: ['a', 'b'],
      baseline: 'a',
      figures: { cpu: CPU_PER_REQUEST },
      rounds: 2,
      measure: async (subject, round) => {
        order += subject;
        return { cpu: (subject === 'a' ? 10 : 20) + round };
      },
      ...plan,
    },
    {
      bounds: BOUNDS,
      watch: () => () => ({ steal: 0, foreign: 0, ...noises[watched++] }),
      calm: async () => {
        calms++;
      },
      progress: () => {},
    },
  );
  return { comparison, order, calms };
}

test('the order turns with each round, so that a drift of the machine falls on all alike', async () => {
  assert.equal((await run({ rounds: 4 })).order, 'abbaabba');
  assert.equal((await run({ subjects: ['a', 'b', 'c'] })).order, 'abccba');
});

test('each value of a subject is of the same round as that of the baseline', async () => {
  const { comparison } = await run({ rounds: 3 });
  assert.deepEqual(comparison.values, { a: { cpu: [10, 11, 12] }, b: { cpu: [20, 21, 22] } });
  assert.deepEqual(ratiosOf(comparison, 'b', 'cpu'), [20 / 10, 21 / 11, 22 / 12]);
  assert.deepEqual([comparison.rounds, comparison.discarded], [3, 0]);
});

test('a round with steal or foreign CPU time above the bound is discarded, counted and repeated once it is calm', async () => {
  const { comparison, order, calms } = await run({}, [{}, { steal: 0.03 }, {}, {}, { foreign: 0.06 }]);
  assert.equal(order, 'ab' + 'ab' + 'b' + 'ba', 'the rest of a noisy round is not measured');
  assert.deepEqual([comparison.rounds, comparison.discarded, calms], [2, 2, 2]);
  assert.deepEqual(comparison.values.b, { cpu: [20, 21] });
});

test('the largest noise of a round that counts is kept', async () => {
  const { comparison } = await run({}, [{ foreign: 0.05 }, { steal: 0.02 }, { foreign: 0.9 }, {}, { foreign: 0.01 }]);
  assert.deepEqual(comparison.noise, { steal: 0.02, foreign: 0.05 });
});

test('a machine that stays noisy gives no figures, but says why', async () => {
  let measured = 0;
  const measure = async () => ({ cpu: ++measured });
  const always = Array.from({ length: 100 }, () => ({ steal: 0.001, foreign: 0.123 }));
  await assert.rejects(run({ measure, rounds: 3 }, always), (error: Error) => {
    assert.ok(error instanceof TooNoisy);
    assert.equal(
      error.message,
      'test: 5 of 5 rounds were too noisy to count: the last one had 0.1 % steal and 12.3 % CPU time of other processes (bounds 2.0 % and 5.0 %)',
    );
    return true;
  });
  assert.equal(measured, 5);
});

test('a machine that is noisy now and then gives figures, as long as a third of the rounds counts', async () => {
  const noisy = { foreign: 1 };
  const third = [noisy, noisy, {}, {}];
  const { comparison } = await run({ rounds: 4 }, [...third, ...third, ...third, ...third]);
  assert.deepEqual([comparison.rounds, comparison.discarded], [4, 8]);
  await assert.rejects(run({ rounds: 4 }, [...third, ...Array.from({ length: 5 }, () => noisy)]), TooNoisy);
});

test('what ignores noise is not watched', async () => {
  const { comparison } = await run({ ignoresNoise: true }, [{ foreign: 1 }, { steal: 1 }]);
  assert.deepEqual([comparison.rounds, comparison.discarded, comparison.noise], [2, 0, { steal: 0, foreign: 0 }]);
});

test('an error of a measurement ends the comparison', async () => {
  const measure = () => Promise.reject(new Error('no answer'));
  await assert.rejects(run({ measure }), /no answer/);
});

test('rounds are added until the median of the ratio is known well enough, or there are too many', async () => {
  const values = (ratio: (round: number) => number) => async (subject: string, round: number) => ({
    cpu: subject === 'a' ? 1 : ratio(round),
  });
  const rounds = { least: 6, most: 15, spread: 0.1 };
  assert.equal((await run({ rounds, measure: values(() => 2) })).comparison.rounds, 6);
  const settles = values(round => (round === 0 ? 3 : 2));
  assert.equal((await run({ rounds, measure: settles })).comparison.rounds, 9, 'of nine, one value may be far off');
  assert.equal((await run({ rounds, measure: values(round => 1 + (round % 2)) })).comparison.rounds, 15);
});

test('min, median and max', () => {
  assert.deepEqual(summaryOf([3, 1, 10, 2]), { min: 1, median: 2.5, max: 10 });
  assert.equal(spread([3, 1, 2], 1), '1.0/2.0/3.0');
  assert.equal(spread([], 1), 'NaN/NaN/NaN');
});

test('the spread of a median is that of its confidence interval of 95 %', () => {
  assert.equal(medianSpread([1, 2, 3, 4, 5]), 4 / 3, 'all of five values');
  assert.equal(medianSpread([9, 8, 7, 6, 5, 4, 3, 2, 1]), (8 - 2) / 5, 'the second to the eighth of nine');
  const hundred = Array.from({ length: 100 }, (_, index) => index + 1);
  assert.equal(medianSpread(hundred), (61 - 40) / 50.5, 'the 40th to the 61st of a hundred, as in the tables of the sign test');
});

test('foreign CPU time is what the machine spent and the benchmark did not', () => {
  const before = machineTicks('cpu  1000 50 500 3000 10 0 70 20 5 0\ncpu0 1 2 3\n');
  assert.deepEqual(before, { busy: 1550, steal: 20, total: 4650 });
  const after = machineTicks('cpu  1300 60 640 3020 10 0 80 40 5 0\n');
  const noise = noiseBetween({ ...before, own: 700 }, { ...after, own: 700 + 398 });
  assert.deepEqual(noise, { steal: 20 / 500, foreign: 50 / 500 });
});

test('a difference between two ways to count is no foreign CPU time', () => {
  const [before, after] = [machineTicks('cpu  0 0 0 0 0 0 0 0\n'), machineTicks('cpu  100 0 100 200 0 0 0 0\n')];
  assert.equal(noiseBetween({ ...before, own: 0 }, { ...after, own: 198 }).foreign, 0);
  assert.equal(noiseBetween({ ...before, own: 0 }, { ...after, own: 230 }).foreign, 0);
  assert.equal(noiseBetween({ ...before, own: 0 }, { ...before, own: 0 }).foreign, 0);
});

test('the CPU time of a process counts its children that have ended', () => {
  assert.equal(ticksWithEnded('7 (a name) with) ) S 1 7 7 0 -1 4194560 1 2 3 4 100 20 3 4 20 0 1 0'), 127);
  assert.equal(ticksWithEnded(''), 0);
});
