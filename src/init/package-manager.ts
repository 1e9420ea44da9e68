/**
 * The package managers: how one is recognised, and the commands that an image build needs of it. Every one of them comes from npm's
 * registry, which the base image's npm already reaches, with the settings of an .npmrc.
 */
import type { Files } from './files.ts';
import { below, type PackageJson } from './package-json.ts';

export const MANAGERS = ['npm', 'pnpm', 'yarn', 'berry', 'bun'] as const;
export type ManagerName = (typeof MANAGERS)[number];

export interface Manager {
  name: ManagerName;
  /** Undefined if the one of the base image serves: npm. */
  version: string | undefined;
  /** Relative to the root of the repository; undefined if there is none. */
  lockFile: string | undefined;
}

interface Facts {
  lockFiles: readonly string[];
  /** What is copied before the packages are installed, beside the lock file and every package.json; those that exist. */
  settings: readonly string[];
  /** Package on npm's registry; undefined if the base image has it. */
  source: string | undefined;
  /** A version of today, for a repository that names none. */
  version: string | undefined;
  /** Kept between builds. */
  cache: string;
  /** All packages, and those for production alone. `name` is that of the package of a workspace. */
  install(hasLock: boolean, workspace: string | undefined): string;
  production(hasLock: boolean, workspace: string | undefined): string;
  /** Runs a script of package.json. */
  run(script: string): string;
  /** Runs it in a package of a workspace, at the root, and before that in those that it depends on; where the manager cannot, in that one. */
  runIn(workspace: string, script: string): string;
  /** The same for a person, who types it. */
  exec(command: string): string;
  /** Adds a package to the dependencies. */
  add(spec: string): string;
}

/** The `yarn` of the registry is version 1; later ones are in another package. */
export const MANAGER_FACTS = {
  npm: {
    lockFiles: ['package-lock.json', 'npm-shrinkwrap.json'],
    settings: ['.npmrc'],
    source: undefined,
    version: undefined,
    cache: '/root/.npm',
    install: hasLock => (hasLock ? 'npm ci' : 'npm install'),
    production: hasLock => `${hasLock ? 'npm ci' : 'npm install'} --omit=dev`,
    run: script => `npm run ${script}`,
    runIn: (_workspace, script) => `npm run ${script} --workspaces --if-present`,
    exec: command => `npx ${command}`,
    add: spec => `npm install ${spec}`,
  },
  pnpm: {
    lockFiles: ['pnpm-lock.yaml'],
    settings: ['pnpm-workspace.yaml', '.npmrc', '.pnpmfile.cjs', 'patches'],
    source: 'pnpm',
    version: '10',
    cache: '/root/.local/share/pnpm/store',
    install: (hasLock, workspace) => `pnpm ${filter(workspace)}install ${frozen(hasLock)}`,
    production: (hasLock, workspace) => `pnpm ${filter(workspace)}install ${frozen(hasLock)} --prod`,
    run: script => `pnpm run ${script}`,
    runIn: (workspace, script) => `pnpm --filter ${workspace}... run ${script}`,
    exec: command => `pnpm exec ${command}`,
    add: spec => `pnpm add ${spec}`,
  },
  yarn: {
    lockFiles: ['yarn.lock'],
    settings: ['.npmrc', '.yarnrc', 'patches'],
    source: 'yarn',
    version: '1.22.22',
    cache: '/usr/local/share/.cache/yarn',
    install: hasLock => `yarn install ${frozen(hasLock)}`,
    production: hasLock => `yarn install ${frozen(hasLock)} --production`,
    run: script => `yarn run ${script}`,
    runIn: (workspace, script) => `yarn workspace ${workspace} run ${script}`,
    exec: command => `yarn run ${command}`,
    add: spec => `yarn add ${spec}`,
  },
  berry: {
    lockFiles: ['yarn.lock'],
    settings: ['.yarnrc.yml', '.yarn/patches', '.yarn/plugins', '.yarn/releases'],
    source: '@yarnpkg/cli-dist',
    version: '4',
    cache: '/root/.yarn/berry/cache',
    install: hasLock => `yarn install${hasLock ? ' --immutable' : ''}`,
    production: (_hasLock, workspace) => `yarn workspaces focus --production${workspace === undefined ? '' : ` ${workspace}`}`,
    run: script => `yarn run ${script}`,
    runIn: (workspace, script) => `yarn workspaces foreach --recursive --topological-dev --from ${workspace} run ${script}`,
    exec: command => `yarn run ${command}`,
    add: spec => `yarn add ${spec}`,
  },
  bun: {
    lockFiles: ['bun.lock', 'bun.lockb'],
    settings: ['bunfig.toml', '.npmrc', 'patches'],
    source: 'bun',
    version: '1',
    cache: '/root/.bun/install/cache',
    install: hasLock => `bun install ${frozen(hasLock)}`,
    production: hasLock => `bun install ${frozen(hasLock)} --production`,
    run: script => `bun run ${script}`,
    runIn: (workspace, script) => `bun run --filter ${workspace} ${script}`,
    exec: command => `bunx ${command}`,
    add: spec => `bun add ${spec}`,
  },
} as const satisfies Record<ManagerName, Facts>;

export const factsOf = (manager: Manager): Facts => MANAGER_FACTS[manager.name];

const frozen = (hasLock: boolean) => (hasLock ? '--frozen-lockfile' : '--no-frozen-lockfile');
/** With the packages of the workspace that it depends on. */
const filter = (workspace: string | undefined) => (workspace === undefined ? '' : `--filter ${workspace}... `);

/** The manager of the repository whose root package.json this is: what it names, else whose lock file is there, else npm. */
export function detectManager(files: Files, root: string, manifest: PackageJson): Manager {
  const [, named, version] = /^(npm|pnpm|yarn|bun)@(\d[\w.-]*)/.exec(manifest.packageManager ?? '') ?? [];
  const locked = MANAGERS.find(name => lockFileOf(files, root, name) !== undefined);
  // Without a lock file, its settings still show yarn 4.
  const family = (named ?? locked ?? (files.has(below(root, '.yarnrc.yml')) ? 'berry' : 'npm')) as ManagerName;
  const name = family === 'yarn' || family === 'berry' ? yarnOf(files, root, version) : family;
  return {
    name,
    version: name === 'npm' ? undefined : (version ?? versionOfLock(files, root, name) ?? MANAGER_FACTS[name].version),
    lockFile: lockFileOf(files, root, name),
  };
}

function lockFileOf(files: Files, root: string, name: ManagerName): string | undefined {
  return MANAGER_FACTS[name].lockFiles.map(file => below(root, file)).find(file => files.has(file));
}

function yarnOf(files: Files, root: string, version: string | undefined): 'yarn' | 'berry' {
  if (version !== undefined) return version.startsWith('1.') ? 'yarn' : 'berry';
  const isBerry = files.has(below(root, '.yarnrc.yml')) || /^__metadata:/m.test(files.read(below(root, 'yarn.lock')) ?? '');
  return isBerry ? 'berry' : 'yarn';
}

/** Older lock files need the version that wrote them. */
function versionOfLock(files: Files, root: string, name: ManagerName): string | undefined {
  if (name !== 'pnpm') return undefined;
  const [, lockVersion] = /^lockfileVersion: '?(\d)/m.exec(files.read(below(root, 'pnpm-lock.yaml')) ?? '') ?? [];
  return lockVersion === '6' ? '8' : lockVersion === '5' ? '7' : undefined;
}
