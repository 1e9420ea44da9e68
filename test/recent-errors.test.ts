/**
 * Request errors: what a worker lists, what the primary keeps, what is shown to whom.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { IncomingMessage, RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import Router from '@koa/router';
import express from 'express';
import Fastify from 'fastify';
import Koa from 'koa';
import { RecentErrors } from '../src/admin/recent-errors.ts';
import { renderErrors } from '../src/cli/errors.ts';
import type { RequestError } from '../src/protocol/error-status.ts';
import { parseToPrimary } from '../src/protocol/message-shapes.ts';
import type { App } from '../src/worker/app.ts';
import { listError, noteCause, onErrorAnswer, takeErrors } from '../src/worker/error-list.ts';
import { logKoaErrors, logRequestErrors, noteFastifyErrors } from '../src/worker/request-errors.ts';
import { AppServer } from '../src/worker/server.ts';
import { LIMITS } from './app-server.ts';

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

/** The errors that a worker lists while its app answers requests with these paths. Those of requests that are cut are listed as well. */
async function listedBy(serve: App['serve'], paths: readonly string[]): Promise<RequestError[]> {
  const server = new AppServer(LIMITS, ({ request, response }, status) => {
    if (status >= 500) onErrorAnswer(request, status, response);
  });
  const http = server.add(serve);
  logRequestErrors(serve, () => ({ error: () => undefined }) as never);
  await once(http.listen(0, '127.0.0.1'), 'listening');
  for (const path of paths)
    await fetch(`http://127.0.0.1:${(http.address() as AddressInfo).port}${path}`)
      .then(response => response.text())
      .catch(() => undefined);
  http.closeAllConnections();
  http.close();
  await turn();
  return takeErrors();
}

class NoSuchCup extends Error {}
const fail = () => {
  throw new NoSuchCup('no cup');
};
const brief = ({ class: name, message, route, status }: RequestError) => ({ class: name, message, route, status });

test('an error that the app answers by itself is listed with its class and message, where the app or its framework reports it', async () => {
  const handled = express();
  handled.get('/kept/:id', fail);
  handled.get('/none/:id', fail);
  handled.use(((error, request, response, _next) => {
    if (request.path.startsWith('/kept')) Object.assign(response, { err: error });
    response.status(503).send('mine');
  }) satisfies express.ErrorRequestHandler);
  assert.deepEqual((await listedBy({ listener: handled as RequestListener }, ['/kept/smith', '/none/smith'])).map(brief), [
    { class: 'NoSuchCup', message: 'no cup', route: '/kept/:id', status: 503 },
    { class: 'HTTP 503', message: undefined, route: '/none/:id', status: 503 },
  ]);

  noteFastifyErrors();
  const fastify = Fastify().setErrorHandler((_error, _request, reply) => reply.status(503).send('mine'));
  fastify.get('/cups/:name', fail);
  await fastify.ready();
  assert.deepEqual((await listedBy({ server: fastify.server }, ['/cups/smith'])).map(brief), [
    { class: 'NoSuchCup', message: 'no cup', route: '/cups/:name', status: 503 },
  ]);

  const koa = new Koa().on('error', () => undefined);
  koa.use(async (context, next) => {
    try {
      await next();
    } catch (error) {
      context.status = 503;
      context.app.emit('error', error, context);
    }
  });
  koa.use(new Router().get('/cups/:name', fail).routes());
  logKoaErrors(koa, () => ({ error: () => undefined }) as never);
  assert.deepEqual((await listedBy({ listener: koa.callback() }, ['/cups/smith'])).map(brief), [
    { class: 'NoSuchCup', message: 'no cup', route: '/cups/:name', status: 503 },
  ]);
});

test('an error that interrupts an answer has the status that the client was sent', async () => {
  const late: RequestListener = express().get('/late', (_request, response) => {
    response.write('a');
    response.statusCode = 99;
    fail();
  });
  const listed = await listedBy({ listener: late }, ['/late']);
  assert.deepEqual(listed.map(brief), [{ class: 'NoSuchCup', message: 'no cup', route: '/late', status: 200 }]);
  assert.deepEqual(parseToPrimary({ type: 'errors', errors: listed }), { type: 'errors', errors: listed });
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

test('an error that has ended a worker has no request', () => {
  const errors = new RecentErrors();
  const summary = { class: 'RangeError', file: 'app.mjs', line: 9 };
  const ended = { message: 'too far', stack: 'RangeError: too far\n    at walk (app.mjs:9:1)', summary, isPermanent: false };
  const exit = { event: 'worker.exit', worker: 2, error: ended, isFailedStart: false };
  errors.onEvent(exit as unknown as Parameters<RecentErrors['onEvent']>[0], 5);
  assert.deepEqual(errors.kinds('open'), [{ at: 5, ...summary, count: 1, worker: 2 }]);
  assert.match(renderErrors(errors.last), /^\S+ worker 2 has ended\n {2}RangeError: too far\n {2}at walk \(app\.mjs:9:1\)$/);
});

test('forged errors of a worker are dropped, and no others with them', () => {
  const parse = (...errors: object[]) => parseToPrimary({ type: 'errors', errors });
  assert.deepEqual(parse(error(), error({ class: 'HTTP 500' })), {
    type: 'errors',
    errors: [error(), error({ class: 'HTTP 500' })],
  });
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
    assert.deepEqual(parse({ ...error(), ...forged }, error()), { type: 'errors', errors: [error()] }, JSON.stringify(forged));
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
