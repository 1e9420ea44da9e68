/**
 * Where the app is deployed, by the operator's path. The kernel keeps only the directory that a link pointed to when this process started. A deployment
 * that switches the link (`current -> releases/2`) is visible only through the path; as in unicorn, that is $PWD.
 */
import { readFileSync, realpathSync, type Stats, statSync } from 'node:fs';
import { dirname, isAbsolute, join, relative, resolve } from 'node:path';

/**
 * $PWD if that is the working directory; else the folder of APP_MODULE that is, because systemd sets no PWD; else the working directory.
 * `/` if that no longer exists.
 */
export function workingDirectory({ PWD = '', APP_MODULE = '' }: NodeJS.ProcessEnv = process.env): string {
  const named = [PWD, ...foldersOf(APP_MODULE)].find(path => isAbsolute(path) && isSame(path, '.'));
  if (named !== undefined) return named;
  try {
    return process.cwd();
  } catch {
    return '/';
  }
}

/** The folders of an absolute path, the nearest first. */
function foldersOf(path: string): string[] {
  const folder = dirname(path);
  return isAbsolute(path) && folder !== path ? [folder, ...foldersOf(folder)] : [];
}

/** Whether both paths lead to one file or folder. */
export function isSame(a: string, b: string): boolean {
  const [one, other] = [a, b].map(statOf);
  return one !== undefined && other !== undefined && one.dev === other.dev && one.ino === other.ino;
}

/** What the workers of one generation run: real paths, which stay the same until the next generation. */
export interface Release {
  directory: string;
  /** Absolute. As configured if this user cannot find the file: the worker that loads it reports the error. */
  module: string;
}

/** @throws the system's error if this process cannot enter `directory` */
export function releaseAt(directory: string, module: string): Release {
  process.chdir(directory); // for other relative paths, such as secret files
  const real = realpathSync('.');
  const file = resolve(real, module);
  return { directory: real, module: withoutLinks(file) };
}

/**
 * The same file in another release, for a kit that is deployed with the app. The file itself if it is outside its release, or if the
 * other release has a different version of it.
 */
export function fileIn(release: Release, first: Release, file: string): string {
  const inside = relative(first.directory, file);
  if (inside.startsWith('..') || isAbsolute(inside)) return file;
  const moved = resolve(release.directory, inside);
  return exists(moved) && (!exists(file) || versionOf(moved) === versionOf(file)) ? moved : file;
}

/** Of the package whose `src/` or `dist/` has this file. */
function versionOf(file: string): unknown {
  try {
    return (JSON.parse(readFileSync(join(dirname(file), '..', 'package.json'), 'utf8')) as { version?: unknown }).version;
  } catch {
    return undefined;
  }
}

export function isThere({ directory, module }: Release): boolean {
  return exists(directory) && exists(module);
}

function withoutLinks(file: string): string {
  try {
    return realpathSync(file);
  } catch {
    return file;
  }
}

const exists = (path: string) => statOf(path) !== undefined;

/** Undefined if this user cannot find it, for any reason. */
export function statOf(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}
