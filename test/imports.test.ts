import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { test } from 'node:test';

const SRC = join(import.meta.dirname, '..', 'src');

/** What each folder of src may import besides itself: imports go one way (docs/architecture.md). */
const LEAVES = ['protocol', 'config', 'log'];
const SERVICES = ['balancing', 'resources', 'state', ...LEAVES];
const MAY_IMPORT: Record<string, string[]> = {
  'main.ts': ['primary', 'worker'],
  primary: ['dev', 'control', 'admin', 'pool', ...SERVICES],
  dev: ['pool', ...SERVICES],
  control: ['admin', 'pool', ...SERVICES],
  admin: ['pool', ...SERVICES],
  pool: SERVICES,
  worker: ['index.ts', ...SERVICES],
  balancing: LEAVES,
  resources: LEAVES,
  state: LEAVES,
  cli: ['main.ts', 'init', 'resources', ...LEAVES],
  init: LEAVES,
  loadtest: ['cli', ...LEAVES],
  demo: ['index.ts'],
  'index.ts': LEAVES,
  protocol: ['config'],
  log: ['config', 'protocol'],
  config: [],
};

const partOf = (file: string) => relative(SRC, file).split('/')[0] ?? '';

test('imports go one way', () => {
  const files = globSync('**/*.ts', { cwd: SRC }).filter(file => !file.endsWith('.d.ts'));
  assert.ok(files.length > 20);
  const wrong = files.flatMap(file => {
    const part = partOf(join(SRC, file));
    const source = readFileSync(join(SRC, file), 'utf8');
    return [...source.matchAll(/(?:from|import)\s*\(?'(\.[^']+\.ts)'/g)].flatMap(([, path]) => {
      const target = join(SRC, dirname(file), path ?? '');
      const isAllowed = partOf(target) === part || MAY_IMPORT[part]?.includes(partOf(target));
      return isAllowed ? [] : [`${file} -> ${relative(SRC, target)}`];
    });
  });
  assert.deepEqual(wrong, [], 'each folder imports only what MAY_IMPORT lists');
});

test('nothing in a worker imports node:util', () => {
  // That loads all of util, which opens stderr and makes the app's own writes to it fail with EAGAIN when the pipe is full.
  const inWorkers = globSync('{worker,balancing,resources,state,protocol,config}/**/*.ts', { cwd: SRC });
  const wrong = inWorkers.filter(file => /^import (?!type ).*'(?:node:)?util'/m.test(readFileSync(join(SRC, file), 'utf8')));
  assert.deepEqual(wrong, [], "process.getBuiltinModule('node:util') loads it by parts");
});

/** The files that are loaded with `entries`, and the packages: what they import at once, and what those import. */
function loadedWith(...entries: string[]): { files: Set<string>; packages: Set<string> } {
  const [files, packages] = [new Set<string>(), new Set<string>()];
  const visit = (file: string) => {
    if (files.has(file)) return;
    files.add(file);
    const source = readFileSync(join(SRC, file), 'utf8');
    for (const [, path = ''] of source.matchAll(/^(?:import|export) (?!type )(?:[^'"`;]*? from )?'([^']+)';$/gm)) {
      if (path.startsWith('.')) visit(join(dirname(file), path));
      else if (!path.startsWith('node:')) packages.add(path);
    }
  };
  for (const entry of entries) visit(entry);
  return { files, packages };
}

test('few files are loaded before the first answer', () => {
  // Each costs 0.3 to 0.5 ms of CPU (make bench, "start-up"), one after the other. Where one more is needed, raise the number; where it is not needed
  // that early, load it later: a feature that is off with `await import()`, what only a running pool needs after the fork.
  const FIRST_FORK = 37;
  const PRIMARY = 125;
  const WORKER = 81;
  const pin = (entries: string[], most: number, packages: string[] = []) => {
    const loaded = loadedWith('main.ts', ...entries);
    const list = [...loaded.files].sort().join('\n');
    assert.ok(loaded.files.size <= most, `${entries.at(-1)}: at most ${most} files, got ${loaded.files.size}:\n${list}`);
    assert.deepEqual([...loaded.packages], packages, `packages that ${entries[0]} loads`);
  };
  pin(['primary/start.ts'], FIRST_FORK);
  const primary = ['primary/start.ts', 'primary/events.ts', 'pool/pool.ts', 'primary/primary.ts'];
  pin([...primary, 'admin/admin-port.ts', 'resources/follow.ts', 'control/operations.ts'], PRIMARY, ['@godaddy/terminus']);
  pin(['worker/worker.ts'], WORKER);
});
