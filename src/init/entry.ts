/**
 * Which module of a package is its app, with which framework, and whether a build makes it. Looks at what `npm start` runs, at `main` and
 * `exports`, then at the usual names.
 */
import type { Files } from './files.ts';
import { below, isRecord, type PackageJson } from './package-json.ts';

export interface Entry {
  /** What the image serves, relative to the folder of the package. */
  module: string;
  /** What a person writes; undefined if it is not found. */
  written: string | undefined;
  /** The same if `bosun dev` can load it without a build. */
  source: string | undefined;
  /** The script of package.json that builds, and the folders that it writes; undefined if the sources run as they are. */
  build: { script: string; folders: readonly string[] } | undefined;
}

/** By the package that a project depends on, the most specific first. */
export const FRAMEWORKS = {
  '@nestjs/core': 'NestJS',
  koa: 'Koa',
  fastify: 'Fastify',
  express: 'Express',
  hono: 'Hono',
  '@hapi/hapi': 'Hapi',
  polka: 'Polka',
} as const;

const NAMES = ['server', 'main', 'app', 'index'];
const SCRIPT = /\.[cm]?[jt]s$/;
const TYPESCRIPT = /\.[cm]?ts$/;
/** Folders of build outputs. */
const OUTPUTS = ['dist', 'build', 'lib', 'out', '.output', '.next'];
/** What loads TypeScript that Node.js cannot strip. */
const LOADERS = ['tsx', '@swc-node/register', 'ts-node'];

/** @returns undefined if nothing looks like the app */
export function detectEntry(files: Files, folder: string, manifest: PackageJson): Entry | undefined {
  const build = buildOf(files, folder, manifest);
  const candidates = [
    ...['start:prod', 'start:production', 'start'].map(script => startedBy(manifest.scripts[script] ?? '')),
    typeof manifest.main === 'string' ? manifest.main : undefined,
    targetOf(manifest.exports),
    ...['.', 'src'].flatMap(place =>
      NAMES.flatMap(name => ['.ts', '.mts', '.js', '.mjs', '.cjs'].map(end => below(place, name + end))),
    ),
  ];
  for (const candidate of candidates) {
    const entry = candidate === undefined ? undefined : entryAt(files, folder, normal(candidate), build, manifest);
    if (entry !== undefined) return entry;
  }
  return undefined;
}

/** The entry that a person names. @returns undefined if there is no such file, and none that a build could make it of */
export function entryAt(
  files: Files,
  folder: string,
  module: string,
  build: Entry['build'],
  manifest: PackageJson,
): Entry | undefined {
  const path = normal(module);
  const isBuilt = build?.folders.some(output => path.startsWith(`${output}/`)) === true;
  if (isBuilt && build !== undefined) {
    const source = sourceOf(files, folder, path, build.folders);
    // Which file of a framework's output serves is not known: it has to be there, or its source.
    if (source === undefined && !present(files, folder, path)) return undefined;
    return {
      module: withEnd(path),
      written: source,
      source: source !== undefined && runs(source, files, folder, manifest) ? source : undefined,
      build,
    };
  }
  const file = present(files, folder, path);
  if (file === undefined) return undefined;
  if (build === undefined || !TYPESCRIPT.test(file))
    return { module: file, written: file, source: file, build: TYPESCRIPT.test(file) ? undefined : build };
  const output = outputOf(files, folder, file, build.folders);
  return { module: output, written: file, source: runs(file, files, folder, manifest) ? file : undefined, build };
}

export function frameworkOf({ dependencies, devDependencies }: PackageJson): string {
  const [, name] = Object.entries(FRAMEWORKS).find(([dependency]) => dependency in { ...devDependencies, ...dependencies }) ?? [];
  return name ?? 'Node.js';
}

/** Without a script named `build`, there is no build; what it writes: `outDir` of the TypeScript compiler, else the usual folders. */
export function buildOf(files: Files, folder: string, { scripts }: PackageJson): Entry['build'] {
  if (scripts.build === undefined) return undefined;
  const compiled = ['tsconfig.build.json', 'tsconfig.json'].map(name => optionOf(files, folder, name, 'outDir')).find(Boolean);
  return { script: 'build', folders: [...new Set([...(compiled === undefined ? [] : [normal(compiled)]), ...OUTPUTS])] };
}

/** The module that a command runs; `nest start` runs what the build has made. */
function startedBy(command: string): string | undefined {
  if (/(^|\s)nest start(\s|$)/.test(command)) return 'dist/main.js';
  const [, file] =
    /(?:^|[\s/])(?:node|nodejs|tsx|ts-node|nodemon|bosun start|bosun dev|pm2-runtime(?: start)?)\s+(?:(?:-r|--require|--import|--loader)\s+\S+\s+|-\S+\s+|watch\s+)*([\w@.][\w@./-]*)/.exec(
      command,
    ) ?? [];
  return file;
}

/** The target of `exports["."]` for Node.js. */
function targetOf(exported: unknown): string | undefined {
  if (typeof exported === 'string') return exported;
  if (!isRecord(exported)) return undefined;
  const found = ['.', 'node', 'import', 'require', 'default'].find(key => key in exported);
  return found === undefined ? undefined : targetOf(exported[found]);
}

/** `./dist/main` as Node.js would find it. */
function present(files: Files, folder: string, path: string): string | undefined {
  const found = [path, ...['.js', '.ts', '/index.js', '/index.ts'].map(end => path + end)];
  return found.find(file => files.read(below(folder, file)) !== undefined);
}

const withEnd = (path: string) => (SCRIPT.test(path) ? path : `${path}.js`);

/** The source of a file that the build writes: the same path in `src`, or beside the output folder. */
function sourceOf(files: Files, folder: string, path: string, outputs: readonly string[]): string | undefined {
  const output = outputs.find(each => path.startsWith(`${each}/`)) ?? '';
  const inside = withEnd(path).slice(output.length + 1);
  const paths = [`src/${inside}`, inside].map(file => file.replace(/js$/, 'ts'));
  return [...paths, ...paths.map(file => file.replace(/ts$/, 'js'))].find(file => files.has(below(folder, file)));
}

/** What the build makes of a source: without its `src/`, unless the compiler also has sources elsewhere. */
function outputOf(files: Files, folder: string, source: string, [output = 'dist']: readonly string[]): string {
  const rootDir = optionOf(files, folder, 'tsconfig.json', 'rootDir');
  const inside = rootDir !== undefined && normal(rootDir) === '.' ? source : source.replace(/^src\//, '');
  return `${output}/${inside.replace(/ts$/, 'js')}`;
}

/** Whether `bosun dev` can load it: JavaScript, or TypeScript with a loader among the packages. */
function runs(source: string, files: Files, folder: string, { dependencies, devDependencies }: PackageJson): boolean {
  if (!TYPESCRIPT.test(source)) return true;
  const packages = { ...dependencies, ...devDependencies };
  const hasMetadata = optionOf(files, folder, 'tsconfig.json', 'emitDecoratorMetadata') === 'true';
  if (LOADERS.some(name => name in packages && !(hasMetadata && name === 'tsx'))) return true;
  return optionOf(files, folder, 'tsconfig.json', 'erasableSyntaxOnly') === 'true';
}

/** An option of a tsconfig.json, which may have comments and trailing commas. */
function optionOf(files: Files, folder: string, name: string, option: string): string | undefined {
  const text = files.read(below(folder, name));
  return text === undefined ? undefined : new RegExp(`^[^/\\n]*"${option}"\\s*:\\s*"?([^",\\s}]+)`, 'm').exec(text)?.[1];
}

const normal = (path: string) => path.replace(/^(?:\.\/)+/, '').replace(/\/+$/, '') || '.';
