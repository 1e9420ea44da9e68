/**
 * Request errors: what a worker lists, what the primary keeps, what is shown to whom.
 */
import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import { afterEach, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { RecentErrors } from '../src/admin/recent-errors.ts';
import { renderErrors } from '../src/cli/errors.ts';
import type { RequestError } from '../src/protocol/error-status.ts';
import { parseToPrimary } from '../src/protocol/message-shapes.ts';
import { listError, noteCause, onErrorAnswer, takeErrors } from '../src/worker/error-list.ts';

const request = (url: string, headers = {}) => ({ method: 'GET', url, headers }) as IncomingMessage;

const error = (more: Partial<RequestError> = {}): RequestError => ({
  at: 1,
  class: 'TypeError',
  file: 'app.mjs',
  line: 3,
  method: 'GET',
  route: '/cups/:id',
  status: 500,
  count: 1,
  message: 'no cup of ada@example.org',
  frame: 'at serve (app.mjs:3:7)',
  path: '/cups/7',
  ...more,
});

afterEach(async () => void (await takeErrors()));

test('a worker lists a failed request once, with its error, path without query, folded route and trace', async () => {
  const traceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`;
  const failed = request('/cups/7?token=secret', { traceparent });
  listError(failed, 500, new TypeError('no cup'));
  onErrorAnswer(failed, 500);
  await turn();
  const [listed, ...others] = await takeErrors();
  assert.deepEqual(others, []);
  const { at: _, frame, line: __, ...rest } = listed ?? error();
  assert.match(frame ?? '', /^at .*recent-errors\.test\.ts:\d+/);
  assert.deepEqual(rest, {
    class: 'TypeError',
    file: 'test/recent-errors.test.ts',
    message: 'no cup',
    method: 'GET',
    route: '/cups/:id',
    status: 500,
    count: 1,
    path: '/cups/7',
    trace_id: 'a'.repeat(32),
  });
  assert.deepEqual(await takeErrors(), []);
});

test('an answer of 5xx without an error, and those of the kit, are listed as such', async () => {
  const timedOut = request('/slow');
  noteCause(timedOut, { own: 'HandlerTimeout' });
  onErrorAnswer(timedOut, 503);
  for (let count = 0; count < 20; count++) {
    const turnedAway = request('/busy');
    noteCause(turnedAway, { own: 'ConcurrencyLimit' });
    onErrorAnswer(turnedAway, 503);
  }
  onErrorAnswer(request('/soft'), 502);
  await turn();
  assert.deepEqual(
    (await takeErrors()).map(each => [each.class, each.route, each.message, each.count]),
    [
      ['HandlerTimeout', '/slow', undefined, 1],
      ['ConcurrencyLimit', '/busy', undefined, 20],
      ['HTTP 502', '/soft', undefined, 1],
    ],
  );
});

test('a flood of one error fills no list, and is counted in full', async () => {
  for (let count = 0; count < 1000; count++) listError(request('/flood'), 500);
  for (let count = 0; count < 5; count++) listError(request('/rare'), 500);
  const listed = await takeErrors();
  assert.equal(listed.filter(({ route }) => route === '/flood').length, 10);
  assert.equal(
    listed.reduce((sum, { count }) => sum + count, 0),
    1005,
  );
  const names = (count: number) =>
    `/${String.fromCharCode(97 + (count % 26))}${String.fromCharCode(97 + Math.floor(count / 26))}`;
  for (let count = 0; count < 200; count++) listError(request(names(count)), 500);
  assert.equal((await takeErrors()).length, 50);
});

test('the primary keeps the last 50, counts by kind, and shows text of the app to operators only', () => {
  const errors = new RecentErrors();
  errors.receive(1, [error({ count: 4 }), error({ status: 503 })]);
  errors.receive(2, [error({ at: 9 })]);
  assert.equal(errors.last.length, 3);
  assert.deepEqual(
    errors.kinds('operator').map(({ at, worker, status, count }) => [at, worker, status, count]),
    [
      [9, 2, 500, 5],
      [1, 1, 503, 1],
    ],
  );
  assert.deepEqual(errors.kinds('open')[0], {
    at: 9,
    class: 'TypeError',
    file: 'app.mjs',
    line: 3,
    method: 'GET',
    route: '/cups/:id',
    status: 500,
    count: 5,
    worker: 2,
  });
  for (let line = 0; line < 500; line++) errors.receive(1, [error({ line })]);
  assert.equal(errors.last.length, 50);
  assert.equal(errors.kinds('operator').length, 50);
});

test('forged errors of a worker are refused', () => {
  const parse = (...errors: object[]) => parseToPrimary({ type: 'errors', errors });
  parse(error(), error({ class: 'HTTP 500' }));
  for (const forged of [
    { class: '<b>' },
    { class: 'a secret' },
    { class: Object.create(null) },
    { route: '/\u001b[2J' },
    { route: 'x'.repeat(121) },
    { count: 0.5 },
    { status: 9 },
    { at: -1 },
  ])
    assert.throws(() => parse({ ...error(), ...forged }), { name: 'MalformedError' }, JSON.stringify(forged));
  assert.throws(() => parse(...Array.from({ length: 51 }, () => error())), { name: 'MalformedError' });
});

test('bosun errors prints each error, without control characters of the app', () => {
  const text = renderErrors([
    { ...error({ message: 'a\u001b[2J\nb', count: 3, trace_id: 'f'.repeat(32) }), worker: 2 },
    { at: 1, class: 'ConcurrencyLimit', method: 'GET', route: '/busy', path: '/busy', status: 503, count: 1, worker: 1 },
    { at: 1, class: 'HTTP 502', method: 'GET', route: '/soft', path: '/soft', status: 502, count: 1, worker: 1 },
  ]);
  assert.match(
    text,
    /^\S+ 500 GET \/cups\/7 \(\/cups\/:id\), worker 2, 3 times, trace f{32}\n {2}TypeError: a\?\[2J\?b\n {2}at serve \(app\.mjs:3:7\)\n/,
  );
  assert.match(text, /\n {2}refused: more requests at once than the limit of ADAPTIVE_CONCURRENCY\n/);
  assert.match(text, /\n\S+ 502 GET \/soft, worker 1\n {2}the app gave this answer; the kit has seen no error$/);
  assert.equal(renderErrors([]), 'no request has failed');
});
