/**
 * What a repository is: everything that the files of `bosun init` depend on. Reads files only, and writes none.
 */
import { posix } from 'node:path';
import { buildOf, detectEntry, type Entry, entryAt, frameworkOf } from './entry.ts';
import type { Files } from './files.ts';
import { detectNode, type NodeVersion } from './node-version.ts';
import { below, type PackageJson, readPackageJson } from './package-json.ts';
import { detectManager, factsOf, type Manager } from './package-manager.ts';

/** What a person may decide: by an option, by an answer, or as recorded by an earlier run. */
export interface Choices {
  name?: string | undefined;
  image?: string | undefined;
  module?: string | undefined;
  port?: number | undefined;
  redis?: boolean | undefined;
  /** Of Kubernetes. */
  namespace?: string | undefined;
  /** Of k8s/components. */
  components?: readonly string[] | undefined;
  /** A Helm chart in place of manifests for kustomize. */
  chart?: boolean | undefined;
}

export interface Project {
  /** Of the app: a DNS label, for Kubernetes and compose. */
  name: string;
  /** With a tag. */
  image: string;
  /** The folder of the package, relative to the root of the repository. */
  folder: string;
  /** Folders of all packages of the workspace; only the root without one. */
  packages: readonly string[];
  /** The name of the package in a workspace. */
  workspace: string | undefined;
  manager: Manager;
  node: NodeVersion;
  framework: string;
  entry: Entry;
  /** Where the app listens in its container. */
  port: number;
  redis: boolean;
  namespace: string;
  components: readonly string[];
  chart: boolean;
  uses: readonly Use[];
  kit: Kit;
  scripts: Readonly<Record<string, string>>;
  /** Scripts that npm runs at an install of the project itself. */
  lifecycle: { prepare: boolean; needsSources: boolean };
  /** Settings of the package manager that exist, relative to the root. */
  settings: readonly string[];
}

export const USES = ['sessions', 'express-session', 'redis', 'websockets'] as const;
export type Use = (typeof USES)[number];

/** How the project has the kit. */
export interface Kit {
  /** As in package.json; undefined if it is not among the dependencies. */
  spec: string | undefined;
  isDevelopment: boolean;
  /** Its folder, relative to the root of the repository. */
  folder: string;
  /** Tarballs of `file:` dependencies, relative to the root of the repository; may lie outside it. */
  tarballs: readonly string[];
}

export const DEFAULT_PORT = 3000;
const ADMIN_PORT = 9090;
const KIT = 'koa-bosun';
/** Below it, a process that is not root may not listen everywhere. */
const FIRST_PORT = 1024;
const PACKAGES: Readonly<Record<Use, RegExp>> = {
  sessions:
    /^(koa-session|koa-generic-session|koa-session2?|cookie-session|@fastify\/(secure-)?session|hono-sessions|@hapi\/yar)$/,
  'express-session': /^express-session$/,
  redis:
    /^(ioredis|redis|@redis\/client|koa-redis|connect-redis|@fastify\/redis|bullmq|bull|@nestjs\/bullmq|@socket\.io\/redis-adapter)$/,
  websockets: /^(ws|socket\.io|koa-websocket|express-ws|@fastify\/websocket|@nestjs\/websockets|@hono\/node-ws)$/,
};
/** What a source says that uses the kit for it. */
const SOURCES: Readonly<Partial<Record<Use, RegExp>>> = {
  sessions: /\b(kit\.session\b|\{[^}]*\bsession\b[^}]*\}\s*(?:: Kit)?\)?\s*=>)/,
  redis: /\bkit\.(redis|broadcast|leader)\b|process\.env\.REDIS_URL\b/,
  websockets: /\bkit\.onUpgrade\b/,
};
/** The sources of a large repository are not read one by one. */
const MAX_SOURCES = 300;

/** Why nothing can be written for a repository. */
export class DetectError extends Error {}

/** @param folder of the package, below the root `.` of its repository @throws DetectError */
export function detect(files: Files, folder: string, choices: Choices): Project {
  const manifest = readPackageJson(files, below(folder, 'package.json'));
  if (manifest === undefined) throw new DetectError(`package.json must be in the folder of the app, found none in ${folder}`);
  const root = folder === '.' ? manifest : (readPackageJson(files, 'package.json') ?? manifest);
  const packages =
    folder === '.' && root.workspaces.length === 0 && !files.has('pnpm-workspace.yaml') ? ['.'] : workspaceFolders(files, root);
  const manager = detectManager(files, '.', root);
  const entry = entryOf(files, folder, manifest, choices.module);
  const name = choices.name ?? nameOf(manifest.name ?? '');
  const sources = sourcesOf(files, folder);
  const hasStore = 'connect-redis' in manifest.dependencies;
  const uses = USES.filter(use => isUsed(use, manifest, sources) && !(use === 'express-session' && hasStore));
  const redis = choices.redis ?? uses.some(use => use !== 'websockets');
  return {
    name,
    image: tagged(choices.image ?? name, manifest.version),
    folder,
    packages: [...new Set(['.', ...packages, folder])],
    workspace: folder === '.' ? undefined : (manifest.name ?? folder),
    manager,
    node: detectNode(files, [...new Set([folder, '.'])], [manifest, root]),
    framework: frameworkOf(manifest),
    entry,
    port: choices.port ?? portOf(files, folder, entry),
    redis,
    namespace: choices.namespace ?? name,
    components: choices.components ?? [...(redis ? ['redis'] : []), 'network-policy'],
    chart: choices.chart === true,
    uses,
    kit: kitOf(files, folder, manifest, packages, manager),
    scripts: manifest.scripts,
    lifecycle: {
      prepare: 'prepare' in root.scripts,
      needsSources: ['preinstall', 'install', 'postinstall'].some(script => script in root.scripts || script in manifest.scripts),
    },
    settings: factsOf(manager).settings.filter(path => files.has(path)),
  };
}

function entryOf(files: Files, folder: string, manifest: PackageJson, module: string | undefined): Entry {
  const entry =
    module === undefined
      ? detectEntry(files, folder, manifest)
      : entryAt(files, folder, module, buildOf(files, folder, manifest), manifest);
  if (entry !== undefined) return entry;
  throw new DetectError(
    module === undefined
      ? `the module of the app must be named: --module FILE; found none by "start", "main" or "exports" in ${below(folder, 'package.json')}, nor server.js or src/main.ts`
      : `--module must be a file below ${folder === '.' ? 'this folder' : folder}, or what its build writes, got "${module}"`,
  );
}

/** A DNS label: what a Service of Kubernetes may be called. */
export function nameOf(text: string): string {
  const label = text
    .replace(/^@[^/]*\//, '')
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replace(/^[\d-]+/, '');
  return label.slice(0, 40).replace(/-+$/, '') || 'app';
}

/** A registry may have a port: only what follows the last `/` has a tag. */
const tagged = (image: string, version = '1.0.0') => (/[:@][^/]*$/.test(image) ? image : `${image}:${version}`);

/** Folders with a package.json that the globs of the workspace match. */
export function workspaceFolders(files: Files, root: PackageJson): string[] {
  const listed = files.read('pnpm-workspace.yaml');
  const globs =
    listed === undefined
      ? root.workspaces
      : (/^packages:\s*\n((?:\s*(?:-.*|#.*)?\n?)*)/m.exec(listed)?.[1] ?? '')
          .split('\n')
          .flatMap(line => /^\s*-\s*['"]?([^'"#\s]+)/.exec(line)?.[1] ?? []);
  const included = globs.filter(glob => !glob.startsWith('!'));
  const excluded = globs.filter(glob => glob.startsWith('!')).map(glob => glob.slice(1));
  return included
    .flatMap(glob => files.glob(below(glob.replace(/^\.\//, '').replace(/\/$/, ''), 'package.json')))
    .map(file => posix.dirname(file))
    .filter(folder => !excluded.some(glob => posix.matchesGlob(folder, glob.replace(/^\.\//, ''))));
}

function sourcesOf(files: Files, folder: string): string {
  const found = files.glob(below(folder, '{*,{src,lib,app,server,routes}/**/*}.{js,mjs,cjs,ts,mts,cts}'));
  return found
    .slice(0, MAX_SOURCES)
    .map(path => files.read(path) ?? '')
    .join('\n');
}

const isUsed = (use: Use, manifest: PackageJson, sources: string) =>
  Object.keys(manifest.dependencies).some(name => PACKAGES[use].test(name)) || SOURCES[use]?.test(sources) === true;

/** Where the app listens by itself, so that its port stays; as its source has it. */
function portOf(files: Files, folder: string, { written, module }: Entry): number {
  const env = ['.env.example', '.env'].map(
    file => /^\s*(?:export\s+)?PORT\s*=\s*["']?(\d+)/m.exec(files.read(below(folder, file)) ?? '')?.[1],
  );
  const code = files.read(below(folder, written ?? module)) ?? '';
  const patterns = [
    /\bPORT\b['"\])\s]*(?:\?\?|\|\||,)\s*['"]?(\d{4,5})\b/,
    /\.listen\(\s*\{?\s*(?:port:\s*)?(\d{4,5})\b/,
    /\bport\s*[:=]\s*(\d{4,5})\b/i,
  ];
  const found = [...patterns.map(pattern => pattern.exec(code)?.[1]), ...env].map(Number).find(isPort);
  return found ?? DEFAULT_PORT;
}

export const isPort = (port: number): boolean =>
  Number.isInteger(port) && port >= FIRST_PORT && port <= 65_535 && port !== ADMIN_PORT;

/** `file:` dependencies on tarballs, of every package that is installed: an image build needs them before it installs. */
function kitOf(files: Files, folder: string, manifest: PackageJson, packages: readonly string[], manager: Manager): Kit {
  const tarballs = [...new Set(['.', ...packages, folder])].flatMap(each => {
    const { dependencies = {}, devDependencies = {} } = readPackageJson(files, below(each, 'package.json')) ?? {};
    return Object.values({ ...devDependencies, ...dependencies })
      .flatMap(spec => /^(?:file:)?([^:]+\.t(?:ar\.)?gz)$/.exec(spec)?.[1] ?? [])
      .map(path => posix.normalize(below(each, path)));
  });
  const places = [folder, '.'].map(each => below(each, `node_modules/${KIT}`));
  return {
    // Where it is not installed yet: pnpm links packages where they are used, others put them at the root.
    folder: places.find(place => files.has(below(place, 'package.json'))) ?? places.at(manager.name === 'pnpm' ? 0 : 1) ?? '',
    spec: manifest.dependencies[KIT] ?? manifest.devDependencies[KIT],
    isDevelopment: !(KIT in manifest.dependencies) && KIT in manifest.devDependencies,
    tarballs: [...new Set(tarballs)].sort(),
  };
}
