/**
 * Which file a name, or no name, means as the app's module.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { DEMO_APP, isDemoByDefault, moduleFile } from '../src/config/app-module.ts';
import { ConfigError } from '../src/config/config.ts';

const root = mkdtempSync(join(tmpdir(), 'bosun-module-'));
after(() => rmSync(root, { recursive: true }));

/** A new folder with these files; objects become JSON. */
function folderWith(files: Record<string, string | object>): string {
  const folder = mkdtempSync(join(root, 'app-'));
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), typeof content === 'string' ? content : JSON.stringify(content));
  }
  return folder;
}

for (const [what, files, expected] of [
  ['main', { 'package.json': { main: './lib/server.js' }, 'lib/server.js': '' }, 'lib/server.js'],
  ['main without its extension', { 'package.json': { main: 'server' }, 'server.js': '' }, 'server.js'],
  ['main in TypeScript', { 'package.json': { main: 'src/server.ts' }, 'src/server.ts': '' }, 'src/server.ts'],
  ['main that is a folder', { 'package.json': { main: 'lib' }, 'lib/index.js': '' }, 'lib/index.js'],
  ['main before exports', { 'package.json': { main: 'a.js', exports: './b.js' }, 'a.js': '', 'b.js': '' }, 'a.js'],
  ['exports that is a string', { 'package.json': { exports: './b.js' }, 'b.js': '' }, 'b.js'],
  ['exports["."]', { 'package.json': { exports: { './x': './x.js', '.': './b.js' } }, 'b.js': '', 'x.js': '' }, 'b.js'],
  [
    'the first condition of exports that holds for Node.js',
    {
      'package.json': { exports: { '.': { types: './b.d.ts', browser: './x.js', import: { default: './b.js' } } } },
      'b.js': '',
      'x.js': '',
    },
    'b.js',
  ],
  ['index.js without a package.json', { 'index.js': '' }, 'index.js'],
  ['index.ts without an index.js', { 'package.json': {}, 'index.ts': '' }, 'index.ts'],
  ['index.js where main does not exist', { 'package.json': { main: 'gone.js' }, 'index.js': '' }, 'index.js'],
] as const)
  test(`a folder means its ${what}`, () => {
    const folder = folderWith(files);
    assert.equal(moduleFile(undefined, folder), join(folder, expected));
    assert.equal(moduleFile('.', folder), join(folder, expected));
    assert.equal(moduleFile(folder, '/'), join(folder, expected));
  });

test('a file is itself, a name without its extension gets one, and a missing file stays as it is', () => {
  const folder = folderWith({ 'a.mjs': '', 'b.js': '', 'c.ts': '', 'bin/www': '' });
  for (const [name, file] of [
    ['a.mjs', 'a.mjs'],
    ['./b', 'b.js'],
    ['c', 'c.ts'],
    ['bin/www', 'bin/www'],
    ['gone.js', 'gone.js'],
  ] as const)
    assert.equal(moduleFile(name, folder), join(folder, file));
});

for (const [what, files, named, message] of [
  [
    'an empty folder',
    {},
    undefined,
    'APP_MODULE, or bosun start, must name the app: found none by main or exports["."] in FOLDER/package.json (there is none), nor index.js or index.ts in FOLDER',
  ],
  [
    'a main that does not exist',
    {
      'package.json': { main: 'index.js', scripts: { start: 'NODE_ENV=production node --no-warnings server.js' } },
      'server.js': '',
    },
    '.',
    '. must name the app: found none by main or exports["."] in FOLDER/package.json, "index.js" there does not exist, nor index.js or index.ts in FOLDER; npm start runs server.js: bosun start server.js',
  ],
  [
    'a package.json that is no JSON',
    { 'package.json': '{' },
    '.',
    '. must name the app: found none by main or exports["."] in FOLDER/package.json (no JSON object), nor index.js or index.ts in FOLDER',
  ],
] as const)
  test(`the error for ${what} says what was looked for`, () => {
    const folder = folderWith(files);
    assert.throws(
      () => moduleFile(named, folder),
      (error: Error) => {
        assert.ok(error instanceof ConfigError);
        assert.equal(error.message.replaceAll(folder, 'FOLDER'), `bad configuration:\n  ${message}`);
        return true;
      },
    );
  });

test("only the kit's own folder, without a name, means the demo app", () => {
  const own = join(import.meta.dirname, '..');
  assert.equal(moduleFile(undefined, own), DEMO_APP);
  assert.ok(isDemoByDefault(undefined, DEMO_APP));
  assert.ok(!isDemoByDefault(DEMO_APP, DEMO_APP), 'it was chosen');
  assert.throws(() => moduleFile(undefined, folderWith({ 'package.json': { name: 'koa-bosun' } })), ConfigError);
});
