/**
 * TypeScript that Node.js cannot run by stripping its types: whether an error comes of that, and the loader of the app's project that can.
 */
import { existsSync, readFileSync } from 'node:fs';
import { findPackageJSON } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { TYPESCRIPT_LOADERS, type TypeScriptLoader } from '../config/inherited.ts';
import { AppError, messageOf } from './error-report.ts';
import { isEsModule } from './module.ts';

export const TYPESCRIPT_ADVICE =
  'Node.js only strips types: install tsx, @swc-node/register or ts-node in the project, and the kit loads the app with it';

/** What `--import` gets for each, by the format of the app's module; the files are in the folder of the package. */
const PRELOADS = {
  tsx: folder => pathToFileURL(join(folder, 'dist', 'loader.mjs')).href,
  '@swc-node/register': (folder, isEsm) => pathToFileURL(join(folder, isEsm ? 'esm/esm-register.mjs' : 'index.js')).href,
  'ts-node': (folder, isEsm) => {
    if (!isEsm) return pathToFileURL(join(folder, 'register', 'index.js')).href;
    const hooks = JSON.stringify(pathToFileURL(join(folder, 'esm.mjs')).href);
    return `data:text/javascript,import{register}from"node:module";register(${encodeURIComponent(hooks)})`;
  },
} as const satisfies Record<TypeScriptLoader, (folder: string, isEsm: boolean) => string>;

const IS_TYPESCRIPT = /\.(?:[cm]?ts|[jt]sx)$/;
const SOURCE_EXTENSIONS = ['.ts', '.tsx', '.mts', '.cts', '.js', '.mjs', '.cjs', '.json', '/index.ts', '/index.tsx', '/index.js'];
/** Of an ES module, in a file that its author takes for CommonJS. */
const IS_COMMONJS = /^(?:require|module|exports|__dirname|__filename) is not defined in ES module scope/;

/**
 * Why `error`, with which `entry` could not be loaded, is one that a TypeScript loader avoids; undefined if it is another error, or one of
 * JavaScript.
 */
export function whyLoader(error: unknown, entry: string): string | undefined {
  if (!(error instanceof Error)) return undefined;
  const code = 'code' in error ? String(error.code) : '';
  const [message = ''] = messageOf(error).split('\n');
  switch (code) {
    case 'ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX': {
      const [place] = placeIn(error.stack);
      return place === undefined ? message : `${place}: ${message}`;
    }
    case 'ERR_UNKNOWN_FILE_EXTENSION':
      return /"\.[jt]sx"/.test(message) ? message : undefined;
    case 'ERR_UNSUPPORTED_NODE_MODULES_TYPE_STRIPPING':
      return message;
    case 'ERR_IMPORT_ATTRIBUTE_MISSING':
      return IS_TYPESCRIPT.test(entry) ? message : undefined;
    case 'ERR_UNSUPPORTED_DIR_IMPORT':
    case 'ERR_MODULE_NOT_FOUND':
    case 'MODULE_NOT_FOUND':
      return whyNotFound(error, message);
    default:
      return code === '' ? whyInvalid(error, message) : undefined;
  }
}

/** An error of JavaScript in a TypeScript file, after its types were stripped. */
function whyInvalid(error: Error, message: string): string | undefined {
  const isCommonJs = error instanceof ReferenceError && IS_COMMONJS.test(message);
  if (!(error instanceof SyntaxError) && !isCommonJs) return undefined;
  const [place, line = ''] = placeIn(error.stack);
  const file = place?.replace(/:\d+$/, '') ?? '';
  if (!IS_TYPESCRIPT.test(file)) return undefined;
  const what = /(?:^|\s)@\w/.test(line) ? 'decorators are not supported in strip-only mode' : message;
  return `${place}: ${what}`;
}

/** For a file that is there by another name, as TypeScript resolves it, or an alias of tsconfig.json. */
function whyNotFound(error: Error, message: string): string | undefined {
  const [, request = '', from] = /^Cannot find (?:module|package) '([^']+)'(?: imported from (.+))?$/.exec(message) ?? [];
  const [, folder, importer] = /^Directory import '([^']+)' .* imported from (.+)$/.exec(message) ?? [];
  const stack = 'requireStack' in error && Array.isArray(error.requireStack) ? String(error.requireStack[0]) : '';
  const parent = pathOf(from ?? importer ?? stack);
  if (!IS_TYPESCRIPT.test(parent)) return undefined;
  const path = resolve(dirname(parent), pathOf(folder ?? request));
  const isPath = /^(?:\.|\/|file:)/.test(folder ?? request);
  const base = path.replace(/\.[cm]?jsx?$/, '');
  const isThere = isPath ? SOURCE_EXTENSIONS.some(end => existsSync(path + end) || existsSync(base + end)) : hasAliases(parent);
  if (!isThere) return undefined;
  return `${message}${from === undefined && importer === undefined ? ` imported from ${parent}` : ''}`;
}

const pathOf = (name: string): string => (name.startsWith('file:') ? fileURLToPath(name) : name);

/** The loader that the project of `file` has; the ones that emit the metadata of decorators first, where tsconfig.json wants that. */
export function findLoader(file: string): TypeScriptLoader | undefined {
  const emitsMetadata = isConfigured(/"emitDecoratorMetadata"\s*:\s*true/, file);
  // esbuild, and so tsx, does not emit it.
  const order = emitsMetadata ? [...TYPESCRIPT_LOADERS.filter(name => name !== 'tsx'), 'tsx' as const] : TYPESCRIPT_LOADERS;
  return order.find(name => folderOf(name, file) !== undefined);
}

/** Loads the loader in this process, and in the Node.js processes that the app forks. @throws AppError */
export async function useLoader(name: TypeScriptLoader, file: string): Promise<void> {
  const folder = folderOf(name, file);
  if (folder === undefined) {
    const own = `${name} must be installed for ${file}, as it was at the start`;
    throw new AppError(own, { own, isPermanent: false });
  }
  const preload = PRELOADS[name](folder, isEsModule(file));
  // They would look in the working directory only.
  const config = tsconfigOf(file);
  if (config !== undefined) {
    process.env.TSX_TSCONFIG_PATH ??= config;
    process.env.TS_NODE_PROJECT ??= config;
  }
  try {
    await import(preload);
  } catch (cause) {
    throw new AppError(`${name}, which ${file} needs, can't be loaded: ${messageOf(cause)}`, { cause });
  }
  process.execArgv.push('--import', preload);
}

function folderOf(name: TypeScriptLoader, file: string): string | undefined {
  try {
    const manifest = findPackageJSON(name, pathToFileURL(file).href);
    return manifest === undefined ? undefined : dirname(manifest);
  } catch {
    return undefined; // not installed
  }
}

const hasAliases = (file: string): boolean => isConfigured(/"(?:paths|baseUrl|extends)"\s*:/, file);

/** The nearest tsconfig.json. */
function tsconfigOf(file: string): string | undefined {
  for (let folder = dirname(file); ; folder = dirname(folder)) {
    const config = join(folder, 'tsconfig.json');
    if (existsSync(config)) return config;
    if (folder === dirname(folder)) return undefined;
  }
}

/** Whether the nearest tsconfig.json has a match of `pattern`. It may have comments, so it is not parsed. */
function isConfigured(pattern: RegExp, file: string): boolean {
  const config = tsconfigOf(file);
  return config !== undefined && pattern.test(readFileSync(config, 'utf8'));
}

/** The place at the head of the stack of a SyntaxError, or in its first frame, and the text of that line. */
function placeIn(stack = ''): [place: string | undefined, line?: string] {
  const [head = '', line = ''] = stack.split('\n');
  const path = /^(?:file:\/\/)?\/.*:\d+$/.test(head) ? head : /\(?((?:file:\/\/)?\/[^\s()]+:\d+):\d+\)?$/m.exec(stack)?.[1];
  return [path === undefined ? undefined : path.replace(/^file:\/\//, ''), line];
}
