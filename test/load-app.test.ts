/**
 * How the app's module is loaded, as a table of small modules; a process like a worker loads all of them.
 */
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, describe, test } from 'node:test';

const folder = mkdtempSync(join(tmpdir(), 'bosun-load-'));
after(() => rmSync(folder, { recursive: true }));
symlinkSync(join(import.meta.dirname, '..', 'node_modules'), join(folder, 'node_modules'));

interface Outcome {
  loaded?: string;
  again?: object;
  why?: string;
  message?: string;
  stack?: string;
  isPermanent?: boolean;
}

interface Case {
  name: string;
  /** The files by their name; the first one is loaded. */
  files: Record<string, string>;
  asMain?: true;
  expected: Outcome;
}

const KOA = "const Koa = require('koa'); const app = new Koa();";
const LISTENER = '(request, response) => response.end()';
/** Throws unless it is loaded as by \`require\` of another module. */
const AS_REQUIRED = `
  const { dirname } = require('node:path');
  const assert = require('node:assert');
  assert.ok(module.parent);
  assert.ok(module.parent.children.includes(module));
  assert.equal(require.main, module.parent);
  assert.notEqual(require.main, module);
  assert.equal(dirname(require.main.filename), __dirname);
  assert.equal(require.main.require('koa'), require('koa'));
`;

const CASES: Case[] = [
  {
    name: 'a CommonJS module sees a parent, which is main',
    files: { 'app.cjs': `${AS_REQUIRED}; module.exports = ${LISTENER};` },
    expected: { loaded: 'a request listener' },
  },
  {
    name: 'a module that listens if (!module.parent) does not',
    files: { 'app.js': `${KOA} module.exports = app; if (!module.parent) throw new Error('listens');` },
    expected: { loaded: 'a Koa app' },
  },
  {
    name: 'a CommonJS module compiled from an ES module',
    files: { 'app.js': `exports.__esModule = true; exports.default = ${LISTENER};` },
    expected: { loaded: 'a request listener' },
  },
  {
    name: 'an ES module that is none by its name or package.json, with top-level await, runs once',
    files: {
      'app.js': `import './once.cjs'; await 1; export default ${LISTENER};`,
      'once.cjs': "if (globalThis.hasRun) throw new Error('runs again'); globalThis.hasRun = true;",
    },
    expected: { loaded: 'a request listener' },
  },
  {
    name: 'a default export that is a promise',
    files: { 'app.mjs': "import Koa from 'koa'; export default Promise.resolve(new Koa());" },
    expected: { loaded: 'a Koa app' },
  },
  {
    name: 'module.exports that is a promise',
    files: { 'app.cjs': `module.exports = (async () => ${LISTENER})();` },
    expected: { loaded: 'a request listener' },
  },
  {
    name: 'TypeScript, as CommonJS and as ES module',
    files: {
      'app.ts': "const app: unknown = require('./es.mts').default; module.exports = app;",
      'es.mts': `const app: unknown = ${LISTENER}; export default app;`,
    },
    expected: { loaded: 'a request listener' },
  },
  {
    name: 'a CommonJS module that exports only as main',
    files: { 'app.js': `if (require.main === module) module.exports = ${LISTENER};` },
    expected: { again: { asMain: true }, why: 'FOLDER/app.js exports no app and does not listen when it is imported' },
  },
  {
    name: 'an ES module that listens only as main, and keeps itself busy',
    files: { 'app.mjs': 'setInterval(() => {}, 100).unref(); setTimeout(() => {}, 1500); if (import.meta.main) ;' },
    expected: { again: { asMain: true }, why: 'FOLDER/app.mjs exports no app and does not listen when it is imported' },
  },
];

const MAIN: Case[] = [
  {
    name: 'a CommonJS module is main, with its arguments',
    files: {
      'app.js': `
        const assert = require('node:assert');
        assert.equal(require.main, module);
        assert.equal(module.parent, null);
        assert.deepEqual(process.argv.slice(1), [__filename, '--flag']);
        module.exports = ${LISTENER};`,
    },
    expected: { loaded: 'a request listener' },
  },
  {
    name: 'an ES module is main, with its arguments, and runs once',
    files: {
      'app.mjs': `
        import assert from 'node:assert';
        await 1;
        assert.ok(import.meta.main);
        assert.deepEqual(process.argv.slice(1), [import.meta.filename, '--flag']);
        assert.equal(globalThis.hasRunAsMain, undefined);
        globalThis.hasRunAsMain = true;
        export default ${LISTENER};`,
    },
    expected: { loaded: 'a request listener' },
  },
  {
    name: 'TypeScript is main',
    files: { 'app.ts': `if (require.main === module) module.exports = ${LISTENER} as unknown;` },
    expected: { loaded: 'a request listener' },
  },
];

const cases = [...CASES, ...MAIN.map(each => ({ ...each, asMain: true }))].map((each, index) => {
  const [file = ''] = Object.keys(each.files);
  return { ...each, folder: join(folder, String(index)), file };
});
for (const { folder, files } of cases)
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }

/** What comes of loading each case, in order. */
async function outcomes(): Promise<Outcome[]> {
  const args = cases.map(({ asMain, folder, file }) => `${asMain ? 'main:' : ''}${join(folder, file)}`);
  const loader = fork(join(import.meta.dirname, 'fixtures', 'load.ts'), args, { env: { ...process.env, TIMEOUT_MS: '60000' } });
  const found: Outcome[] = [];
  loader.on('message', (outcome: Outcome) => found.push(outcome));
  await once(loader, 'exit');
  return found;
}

describe('the module of an app', async () => {
  const found = await outcomes();
  for (const [index, { name, asMain, folder, expected }] of cases.entries())
    test(`${name}${asMain ? ', run as main' : ''}`, () => {
      const outcome = JSON.parse(JSON.stringify(found[index] ?? null).replaceAll(folder, 'FOLDER')) as Outcome;
      for (const [key, value] of Object.entries(expected))
        assert.deepEqual(outcome?.[key as keyof Outcome], value, JSON.stringify(outcome));
    });
});
