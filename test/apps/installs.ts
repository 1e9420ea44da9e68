/**
 * `make test-apps`: the packed kit, as publint and arethetypeswrong read it, and installed as projects install it: by npm beside the types of Koa 2, of Koa 3 and of
 * none, where its types compile without skipLibCheck; and by pnpm, which links packages from a store. `bosun start` serves in each. And
 * on the other versions of Node.js that it runs on.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cpSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { freePort } from '../free-port.ts';
import { request } from '../process/clients.ts';
import { CLEAN, ROOT, startKit } from '../process/kit.ts';
import { temporaryFolder } from '../process/operator.ts';
import { layOut, npm, PATH, packKit, registryError } from './projects.ts';

const run = promisify(execFile);

/** What a project compiles, an ES module and a CommonJS module, with the options of tsc that it uses. */
const COMPILED = [
  ['--module', 'nodenext', 'app.mts', 'app.ts', 'events.mts', 'events.cts'],
  ['--module', 'node16', 'app.mts', 'app.ts', 'events.mts', 'events.cts'],
  ['--module', 'esnext', '--moduleResolution', 'bundler', 'app.mts', 'events.mts', 'events.cts'],
];
/** What the older versions of Node.js could break: these files run against the packed kit on each. */
const FEATURES = 'unix-socket limits before-start health leader sticky sockets traces after-answers'.split(' ');
/** It is for Node.js 24 and newer (docs/guide/tracing.md). */
const SINCE_NODE_24 = 'log lines about a request carry';

/** What declares and uses events, beside the app. */
const TYPES = join(import.meta.dirname, '..', 'fixtures', 'types');
const STRICT = '--noEmit --strict --target es2022 --types node --skipLibCheck false --esModuleInterop'.split(' ');

const offline = await registryError();
const skip = offline !== undefined && `npm reaches no registry: ${offline}`;
if (skip) console.error(`test-apps is skipped: ${skip}`);

describe('koa-bosun installed', { concurrency: 2, skip }, () => {
  let tarball = '';
  before(async () => {
    tarball = await packKit();
  });

  for (const [name, koa] of [['types-koa-2', 'Koa 2'], ['types-koa-3', 'Koa 3'], ['types-no-koa', 'no types of Koa']] as const) {
    test(`by npm beside ${koa} compiles, and serves`, async () => {
      const folder = await layOut(name);
      cpSync(TYPES, folder, { recursive: true });
      // As npm install does it: a conflict with what the project has ends it.
      await npm(folder, 'install', '--no-save', tarball);
      for (const options of COMPILED) {
        const tsc = run(join(folder, 'node_modules', '.bin', 'tsc'), [...STRICT, ...options], { cwd: folder });
        await tsc.catch((error: Error & { stdout: string }) => assert.fail(`tsc ${options.join(' ')}: ${error.stdout}`));
      }
      await assertServes(folder, './app.mts');
    });
  }

  // The oldest that it needs, without net.BoundSocket, and the other one with long-term support.
  for (const version of ['22.18.0', '24'])
    test(`by npm starts, restarts and stops on Node.js ${version}`, async () => {
      const platform = `node-${process.platform}-${process.arch}`;
      const folder = temporaryFolder();
      writeFileSync(join(folder, 'package.json'), '{ "private": true }');
      await npm(folder, 'install', '--no-save', `${platform}@${version}`);
      const path = `${join(folder, 'node_modules', platform, 'bin')}:${PATH}`;
      const env = { ...process.env, PATH: path, PORT: String(await freePort()), ADMIN_PORT: String(await freePort()) };
      const { stdout } = await run(join(import.meta.dirname, '..', '..', 'release', 'smoke.sh'), [tarball], { env });
      assert.match(stdout, new RegExp(`starts, serves, restarts and stops on .* Node\\.js v${version.replaceAll('.', '\\.')}`));
      await npm(folder, 'install', '--no-save', `${platform}@${version}`, tarball);
      await assertPasses([join(folder, 'node_modules', platform, 'bin', 'node'), join(folder, 'node_modules', 'koa-bosun', 'dist', 'main.js')], version);
    });

  test('has no fault that publint or arethetypeswrong knows', async () => {
    const folder = await layOut('packaging');
    const { stdout } = await run(process.execPath, ['problems.mjs', tarball], { cwd: folder });
    assert.deepEqual(JSON.parse(stdout), { publint: [], types: 'included', typeProblems: [] });
  });

  test('by pnpm serves', async () => {
    const tools = await layOut('package-managers');
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'package.json'), '{ "private": true }');
    writeFileSync(join(folder, 'app.mjs'), "import Koa from 'koa';\nexport default new Koa().use(ctx => (ctx.body = 'linked'));\n");
    const pnpm = join(tools, 'node_modules', '.bin', 'pnpm');
    await run(pnpm, ['add', '--ignore-scripts', '--prefer-offline', 'koa@3', tarball], { cwd: folder });
    await assertServes(folder, './app.mjs');
  });
});

/** Runs the tests of FEATURES against that primary. */
async function assertPasses(primary: readonly string[], version: string): Promise<void> {
  const { NODE_TEST_CONTEXT: _, ...environment } = process.env; // else they would report to this file
  const env = { ...environment, TESTED_PRIMARY: JSON.stringify(primary) };
  const files = FEATURES.map(name => join(ROOT, 'test', 'process', `${name}.test.ts`));
  const left = version.startsWith('22') ? [`--test-skip-pattern=${SINCE_NODE_24}`] : [];
  const running = run(process.execPath, ['--test', '--test-concurrency=1', ...left, ...files], { env, maxBuffer: 1 << 26 });
  const { stdout } = await running.catch((error: Error & { stdout: string }) => assert.fail(error.stdout));
  assert.match(stdout, /^\S+ fail 0$/m);
}

async function assertServes(folder: string, app: string): Promise<void> {
  const command: [string, ...string[]] = [join(folder, 'node_modules', '.bin', 'bosun'), 'start', app];
  const kit = await startKit({ command, cwd: folder, detached: true, env: { PATH } });
  const { port } = await kit.ready();
  assert.equal((await request(port, '/')).status, 200);
  assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
}
