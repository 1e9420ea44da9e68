/**
 * Notes on each request what Koa or Fastify makes of it: the route that a router has matched is there. Imported where routes are wanted
 * (METRICS_ROUTES, LOG_REQUESTS). Express sets it on the request itself.
 */
import { createRequire } from 'node:module';
import { onFastify } from './request-errors.ts';
import { FRAMEWORK, type RoutedRequest } from './route.ts';
import { hasMethod, isObject } from './shapes.ts';

/** To be called before the app is loaded. */
export function followFastify(): void {
  onFastify(fastify =>
    fastify.addHook('onRequest', (request, _reply, done) => {
      (request.raw as RoutedRequest)[FRAMEWORK] = request;
      done();
    }),
  );
}

/** To be called when the app is loaded: keeps the context of each request to any Koa app. */
export function followKoa(): void {
  for (const [file, module] of Object.entries(createRequire(import.meta.url).cache)) {
    const prototype: unknown = /[\\/]lib[\\/]application\.js$/.test(file)
      ? Reflect.get(Object(module?.exports), 'prototype')
      : undefined;
    if (isObject(prototype) && ['callback', 'createContext', 'handleRequest'].every(name => hasMethod(prototype, name)))
      keepContexts(prototype);
  }
}

type CreateContext = (request: RoutedRequest, ...others: unknown[]) => object;

const followed = new WeakSet<object>();

function keepContexts(koa: object): void {
  if (followed.has(koa)) return;
  followed.add(koa);
  const createContext = Reflect.get(koa, 'createContext') as CreateContext;
  const value: CreateContext = function (this: unknown, request, ...others) {
    const context = Reflect.apply(createContext, this, [request, ...others]);
    request[FRAMEWORK] = context;
    return context;
  };
  Object.defineProperty(koa, 'createContext', { value, configurable: true, writable: true });
}
