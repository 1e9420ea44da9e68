/**
 * Logs what an app throws while it handles a request, where its framework would print it as plain text. The answer stays the framework's.
 */
import { subscribe } from 'node:diagnostics_channel';
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { createRequire } from 'node:module';
import type { LogSource } from '../log/log.ts';
import { traceOf } from '../log/telemetry.ts';
import type { App } from './app.ts';
import { pathOf } from './connections.ts';
import { isEndedByKit } from './drop-writes.ts';
import { listError, noteCause } from './error-list.ts';
import { loggable } from './error-report.ts';
import { sentStatus } from './server.ts';
import { hasMethod, read } from './shapes.ts';

/** A connection that its client has closed makes reads and writes fail with these, but so does a connection to another server. */
const CLOSED_CODES: ReadonlySet<unknown> = new Set([
  'ABORT_ERR',
  'ECONNABORTED',
  'ECONNRESET',
  'EPIPE',
  'ERR_STREAM_DESTROYED',
  'ERR_STREAM_PREMATURE_CLOSE',
  'HPE_INVALID_EOF_STATE',
]);

/**
 * Logs `error`, which the app threw while it handled `request`. To be called once the framework has answered, or knows its answer. `url` is that
 * of the request as it came: frameworks change it for the apps that are mounted in another.
 */
export function logRequestError(
  log: LogSource,
  error: unknown,
  request: IncomingMessage & { originalUrl?: string },
  response: ServerResponse,
  url = request.originalUrl ?? request.url ?? '',
): void {
  const line = {
    event: 'request.failed',
    method: request.method ?? '',
    path: pathOf(url),
    err: loggable(error),
    ...traceOf(request),
  } as const;
  if (isFromEnd(error, request, response)) {
    log().debug(line);
    return;
  }
  const status = statusOf(error, response);
  const level = levelOf(error, status);
  if (level === 'error') listError(request, status, error);
  log()[level]({ ...line, status });
}

function levelOf(error: unknown, status: number): 'error' | 'warn' | 'debug' {
  // Below 400 the error has interrupted an answer.
  if (status >= 500 || status < 400) return 'error';
  return status === 404 || read(error, 'expose') === true ? 'debug' : 'warn';
}

/** The client has left, or the kit has ended an event stream at a drain, and the app's own stream goes on. */
function isFromEnd(error: unknown, request: IncomingMessage, response: ServerResponse): boolean {
  const hasEnded = request.socket.destroyed || isEndedByKit(response);
  return hasEnded && (CLOSED_CODES.has(read(error, 'code')) || read(error, 'name') === 'AbortError');
}

/** As Koa and Express choose it. Koa sets 404 before it calls the app. */
function statusOf(error: unknown, response: ServerResponse): number {
  const { headersSent, statusCode } = response;
  if (headersSent) return sentStatus(response) ?? statusCode;
  const statuses = [read(error, 'status'), read(error, 'statusCode'), statusCode === 404 ? undefined : statusCode];
  return statuses.filter(status => typeof status === 'number').find(status => status >= 400 && status < 600) ?? 500;
}

/** To be called before the app is loaded: Fastify then reports its errors, also those that the app handles. */
export function noteFastifyErrors(): void {
  onFastify(fastify =>
    fastify.addHook('onError', (request, _reply, error, done) => {
      noteCause(request.raw, { error, framework: request });
      done();
    }),
  );
}

/** Calls `use` with each Fastify instance that is made from now on. */
export function onFastify(use: (fastify: Fastify) => void): void {
  subscribe('fastify.initialization', message => use((message as { fastify: Fastify }).fastify));
}

interface Fastify {
  addHook(name: 'onRequest', hook: (request: FastifyRequest, reply: unknown, done: () => void) => void): void;
  addHook(name: 'onError', hook: (request: FastifyRequest, reply: unknown, error: unknown, done: () => void) => void): void;
}
type FastifyRequest = { raw: IncomingMessage };

/** Objects whose errors are logged. */
const logged = new WeakSet<object>();

/** Logs the request errors of the Express apps behind this listener or server, and of every Koa app where there is a server. */
export function logRequestErrors(serve: App['serve'], log: LogSource): void {
  const listeners = 'listener' in serve ? [serve.listener] : serve.server.listeners('request');
  for (const listener of listeners) if (isExpress(listener)) logExpressErrors(listener, log);
  if ('listener' in serve) return;
  // The app behind a callback of Koa can't be reached from the server, but its class can.
  for (const [file, module] of Object.entries(createRequire(import.meta.url).cache)) {
    const prototype: unknown = /[\\/]lib[\\/]application\.js$/.test(file) ? read(module?.exports, 'prototype') : undefined;
    if (isKoaPrototype(prototype)) logKoaErrors(prototype, log);
  }
}

/** The part of a Koa app that concerns its errors. */
export interface KoaErrors {
  emit(event: string | symbol, ...args: unknown[]): boolean;
  listeners(event: string): unknown[];
  silent?: boolean;
}

function isKoaPrototype(value: unknown): value is KoaErrors {
  return ['callback', 'createContext', 'handleRequest', 'onerror', 'emit'].every(name => hasMethod(value, name));
}

/** Logs the errors of this Koa app, or of all that have this prototype, which have no listener of their own. Koa would print them. */
export function logKoaErrors(koa: KoaErrors, log: LogSource): void {
  if (logged.has(koa)) return;
  logged.add(koa);
  const { emit } = koa;
  const value = function (this: KoaErrors, event: string | symbol, ...args: unknown[]): boolean {
    const [error, context] = args;
    if (event === 'error' && isContext(context)) noteCause(context.req, { error, framework: context });
    if (event !== 'error' || !isContext(context) || hasErrorHandler(this)) return Reflect.apply(emit, this, [event, ...args]);
    // Koa answers after this.
    if (this.silent !== true)
      setImmediate(() => logRequestError(log, error, context.req, context.res, context.req.originalUrl ?? context.originalUrl));
    return true;
  };
  Object.defineProperty(koa, 'emit', { value, configurable: true, writable: true });
}

interface KoaContext {
  req: IncomingMessage & { originalUrl?: string };
  res: ServerResponse;
  originalUrl: string;
}

function isContext(value: unknown): value is KoaContext {
  return typeof read(value, 'req') === 'object' && typeof read(value, 'res') === 'object';
}

/** Whether the app has a listener of its own. Without one, `callback()` adds the `onerror` of the app: Koa's, unless the app has another. */
function hasErrorHandler(app: KoaErrors): boolean {
  let onerror: unknown;
  for (let at: object | null = app; at !== null; at = Object.getPrototypeOf(at))
    if (Object.hasOwn(at, 'onerror')) onerror = read(at, 'onerror');
  return app.listeners('error').some(listener => listener !== onerror);
}

/** The part of an Express app that concerns its errors. `_router` is that of version 4. */
interface ExpressApp extends RequestListener {
  handle(request: IncomingMessage, response: ServerResponse, done?: Done): void;
  get(setting: string): unknown;
  router: Router;
  _router?: Router;
}
type Done = (error?: unknown) => void;
type Router = { handle(request: IncomingMessage, response: ServerResponse, done: Done): void };

function isExpress(value: unknown): value is ExpressApp {
  return typeof value === 'function' && ['handle', 'set', 'enabled', 'render', 'listen'].every(name => hasMethod(value, name));
}

/**
 * Logs the errors that no handler of this Express app takes. Its own final handler answers them, and prints them unless the setting `env` is
 * `test`: it runs on a view of the app with that setting, which learns of the error before.
 */
function logExpressErrors(app: ExpressApp, log: LogSource): void {
  if (logged.has(app)) return;
  logged.add(app);
  const { handle } = app;
  /** The final handler is being made: its answer depends on the app's own `env`. */
  let isStarting = false;
  const watched = (router: Router | undefined): Router | undefined =>
    router && {
      handle: (request, response, done) => {
        isStarting = false;
        router.handle(request, response, error => {
          if (error) logRequestError(log, error, request, response);
          done(error);
        });
      },
    };
  const view: ExpressApp = Object.create(app, {
    get: { value: (setting: string) => (setting === 'env' && !isStarting ? 'test' : app.get(setting)) },
    router: { get: () => watched(app.router) },
    _router: { get: () => watched(app._router) },
  });
  app.handle = (request, response, done) => {
    if (done !== undefined || app.get('env') === 'test') return handle.call(app, request, response, done);
    isStarting = true;
    handle.call(view, request, response);
  };
}
