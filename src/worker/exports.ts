/**
 * From what a module exports to an App, by its shape (shapes.ts).
 */
import type { RequestListener, Server } from 'node:http';
import type Koa from 'koa';
import type { Kit } from '../index.ts';
import type { App } from './app.ts';
import { AppError, messageOf } from './error-report.ts';
import type { FetchApp } from './fetch-app.ts';
import type { FrameworkServer } from './framework-server.ts';
import { type KoaErrors, logKoaErrors } from './request-errors.ts';
import { hasMethod, RULES, type ServedShape, shapeOf, wrapped } from './shapes.ts';

const ONE_OF =
  'a Koa, Express, Fastify, NestJS or Hapi app, an http.Server, a request listener (req, res), or an object with fetch(Request)';

/** What a module may export, for messages. */
export const EXPECTED = `${ONE_OF}, or a function (kit) that returns one of them`;

export interface ExportOptions {
  kit: Kit;
  /** Resolves when Redis has answered or failed. Awaited only before a function of the app is called. */
  redisSettled: () => Promise<void>;
  /** Why commands to Redis fail: a function that uses the kit may have failed for this reason. */
  redisError: () => string | undefined;
  /** Called with the Koa instance, if it is one, before it serves. */
  onKoa: (app: Koa) => void;
}

interface Context extends ExportOptions {
  file: string;
  /** The value is the result of what the module exports. */
  madeBy?: 'function' | 'class' | 'callback()';
}

/**
 * The App that `file` exports; undefined if the export is no app: the module may listen by itself instead.
 * @throws AppError if a function that should make the app throws, or returns something else
 */
export async function appOf(exported: unknown, file: string, options: ExportOptions): Promise<App | undefined> {
  return make(exported, { ...options, file });
}

/** Why the export of `file` is no app, and what was expected. */
export function refusalOf(exported: unknown, file: string): string {
  if (shapeOf(exported) === 'factory') return wrongResult(file, 'function', undefined);
  const got = exported === undefined || isNamespace(exported) ? 'no default export' : describe(exported);
  // `require` returns an empty object for a CommonJS module that exports nothing.
  const hint = got === EMPTY ? '; is "module.exports = app" missing?' : '';
  return `${file} must export ${EXPECTED} as default, got ${got}${hint}`;
}

/** Of an ES module without a default export. */
const isNamespace = (value: unknown): boolean => Object.prototype.toString.call(value) === '[object Module]';

function wrongResult(file: string, madeBy: string, result: unknown): string {
  return `the ${madeBy} that ${file} exports must return ${ONE_OF}, got ${describe(result)}`;
}

async function make(exported: unknown, context: Context): Promise<App | undefined> {
  const { value } = await settled(exported);
  const shape = shapeOf(value);
  const maker = shape !== undefined && shape in MAKERS ? MAKERS[shape as ServedShape] : undefined;
  const { file, madeBy } = context;
  const isMadeTwice = madeBy !== undefined && (shape === 'factory' || shape === 'class');
  if (maker !== undefined && !isMadeTwice) {
    try {
      return await maker(value as never, context);
    } catch (cause) {
      if (cause instanceof AppError) throw cause;
      throw failedStart(`${describe(value).replace(/^an? /, 'the ')} that ${file} exports has failed to start`, cause, context);
    }
  }
  // A function that returns nothing may have begun to listen.
  if (madeBy !== undefined && value !== undefined)
    throw new AppError(wrongResult(file, madeBy, value), { own: `the ${madeBy} that ${file} exports returns no app` });
  return undefined;
}

/** Waits for a promise. In an object, since some apps have a `then` of another meaning: that of an itty-router adds a route. */
async function settled(value: unknown): Promise<{ value: unknown }> {
  const isPromise = value instanceof Promise || (shapeOf(value) === undefined && hasMethod(value, 'then'));
  return { value: isPromise ? await value : value };
}

type Maker = (value: never, context: Context) => App | undefined | Promise<App | undefined>;

const MAKERS: Record<ServedShape, Maker> = {
  nest: async (app: NestApp) => {
    await app.init();
    const listen = (port: number, host: string) => app.listen(port, host);
    return serverApp({ server: app.getHttpServer(), listen, close: () => app.close() }, RULES.nest.name);
  },
  fastify: async (app: FastifyApp) => {
    await app.ready();
    const listen = (port: number, host: string) => app.listen({ port, host });
    return serverApp({ server: app.server, listen, close: () => app.close() }, RULES.fastify.name);
  },
  hapi: async (app: HapiApp) => {
    await app.initialize();
    return serverApp({ server: app.listener, listen: () => app.start(), close: () => app.stop() }, RULES.hapi.name);
  },
  koa: (app: Koa & KoaErrors, { kit, onKoa }) => {
    onKoa(app);
    logKoaErrors(app, () => kit.log);
    return { serve: { listener: app.callback() }, description: RULES.koa.name };
  },
  server: async (server: Server) => {
    // One that listens is served as such.
    if (server.listening) return undefined;
    return serverApp({ server, listen: (port, host) => server.listen(port, host) }, RULES.server.name);
  },
  'node-adapter': listenerApp,
  fetch: async (app: FetchApp, { kit, file }) => {
    const { fetchListener } = await import('./fetch-app.ts');
    return { serve: { listener: fetchListener(app, kit, file) }, description: RULES.fetch.name };
  },
  listener: listenerApp,
  callback: (app: { callback(): unknown }, context) => make(app.callback(), { ...context, madeBy: 'callback()' }),
  factory: (factory: (kit: Kit) => unknown, context) => makeBy(factory, 'function', context),
  class: (Class: new (kit: Kit) => unknown, context) => makeBy(kit => new Class(kit), 'class', context),
  wrapper: (wrapper: object, context) => make(wrapped(wrapper), context),
};

/** The part of each framework that is used here. */
type NestApp = {
  init(): Promise<unknown>;
  getHttpServer(): Server;
  listen(port: number, host: string): Promise<unknown>;
  close(): Promise<void>;
};
type FastifyApp = {
  ready(): PromiseLike<unknown>;
  server: Server;
  listen(at: { port: number; host: string }): Promise<unknown>;
  close(): Promise<void>;
};
type HapiApp = { initialize(): Promise<void>; listener: Server; start(): Promise<void>; stop(): Promise<void> };

/** Imported for such an app alone: most apps have no server of their own. */
async function serverApp(framework: FrameworkServer, description: string): Promise<App> {
  const { frameworkApp } = await import('./framework-server.ts');
  return frameworkApp(framework, description);
}

function listenerApp(listener: RequestListener): App {
  return { serve: { listener }, description: RULES.listener.name };
}

async function makeBy(factory: (kit: Kit) => unknown, madeBy: 'function' | 'class', context: Context): Promise<App | undefined> {
  const { file, kit, redisSettled } = context;
  await redisSettled();
  let result: { value: unknown };
  try {
    result = await settled(factory(kit));
  } catch (cause) {
    throw failedStart(`the ${madeBy} that ${file} exports threw`, cause, context);
  }
  return make(result.value, { ...context, madeBy });
}

const EMPTY = 'an empty object';

function failedStart(what: string, cause: unknown, { redisError }: Context): AppError {
  const reason = redisError();
  return new AppError(`${what}: ${messageOf(cause)}${reason === undefined ? '' : `; ${reason}`}`, { cause });
}

function describe(value: unknown): string {
  const shape = shapeOf(value);
  if (shape !== undefined) {
    const rule = RULES[shape];
    return 'instead' in rule ? `${rule.name}; ${rule.instead}` : rule.name;
  }
  if (value === null || value === undefined) return String(value);
  if (typeof value !== 'object') return `a ${typeof value}`;
  const keys = Object.keys(value).slice(0, 5).join(', ');
  return keys === '' ? EMPTY : `an object (${keys})`;
}
