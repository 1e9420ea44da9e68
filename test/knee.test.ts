import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findKnee, type Verdict } from '../src/loadtest/saturate.ts';

/** A server that holds every rate up to its knee. */
const holdingUpTo =
  (knee: number) =>
  async (rate: number): Promise<Verdict> =>
    rate <= knee ? { holds: true } : { holds: false, why: `${rate} is too much` };

for (const knee of [1, 7, 90, 250, 251, 613, 4_000, 30_000]) {
  test(`a knee at ${knee} per second is found within 5 %, or to the request`, async () => {
    const tried: number[] = [];
    const { held, broken } = await findKnee(250, rate => {
      tried.push(rate);
      return holdingUpTo(knee)(rate);
    });
    assert.ok(held <= knee && held >= Math.min(knee / 1.06, knee - 1), `${held}`);
    assert.equal(broken?.why, `${broken?.rate} is too much`);
    assert.ok(broken && broken.rate > knee && broken.rate <= Math.max(held + 1, held * 1.05), `${broken?.rate}`);
    assert.ok(tried.length < 40, tried.join());
  });
}

test('a server that holds no rate has no knee', async () => {
  assert.deepEqual(await findKnee(250, holdingUpTo(0)), { held: 0, broken: { rate: 1, why: '1 is too much' } });
});

test('one failed attempt at a rate is not the knee', async () => {
  let bad = true;
  const knee = await findKnee(250, async rate => {
    if (rate === 375 && bad) {
      bad = false;
      return { holds: false, why: 'another process had the CPU' };
    }
    return holdingUpTo(1000)(rate);
  });
  assert.ok(knee.held >= 950 && knee.held <= 1000, `${knee.held}`);
});

test('the search reports the highest rate so far when the time is over', async () => {
  let steps = 3;
  assert.deepEqual(await findKnee(100, async rate => (steps-- > 0 ? holdingUpTo(1000)(rate) : undefined)), { held: 225 });
});
