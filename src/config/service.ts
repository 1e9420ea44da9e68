/**
 * Which service this process belongs to: by SERVICE_NAME, or by the files of the app. Reads no file but package.json.
 */
import { basename, dirname, join, relative, resolve } from 'node:path';
import { type Manifest, readManifest } from './app-module.ts';
import { serviceNameFrom } from './service-name.ts';

export interface Service {
  name: string;
  /** SERVICE_NAME is set: a renamed package does not change the name. */
  isGiven: boolean;
  /** What the app calls itself: the name in its package.json, else its module. Differs between two apps with one SERVICE_NAME. */
  app: string;
  /** The working directory by the operator's path, and the app's module below it. */
  directory: string;
  module: string;
}

/** @param module the app's file, relative to `directory` */
export function serviceOf(given: string | undefined, directory: string, module: string): Service {
  const file = resolve(directory, module);
  const { name } = packageOf(file) ?? {};
  const found = name ?? basename(directory);
  return {
    name: given ?? serviceNameFrom(found),
    isGiven: given !== undefined,
    app: name ?? relative(directory, file),
    directory,
    module: relative(directory, file),
  };
}

/** The content of the nearest package.json with a name, from the folder of `file` upwards. */
export function packageOf(file: string): (Manifest & { name: string }) | undefined {
  const folder = dirname(file);
  if (folder === file) return undefined;
  const manifest = readManifest(join(folder, 'package.json'));
  const name = manifest?.name;
  return typeof name === 'string' && name !== '' ? { ...manifest, name } : packageOf(folder);
}

/** The version in that package.json; undefined where it has none. */
export function versionOf(file: string): string | undefined {
  const version = packageOf(file)?.version;
  return typeof version === 'string' && version !== '' ? version : undefined;
}

/** What to do about a renamed package. */
export const renamedWarning = (service: string) =>
  `the package was renamed; its names in Redis are still those of ${service}: set SERVICE_NAME=${service}`;

/** What to do about another app of the same name. */
export const SHARED_WARNING =
  'this app has the same SERVICE_NAME in the same Redis: both share sessions, session keys and events. ' +
  'If that is not intended, give one of them another name: docs/guide/sessions.md, "Changing the name"';
