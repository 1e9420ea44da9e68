/**
 * From APP_MODULE to a request listener. Accepts a Koa instance, a function that makes one from the kit, or any request listener.
 */
import { subscribe } from 'node:diagnostics_channel';
import { existsSync } from 'node:fs';
import type { RequestListener } from 'node:http';
import type { Server } from 'node:net';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type Koa from 'koa';
import type { Kit } from '../index.ts';
import { messageOf, placeInStack } from './error-report.ts';

/**
 * The app module is missing, throws, or has a wrong export. The message names the file and what was expected; without a cause the module itself
 * is wrong, and a retry would fail in the same way.
 */
export class AppError extends Error {
  override readonly name = 'AppError';

  /** The stack has no frames: they would be the kit's, and those of the app are in the cause. */
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.stack = `AppError: ${message}`;
  }
}

const EXPECTED = 'a Koa instance, a function (kit) that returns one, or a request listener (req, res)';

export interface LoadOptions {
  kit: Kit;
  /** Resolves when Redis has answered or failed. Awaited only before a function of the app is called. */
  redisSettled: () => Promise<void>;
  /** Why commands to Redis fail: a function that uses the kit may have failed for this reason. */
  redisError: () => string | undefined;
  /** Called with the Koa instance, if it is one, before it serves. */
  onKoa: (app: Koa) => void;
}

/** Loads the app. @throws AppError */
export async function loadApp(appModule: string, options: LoadOptions): Promise<RequestListener> {
  const { onKoa } = options;
  const file = resolve(appModule);
  const exported = await importDefault(file);
  if (typeof exported !== 'function') {
    if (isKoa(exported)) return listenerOf(exported, onKoa);
    throw new AppError(`${file} must export ${EXPECTED} as default, got ${describe(exported)}`);
  }
  // Express apps are functions (req, res, next); a function that makes an app takes the kit alone, or nothing.
  if (exported.length >= 2) return exported as RequestListener;
  const app = await call(file, exported as (kit: Kit) => unknown, options);
  if (isKoa(app)) return listenerOf(app, onKoa);
  if (typeof app === 'function' && app.length >= 2) return app as RequestListener;
  throw new AppError(`the function that ${file} exports must return a Koa instance, got ${describe(app)}`);
}

/** The error of an app that listens on the kit's port. */
export function listensItself(appModule: string, port: number): AppError {
  return new AppError(
    `${resolve(appModule)} must leave listening on port ${port} (PORT) to the kit: export ${EXPECTED} as default, got a call of listen; ` +
      'where the app also runs without the kit: if (require.main === module) app.listen(…), in an ES module if (import.meta.main) app.listen(…)',
  );
}

async function importDefault(file: string): Promise<unknown> {
  let module: Record<string, unknown>;
  try {
    module = (await import(pathToFileURL(file).href)) as Record<string, unknown>;
  } catch (cause) {
    if (!existsSync(file))
      throw new AppError(`${file} does not exist; expected a module that exports ${EXPECTED} as default`, { cause });
    await placeInStack(cause, pathToFileURL(file).href);
    throw new AppError(`${file} can't be loaded: ${messageOf(cause)}`, { cause });
  }
  if (!('default' in module)) {
    throw new AppError(`${file} must export ${EXPECTED} as default, got no default export`);
  }
  // A CommonJS module that TypeScript or Babel compiled keeps its default one level down.
  const exported = module.default;
  return isObject(exported) && exported.__esModule === true && 'default' in exported ? exported.default : exported;
}

async function call(
  file: string,
  factory: (kit: Kit) => unknown,
  { kit, redisSettled, redisError }: LoadOptions,
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

function listenerOf(app: Koa, onKoa: (app: Koa) => void): RequestListener {
  onKoa(app);
  return app.callback();
}

/** By its shape: the app brings its own Koa, perhaps of another version. */
function isKoa(value: unknown): value is Koa {
  return isObject(value) && typeof value.callback === 'function' && typeof value.use === 'function';
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

function describe(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (typeof value !== 'object') return `a ${typeof value}`;
  const keys = Object.keys(value).slice(0, 5).join(', ');
  // `require` returns an empty object for a CommonJS module that exports nothing.
  return keys === '' ? 'an empty object; is "module.exports = app" missing?' : `an object (${keys})`;
}

/**
 * Detects an app that listens by itself. On PORT the kit listens, and the second listener would fail with an error that explains nothing; on
 * another port the connections are neither counted nor drained. Node.js publishes each `listen` before it begins.
 */
export class ListenDetector {
  readonly #ownServers = new WeakSet<object>();

  /** `onListen` is called with the port of every server of the app from now on. */
  constructor(onListen: (port: number) => void) {
    subscribe('tracing:net.server.listen:asyncStart', message => {
      const { server, options } = message as { server: object; options: { port?: number | string } };
      if (options.port !== undefined && !this.#ownServers.has(server)) onListen(Number(options.port));
    });
  }

  /** Marks `server` as the kit's own. */
  ignore(server: Server): void {
    this.#ownServers.add(server);
  }
}
