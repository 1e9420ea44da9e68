/**
 * The kit as a dependency: the tarball of this tree, installed by npm into projects that know nothing of its sources. No registry is asked:
 * what the package depends on is linked from this tree's own packages.
 */
import assert from 'node:assert/strict';
import { type ExecFileException, execFile } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { promisify } from 'node:util';
import { ADOPT, assertAdopted } from '../adopted.ts';
import { adopterOf, type Kit, ROOT, startKit } from './kit.ts';

const run = promisify(execFile);
const PACKAGES = join(ROOT, 'node_modules');
/** What the projects have besides the kit. */
const BESIDE = ['express', 'koa', '@types/koa', '@types/node'];

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

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'bosun-package-'));
    cpSync(ADOPT, folder, { recursive: true, filter: file => !file.endsWith('package-lock.json') });
    await run('make', ['package', `PACKAGE_DIR=${folder}`], { cwd: ROOT });
    linkPackages(join(folder, 'node_modules'));
    // npm would take away what nothing depends on.
    const dependencies = Object.fromEntries(BESIDE.map(name => [name, '*']));
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true, dependencies }));
    const [tarball] = readdirSync(folder).filter(name => name.endsWith('.tgz'));
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
    test(`bosun start sizes, serves and drains an app that existed before: ${project}`, async () => {
      const kit = await start(project, [bin(), 'start', './server.js']);
      await assertAdopted(await adopterOf(kit, () => kit.signal('SIGTERM')), project);
      // Whatever Node.js npx has found, and handed over to the kit's own.
      assert.deepEqual(await kit.exit(), { code: 0, signal: null });
    });
  }

  test('Ctrl-C in the terminal of npx bosun start drains', async () => {
    const kit = await start('express-cjs', ['npx', 'bosun', 'start', './server.js']);
    await assertAdopted(await adopterOf(kit, () => process.kill(-kit.pid, 'SIGINT')), 'express-cjs');
  });

  test('an app in TypeScript finds the types of the kit', async () => {
    const file = join(folder, 'app.mts');
    writeFileSync(file, TYPED_APP);
    const options = '--noEmit --strict --module nodenext --target es2025 --types node --skipLibCheck false'.split(' ');
    await run(process.execPath, [join(PACKAGES, 'typescript', 'bin', 'tsc'), ...options, file], { cwd: folder });
  });

  test('a module that is not there is told at once, with exit code 78', async () => {
    const error = await failure(run(bin(), ['start', './nothing.js'], { cwd: folder }));
    assert.equal(error.code, 78);
    assert.match(error.stderr, /^bosun: start needs the file of a module, got "\.\/nothing\.js": there is no .*nothing\.js$/m);
  });

  test('a package without its compiled code says how it should have been packed', async () => {
    const bare = join(folder, 'bare');
    cpSync(join(folder, 'node_modules', 'koa-bosun'), bare, { recursive: true });
    rmSync(join(bare, 'dist'), { recursive: true });
    const error = await failure(run(process.execPath, [join(bare, 'src', 'cli', 'launch.js'), 'status']));
    assert.equal(error.code, 78);
    assert.match(error.stderr, /no compiled code: pack it with "make package"/);
  });
});

/** What the package and its types depend on, and what the apps do. */
function linkPackages(target: string): void {
  const { dependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>;
  };
  const node = readdirSync(PACKAGES).filter(name => /^node-(bin-)?(linux|darwin)/.test(name));
  for (const name of new Set([...Object.keys(dependencies), ...node, ...BESIDE])) {
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
