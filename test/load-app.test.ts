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
import type { TypeScriptLoader } from '../src/config/inherited.ts';
import { EXPECTED } from '../src/worker/exports.ts';

const folder = mkdtempSync(join(tmpdir(), 'bosun-load-'));
after(() => rmSync(folder, { recursive: true }));
const PACKAGES = join(import.meta.dirname, '..', 'node_modules');
mkdirSync(join(folder, 'node_modules'));
symlinkSync(join(PACKAGES, 'koa'), join(folder, 'node_modules', 'koa'));

interface Outcome {
  loaded?: string;
  again?: object;
  why?: string;
  message?: string;
  stack?: string;
  summary?: object;
  isPermanent?: boolean;
}

interface Case {
  name: string;
  /** The files by their name; `app` with any extension is loaded. */
  files: Record<string, string>;
  asMain?: true;
  loader?: TypeScriptLoader;
  /** The package that is installed beside the app. */
  installed?: string;
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

const ADVICE =
  'Node.js only strips types: install tsx, @swc-node/register or ts-node in the project, and the kit loads the app with it';
const NEEDS = `${EXPECTED} as default`;
const ES = '{"type":"module"}';
const BAD = 'const listener = () => {\n  get(;\n};\n';
/** Lines that follow in the stack of a SyntaxError in BAD. */
const AT_BAD = '  get(;\n      ^\n\nSyntaxError';

/** `stack`: how it begins. */
const ERRORS: Case[] = [
  {
    name: 'a nested CommonJS module that cannot be parsed',
    files: { 'app.js': "require('./lib/routes');", 'lib/routes.js': BAD },
    expected: {
      message: "FOLDER/app.js can't be loaded: Unexpected token ';' (FOLDER/lib/routes.js:2)",
      stack: `FOLDER/lib/routes.js:2\n${AT_BAD}`,
      isPermanent: true,
    },
  },
  {
    name: 'a nested ES module that cannot be parsed',
    files: { 'app.mjs': "import './routes.mjs'; export default 1;", 'routes.mjs': BAD },
    expected: {
      message: "FOLDER/app.mjs can't be loaded: Unexpected token ';' (FOLDER/routes.mjs:2)",
      stack: `FOLDER/routes.mjs:2\n${AT_BAD}`,
      isPermanent: true,
    },
  },
  {
    name: 'an ES module that cannot be parsed, below a CommonJS module that has run',
    files: {
      'app.js': "if (globalThis.count++) throw new Error('runs again'); globalThis.count = 1; require('./es.mjs');",
      'es.mjs': "import './routes.mjs';",
      'routes.mjs': BAD,
    },
    expected: {
      message: "FOLDER/app.js can't be loaded: Unexpected token ';' (FOLDER/routes.mjs:2)",
      stack: `FOLDER/routes.mjs:2\n${AT_BAD}`,
      isPermanent: true,
    },
  },
  {
    name: 'an ES module that cannot be parsed, as main',
    files: { 'app.mjs': BAD },
    asMain: true,
    expected: {
      message: "FOLDER/app.mjs can't be loaded: Unexpected token ';' (FOLDER/app.mjs:2)",
      stack: `FOLDER/app.mjs:2\n${AT_BAD}`,
      isPermanent: true,
    },
  },
  {
    name: 'a nested module that throws',
    files: { 'app.mjs': "import './orders.cjs'; export default 1;", 'orders.cjs': '\nmodule.exports = undefined.tables;' },
    expected: {
      message: "FOLDER/app.mjs can't be loaded: Cannot read properties of undefined (reading 'tables') (FOLDER/orders.cjs:2)",
      stack:
        "TypeError: Cannot read properties of undefined (reading 'tables')\n    at Object.<anonymous> (FOLDER/orders.cjs:2:28)\n",
      isPermanent: false,
    },
  },
  {
    name: 'a module that throws as main',
    files: { 'app.mjs': "if (import.meta.main) throw new Error('no database');" },
    asMain: true,
    expected: {
      message: "FOLDER/app.mjs can't be loaded: no database (FOLDER/app.mjs:1)",
      stack: 'Error: no database\n    at file://FOLDER/app.mjs:1:29\n',
      isPermanent: false,
    },
  },
  {
    name: 'a module that is missing',
    files: { 'app.js': "require('./lib/gone');" },
    expected: {
      message: "FOLDER/app.js can't be loaded: Cannot find module './lib/gone' (FOLDER/app.js:1)",
      stack: "Error: Cannot find module './lib/gone'\nRequire stack:\n- FOLDER/app.js\n- FOLDER/[koa-bosun]\n",
      isPermanent: true,
    },
  },
  {
    name: 'a promise that is rejected',
    files: { 'app.mjs': "export default Promise.reject(new Error('no database'));" },
    expected: { message: 'the promise that FOLDER/app.mjs exports is rejected: no database', isPermanent: false },
  },
  {
    name: 'a top-level await that never settles',
    files: { 'app.mjs': 'await new Promise(() => {}); export default 1;' },
    expected: {
      message: "FOLDER/app.mjs can't be loaded: its top-level await never settles",
      stack: '',
      summary: { own: "FOLDER/app.mjs can't be loaded: its top-level await never settles", class: 'AppError' },
      isPermanent: false,
    },
  },
  {
    name: 'a module that neither exports an app nor listens, as main',
    files: { 'app.js': 'const app = 1;' },
    asMain: true,
    expected: {
      message: `FOLDER/app.js must export ${NEEDS}, got an empty object; is "module.exports = app" missing?; or listen on a port: it does not listen, and has nothing left to do`,
      stack: '',
      summary: { own: 'FOLDER/app.js exports no app, and it does not listen, and has nothing left to do', class: 'AppError' },
      isPermanent: true,
    },
  },
  {
    name: 'a module that ends without listening, after some work that may succeed later, as main',
    files: { 'app.js': "require('node:net').connect(1, '127.0.0.1').on('error', () => {});" },
    asMain: true,
    expected: { isPermanent: false },
  },
  {
    name: 'a TypeScript enum',
    files: { 'app.ts': "import { Color } from './color.ts'; export default Color;", 'color.ts': '\nexport enum Color { Red }\n' },
    expected: {
      message: `FOLDER/app.ts can't be loaded: FOLDER/color.ts:2: TypeScript enum is not supported in strip-only mode; ${ADVICE}`,
      isPermanent: true,
    },
  },
  {
    name: 'a TypeScript parameter property in CommonJS',
    files: { 'app.ts': "require('./user.ts');", 'user.ts': '\n\nclass User { constructor(private name: string) {} }\n' },
    expected: {
      message: `FOLDER/app.ts can't be loaded: FOLDER/user.ts:3: TypeScript parameter property is not supported in strip-only mode; ${ADVICE}`,
      isPermanent: true,
    },
  },
  {
    name: 'a decorator in an ES module',
    files: {
      'package.json': ES,
      'app.ts': "import './user.ts'; export default 1;",
      'user.ts': 'const d: unknown = 1;\n@d\nclass User {}\nexport {};',
    },
    expected: {
      message: `FOLDER/app.ts can't be loaded: FOLDER/user.ts:2: decorators are not supported in strip-only mode; ${ADVICE}`,
      isPermanent: true,
    },
  },
  {
    name: 'a decorator in CommonJS',
    files: { 'app.ts': 'const d: unknown = 1;\n@d\nclass User {}' },
    expected: {
      message: `FOLDER/app.ts can't be loaded: FOLDER/app.ts:2: decorators are not supported in strip-only mode; ${ADVICE}`,
      isPermanent: true,
    },
  },
  {
    name: 'an import without its extension, of TypeScript',
    files: { 'package.json': ES, 'app.ts': "import { a } from './util'; export default a;", 'util.ts': 'export const a = 1;' },
    expected: {
      message: `FOLDER/app.ts can't be loaded: Cannot find module 'FOLDER/util' imported from FOLDER/app.ts; ${ADVICE}`,
      isPermanent: true,
    },
  },
  {
    name: 'a require with the extension of JavaScript, of TypeScript',
    files: { 'app.ts': "require('./util.js');", 'util.ts': '' },
    expected: {
      message: `FOLDER/app.ts can't be loaded: Cannot find module './util.js' imported from FOLDER/app.ts; ${ADVICE}`,
      isPermanent: true,
    },
  },
  {
    name: 'an alias of tsconfig.json',
    files: { 'package.json': ES, 'app.ts': "import '@lib/a';", 'tsconfig.json': '{ "compilerOptions": { "paths": {} } }' },
    expected: {
      message: `FOLDER/app.ts can't be loaded: Cannot find package '@lib/a' imported from FOLDER/app.ts; ${ADVICE}`,
      isPermanent: true,
    },
  },
  {
    name: 'a package that is not installed, in TypeScript',
    files: { 'package.json': ES, 'app.ts': "import 'not-installed-package'; export default 1;" },
    expected: {
      message: "FOLDER/app.ts can't be loaded: Cannot find package 'not-installed-package' imported from FOLDER/app.ts",
      isPermanent: true,
    },
  },
  {
    name: 'a type that is imported like a value',
    files: {
      'package.json': ES,
      'app.ts': "import { T } from './types.ts'; export const a: T = 1;",
      'types.ts': 'export type T = number;',
    },
    expected: {
      message: `FOLDER/app.ts can't be loaded: FOLDER/app.ts:1: The requested module './types.ts' does not provide an export named 'T'; ${ADVICE}`,
      isPermanent: true,
    },
  },
  {
    name: 'invalid TypeScript',
    files: { 'app.ts': 'const a: = 1;' },
    expected: { stack: 'file://FOLDER/app.ts:1\nconst a: = 1;\n', isPermanent: true },
  },
];

/** What Node.js alone does not run. */
const LIB = "export enum Color { Red = 'red' }\nexport namespace N { export const x = 1; }\n";
const APP = `
  import { Color } from './lib/color';
  import { N } from '@lib/color';
  function tag(target: any) { target.tagged = Color.Red; }
  @tag class Service { constructor(private name: string) {} get hello() { return this.name; } }
  if (new Service('x').hello !== 'x' || (Service as any).tagged !== 'red' || N.x !== 1) throw new Error('compiled wrongly');
`;
const TSCONFIG = '{ "compilerOptions": { "experimentalDecorators": true, "paths": { "@lib/*": ["./lib/*"] } } }';
const FILES = { 'lib/color.ts': LIB, 'tsconfig.json': TSCONFIG };
const METADATA = '{ "compilerOptions": { "emitDecoratorMetadata": true } }';
const SERVED = { loaded: 'a request listener' };

const WITH_LOADERS: Case[] = [
  {
    name: 'an app of the project with tsx is loaded by it',
    files: { 'app.ts': 'enum A {}' },
    installed: 'tsx',
    expected: { again: { loader: 'tsx' }, why: 'FOLDER/app.ts:1: TypeScript enum is not supported in strip-only mode' },
  },
  {
    name: 'metadata of decorators is emitted by @swc-node/register, which is preferred then',
    files: {
      'app.ts': 'enum A {}',
      'tsconfig.json': METADATA,
      'node_modules/@swc-node/register/package.json': '{}',
      'node_modules/tsx/package.json': '{}',
    },
    expected: { again: { loader: '@swc-node/register' } },
  },
  {
    name: 'a loader that has gone since the start',
    files: { 'app.ts': 'enum A {}' },
    loader: 'tsx',
    expected: { message: 'tsx must be installed for FOLDER/app.ts, as it was at the start', isPermanent: false },
  },
  // The loader stays for what comes after.
  {
    name: 'CommonJS',
    files: { ...FILES, 'app.ts': `${APP} module.exports = ${LISTENER};` },
    installed: 'tsx',
    loader: 'tsx',
    expected: SERVED,
  },
  {
    name: 'an ES module',
    files: { ...FILES, 'package.json': ES, 'app.ts': `${APP} await 1; export default ${LISTENER};` },
    installed: 'tsx',
    loader: 'tsx',
    expected: SERVED,
  },
  {
    name: 'CommonJS',
    files: { ...FILES, 'app.ts': `${APP} if (require.main === module) module.exports = ${LISTENER};` },
    asMain: true,
    installed: 'tsx',
    loader: 'tsx',
    expected: SERVED,
  },
  {
    name: 'an ES module',
    files: {
      ...FILES,
      'package.json': ES,
      'app.ts': `${APP} if (!import.meta.main) throw new Error('not main'); export default ${LISTENER};`,
    },
    asMain: true,
    installed: 'tsx',
    loader: 'tsx',
    expected: SERVED,
  },
];

const cases = [...CASES, ...ERRORS, ...MAIN.map(each => ({ ...each, asMain: true as const })), ...WITH_LOADERS].map(
  (each, index) => {
    const file = Object.keys(each.files).find(name => name.startsWith('app.')) ?? '';
    return { ...each, folder: join(folder, String(index)), file };
  },
);
for (const { folder, files, installed } of cases) {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  if (installed === undefined) continue;
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(join(PACKAGES, installed), join(folder, 'node_modules', installed));
}

/** What comes of loading each case, in order. */
async function outcomes(): Promise<Outcome[]> {
  const args = cases.map(({ asMain = false, loader, folder, file }) =>
    JSON.stringify({ module: join(folder, file), asMain, loader }),
  );
  const loader = fork(join(import.meta.dirname, 'fixtures', 'load.ts'), args, { env: { ...process.env, TIMEOUT_MS: '60000' } });
  const found: Outcome[] = [];
  loader.on('message', (outcome: Outcome) => found.push(outcome));
  await once(loader, 'exit');
  return found;
}

describe('the module of an app', async () => {
  const found = await outcomes();
  for (const [index, { name, asMain, loader, folder, expected }] of cases.entries())
    test(`${name}${asMain ? ', run as main' : ''}${loader ? `, with ${loader}` : ''}`, () => {
      const outcome = JSON.parse(JSON.stringify(found[index] ?? null).replaceAll(folder, 'FOLDER')) as Outcome;
      const { stack, ...others } = expected;
      for (const [key, value] of Object.entries(others))
        assert.deepEqual(outcome?.[key as keyof Outcome], value, JSON.stringify(outcome));
      if (stack !== undefined) assert.equal(outcome.stack?.slice(0, stack.length || undefined), stack, JSON.stringify(outcome));
    });
});
