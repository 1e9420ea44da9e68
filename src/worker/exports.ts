/**
 * From what a module exports to an App, by its shape: the app brings its own framework, perhaps of another version.
 */
import type { RequestListener } from 'node:http';
import type Koa from 'koa';
import type { Kit } from '../index.ts';
import { type App, AppError } from './app.ts';
import { messageOf } from './error-report.ts';

/** What a module may export, for messages. */
export const EXPECTED = 'a Koa instance, a function (kit) that returns one, or a request listener (req, res)';

export interface ExportOptions {
  kit: Kit;
  /** Resolves when Redis has answered or failed. Awaited only before a function of the app is called. */
  redisSettled: () => Promise<void>;
  /** Why commands to Redis fail: a function that uses the kit may have failed for this reason. */
  redisError: () => string | undefined;
  /** Called with the Koa instance, if it is one, before it serves. */
  onKoa: (app: Koa) => void;
}

/**
 * The App that `file` exports; undefined if the export is no app: the module may listen by itself instead.
 * @throws AppError if a function that should make the app throws, or returns something else
 */
export async function appOf(exported: unknown, file: string, options: ExportOptions): Promise<App | undefined> {
  const { onKoa } = options;
  if (typeof exported !== 'function') return isKoa(exported) ? koaApp(exported, onKoa) : undefined;
  // Express apps are functions (req, res, next); a function that makes an app takes the kit alone, or nothing.
  if (exported.length >= 2) return listenerApp(exported as RequestListener);
  const app = await call(file, exported as (kit: Kit) => unknown, options);
  if (isKoa(app)) return koaApp(app, onKoa);
  if (typeof app === 'function' && app.length >= 2) return listenerApp(app as RequestListener);
  throw new AppError(`the function that ${file} exports must return a Koa instance, got ${describe(app)}`);
}

/** Why the export of `file` is no app, and what was expected. */
export function refusalOf(exported: unknown, file: string): string {
  const got = exported === undefined || isNamespace(exported) ? 'no default export' : describe(exported);
  return `${file} must export ${EXPECTED} as default, got ${got}`;
}

async function call(
  file: string,
  factory: (kit: Kit) => unknown,
  { kit, redisSettled, redisError }: ExportOptions,
): Promise<unknown> {
  await redisSettled();
  try {
    return await factory(kit);
  } catch (cause) {
    const error = redisError();
    const reason = error === undefined ? '' : `; ${error}`;
    throw new AppError(`the function that ${file} exports threw: ${messageOf(cause)}${reason}`, { cause });
  }
}

function koaApp(app: Koa, onKoa: (app: Koa) => void): App {
  onKoa(app);
  return { serve: { listener: app.callback() }, description: 'a Koa app' };
}

const listenerApp = (listener: RequestListener): App => ({ serve: { listener }, description: 'a request listener' });

function isKoa(value: unknown): value is Koa {
  return isObject(value) && typeof value.callback === 'function' && typeof value.use === 'function';
}

/** An ES module without a default export. */
function isNamespace(value: unknown): boolean {
  return isObject(value) && value[Symbol.toStringTag] === 'Module';
}

function isObject(value: unknown): value is Record<string | symbol, unknown> {
  return typeof value === 'object' && value !== null;
}

function describe(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (typeof value !== 'object') return `a ${typeof value}`;
  const keys = Object.keys(value).slice(0, 5).join(', ');
  // `require` returns an empty object for a CommonJS module that exports nothing.
  return keys === '' ? 'an empty object; is "module.exports = app" missing?' : `an object (${keys})`;
}
