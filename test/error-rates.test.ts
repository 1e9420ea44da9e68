/**
 * Status classes: rates and shares of what the workers report, in virtual time.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { classesOf, ErrorRates, type RatedWorker } from '../src/admin/error-rates.ts';
import type { HttpSeries } from '../src/protocol/snapshot.ts';

const series = (status: number, ...counts: number[]): HttpSeries => ({ method: 'GET', status, sumSeconds: 1, counts });

/** A worker that started at 0 and has reported nothing. */
const worker = (): RatedWorker => ({ startedAt: 0, reportedAt: 0, snapshot: undefined });

/** It has answered these since its start. */
function reports(rates: ErrorRates, to: RatedWorker, reportedAt: number, http: HttpSeries[], abandoned = 0): void {
  Object.assign(to, { reportedAt, snapshot: { http, abandoned } });
  rates.sample([to]);
}

test('answers count by class, whatever their method and time', () => {
  const http = [
    series(200, 1, 2),
    series(204, 3),
    series(304, 4),
    series(404, 5),
    series(499, 6),
    series(500, 7),
    series(600, 8),
  ];
  assert.deepEqual(classesOf(http), [6, 4, 11, 15]);
  assert.deepEqual(classesOf([]), [0, 0, 0, 0]);
});

test('rates and share are those of the last 10 s, counts those since the start', () => {
  const rates = new ErrorRates();
  const one = worker();
  for (let second = 0; second <= 30; second++) {
    const failed = Math.max(0, second - 20) * 5; // from second 20 on, 5 of 10 answers per second fail
    reports(
      rates,
      one,
      second * 1000 + 300,
      [series(200, second * 10 - failed), series(503, failed), series(404, second)],
      second * 2,
    );
  }
  assert.deepEqual(rates.of(one, 30_400), {
    '4xx': { count: 30, perSecond: 1 },
    '5xx': { count: 50, perSecond: 5 },
    share: 0.4545,
    abandoned: { count: 60, perSecond: 2 },
  });
});

test('the pool adds the rates of its workers, and counts those that have ended', () => {
  const rates = new ErrorRates();
  const workers = [worker(), worker()];
  for (const each of workers) reports(rates, each, 1000, [series(200, 6), series(500, 2)]);
  const ended = { http: [series(200, 100), series(500, 44)], abandoned: 3 };
  const pool = rates.pool(workers, ended, 1000);
  assert.deepEqual(pool['5xx'], { count: 44, perSecond: 4 });
  assert.equal(pool.share, 0.25);
  assert.equal(pool.abandoned.count, 3);
});

test('a silent worker answers nothing, and one without a report has no errors', () => {
  const rates = new ErrorRates();
  const one = worker();
  const none = {
    '4xx': { count: 0, perSecond: 0 },
    '5xx': { count: 0, perSecond: 0 },
    share: 0,
    abandoned: { count: 0, perSecond: 0 },
  };
  assert.deepEqual(rates.of(one, 0), none);
  rates.sample([one]);
  assert.deepEqual(rates.of(one, 5000), none);
  reports(rates, one, 6000, [series(500, 6)]);
  assert.equal(rates.of(one, 6000)['5xx'].perSecond, 1);
  assert.equal(rates.of(one, 60_000)['5xx'].perSecond, 0);
  assert.equal(rates.of(one, 60_000)['5xx'].count, 6);
  // Its next report covers all of its silence.
  reports(rates, one, 61_000, [series(500, 61)]);
  assert.ok(rates.of(one, 61_000)['5xx'].perSecond <= 1);
});
