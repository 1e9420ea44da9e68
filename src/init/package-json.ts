/** What detection reads of a package.json, checked. */
import type { Files } from './files.ts';

export interface PackageJson {
  name: string | undefined;
  version: string | undefined;
  type: string | undefined;
  packageManager: string | undefined;
  main: unknown;
  exports: unknown;
  scripts: Readonly<Record<string, string>>;
  dependencies: Readonly<Record<string, string>>;
  devDependencies: Readonly<Record<string, string>>;
  /** Of Node.js: `engines.node`, and `volta.node`. */
  engine: string | undefined;
  volta: string | undefined;
  /** Globs of the packages of a workspace. */
  workspaces: readonly string[];
}

/** @returns undefined if there is no such file @throws Error if it is no JSON object */
export function readPackageJson(files: Files, path: string): PackageJson | undefined {
  const text = files.read(path);
  if (text === undefined) return undefined;
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch (cause) {
    throw new Error(`${path} must be JSON: ${(cause as Error).message}`, { cause });
  }
  if (!isRecord(content)) throw new Error(`${path} must be a JSON object, got ${JSON.stringify(content)}`);
  const { name, version, type, packageManager, main, exports, engines, volta, workspaces } = content;
  const globs = isRecord(workspaces) ? workspaces.packages : workspaces;
  return {
    name: stringOf(name),
    version: stringOf(version),
    type: stringOf(type),
    packageManager: stringOf(packageManager),
    main,
    exports,
    scripts: stringsOf(content.scripts),
    dependencies: { ...stringsOf(content.optionalDependencies), ...stringsOf(content.dependencies) },
    devDependencies: stringsOf(content.devDependencies),
    engine: isRecord(engines) ? stringOf(engines.node) : undefined,
    volta: isRecord(volta) ? stringOf(volta.node) : undefined,
    workspaces: Array.isArray(globs) ? globs.filter(glob => typeof glob === 'string') : [],
  };
}

/** The path of a file in a folder; the root is `.`. */
export const below = (folder: string, file: string): string => (folder === '.' ? file : `${folder}/${file}`);

export const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const stringOf = (value: unknown) => (typeof value === 'string' ? value : undefined);
/** The entries of an object that are text. */
export const stringsOf = (value: unknown): Record<string, string> =>
  isRecord(value)
    ? Object.fromEntries(Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === 'string'))
    : {};
