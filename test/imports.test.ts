import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { test } from 'node:test';

const SRC = join(import.meta.dirname, '..', 'src');

/** What each folder of src may import besides itself. Imports go one way (README, Layout). */
const MAY_IMPORT: Record<string, string[]> = {
  'main.ts': ['balancing', 'config.ts', 'primary', 'worker'],
  primary: [
    'addresses.ts',
    'balancing',
    'resources',
    'state',
    'protocol',
    'messages.ts',
    'config.ts',
    'parsers.ts',
    'log.ts',
    'log-output.ts',
  ],
  worker: ['balancing', 'resources', 'state', 'protocol', 'messages.ts', 'config.ts', 'log.ts', 'index.ts', 'trusted-socket.ts'],
  balancing: ['addresses.ts', 'config.ts', 'variables.ts'],
  resources: ['config.ts'],
  state: ['messages.ts', 'protocol', 'config.ts', 'log.ts'],
  cli: ['main.ts', 'config.ts', 'resources', 'parsers.ts', 'trusted-socket.ts'],
  loadtest: ['cli', 'config.ts', 'parsers.ts', 'variables.ts'],
  demo: ['index.ts'],
  'index.ts': ['config.ts', 'log.ts'],
  'config.ts': ['variable.ts', 'variables.ts', 'parsers.ts', 'redis-url.ts', 'secrets.ts'],
  'variables.ts': ['addresses.ts', 'variable.ts', 'parsers.ts', 'redis-url.ts', 'secrets.ts'],
  'redis-url.ts': ['parsers.ts', 'secrets.ts'],
  'secrets.ts': ['parsers.ts'],
  'variable.ts': ['parsers.ts'],
  'parsers.ts': [],
  'trusted-socket.ts': [],
  'addresses.ts': [],
  protocol: ['messages.ts'],
  'messages.ts': [],
  'log.ts': [],
  'log-output.ts': ['pretty.ts'],
  'pretty.ts': [],
};

const partOf = (file: string) => relative(SRC, file).split('/')[0] ?? '';

test('imports go one way', () => {
  const files = globSync('**/*.ts', { cwd: SRC }).filter(file => !file.endsWith('.d.ts'));
  assert.ok(files.length > 20);
  for (const file of files) {
    const part = partOf(join(SRC, file));
    const source = readFileSync(join(SRC, file), 'utf8');
    for (const [, path] of source.matchAll(/(?:from|import)\s*\(?'(\.[^']+\.ts)'/g)) {
      const target = partOf(join(SRC, dirname(file), path ?? ''));
      assert.ok(
        target === part || MAY_IMPORT[part]?.includes(target),
        `${file} imports ${path}: ${part} may import ${MAY_IMPORT[part]}`,
      );
    }
  }
});
