/**
 * The request errors of an app, in the log. What each framework answers stays as it is without the kit.
 */
import assert from 'node:assert/strict';
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { describe, type TestContext, test } from 'node:test';
import express from 'express';
import { Hono } from 'hono';
import Koa from 'koa';
import Koa2 from 'koa2';
import { eventually } from './app-server.ts';
import { type Served, serve } from './exported.ts';

const problem = (fields: object = {}) => Object.assign(new Error('no such table'), fields);
/** Returns what has been printed; prints nothing. */
function printed(context: TestContext): () => unknown[] {
  const { mock } = context.mock.method(console, 'error', () => undefined);
  return () => mock.calls.flatMap(call => call.arguments);
}

/** Status, headers but the date, and body. */
async function answer(url: string, init?: RequestInit): Promise<unknown> {
  const response = await fetch(url, init);
  const headers = [...response.headers].filter(([name]) => name !== 'date');
  return { status: response.status, headers, body: await response.text() };
}

const brief = ({ lines }: Served) =>
  lines.map(({ level, event, method, path, status }) => ({ level, event, method, path, status }));
const failed = (level: string, path: string, status: number | undefined, method = 'GET') => ({
  level,
  event: 'request.failed',
  method,
  path,
  status,
});

for (const [name, Class] of [
  ['Koa', Koa],
  ['Koa 2', Koa2],
] as const)
  describe(name, () => {
    const failing = (fields?: object) => new Class().use(() => Promise.reject(problem(fields)));

    test(`an error that a ${name} app throws is one line of the log with its place, and no plain text`, async context => {
      const texts = printed(context);
      const served = await serve(failing());
      await answer(`${served.url}/orders/1?token=secret`, { method: 'DELETE' });
      await eventually(() => served.lines.length > 0);
      assert.deepEqual(brief(served), [failed('error', '/orders/1', 500, 'DELETE')]);
      const [line] = served.lines;
      assert.equal(line?.err.message, 'no such table');
      assert.match(line?.err.stack ?? '', /request-errors\.test\.ts:\d+/);
      assert.deepEqual(texts(), []);
    });

    for (const [what, fields, level, status] of [
      ['a 503', { status: 503, expose: true }, 'error', 503],
      ['a 4xx', { status: 409 }, 'warn', 409],
      ['a 4xx that the client may see', { status: 409, expose: true }, 'debug', 409],
      ['a 404', { status: 404 }, 'debug', 404],
    ] as const)
      test(`${what} of a ${name} app has level ${level}`, async () => {
        const served = await serve(failing(fields));
        const before = await answer(served.url);
        await eventually(() => served.lines.length > 0);
        assert.deepEqual(brief(served), [failed(level, '/', status)]);
        assert.equal((before as { status: number }).status, status);
      });

    test(`the errors of a ${name} app with a listener, with an onerror of its own, or with silent, are not logged`, async context => {
      const texts = printed(context);
      const received: unknown[] = [];
      const [listening, own, silent] = [failing(), failing(), failing()];
      listening.on('error', error => received.push(error.message));
      own.onerror = error => void received.push(error.message);
      silent.silent = true;
      const all = [await serve(listening), await serve(own), await serve(silent)];
      for (const { url } of all) await answer(url);
      await new Promise(setImmediate);
      assert.deepEqual(received, ['no such table', 'no such table']);
      assert.deepEqual(
        all.flatMap(({ lines }) => lines),
        [],
      );
      assert.deepEqual(texts(), []);
    });
  });

test('the path is that of the request as it came, where an app is mounted in another', async () => {
  const mounted = new Koa().use(ctx => {
    ctx.path = '/inner'; // as koa-mount does
    throw problem();
  });
  const served = await serve(mounted);
  await answer(`${served.url}/outer/inner?x=1`);
  await eventually(() => served.lines.length > 0);
  assert.equal(served.lines[0]?.path, '/outer/inner');
});

test('Koa apps behind a server of their own are found by their class, whatever their version', async context => {
  const texts = printed(context);
  const [app, app2] = [Koa, Koa2].map(Class => new Class().use(() => Promise.reject(problem())).callback());
  const served = await serve(http.createServer((request, response) => (request.url === '/2' ? app2 : app)?.(request, response)));
  for (const path of ['/', '/2'])
    assert.equal(((await answer(served.url + path)) as { body: string }).body, 'Internal Server Error');
  await eventually(() => served.lines.length > 1);
  assert.deepEqual(brief(served), [failed('error', '/', 500), failed('error', '/2', 500)]);
  assert.deepEqual(texts(), []);
});

/** A function, so that each test has an app of its own. */
function failingExpress(): express.Express {
  const app = express();
  app.get('/', (_request, response) => void response.send('hello'));
  app.get('/500', () => Promise.reject(problem()));
  app.get('/503', () => Promise.reject(problem({ status: 503, headers: { 'Retry-After': '5' } })));
  app.get('/418', () => Promise.reject(problem({ statusCode: 418 })));
  app.post('/json', express.json(), (_request, response) => void response.send('ok'));
  app.use(
    '/api',
    express.Router().get('/late', (_request, response, next) => {
      response.write('a');
      next(problem());
    }),
  );
  const handled = express();
  handled.get('/', () => Promise.reject(problem()));
  const handler: express.ErrorRequestHandler = (_error, _request, response, _next) => void response.status(500).send('mine');
  app.use('/mine', handled, handler);
  return app;
}

describe('Express', () => {
  for (const env of ['production', 'development'])
    test(`the answers of an Express app are the same with the kit, in ${env}`, async context => {
      const texts = printed(context);
      const { NODE_ENV } = process.env;
      process.env.NODE_ENV = env;
      context.after(() => Object.assign(process.env, { NODE_ENV: NODE_ENV ?? '' }));
      const served = await serve(failingExpress());
      const plain = http.createServer(failingExpress());
      const own = await serve(
        (request: IncomingMessage, response: ServerResponse) => void plain.emit('request', request, response),
      );
      for (const [path, init] of [
        ['/', {}],
        ['/nothing?x=1', {}],
        ['/nothing', { method: 'POST', body: 'x'.repeat(100_000) }],
        ['/500', {}],
        ['/500', { method: 'HEAD' }],
        ['/503', {}],
        ['/418', {}],
        ['/json', { method: 'POST', body: '{', headers: { 'Content-Type': 'application/json' } }],
        ['/mine', {}],
      ] as const)
        assert.deepEqual(await answer(served.url + path, init), await answer(own.url + path, init), path);
      await new Promise(setImmediate);
      assert.deepEqual(brief(served), [
        failed('error', '/500', 500),
        failed('error', '/500', 500, 'HEAD'),
        failed('error', '/503', 503),
        failed('warn', '/418', 418),
        failed('debug', '/json', 400, 'POST'),
      ]);
      assert.equal(texts().length, 5, 'the app without the kit prints its errors');
    });

  test('an error after the answer of an Express app has begun is logged, and ends the connection', async context => {
    printed(context);
    const served = await serve(failingExpress());
    await assert.rejects(answer(`${served.url}/api/late?x=1`));
    assert.deepEqual(brief(served), [failed('error', '/api/late', 200)]);
  });

  test('an Express app that another listener calls with next passes its errors on', async () => {
    const app = failingExpress();
    const { lines } = await serve(app);
    const outer = await serve((request: IncomingMessage, response: ServerResponse) =>
      app(request as never, response as never, (error?: unknown) => void response.end(`outer: ${error}`)),
    );
    assert.equal(((await answer(`${outer.url}/500`)) as { body: string }).body, 'outer: Error: no such table');
    assert.deepEqual(lines, []);
  });

  test('the errors of an Express app behind a server of its own are logged; with the setting env=test they are not', async context => {
    const texts = printed(context);
    const served = await serve(http.createServer(failingExpress()));
    const quiet = await serve(failingExpress().set('env', 'test'));
    for (const { url } of [served, quiet]) await answer(`${url}/500`);
    await new Promise(setImmediate);
    assert.deepEqual(brief(served), [failed('error', '/500', 500)]);
    assert.deepEqual(quiet.lines, []);
    assert.deepEqual(texts(), []);
  });
});

describe('fetch(Request)', () => {
  for (const [what, fails] of [
    [
      'throws',
      () => {
        throw problem();
      },
    ],
    ['rejects', () => Promise.reject(problem())],
  ] as const)
    test(`a fetch that ${what} is answered with 500, and logged once`, async context => {
      const texts = printed(context);
      const served = await serve({ fetch: fails });
      const { status, body } = (await answer(`${served.url}/a?b=c`)) as { status: number; body: string };
      assert.deepEqual([status, body], [500, 'Internal Server Error']);
      assert.deepEqual(brief(served), [failed('error', '/a', 500)]);
      assert.equal(served.lines[0]?.err.message, 'no such table');
      assert.deepEqual(texts(), []);
    });

  test('a fetch that returns no Response is answered with 500, and the log says what it returned', async () => {
    const served = await serve({ fetch: async () => 'hello' });
    assert.equal(((await answer(served.url)) as { status: number }).status, 500);
    assert.equal(served.lines[0]?.err.message, 'fetch(Request) must return a Response, got string');
  });

  test('a body that fails after the answer has begun ends the connection, and is logged', async () => {
    const body = () => new ReadableStream({ start: stream => stream.enqueue('a'), pull: () => Promise.reject(problem()) });
    const served = await serve({ fetch: () => new Response(body()) });
    await assert.rejects(answer(served.url));
    await eventually(() => served.lines.length > 0);
    assert.deepEqual(brief(served), [failed('error', '/', 200)]);
  });

  test("the errors of a Hono app are logged where it has no onError, and its answers are Hono's", async context => {
    const texts = printed(context);
    const app = () =>
      new Hono().get('/', () => {
        throw problem();
      });
    const served = await serve(app());
    const plain = await app().request('/');
    const { status, body } = (await answer(served.url)) as { status: number; body: string };
    assert.deepEqual([status, body], [plain.status, await plain.text()]);
    assert.deepEqual(brief(served), [failed('error', '/', 500)]);
    assert.equal(texts().length, 1, "Hono's own");
    const own = await serve(app().onError((_error, c) => c.text('mine', 500)));
    assert.equal(((await answer(own.url)) as { body: string }).body, 'mine');
    assert.deepEqual(own.lines, []);
  });
});

describe('a client that leaves', () => {
  /** Opens a request, waits until the app has it, and closes the connection. */
  async function leave({ port }: Served, hasIt: Promise<unknown>): Promise<void> {
    const socket = connect(port, '127.0.0.1');
    socket.write('POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc');
    await hasIt;
    socket.destroy();
  }

  const upload = async (request: IncomingMessage, begun: () => void) => {
    for await (const _chunk of request) begun();
  };
  const echo = (request: Request, begun: () => void) => {
    begun();
    return request.text().then(text => new Response(text));
  };
  for (const [name, appFor] of [
    ['Koa', (begun: () => void) => new Koa().use(ctx => upload(ctx.req, begun))],
    ['Express', (begun: () => void) => express().use(request => upload(request, begun))],
    ['fetch', (begun: () => void) => ({ fetch: (request: Request) => echo(request, begun) })],
  ] as const)
    test(`has the level debug in a ${name} app`, async context => {
      const texts = printed(context);
      const { promise, resolve } = Promise.withResolvers<void>();
      const served = await serve(appFor(resolve));
      await leave(served, promise);
      await eventually(() => served.lines.length > 0);
      await new Promise(setImmediate);
      // Koa reports the connection and the body.
      for (const line of brief(served)) assert.deepEqual(line, failed('debug', '/upload', undefined, 'POST'));
      assert.deepEqual(texts(), []);
    });

  test('is not blamed for a connection of the app that is reset, nor for a mistake of the app after it left', async () => {
    const upstream = await serve(new Koa().use(() => Promise.reject(problem({ code: 'ECONNRESET' }))));
    await answer(upstream.url);
    const { promise, resolve } = Promise.withResolvers<void>();
    const late = await serve(
      new Koa().use(async ctx => {
        await upload(ctx.req, resolve).catch(() => undefined);
        throw problem();
      }),
    );
    await leave(late, promise);
    const mistakes = () => late.lines.filter(({ err }) => err.message === problem().message);
    await eventually(() => upstream.lines.length > 0 && mistakes().length > 0);
    assert.deepEqual(brief(upstream), [failed('error', '/', 500)]);
    assert.equal(mistakes()[0]?.level, 'error');
  });
});
