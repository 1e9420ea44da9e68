/**
 * From APP_MODULE to an App: by what the module exports (exports.ts), else by the server that it listens with.
 */
import { subscribe } from 'node:diagnostics_channel';
import { existsSync } from 'node:fs';
import type { Server } from 'node:net';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type App, AppError } from './app.ts';
import { messageOf, placeInStack } from './error-report.ts';
import { appOf, EXPECTED, type ExportOptions, refusalOf } from './exports.ts';

export interface LoadOptions extends ExportOptions {
  /** Resolves with the server that the module listens with, if it ever does. */
  listened: Promise<App>;
}

/** Loads the app. @throws AppError */
export async function loadApp(appModule: string, options: LoadOptions): Promise<App> {
  const file = resolve(appModule);
  const exported = await importDefault(file);
  const app = await appOf(exported, file, options);
  if (app !== undefined) return app;
  const listening = await Promise.race([options.listened, nextTurn()]);
  if (listening !== undefined) return listening;
  throw new AppError(refusalOf(exported, file));
}

/** The error of an app that listens on the kit's port. */
export function listensItself(appModule: string, port: number): AppError {
  return new AppError(
    `${resolve(appModule)} must leave listening on port ${port} (PORT) to the kit: export ${EXPECTED} as default, got a call of listen; ` +
      'where the app also runs without the kit: if (require.main === module) app.listen(…), in an ES module if (import.meta.main) app.listen(…)',
  );
}

const nextTurn = () => new Promise<undefined>(resolve => setImmediate(resolve, undefined));

/** The default export of `file`; undefined without one. */
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
  // A CommonJS module that TypeScript or Babel compiled keeps its default one level down.
  const exported = module.default;
  return isTranspiled(exported) ? exported.default : exported;
}

function isTranspiled(value: unknown): value is { default: unknown } {
  return typeof value === 'object' && value !== null && '__esModule' in value && value.__esModule === true && 'default' in value;
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
