/**
 * Reports each file of the app when it is loaded, and the places of one that is missing, for `bosun dev` to watch. Packages in node_modules are
 * not reported. Costs 20 µs for each module, and as much again for each file that is reported (make bench-dev).
 */
import { registerHooks } from 'node:module';
import { extname, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { versionOf } from '../protocol/file-version.ts';
import type { LoadedFile } from '../protocol/messages.ts';

const PACKAGES = `${sep}node_modules${sep}`;
/** Where Node.js and the TypeScript loaders look for a module that is imported without its extension, or with that of its output. */
const EXTENSIONS = ['.js', '.cjs', '.mjs', '.json', '.ts', '.cts', '.mts', '.jsx', '.tsx'];
const OUTPUT = /\.[cm]?jsx?$/;

/** Passes on each file from now on; `report` is called before the file runs. */
export function reportLoadedFiles(report: (files: LoadedFile[]) => void): void {
  const reported = new Set<string>();
  const send = (paths: readonly string[]) => {
    const fresh = paths.filter(path => !path.includes(PACKAGES) && !reported.has(path));
    for (const path of fresh) reported.add(path);
    if (fresh.length > 0) report(fresh.map(path => ({ path, version: versionOf(path) })));
  };
  registerHooks({
    resolve(specifier, context, next) {
      try {
        return next(specifier, context);
      } catch (error) {
        send(placesOf(specifier, context.parentURL));
        throw error;
      }
    },
    load(url, context, next) {
      const path = pathOf(url);
      if (path !== undefined) send([path]);
      return next(url, context);
    },
  });
}

/** The files of which one must exist for this import to succeed; none for a package. */
function placesOf(specifier: string, parentUrl: string | undefined): string[] {
  const isFile = /^(?:\.{0,2}\/|\.{1,2}$|file:)/.test(specifier);
  const path =
    isFile && (URL.canParse(specifier) || parentUrl !== undefined) ? pathOf(new URL(specifier, parentUrl).href) : undefined;
  if (path === undefined) return [];
  const source = OUTPUT.test(path) ? path.slice(0, -extname(path).length) : path;
  return [path, ...EXTENSIONS.flatMap(extension => [`${source}${extension}`, resolve(path, `index${extension}`)])];
}

/** Undefined for what is no file. */
function pathOf(url: string): string | undefined {
  if (!url.startsWith('file:')) return undefined;
  try {
    return fileURLToPath(new URL(url)); // without the query
  } catch {
    return undefined;
  }
}
