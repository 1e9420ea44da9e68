/**
 * What an export is, by its structure. Each shape, and what looks like it.
 */
import assert from 'node:assert/strict';
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import net from 'node:net';
import { test } from 'node:test';
import express from 'express';
import Fastify from 'fastify';
import { Hono } from 'hono';
import Koa from 'koa';
import Koa2 from 'koa2';
import { type Shape, shapeOf, wrapped } from '../src/worker/shapes.ts';

const nothing = () => undefined;
const listener = (_request: unknown, _response: unknown) => undefined;
const methods = (...names: string[]) => Object.fromEntries(names.map(name => [name, nothing]));
/** As itty-router's: a proxy that answers every name with a function. */
const itty = Object.assign(Object.create(new Proxy({}, { get: () => nothing })), { routes: [], fetch: nothing });
/** As graphql-yoga's: a function of one parameter that serves both kinds of request. */
const yoga = Object.assign((_input: unknown) => undefined, methods('fetch', 'handle', 'requestListener'));
const nestApp = methods('getHttpAdapter', 'getHttpServer', 'init', 'listen', 'close', 'use', 'enableShutdownHooks');

class Handler {
  handler(_request: unknown, _response: unknown): void {}
}
class Fields {
  callback = nothing;
}
class Unrelated {}

const SHAPES: [string, unknown, Shape | undefined][] = [
  ['a NestJS app', nestApp, 'nest'],
  ['a NestJS app without its server', methods('getHttpAdapter', 'init', 'listen', 'close'), undefined],
  ['a Fastify app', Fastify(), 'fastify'],
  ['a Fastify app without a server', methods('ready', 'inject', 'listen', 'close'), undefined],
  ['a Hapi server', { ...methods('initialize', 'start', 'stop'), listener: http.createServer() }, 'hapi'],
  ['a Koa 3 app', new Koa(), 'koa'],
  ['a Koa 2 app', new Koa2(), 'koa'],
  ['an object of a class that extends Koa', new (class extends Koa {})(), 'koa'],
  ['an http.Server', http.createServer(), 'server'],
  ['an https.Server', https.createServer(), 'server'],
  ['an HTTP/2 server', http2.createServer(), 'http2-server'],
  ['a server of node:net', net.createServer(), 'socket-server'],
  ['a graphql-yoga', yoga, 'node-adapter'],
  ['a Hono app', new Hono(), 'fetch'],
  ['an itty-router', itty, 'fetch'],
  ['an app of h3 2', methods('fetch', 'handler', 'use', 'request'), 'fetch'],
  ['an Elysia app', methods('fetch', 'handle', 'use', 'listen', 'stop'), 'fetch'],
  ['the export of an app for Bun', { port: 3000, fetch: nothing }, 'fetch'],
  ['a function with fetch', Object.assign(() => undefined, { fetch: nothing }), 'fetch'],
  ['a Next.js app', methods('prepare', 'getRequestHandler', 'close'), 'next'],
  ['an ApolloServer', methods('executeOperation', 'executeHTTPGraphQLRequest', 'start', 'stop'), 'apollo'],
  ['an app of h3 1', { use: nothing, handler: Object.assign(() => 0, { __is_handler__: true }) }, 'h3-1'],
  ['an event handler of h3 1', Object.assign(() => 0, { __is_handler__: true }), 'h3-1-handler'],
  ['an Express app', express(), 'listener'],
  ['an Express router', express.Router(), 'router'],
  ['express', express, 'express-module'],
  ['the class Koa', Koa, 'koa-class'],
  ['the class Koa of version 2', Koa2, 'koa-class'],
  ['a class that extends Koa', class extends Koa {}, 'class'],
  ['a class with handler()', Handler, 'class'],
  ['a class with callback as a field', Fields, 'class'],
  ['a class of something else', Unrelated, 'class'],
  ['an object of a class with handler()', new Handler(), 'wrapper'],
  ['an object of a class with callback()', new Fields(), 'callback'],
  ['an object of a class of something else', new Unrelated(), undefined],
  ['a Fastify plugin by its parameters', new Function('return async (fastify, opts) => {}')(), 'fastify-plugin'],
  ['a Fastify plugin of another style', new Function('return async function routes(app, options) {}')(), 'fastify-plugin'],
  [
    'a Fastify plugin by fastify-plugin',
    Object.assign(() => undefined, { [Symbol.for('skip-override')]: true }),
    'fastify-plugin',
  ],
  ['a handler of AWS Lambda', new Function('return { async handler(event, context) {} }')().handler, 'lambda'],
  ['a handler of AWS Lambda as an arrow', new Function('return async event => {}')(), 'lambda'],
  ['a request listener', (_request: unknown, _response: unknown) => undefined, 'listener'],
  ['a request listener that takes next', (_request: unknown, _response: unknown, _next: unknown) => undefined, 'listener'],
  ['the callback of a Koa app', new Koa().callback(), 'listener'],
  ['a bound listener', function (this: unknown, _request: unknown, _response: unknown) {}.bind({}), 'listener'],
  ['a function of the kit', (_kit: unknown) => undefined, 'factory'],
  ['a function without parameters', nothing, 'factory'],
  ['a Response', new Response(), 'response'],
  ['an array', [new Koa()], 'array'],
  ['{ app }', { app: new Koa() }, 'wrapper'],
  ['{ server }', { server: http.createServer() }, 'wrapper'],
  ['{ handler }', { handler: listener }, 'wrapper'],
  ['{ handler } for AWS Lambda', { handler: nothing }, undefined],
  ['{ default }', { default: listener }, 'wrapper'],
  ['{ default: { app } }', { default: { app: new Koa() } }, 'wrapper'],
  ['a polka app, before it listens', { ...methods('use', 'listen', 'find'), server: undefined, handler: listener }, 'wrapper'],
  ['a restify server', { ...methods('use', 'pre', 'listen', 'close'), server: http.createServer() }, 'wrapper'],
  ['settings with the name of an app', { app: 'shop', server: { port: 3000 }, handler: 'x' }, undefined],
  ['an object that contains itself', circular(), undefined],
  ['an object whose getters throw', throwing(), undefined],
  ['nothing', undefined, undefined],
  ['null', null, undefined],
  ['a text', 'app', undefined],
  ['a promise', Promise.resolve(new Koa()), undefined],
];

function circular(): object {
  const [a, b]: Record<string, unknown>[] = [{}, {}];
  return Object.assign(a as object, { app: Object.assign(b as object, { app: a }) });
}

function throwing(): object {
  const fail = () => {
    throw new Error('not yet');
  };
  return Object.defineProperties({}, { app: { get: fail }, callback: { get: fail }, fetch: { get: fail } });
}

for (const [name, value, expected] of SHAPES)
  test(`${name} is recognised as ${expected ?? 'no app'}`, () => {
    assert.equal(shapeOf(value), expected);
  });

test('of several apps in one object, the server is served: its other listeners, of WebSockets, belong to the app too', () => {
  const [app, server] = [new Koa(), http.createServer()];
  assert.equal(wrapped({ app, server }), server);
  assert.equal(wrapped({ default: nothing, app }), app);
});

test('a handler that is a method is called with its object', () => {
  const object = {
    name: 'kept',
    handler(_request: unknown, _response: unknown) {
      return this.name;
    },
  };
  const bound = wrapped(object) as () => string;
  assert.equal(bound(), 'kept');
  assert.equal(bound.length, 2);
});
