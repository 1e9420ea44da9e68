/**
 * What `kit.health` accepts, and when the checks of a worker begin and end.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { HealthCheck, HealthOptions } from '../src/index.ts';
import type { HealthReport } from '../src/protocol/health.ts';
import { parseToPrimary } from '../src/protocol/message-shapes.ts';
import { HealthChecks } from '../src/worker/kit/health.ts';
import { until } from './until.ts';

function checks() {
  const reports: HealthReport[] = [];
  return { health: new HealthChecks(report => reports.push(report)), reports };
}

const pass = () => undefined;

for (const [what, args, error] of [
  ['no name', ['', pass], /^TypeError: kit\.health: the name must be 1 to 64 letters, .* got ""$/],
  ['a name with a space', ['my database', pass], /got "my database"$/],
  ['a name with markup', ['<b>', pass], /the name must be/],
  ['a name that is special in JavaScript', ['__proto__', pass], /the name must be/],
  ['a name of 65 characters', ['a'.repeat(65), pass], /the name must be/],
  ['a symbol for a name', [Symbol('name'), pass], /got symbol$/],
  ['no check', ['database'], /^TypeError: kit\.health\("database"\): the check must be a function, got undefined$/],
  ['a promise for a check', ['database', Promise.resolve()], /must be a function, got object$/],
  ['null for options', ['database', pass, null], /the options must be an object, got null$/],
  ['text for options', ['database', pass, 'readiness'], /the options must be an object, got string$/],
  ['null for a check', ['database', null], /must be a function, got null$/],
  ['an option that is unknown', ['database', pass, { timeout: 5 }], /there is no option timeout; there are readiness, timeoutMs, intervalMs$/],
  ['readiness as text', ['database', pass, { readiness: 'true' }], /readiness must be true or false, got string$/],
  ['a negative timeout', ['database', pass, { timeoutMs: -1 }], /^RangeError: .*: timeoutMs must be a number from 1 to 3600000, got -1$/],
  ['a timeout of no number', ['database', pass, { timeoutMs: Number.NaN }], /timeoutMs must be .* got NaN$/],
  ['an interval of 99 ms', ['database', pass, { intervalMs: 99 }], /intervalMs must be a number from 100 to 3600000, got 99$/],
  ['an endless interval', ['database', pass, { intervalMs: Number.POSITIVE_INFINITY }], /got Infinity$/],
  ['an interval as text', ['database', pass, { intervalMs: '5000' }], /got "5000"$/],
] as unknown as [string, [string, HealthCheck, HealthOptions?], RegExp][]) // biome-ignore format: a table
  test(`kit.health refuses ${what} at the call`, () => {
    const { health, reports } = checks();
    assert.throws(() => health.add(...args), error);
    assert.deepEqual(reports, []);
  });

test('kit.health refuses a name that is taken, and a 21st check', () => {
  const { health } = checks();
  health.add('check-0', pass);
  assert.throws(() => health.add('check-0', pass), /^TypeError: kit\.health: there is a check "check-0" already/);
  for (let check = 1; check < 20; check++) health.add(`check-${check}`, pass, { timeoutMs: undefined as never });
  assert.throws(() => health.add('check-20', pass), /^RangeError: kit\.health: at most 20 checks, "check-20" is one more$/);
});

test('a check has readiness false, 10 s and 5 s where nothing else is said, and the limits are allowed', () => {
  const { health, reports } = checks();
  health.add('database', pass);
  health.add('slowest', pass, { intervalMs: 3_600_000, timeoutMs: 3_600_000 });
  health.add('fastest', pass, { intervalMs: 100, timeoutMs: 1 });
  assert.deepEqual(reports, [
    { name: 'database', readiness: false, validMs: 25_000 },
    { name: 'slowest', readiness: false, validMs: 10_800_000 },
    { name: 'fastest', readiness: false, validMs: 201 },
  ]);
});

test('a check is reported when it is registered, runs once the worker serves, and no longer once it drains', async () => {
  const { health, reports } = checks();
  let runs = 0;
  const signals: AbortSignal[] = [];
  const count: HealthCheck = ({ signal }) => {
    runs++;
    signals.push(signal);
    return new Promise(() => undefined);
  };
  health.add('early', count, { readiness: true, intervalMs: 1000 });
  assert.deepEqual(reports, [{ name: 'early', readiness: true, validMs: 7000 }]);
  await import('../src/worker/kit/check-runs.ts');
  await new Promise(setImmediate);
  assert.equal(runs, 0);
  health.start();
  health.start();
  health.add('late', count);
  await until(
    () => runs === 2 || undefined,
    () => `${runs} runs`,
  );
  health.stop();
  await new Promise(setImmediate);
  assert.ok(signals.every(({ aborted }) => aborted));
  health.add('too-late', pass);
  health.start();
  await new Promise(setImmediate);
  assert.deepEqual([runs, reports.filter(({ result }) => result)], [2, []]);
});

test('a worker that serves before its checks are loaded runs each once in an interval', async () => {
  const { health } = checks();
  const at: number[] = [];
  health.add('database', () => void at.push(performance.now()), { intervalMs: 100 });
  health.start();
  await until(
    () => at.length > 2 || undefined,
    () => `${at.length} runs`,
  );
  health.stop();
  const pauses = at.slice(1).map((time, run) => time - (at[run] ?? 0));
  assert.ok(
    pauses.every(ms => ms > 75),
    `each 80 to 120 ms, and more on a busy machine: ${pauses}`,
  );
});

test('the primary keeps 500 characters of a message, and none that a terminal acts on', () => {
  const failure = {
    kind: 'threw',
    message: `\u001b[2J\u202e${'x'.repeat(100_000)}`,
    summary: { class: 'Error', own: 'shop:hunter2' },
  };
  const report = {
    type: 'health',
    name: 'database',
    readiness: false,
    validMs: 1,
    result: { failures: 1, durationMs: 1, failure },
  };
  const parsed = parseToPrimary(report);
  assert.deepEqual(parsed, {
    ...report,
    result: { ...report.result, failure: { ...failure, message: `?[2J?${'x'.repeat(495)}…`, summary: { class: 'Error' } } },
  });
});
