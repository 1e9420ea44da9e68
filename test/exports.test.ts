/**
 * What a module may export, from the export to the app that serves; and what is refused, with the line to write.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http, { type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import http2 from 'node:http2';
import { connect } from 'node:net';
import { describe, test } from 'node:test';
import express from 'express';
import Fastify from 'fastify';
import { Hono } from 'hono';
import Koa from 'koa';
import Koa2 from 'koa2';
import { appOf, refusalOf } from '../src/worker/exports.ts';
import { eventually } from './app-server.ts';
import { options, serve } from './exported.ts';
import * as freePort from './free-port.ts';

const FILE = '/srv/app.js';
const hello: RequestListener = (_request, response) => void response.end('hello');
const sayHello = (ctx: Koa.Context) => {
  ctx.body = 'hello';
};
const koa = () => new Koa().use(sayHello);

const body = async (url: string, init?: RequestInit) => (await fetch(url, init)).text();

class Answers {
  readonly text: string;
  constructor(kit?: { workerId: number }) {
    this.text = `hello${kit === undefined ? '' : ` from ${kit.workerId}`}`;
  }
  handler(_request: IncomingMessage, response: ServerResponse): void {
    response.end(this.text);
  }
}
class MyKoa extends Koa {
  constructor() {
    super();
    this.use(sayHello);
  }
}
/** An itty-router: a proxy that answers every name with a function, `then` too. */
const itty = () =>
  Object.assign(Object.create(new Proxy({}, { get: () => () => undefined })), { fetch: async () => new Response('hello') });

describe('a module may export', () => {
  for (const [what, exported, description, expected = 'hello'] of [
    ['a Koa app', koa(), 'a Koa app'],
    ['a Koa 2 app', new Koa2().use(sayHello), 'a Koa app'],
    ['an Express app', express().use(hello), 'a request listener'],
    ['a request listener', hello, 'a request listener'],
    ['an http.Server', http.createServer(hello), 'an http.Server'],
    ['a Fastify app', Fastify().get('/', () => 'hello'), 'a Fastify app'],
    ['a Hono app', new Hono().get('/', c => c.text('hello')), 'an object with fetch(Request)'],
    ['an itty-router', itty(), 'an object with fetch(Request)'],
    ['an object with fetch, as for Bun', { port: 1, fetch: () => new Response('hello') }, 'an object with fetch(Request)'],
    ['a promise of an app', Promise.resolve(koa()), 'a Koa app'],
    // biome-ignore lint/suspicious/noThenProperty: as the promises of some libraries
    ['a thenable of an app', { then: (resolve: (app: unknown) => void) => resolve(koa()) }, 'a Koa app'],
    ['{ app }', { app: koa(), models: {} }, 'a Koa app'],
    ['{ app, server }', { app: koa(), server: http.createServer(hello) }, 'an http.Server'],
    ['{ handler }', { handler: hello }, 'a request listener'],
    ['{ default }', { default: { app: koa() } }, 'a Koa app'],
    ['a class with handler()', Answers, 'a request listener', 'hello from 1'],
    ['an object of a class with handler()', new Answers(), 'a request listener'],
    ['an object with callback()', { callback: () => hello }, 'a request listener'],
    ['a class that extends Koa', MyKoa, 'a Koa app'],
    ['a function that returns a Koa app', () => koa(), 'a Koa app'],
    ['a function that resolves with a request listener', async (_kit: unknown) => hello, 'a request listener'],
    ['a function that returns a Fastify app', () => Fastify().get('/', () => 'hello'), 'a Fastify app'],
    ['a function that resolves with a Fastify app', async () => Fastify().get('/', () => 'hello'), 'a Fastify app'],
    ['a function that returns an itty-router', () => itty(), 'an object with fetch(Request)'],
    ['a function that returns { server }', () => ({ server: http.createServer(hello) }), 'an http.Server'],
  ] as [string, unknown, string, string?][])
    test(what, async () => {
      const { app, url } = await serve(exported);
      assert.equal(app.description, description);
      assert.equal(await body(url), expected);
    });
});

const ONE_OF =
  'a Koa, Express, Fastify, NestJS or Hapi app, an http.Server, a request listener (req, res), or an object with fetch(Request)';
const MUST_EXPORT = `/srv/app.js must export ${ONE_OF}, or a function (kit) that returns one of them as default, got `;

/** A function with these parameters, as a module has written it. */
const written = (source: string): unknown => new Function(`return ${source}`)();

describe('a module may not export', () => {
  for (const [what, exported, message] of [
    ['nothing', undefined, 'no default export'],
    ['an empty object', {}, 'an empty object; is "module.exports = app" missing?'],
    ['some other object', { hello: 'world' }, 'an object (hello)'],
    ['a number', 7, 'a number'],
    ['names alone', freePort, 'no default export'],
    ['an array', [koa()], 'an array; export one app'],
    [
      'an HTTP/2 server',
      http2.createServer(),
      'a server of node:http2; leave HTTP/2 to the proxy in front, and export http.createServer(app) or app itself',
    ],
    [
      'a Next.js app',
      { prepare: hello, getRequestHandler: hello },
      'a Next.js app; await app.prepare(); export default app.getRequestHandler()',
    ],
    [
      'an ApolloServer',
      { executeOperation: hello, executeHTTPGraphQLRequest: hello },
      'an ApolloServer; mount it: app.use(koaMiddleware(server)) or app.use(expressMiddleware(server)), and export app',
    ],
    [
      'an app of h3 1',
      { use: hello, handler: Object.assign(() => 0, { __is_handler__: true }) },
      'an app of h3 version 1; export default toNodeListener(app)',
    ],
    ['an Express router', express.Router(), 'a router of Express; const app = express(); app.use(router); export default app'],
    ['express', express, 'the function express itself; export default app, where app = express()'],
    ['the class Koa', Koa, 'the class Koa itself; export default app, where app = new Koa()'],
    [
      'a Fastify plugin',
      written('async function routes(fastify, opts) {}'),
      'a Fastify plugin; const app = Fastify(); app.register(plugin); export default app',
    ],
    [
      'a handler of AWS Lambda',
      written('async (event, context) => {}'),
      'a handler of events, as for AWS Lambda; export the app that it wraps',
    ],
  ] as [string, unknown, string][])
    test(what, async () => {
      assert.equal(await appOf(exported, FILE, options()), undefined);
      assert.equal(refusalOf(exported, FILE), MUST_EXPORT + message);
    });

  for (const [what, exported, message] of [
    ['an object', () => ({}), `the function that ${FILE} exports must return ${ONE_OF}, got an empty object`],
    ['a function (kit)', () => () => koa(), `the function that ${FILE} exports must return ${ONE_OF}, got a function (kit)`],
    [
      'a Response',
      () => new Response(),
      `the function that ${FILE} exports must return ${ONE_OF}, got a Response; export default { fetch }, where fetch is that function`,
    ],
    ['an error', () => Promise.reject(new Error('no database')), `the function that ${FILE} exports threw: no database`],
  ] as [string, unknown, string][])
    test(`a function that makes ${what}`, async () => {
      await assert.rejects(appOf(exported, FILE, options()), { name: 'AppError', message });
    });

  test('a class that is no app', async () => {
    const message = `the class that ${FILE} exports must return ${ONE_OF}, got an object (name)`;
    await assert.rejects(
      appOf(
        class {
          name = 'x';
        },
        FILE,
        options(),
      ),
      { name: 'AppError', message },
    );
  });

  test('a function that returns nothing, unless it listens', async () => {
    const nothing = () => undefined;
    assert.equal(await appOf(nothing, FILE, options()), undefined);
    assert.equal(refusalOf(nothing, FILE), `the function that ${FILE} exports must return ${ONE_OF}, got undefined`);
  });

  test('a server that listens is left to the code that serves listening servers', async () => {
    const server = http.createServer(hello).listen(0);
    await once(server, 'listening');
    assert.equal(await appOf(server, FILE, options()), undefined);
    server.close();
  });
});

const ADDRESS = { address: '127.0.0.1', family: 'IPv4', port: 3000 };

test('a Fastify app is loaded before it serves, listens where the kit does, and is closed', async () => {
  const steps: string[] = [];
  const app = Fastify();
  app.register(async database => {
    steps.push('loaded');
    database.addHook('onClose', async () => void steps.push('closed'));
  });
  app.addHook('onListen', async () => void steps.push(`listening on ${app.listeningOrigin}`));
  const made = (await appOf(app, FILE, options())) ?? assert.fail();
  assert.deepEqual(steps, ['loaded']);
  await made.onListening?.(ADDRESS);
  await eventually(() => steps.length > 1);
  assert.equal(app.server.listening, true);
  await made.close?.();
  assert.deepEqual(steps, ['loaded', 'listening on http://127.0.0.1:3000', 'closed']);
});

test('a Fastify app that is exported and has called listen runs onListen once', async () => {
  let count = 0;
  const app = Fastify().addHook('onListen', async () => void count++);
  const listening = app.listen({ port: 0, host: '127.0.0.1' });
  const made = (await appOf(app, FILE, options())) ?? assert.fail();
  await listening;
  await made.onListening?.(ADDRESS);
  await eventually(() => count > 0);
  assert.deepEqual([count, app.addresses().length], [1, 1]);
  await made.close?.();
});

test('a Fastify app whose plugin fails is named, with its file and the cause', async () => {
  const app = Fastify().register(() => Promise.reject(new Error('no database')));
  const message = `the Fastify app that ${FILE} exports has failed to start: no database`;
  await assert.rejects(appOf(app, FILE, options()), { name: 'AppError', message, isPermanent: false });
});

test('an http.Server emits listening, and can listen by itself later', async () => {
  const server = http.createServer(hello);
  const made = (await appOf({ server }, FILE, options())) ?? assert.fail();
  const listening = once(server, 'listening');
  await made.onListening?.(ADDRESS);
  await listening;
  assert.deepEqual(server.address(), ADDRESS);
  assert.equal(Object.hasOwn(server, 'listen'), false);
});

describe('an app with fetch(Request)', () => {
  test('gets the kit, the request and the response of Node.js', async () => {
    const app = new Hono<{ Bindings: { kit: { workerId: number }; incoming: IncomingMessage } }>();
    app.get('/', c => c.json([c.env.kit.workerId, c.env.incoming.socket.remoteAddress]));
    assert.equal(await body((await serve(app)).url), '[1,"127.0.0.1"]');
  });

  test('streams both ways: the first part of the answer arrives before the request has ended', async () => {
    const { url } = await serve({ fetch: (request: Request) => new Response(request.body) });
    const { readable, writable } = new TransformStream();
    const writer = writable.getWriter();
    void writer.write(new TextEncoder().encode('first'));
    const response = await fetch(url, { method: 'POST', body: readable, duplex: 'half' } as RequestInit);
    const reader = response.body?.getReader() ?? assert.fail();
    assert.equal(new TextDecoder().decode((await reader.read()).value as Uint8Array), 'first');
    await writer.close();
    assert.equal((await reader.read()).done, true);
  });

  test('takes and sends large bodies, whole', async () => {
    const { url } = await serve({ fetch: async (request: Request) => new Response(await request.arrayBuffer()) });
    const sent = Buffer.alloc(20 << 20, 'bosun');
    const response = await fetch(url, { method: 'POST', body: sent });
    assert.equal(Buffer.from(await response.arrayBuffer()).equals(sent), true);
  });

  test('answers HEAD without a body, and sends each cookie in a header of its own', async () => {
    const headers: [string, string][] = [
      ['Set-Cookie', 'a=1'],
      ['Set-Cookie', 'b=2'],
    ];
    const { url } = await serve({ fetch: () => new Response('hello', { headers }) });
    for (const method of ['GET', 'HEAD']) {
      const response = await fetch(url, { method });
      assert.deepEqual(response.headers.getSetCookie(), ['a=1', 'b=2']);
      assert.equal(await response.text(), method === 'GET' ? 'hello' : '');
    }
  });

  test('has a signal that aborts when the client leaves', async () => {
    const { promise: aborted, resolve } = Promise.withResolvers<void>();
    const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
    const { port } = await serve({
      fetch: (request: Request) => {
        request.signal.addEventListener('abort', () => resolve());
        begin();
        return aborted.then(() => new Response('late'));
      },
    });
    const socket = connect(port, '127.0.0.1');
    socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    await begun;
    socket.destroy();
    await aborted;
  });

  for (const [TRUST_PROXY, protocol] of [
    ['true', 'https:'],
    ['false', 'http:'],
  ] as const)
    test(`sees ${protocol} behind a proxy that forwards https, with TRUST_PROXY=${TRUST_PROXY}`, async () => {
      const fetchOf = (request: Request) => new Response(new URL(request.url).protocol);
      const { url } = await serve({ fetch: fetchOf }, { TRUST_PROXY });
      assert.equal(await body(url, { headers: { 'X-Forwarded-Proto': 'https' } }), protocol);
    });
});
