/**
 * The kit as a dependency: the tarball of this tree, installed by npm into other projects. No registry is contacted: the package's
 * dependencies are links to the packages of this tree.
 */
import assert from 'node:assert/strict';
import { type ExecFileException, execFile } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { promisify } from 'node:util';
import { ADOPT, assertAdopted } from '../adopted.ts';
import { compare } from '../compiled.ts';
import { editorView } from '../language-server.ts';
import { adopterOf, type Kit, ROOT, startKit } from './kit.ts';

const run = promisify(execFile);
const PACKAGES = join(ROOT, 'node_modules');
const TSC = join(PACKAGES, 'typescript', 'bin', 'tsc');
/** For a machine whose own Node.js is too old: projects add one to their packages. */
const NODES = readdirSync(PACKAGES).filter(name => /^node-(bin-)?(linux|darwin)/.test(name));
/** The other dependencies of the projects. */
const BESIDE = ['express', 'koa', '@types/koa', '@types/node'];

/** Modules that compile with the types of the package; what must not compile in them is marked. */
const TYPES = join(ROOT, 'test', 'fixtures', 'types');
const TYPED_APP = `
import Koa from 'koa';
import type { App, Kit } from 'koa-bosun';

declare const kit: Kit;
const create = (given: Kit): Koa => {
  const app = new Koa();
  app.use(given.session);
  given.log.info({ event: 'typed', worker: given.workerId });
  given.onClose(() => given.redis?.quit());
  return app;
};
export default create satisfies App;
console.log(kit.config.port);
// @ts-expect-error: it is read-only, and no string: the types are there
kit.workerId = 'one';
`;

suite('the kit as a dependency', { concurrency: 4 }, () => {
  let folder = '';
  let tarball = '';

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'bosun-package-'));
    cpSync(ADOPT, folder, { recursive: true, filter: file => !file.endsWith('package-lock.json') });
    await run('make', ['package', `PACKAGE_DIR=${folder}`], { cwd: ROOT });
    linkPackages(join(folder, 'node_modules'));
    // npm would remove what nothing depends on.
    const dependencies = Object.fromEntries([...BESIDE, ...NODES].map(name => [name, '*']));
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true, dependencies }));
    [tarball = ''] = readdirSync(folder).filter(name => name.endsWith('.tgz'));
    const offline = { ...process.env, npm_config_cache: join(folder, 'empty-cache') };
    await run('npm', ['install', '--offline', '--ignore-scripts', '--loglevel=error', `./${tarball}`], {
      cwd: folder,
      env: offline,
    });
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  const start = (project: string, command: [string, ...string[]]): Promise<Kit> =>
    startKit({ command, cwd: join(folder, project), detached: true, env: { NODE_CLUSTER_WORKERS: undefined } });
  const bin = () => join(folder, 'node_modules', '.bin', 'bosun');

  for (const project of ['express-esm', 'koa-cjs', 'http-cjs'] as const) {
    test(`bosun start of the package sizes, serves and drains the existing app ${project}`, async () => {
      const kit = await start(project, [bin(), 'start', './server.js']);
      await assertAdopted(await adopterOf(kit, () => kit.signal('SIGTERM')), project);
      // With any Node.js that npx finds: the launcher runs the kit on its own.
      assert.deepEqual(await kit.exit(), { code: 0, signal: null });
    });
  }

  test('Ctrl-C in the terminal of npx bosun start drains the app', async () => {
    const kit = await start('express-cjs', ['npx', 'bosun', 'start', './server.js']);
    await assertAdopted(await adopterOf(kit, () => process.kill(-kit.pid, 'SIGINT')), 'express-cjs');
  });

  test('an app in TypeScript compiles with the types of the package, as ES module and as CommonJS', async () => {
    const files = ['app.mts', 'app.cts'].map(name => join(folder, name));
    for (const file of files) writeFileSync(file, TYPED_APP);
    for (const name of readdirSync(TYPES)) {
      cpSync(join(TYPES, name), join(folder, name));
      files.push(join(folder, name));
    }
    const options = '--noEmit --strict --module node18 --target es2025 --types node --skipLibCheck false'.split(' ');
    await run(process.execPath, [TSC, ...options, ...files], { cwd: folder });
  });

  test('an editor completes the names of the events that an app declares, and shows what a setting is, with its unit', async () => {
    const file = join(folder, 'complete.mts');
    const text = `${readFileSync(join(TYPES, 'events.mts'), 'utf8')}\nexport const complete = (kit: Kit) => kit.on('', console.log) ?? kit.config.shutdownTimeoutMs;\n`;
    writeFileSync(file, text);
    const at = { completion: text.lastIndexOf("''") + 1, hover: text.lastIndexOf('shutdownTimeoutMs') };
    const { labels, hover } = await editorView(TSC, file, text, at);
    assert.deepEqual(labels.toSorted(), ['cache.cleared', 'price.changed']);
    assert.match(hover, /shutdownTimeoutMs: number[\s\S]*Unit: milliseconds\. Set by `SHUTDOWN_TIMEOUT_MS`; default: `25000`/);
  });

  test('bosun start of the package exits with 78 if the module does not exist', async () => {
    const error = await failure(run(bin(), ['start', './nothing.js'], { cwd: folder }));
    assert.equal(error.code, 78);
    assert.match(error.stderr, /^bosun: start needs the file of a module, got "\.\/nothing\.js": there is no .*nothing\.js$/m);
  });

  test('the package holds what runs and the types that an app imports, and no demo, test or other declaration', async () => {
    const { stdout } = await run('tar', ['tzf', join(folder, tarball)]);
    const files = stdout
      .trim()
      .split('\n')
      .map(name => name.replace(/^package\//, ''));
    assert.deepEqual(
      files.filter(name => /^(?:dist|src)\/.*(?:demo|test)|^test\/|\.ts$/.test(name) && !name.endsWith('.d.ts')),
      [],
    );
    const declarations = files.filter(name => /\.d\.c?ts$/.test(name));
    assert.ok(declarations.includes('dist/index.d.ts') && declarations.length < 20, declarations.join());
    for (const name of ['SECURITY.md', 'CHANGELOG.md', 'LICENSE', 'README.md']) assert.ok(files.includes(name), name);
  });

  test('the compiled code does what the sources say', () => {
    const { same, withHelper, differences } = compare(join(ROOT, 'src'), join(folder, 'node_modules', 'koa-bosun', 'dist'));
    const bundled = ['primary/start.js', 'worker/worker.js'];
    assert.deepEqual(
      differences.filter(difference => !bundled.some(name => difference.startsWith(`${name}: `))),
      [],
    );
    assert.ok(same > 200 && withHelper.length < 6, `${same} files; with a helper of tsc: ${withHelper}`);
  });

  test('a primary and a worker of the package load one file each at their start', () => {
    const dist = join(folder, 'node_modules', 'koa-bosun', 'dist');
    for (const [name, module] of [
      ['primary', 'start.js'],
      ['worker', 'worker.js'],
    ] as const) {
      const start = readFileSync(join(dist, name, module), 'utf8');
      assert.ok(start.endsWith(`(import.meta.url)('../start/${name}.cjs');\n`), start);
      const bundle = readFileSync(join(dist, 'start', `${name}.cjs`), 'utf8');
      // What the default import of a package is depends on whether it is imported or required.
      assert.deepEqual(bundle.match(/\bimport_(?!node_)\w+\.default\b/g), null);
      // Two copies of a class would not know each other's objects.
      assert.deepEqual(bundle.match(/\b(?:require|import)\("\.[^"]*"\)/g), null);
      // `sideEffects` of package.json must not remove what has an effect.
      assert.match(bundle, /^\/\/ dist\/state\/redis-protocol\.js$/m);
    }
  });

  test('an app with the session of the kit answers under the package', async () => {
    const app = `import Koa from 'koa';
export default kit => {
  const app = new Koa().use(kit.session);
  return app.use(ctx => { ctx.body = String((ctx.session.visits = (ctx.session.visits ?? 0) + 1)); });
};
`;
    writeFileSync(join(folder, 'visits.mjs'), app);
    const kit = await startKit({ command: [bin(), 'start', './visits.mjs'], cwd: folder });
    const { port } = await kit.ready();
    const first = await fetch(`http://127.0.0.1:${port}/`);
    const cookie = first.headers.getSetCookie().map(text => text.split(';')[0]);
    const second = await fetch(`http://127.0.0.1:${port}/`, { headers: { cookie: cookie.join('; ') } });
    assert.deepEqual([await first.text(), await second.text()], ['1', '2']);
  });

  test('the stack of an error of the app has the frames of the app, and none of the package', async () => {
    writeFileSync(join(folder, 'broken.mjs'), 'export default function create() {\n  throw new TypeError("broken");\n}\n');
    const kit = startKit({ command: [bin(), 'start', './broken.mjs'], cwd: folder, env: { START_TIMEOUT_MS: '100' } });
    const { stack } = await (await kit).event('worker.failed');
    assert.match(String(stack), /^TypeError: broken\n {4}at create \(file:.*broken\.mjs:2:9\)$/m);
    assert.doesNotMatch(String(stack), /koa-bosun/);
  });

  test('an ES module imports the package, a CommonJS module requires it', async () => {
    const both = "import('koa-bosun').then(m => console.log(Object.keys(require('koa-bosun')), typeof m))";
    const { stdout } = await run(process.execPath, ['--input-type=commonjs', '-e', both], { cwd: folder });
    assert.equal(stdout, '[] object\n');
  });

  test('bosun demo of the package says where the demo app is', async () => {
    const error = await failure(run(bin(), ['demo'], { cwd: folder }));
    assert.equal(error.code, 78);
    assert.match(error.stderr, /^bosun: the demo app is not part of the package: run it in a clone/m);
  });

  test('on a Node.js that is too old, bosun of the package names the version that it needs and how to add one', async () => {
    const bare = mkdtempSync(join(tmpdir(), 'bosun-bare-'));
    try {
      cpSync(join(folder, 'node_modules', 'koa-bosun'), bare, { recursive: true });
      const old = "Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '22.17.1' } })";
      const preload = `--import=data:text/javascript,${encodeURIComponent(old)}`;
      const error = await failure(run(process.execPath, [preload, join(bare, 'src', 'cli', 'launch.js'), 'status']));
      assert.equal(error.code, 78);
      assert.match(
        error.stderr,
        /^bosun: Node\.js 22\.18 or newer is needed, got v.*: npm install --no-save node-(bin-)?\w+-\w+@26$/m,
      );
    } finally {
      rmSync(bare, { recursive: true, force: true });
    }
  });

  test('bosun of a package without compiled code says how to pack it', async () => {
    const bare = join(folder, 'bare');
    cpSync(join(folder, 'node_modules', 'koa-bosun'), bare, { recursive: true });
    rmSync(join(bare, 'dist'), { recursive: true });
    const error = await failure(run(process.execPath, [join(bare, 'src', 'cli', 'launch.js'), 'status']));
    assert.equal(error.code, 78);
    assert.match(error.stderr, /no compiled code: pack it with "make package"/);
  });
});

/** The dependencies of the package, of its types and of the apps. */
function linkPackages(target: string): void {
  const { dependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>;
  };
  for (const name of new Set([...Object.keys(dependencies), ...NODES, ...BESIDE])) {
    mkdirSync(dirname(join(target, name)), { recursive: true });
    symlinkSync(join(PACKAGES, name), join(target, name));
  }
}

async function failure(running: Promise<unknown>): Promise<ExecFileException & { stderr: string }> {
  return running.then(
    () => assert.fail('it must fail'),
    (error: ExecFileException & { stderr: string }) => error,
  );
}
