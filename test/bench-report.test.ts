/**
 * The report of the benchmarks: its table, its JSON, and the page with the runs that are kept.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { jsonOf, type Report, settingsOf, textOf } from './bench/report.ts';
import { type Comparison, CPU_PER_REQUEST, P99, REQUESTS } from './bench/rounds.ts';
import { benchHistory, check } from './docs/bench-history.ts';

const comparison: Comparison = {
  name: 'keep-alive',
  title: 'keep-alive, 64 connections',
  baseline: 'plain',
  figures: { p99: P99, rate: REQUESTS, cpu: CPU_PER_REQUEST },
  rounds: 3,
  discarded: 2,
  noise: { steal: 0.001, foreign: 0.04 },
  values: {
    plain: { p99: [1, 2, 3], rate: [1000, 2000, 3000], cpu: [10, 20, 30.123456] },
    kit: { p99: [2, 2, 3], rate: [900, 2000, 2400], cpu: [11, 21, 33] },
  },
};
const report: Report = {
  date: '2026-11-29',
  commit: 'abc1234',
  machine: { cpus: 2, model: 'AMD EPYC', isVirtual: true, kernel: 'Linux 6.18', node: 'v26.10.0' },
  versions: { pm2: '7.0.4' },
  command: 'make bench ROUNDS=3',
  comparisons: [comparison],
};

test('one table shows CPU time first, then rates, each with its ratio to the baseline, and the machine and the noise', () => {
  assert.deepEqual(textOf(report).split('\n'), [
    '2 × AMD EPYC, virtual; Linux 6.18; Node.js v26.10.0; pm2 7.0.4; 2026-11-29; commit abc1234; `make bench ROUNDS=3`',
    'min/median/max, and in parentheses the ratio of the same rounds to the baseline',
    '',
    '| | CPU | rate | other |',
    '|---|---|---|---|',
    '| **keep-alive, 64 connections**, against plain; 3 rounds, 2 discarded | | | |',
    '| plain | 10.0/20.0/30.1 µs CPU/request | 1000/2000/3000 requests/s | 1.0/2.0/3.0 ms p99 |',
    '| kit | 11.0/21.0/33.0 µs CPU/request (1.05/1.10/1.10) | 900/2000/2400 requests/s (0.80/0.90/1.00) | 2.0/2.0/3.0 ms p99 (1.00/1.00/2.00) |',
    '',
    '3 rounds count, 2 were discarded. At most 4.0 % of the CPU time went to other processes in one that counts, 0.1 % to the hypervisor.',
  ]);
});

test('a ratio to zero is left out, and a single value is one number', () => {
  const figures = { failed: { unit: 'failed', kind: 'other', digits: 0 } } as const;
  const once = { ...comparison, rounds: 1, figures, values: { plain: { failed: [0] }, kit: { failed: [0] } } };
  assert.match(
    textOf({ ...report, comparisons: [once] }),
    /; 1 round, 2 discarded .*\n\| plain \| \| \| 0 failed \|\n\| kit \| \| \| 0 failed \|\n/,
  );
});

test('the JSON has every value with four digits, a line for each series', () => {
  const text = jsonOf(report);
  assert.match(text, /^ +"cpu": \[10, 20, 30\.12\]$/m);
  assert.deepEqual(JSON.parse(text).machine, report.machine);
});

test('ROUNDS and SECONDS win over QUICK, and QUICK over what a benchmark takes', () => {
  const [usual, quick, given] = [
    settingsOf({}),
    settingsOf({ QUICK: '1' }),
    settingsOf({ QUICK: '1', ROUNDS: '7', SECONDS: '0.5' }),
  ];
  assert.deepEqual([usual.rounds(9), usual.seconds(4), usual.isQuick], [9, 4, false]);
  assert.deepEqual([quick.rounds(9), quick.seconds(4), quick.isQuick], [3, 1, true]);
  assert.deepEqual([given.rounds(9), given.seconds(4)], [7, 0.5]);
});

test('ROUNDS and SECONDS that are no numbers end a bench before it starts', () => {
  for (const value of ['two', '0', '-1', '1.5', '']) assert.throws(() => settingsOf({ ROUNDS: value }), /ROUNDS must be/, value);
  for (const value of ['two', '0', '-1', '']) assert.throws(() => settingsOf({ SECONDS: value }), /SECONDS must be/, value);
});

test('the history has a line for each run, and a column for each subject that any of them had', () => {
  const later: Report = {
    ...report,
    date: '2026-12-01',
    comparisons: [
      { ...comparison, rounds: 1, values: { plain: { cpu: [10] }, peer: { cpu: [12] } }, figures: { cpu: CPU_PER_REQUEST } },
    ],
  };
  const text = benchHistory([
    { path: 'bench/2026-12-01.json', report: later },
    { path: 'bench/2026-11-29.json', report },
  ]);
  assert.deepEqual(text.split('\n'), [
    '| measured on | commit | machine | kernel | Node.js | command | rounds |',
    '|---|---|---|---|---|---|---|',
    '| [2026-12-01](bench/2026-12-01.json) | abc1234 | 2 cores, AMD EPYC, virtual | Linux 6.18 | v26.10.0 | `make bench ROUNDS=3` | 1, 2 discarded |',
    '| [2026-11-29](bench/2026-11-29.json) | abc1234 | 2 cores, AMD EPYC, virtual | Linux 6.18 | v26.10.0 | `make bench ROUNDS=3` | 3, 2 discarded |',
    '',
    '### keep-alive',
    '',
    '| measured on | plain | peer | kit |',
    '|---|---|---|---|',
    '| 2026-12-01 | 10.0 µs CPU/request | 1.20 × µs CPU/request | |',
    '| 2026-11-29 | 10.0/**20.0**/30.1 µs CPU/request<br>1000/**2000**/3000 requests/s<br>1.0/**2.0**/3.0 ms p99 | ' +
      '| 1.05/**1.10**/1.10 × µs CPU/request<br>0.80/**0.90**/1.00 × requests/s<br>1.00/**1.00**/2.00 × ms p99 |',
  ]);
});

test('a kept report with a series that is too short, or without its baseline, is refused by name', () => {
  check('bench/a.json', report);
  const wrong = (change: Partial<Comparison>) => () =>
    check('bench/a.json', { ...report, comparisons: [{ ...comparison, ...change }] });
  assert.throws(wrong({ rounds: 4 }), /docs\/bench\/a\.json: keep-alive: plain: p99: expected 4 values, got 3/);
  assert.throws(wrong({ baseline: 'other' }), /no values of the baseline "other"/);
  assert.throws(() => check('bench/a.json', { ...report, date: 'today' }), /date, machine or command/);
});
