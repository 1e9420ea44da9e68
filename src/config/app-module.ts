/**
 * Which file the app's module is, for what APP_MODULE or `bosun start` names: a file, or a folder, whose package.json says it. Without a name
 * the folder is the working directory. Reads no file but package.json.
 */
import { readFileSync } from 'node:fs';
import { extname, join, resolve } from 'node:path';
import { ConfigError } from './config.ts';
import { isSame, statOf } from './working-directory.ts';

/** The kit's own folder: a clone of it, the image, or its package. */
const KIT_FOLDER = join(import.meta.dirname, '..', '..');
const KIT_NAME = 'koa-bosun';

/** The app that `make run`, `bosun demo`, and the image without an app serve. */
export const DEMO_APP = join(import.meta.dirname, '..', 'demo', `app${extname(import.meta.filename)}`);

/** What Node.js adds to the name of a main module that is no file; `.ts` since it strips types. */
const EXTENSIONS = ['.js', '.ts'];
const INDEXES = ['index.js', 'index.ts'];
/** Of `exports` in package.json: those that hold for Node.js. */
const CONDITIONS: ReadonlySet<string> = new Set(['node', 'import', 'require', 'module-sync', 'default']);

export interface Manifest {
  name?: unknown;
  version?: unknown;
  type?: unknown;
  main?: unknown;
  exports?: unknown;
  scripts?: unknown;
}

/**
 * The file that `named` means, relative to `directory`. A file that does not exist is returned as it is: the worker that loads it reports that.
 * @throws ConfigError if it is a folder, or nothing, and that names no module
 */
export function moduleFile(named: string | undefined, directory: string): string {
  const path = resolve(directory, named ?? '.');
  if (isFolder(path)) return entryOf(path, named);
  return found(path) ?? path;
}

/** Whether no app is named, and so the demo app is served. */
export const isDemoByDefault = (named: string | undefined, file: string): boolean => named === undefined && file === DEMO_APP;

/** @throws ConfigError */
function entryOf(folder: string, named: string | undefined): string {
  const manifest = join(folder, 'package.json');
  const content = readManifest(manifest);
  if (content?.name === KIT_NAME && isSame(folder, KIT_FOLDER)) return DEMO_APP;
  const entries = [content?.main, targetOf(content?.exports)].filter(entry => typeof entry === 'string');
  const files = [...entries, ...INDEXES].map(entry => resolve(folder, entry));
  const file = files.map(found).find(each => each !== undefined);
  if (file !== undefined) return file;
  const absent = content === undefined ? `${manifest} (${isFile(manifest) ? 'no JSON object' : 'there is none'})` : manifest;
  const missing = entries.map(entry => `, ${JSON.stringify(entry)} there does not exist`).join('');
  throw new ConfigError([
    `${named ?? 'APP_MODULE, or bosun start,'} must name the app: found none by main or exports["."] in ${absent}${missing}, ` +
      `nor ${INDEXES.join(' or ')} in ${folder}${hintOf(content)}`,
  ]);
}

/** The file at `path`, or with an extension added, or the index file of a folder there. */
function found(path: string): string | undefined {
  const indexes = isFolder(path) ? INDEXES.map(name => join(path, name)) : [];
  return [path, ...EXTENSIONS.map(extension => path + extension), ...indexes].find(isFile);
}

/** The target of `exports["."]`, or of the whole of `exports` where it has no paths. */
function targetOf(exported: unknown): string | undefined {
  if (typeof exported === 'string') return exported;
  if (Array.isArray(exported)) return exported.map(targetOf).find(target => target !== undefined);
  if (typeof exported !== 'object' || exported === null) return undefined;
  if ('.' in exported) return targetOf(exported['.']);
  const fitting = Object.entries(exported).filter(([condition]) => CONDITIONS.has(condition));
  return fitting.map(([, target]) => targetOf(target)).find(target => target !== undefined);
}

/** The module that `npm start` runs, if that is easily seen. */
function hintOf(manifest: Manifest | undefined): string {
  const scripts = manifest?.scripts;
  const start = typeof scripts === 'object' && scripts !== null && 'start' in scripts ? String(scripts.start) : '';
  const file = /(?:^|\s)(?:node|tsx|ts-node|nodemon)\s+(?:-\S+\s+)*([\w@./-]+)/.exec(start)?.[1];
  return file === undefined ? '' : `; npm start runs ${file}: bosun start ${file}`;
}

/** The content of a package.json; undefined if it is missing or no JSON object. */
export function readManifest(file: string): Manifest | undefined {
  try {
    const content: unknown = JSON.parse(readFileSync(file, 'utf8'));
    return typeof content === 'object' && content !== null ? content : undefined;
  } catch {
    return undefined;
  }
}

// A file that this user may not see counts as missing: the worker reports that.
const isFile = (path: string): boolean => statOf(path)?.isFile() === true;
const isFolder = (path: string): boolean => statOf(path)?.isDirectory() === true;
