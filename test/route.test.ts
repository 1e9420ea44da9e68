/**
 * The route of a request, with the real routers over real sockets, and the folding of paths.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, test } from 'node:test';
import Router from '@koa/router';
import express from 'express';
import fc from 'fast-check';
import Fastify from 'fastify';
import Koa from 'koa';
import Koa2 from 'koa2';
import { MAX_ROUTE } from '../src/protocol/snapshot.ts';
import { followFastify, followKoa } from '../src/worker/follow-routes.ts';
import { foldIds, foldPath, internalRouteOf, matchedRoute, routeOf } from '../src/worker/route.ts';

followFastify();
followKoa();

/** The routes of requests with these paths, once they are answered. */
async function routesOf(serve: RequestListener | Server, paths: readonly string[]): Promise<string[]> {
  const server = typeof serve === 'function' ? createServer(serve) : serve;
  const routes: string[] = [];
  server.prependListener('request', (request, response) => response.once('finish', () => routes.push(routeOf(request))));
  if (!server.listening) await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  for (const path of paths) {
    const response = await fetch(`http://127.0.0.1:${port}${path}`);
    await response.arrayBuffer();
  }
  server.closeAllConnections();
  server.close();
  return routes;
}

for (const [name, Class] of [
  ['Koa 3', Koa],
  ['Koa 2', Koa2 as unknown as typeof Koa],
] as const) {
  test(`the route of ${name} is the one that Koa Router has matched`, async () => {
    const app = new Class();
    app.silent = true;
    const users = new Router({ prefix: '/users' });
    users.get('/:name', ({ params }, next) => {
      if (params.name === 'eve') throw new Error('no');
      return next();
    });
    const guarded = new Router({ prefix: '/guarded' });
    guarded.use(({ status }) => {
      throw new Error(`middleware of ${status}`);
    });
    guarded.get('/:id', () => undefined);
    app.use(users.routes()).use(guarded.routes());
    app.use(context => {
      context.body = 'any';
    });
    assert.deepEqual(await routesOf(app.callback(), ['/users/adam?x=1', '/users/eve', '/shelves/7', '/guarded/ab']), [
      '/users/:name',
      '/users/:name',
      '/shelves/:id',
      '/guarded/:id',
    ]);
  });
}

test('the route of Express is the path of its route below that of its mounted routers', async () => {
  const app = express().set('env', 'test');
  const comments = express.Router({ mergeParams: true });
  comments.get('/:comment', ({ params }, response) => {
    if (params.comment === 'bad') throw new Error('no');
    response.send('comment');
  });
  comments.get('/', (_, response) => void response.send('all'));
  app.use('/posts/:post/comments', comments);
  app.get('/files/*path', (_, response) => void response.send('file'));
  app.use('/assets', (_, response) => void response.send('asset'));
  const paths = [
    '/posts/12/comments/ada?x',
    '/posts/12/comments/bad',
    '/posts/12/comments',
    '/files/a/b/c',
    '/assets/1.js',
    '/nowhere/1',
  ];
  assert.deepEqual(await routesOf(app, paths), [
    '/posts/:id/comments/:comment',
    '/posts/:id/comments/:comment',
    '/posts/:id/comments',
    '/files/*path',
    '/assets/:id',
    '/nowhere/:id',
  ]);
});

test('the route of Fastify is the one with the prefixes of its plugins', async () => {
  const app = Fastify();
  await app.register(async api => void api.get('/items/:item', async ({ params }) => params), { prefix: '/api' });
  app.get('/broken/:id', async () => {
    throw new Error('no');
  });
  await app.ready();
  assert.deepEqual(await routesOf(app.server, ['/api/items/x', '/broken/x', '/none/1']), [
    '/api/items/:item',
    '/broken/:id',
    '/none/:id',
  ]);
});

test('the route of a plain server is the first word of its path; the others may be names', async () => {
  const server = createServer((_, response) => response.end());
  const paths = ['/orders/17/lines?token=secret', '/users/smith', '/api/v1/users/smith'];
  assert.deepEqual(await routesOf(server, paths), ['/orders/:id/:id', '/users/:id', '/api/v1/users/:id']);
  assert.equal(internalRouteOf({ url: '/orders/17/lines' } as Parameters<typeof routeOf>[0]), '/orders/:id/lines');
});

test('a name in the path at which a router of Express is mounted is folded, where the router knows it', async () => {
  const cups = express.Router({ mergeParams: true }).get('/cups', (_, response) => void response.send('cups'));
  const app = express().use('/tenants/:tenant/all', cups);
  assert.deepEqual(await routesOf(app, ['/tenants/smith/all/cups']), ['/tenants/:id/all/cups']);
});

test('an app that breaks what its router has set gets a folded path', () => {
  const request = (fields: object) => ({ url: '/cups/9', ...fields }) as unknown as Parameters<typeof routeOf>[0];
  const throwing = Object.defineProperty({}, 'path', {
    get() {
      throw new Error('getter');
    },
  });
  for (const route of [throwing, { path: 7 }, { path: null }, null, 'text'])
    assert.equal(routeOf(request({ route })), '/cups/:id');
  assert.equal(matchedRoute(request({ route: { path: `/${'x'.repeat(5000)}` } }))?.length, MAX_ROUTE);
  assert.equal(matchedRoute(request({ route: { path: '/a\u001b[2J\nb' }, url: '/x' })), '/a?[2J?b');
});

describe('a folded path', () => {
  test('keeps its first word, after a prefix', () => {
    const folded = {
      '/': '/',
      '/users': '/users',
      '/users/smith': '/users/:id',
      '/users/smith/orders/v2': '/users/:id/:id/:id',
      '/42/smith': '/:id/:id',
      '/api/v1/users/smith': '/api/v1/users/:id',
      '/api': '/api',
      '/users/api/smith': '/users/:id/:id',
      '/.well-known/openid-configuration': '/.well-known/openid-configuration',
      '/.well-known/acme-challenge/token': '/.well-known/acme-challenge/:id',
      '/assets/main.js': '/assets/:id',
      '*': 'other',
    };
    for (const [path, route] of Object.entries(folded)) assert.equal(foldPath(path), route, path);
  });

  test('that nobody sees keeps all words, and folds what may be an id', () => {
    const folded = {
      '/': '/',
      '': '/',
      '/users/42?email=a@b.c': '/users/:id',
      '/users/ada@example.org/': '/users/:id',
      '/users/ada%40example.org': '/users/:id',
      '/api/v1/orders/550e8400-e29b-41d4-a716-446655440000/items': '/api/v1/orders/:id/items',
      '/reset/QWxhZGRpbjpvcGVuIHNlc2FtZQ': '/reset/:id',
      '/reset/qkzrtwpvxbnm': '/reset/:id',
      '/commits/deadbeef': '/commits/:id',
      '/sign-in;jsessionid=A': '/:id',
      '/getUserById/forgot_password': '/getUserById/forgot_password',
      '/.well-known/openid-configuration': '/.well-known/openid-configuration',
      '/assets/main.js': '/assets/main.js',
      '/assets/main-4f9c.js': '/assets/:id',
      '/posts/ten-things-about-cats-and-dogs': '/posts/:id',
      '/a/b/c/d/e/f/g/h/i': '/a/b/c/d/e/f/g/h/*',
      'http://example.org/x': 'other',
      '*': 'other',
    };
    for (const [path, route] of Object.entries(folded)) assert.equal(foldIds(path), route, path);
  });

  const ids = fc.oneof(
    fc.uuid(),
    fc.nat().map(String),
    fc
      .emailAddress()
      .map(encodeURI)
      .filter(address => !/[?/#]/.test(address)),
    fc.emailAddress().map(encodeURIComponent),
    fc.stringMatching(/^[0-9a-f]{8,64}$/),
    fc.stringMatching(/^[A-Za-z0-9]{21,80}$/),
    fc.ipV4(),
    fc
      .string({ unit: 'grapheme', minLength: 1 })
      .map(encodeURIComponent)
      .filter(text => text.includes('%')),
  );

  test('holds no id: one more id changes nothing', () => {
    fc.assert(
      fc.property(ids, ids, (one, other) => {
        assert.equal(foldIds(`/users/${one}/orders`), '/users/:id/orders');
        assert.equal(foldIds(`/${one}/${other}`), '/:id/:id');
        assert.equal(foldPath(`/${one}/users/${other}`), '/:id/:id/:id');
      }),
    );
  });

  test('is bounded, and of few characters', () => {
    fc.assert(
      fc.property(fc.oneof(fc.webPath(), fc.string({ maxLength: 4000 }), fc.string({ unit: 'binary', maxLength: 400 })), path => {
        for (const fold of [foldPath, foldIds]) {
          const route = fold(`/${path}`);
          assert.ok(route.length <= MAX_ROUTE, route);
          assert.match(route, /^\/(?:[\w.:*-]+(?:\/[\w.:*-]+)*)?$/);
          assert.doesNotMatch(route.replace(/\/v\d{1,2}(?=\/|$)/gi, ''), /\d/);
        }
      }),
    );
  });
});
