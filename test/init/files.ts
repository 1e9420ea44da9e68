/** Repositories in memory. */
import { matchesGlob } from 'node:path';
import { type Choices, detect, type Project } from '../../src/init/detect.ts';
import type { Files } from '../../src/init/files.ts';

/** Files by their path; what is no text is JSON. */
export function filesOf(texts: Readonly<Record<string, unknown>>): Files {
  const paths = Object.keys(texts);
  const text = (path: string) => (typeof texts[path] === 'string' ? texts[path] : JSON.stringify(texts[path], null, 2));
  return {
    read: path => (path in texts ? text(path) : undefined),
    has: path => paths.some(each => each === path || each.startsWith(`${path}/`)),
    glob: pattern => paths.filter(path => matchesGlob(path, pattern)).sort(),
  };
}

export const found = (texts: Record<string, unknown>, choices: Choices = {}, folder = '.'): Project =>
  detect(filesOf(texts), folder, choices);

export const KOA = { koa: '^3.0.0', 'koa-bosun': '^0.1.0' };

/** A workspace of pnpm, whose package `api` has the kit and another package by `file:`. */
export const WORKSPACE = {
  'package.json': { private: true, scripts: { prepare: 'husky' } },
  'pnpm-workspace.yaml':
    "packages:\n  # all\n  - 'packages/*'\n  - apps/**\n  - '!packages/old'\nonlyBuiltDependencies:\n  - esbuild\n",
  'pnpm-lock.yaml': "lockfileVersion: '9.0'\n",
  'packages/api/package.json': {
    name: '@acme/api',
    scripts: { build: 'tsc', start: 'node dist/server.js' },
    dependencies: {
      ...KOA,
      'koa-bosun': 'file:../../../kit/koa-bosun-0.1.0.tgz',
      '@acme/lib': 'workspace:*',
      other: 'file:../../tar/other.tgz',
    },
  },
  'packages/api/src/server.ts': 'app.listen(4000)',
  'packages/lib/package.json': { name: '@acme/lib' },
  'packages/old/package.json': {},
  'apps/web/site/package.json': {},
};
