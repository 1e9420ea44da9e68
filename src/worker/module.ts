/**
 * Loads the app's module as Node.js does: as another module would, by `require` or `import`, or as main.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { readFileSync } from 'node:fs';
import Module, { createRequire, findPackageJSON, registerHooks } from 'node:module';
import { dirname, extname, join } from 'node:path';
import { pathToFileURL } from 'node:url';

/**
 * What a module exports: its default export, `module.exports`, or the namespace of an ES module without a default export. In an object of its
 * own, because an async function that returned a promise, or a Fastify instance, would wait for it.
 */
export interface Loaded {
  exported: unknown;
}

/** Shown as the module that requires the app: in `module.parent`, and in the require stack of errors. */
const PARENT = '[koa-bosun]';
const IS_ES_MODULE: Readonly<Record<string, boolean>> = {
  '.mjs': true,
  '.mts': true,
  '.cjs': false,
  '.cts': false,
  '.json': false,
};

/** Loads `file` as a module of another program: `require.main === module` and `import.meta.main` are false. @throws what the module throws */
export async function loadModule(file: string): Promise<Loaded> {
  if (isEsModule(file)) return loadedFrom(await importModule(file));
  try {
    return loadedFrom(requireModule(file));
  } catch (error) {
    // An ES module by its syntax alone, with top-level await: it has not begun to run.
    const isAsync = error instanceof Error && 'code' in error && error.code === 'ERR_REQUIRE_ASYNC_MODULE';
    if (!isAsync || !(await hasEsSyntax(file))) throw error;
    return loadedFrom(await importModule(file));
  }
}

/** Loads `file` as `node FILE` does: `require.main === module`, `import.meta.main`, `process.argv[1]`. @throws what the module throws */
export async function runAsMain(file: string): Promise<Loaded> {
  process.argv[1] = file;
  setMainModule(undefined);
  Module.runMain(file);
  // Set at once by a CommonJS module. An ES module goes on loading: a second import waits for the same one.
  const main = mainModule();
  return loadedFrom(main === undefined ? await importModule(file) : main.exports);
}

const importModule = async (file: string): Promise<unknown> => import(pathToFileURL(file).href);

/** By its name and the package.json above it, as Node.js does. A file that these do not decide is taken for CommonJS at first. */
export function isEsModule(file: string): boolean {
  const byName = IS_ES_MODULE[extname(file)];
  if (byName !== undefined) return byName;
  const manifest = findPackageJSON(pathToFileURL(file).href);
  return manifest !== undefined && typeOf(manifest) === 'module';
}

/** Of a package.json; undefined where it is no JSON: without one above the file, Node.js may return the file itself. */
function typeOf(manifest: string): unknown {
  try {
    return (JSON.parse(readFileSync(manifest, 'utf8')) as { type?: unknown }).type;
  } catch {
    return undefined;
  }
}

/**
 * With a parent beside the app, which counts as main: many modules find their folder by `require.main.filename`, and load others by
 * `require.main.require`.
 */
function requireModule(file: string): unknown {
  const parent = new Module(join(dirname(file), PARENT));
  parent.filename = parent.id;
  parent.paths = createRequire(file).resolve.paths(PARENT) ?? [];
  setMainModule(parent);
  return parent.require(file);
}

/** What `require.main` is in every CommonJS module loaded from now on. */
const mainModule = (): Module | undefined => Reflect.get(process, 'mainModule');
const setMainModule = (main: Module | undefined): boolean => Reflect.set(process, 'mainModule', main);

/** Whether Node.js loads `file` as an ES module. Does not run it. */
async function hasEsSyntax(file: string): Promise<boolean> {
  let format: string | null | undefined;
  const isKnown = new Error('the format is known');
  const hooks = registerHooks({
    load(url, context, next) {
      ({ format } = next(url, context));
      throw isKnown;
    },
  });
  try {
    await import(`${pathToFileURL(file).href}?format`);
  } catch (error) {
    if (error !== isKnown) throw error;
  } finally {
    hooks.deregister();
  }
  return format?.startsWith('module') === true;
}

function loadedFrom(module: unknown): Loaded {
  const exported = isNamespace(module) && 'default' in module ? module.default : module;
  return { exported: isCompiled(exported) ? exported.default : exported };
}

function isNamespace(value: unknown): value is object {
  return typeof value === 'object' && value !== null && Reflect.get(value, Symbol.toStringTag) === 'Module';
}

/** A CommonJS module that TypeScript or Babel compiled from an ES module. */
function isCompiled(value: unknown): value is { default: unknown } {
  return typeof value === 'object' && value !== null && '__esModule' in value && value.__esModule === true && 'default' in value;
}

const REQUIRE_FAILED = 'tracing:module.require:error';

interface FailedRequire {
  error: unknown;
  id: string;
  parentFilename: string;
}

/** Notes the innermost `require` that fails, from now until `stop`: the error alone does not say which ES module could not be parsed. */
export class FailedRequires {
  #last: FailedRequire | undefined;

  readonly #note = (message: unknown): void => {
    const failed = message as FailedRequire;
    // The modules around it fail with the same error.
    if (failed.error !== this.#last?.error) this.#last = failed;
  };

  constructor() {
    subscribe(REQUIRE_FAILED, this.#note);
  }

  stop(): void {
    unsubscribe(REQUIRE_FAILED, this.#note);
  }

  /** The URL of the module whose `require` has failed with `error`, by that innermost of them. */
  urlOf(error: unknown): string | undefined {
    if (error !== this.#last?.error) return undefined;
    try {
      const { id, parentFilename } = this.#last as FailedRequire;
      return pathToFileURL(createRequire(parentFilename).resolve(id)).href;
    } catch {
      return undefined;
    }
  }
}
