/**
 * `make test-apps`: `npx koa-bosun init --yes` in repositories of different shape, then `docker compose up --build --wait`. Each app answers, keeps
 * its session when a worker is killed, and loses nothing to SIGTERM under load; its manifests keep the rules and the schemas; another `init` changes
 * nothing.
 */
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, globSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import { App } from '../container/app.ts';
import { docker, uniqueName, withEngine } from '../container/engine.ts';
import { DELAY_MS, stopUnderLoad } from '../container/load.ts';
import { freePort } from '../free-port.ts';
import { kustomize, noKubectl, parse } from '../k8s/manifests.ts';
import { broken } from '../k8s/relations.ts';
import { problems } from '../k8s/schemas.ts';
import { request } from '../process/clients.ts';
import { until } from '../until.ts';
import { Visitor } from '../visitor.ts';
import { installKit, layOut, linkKit, npm, PATH, registryError } from './projects.ts';

const run = promisify(execFile);
/** As many at a time as CI has CPUs. */
const CONCURRENCY = 2;
const WORKERS = 2;

interface Repository {
  folder: string;
  /** Has its packages on this machine too; README.md has its time. The others have a lock file and the kit: `init` and the image need no more. */
  isInstalled?: true;
  /** The package, in the repository. */
  place?: string;
  /** The first line that `init` prints, from the framework on. */
  found: RegExp;
}

const REPOSITORIES = {
  'JavaScript Koa': { folder: 'init-koa', isInstalled: true, found: /Koa, module server\.js, no build, npm, Node\.js 26, image init-koa:1\.2\.3, port 3000, with Redis/ },
  'TypeScript Koa': { folder: 'init-koa-ts', found: /Koa, module build\/server\.js, built by npm run build, npm, Node\.js 24 \(engines\.node\)/ },
  'Express with a build': { folder: 'init-express', isInstalled: true, found: /Express, module dist\/index\.js, built by npm run build, npm, Node\.js 26, .* with Redis/ },
  'Fastify as an ES module': { folder: 'init-fastify', found: /Fastify, module app\.js, no build, npm, Node\.js 26, .* with Redis/ },
  NestJS: { folder: 'init-nestjs', found: /NestJS, module dist\/main\.js, built by npm run build, npm, Node\.js 26, .* with Redis/ },
  'a package of a pnpm workspace': {
    folder: 'init-workspace',
    place: 'packages/api',
    found: /Koa in packages\/api, module dist\/server\.js, built by pnpm run build, pnpm 10\.34\.9, Node\.js 26, .* with Redis/,
  },
} satisfies Record<string, Repository>;

const offline = await registryError();
const skip = withEngine.skip || (offline !== undefined && `npm reaches no registry: ${offline}`);
if (skip) console.error(`test-apps: bosun init is skipped: ${skip}`);

interface Kit {
  tarball: string;
  /** The folder where it is installed. */
  folder: string;
}

/** Once, for all tests of this file. */
let packed: Promise<Kit> | undefined;
const kitOf = (): Promise<Kit> => (packed ??= pack());

async function pack(): Promise<Kit> {
  const folder = await installKit();
  const laidOut = join(folder, '..', '..');
  const [tarball = ''] = globSync('*.tgz', { cwd: laidOut });
  return { folder, tarball: join(laidOut, tarball) };
}

describe('bosun init for', { concurrency: CONCURRENCY, skip }, () => {
  for (const [name, repository] of Object.entries(REPOSITORIES)) test(name, async t => assertServes(t, repository, await kitOf()));
});

async function assertServes(t: TestContext, { folder, place = '.', isInstalled = false, found }: Repository, kit: Kit): Promise<void> {
  const root = mkdtempSync(join(tmpdir(), 'bosun-init-'));
  cpSync(join(import.meta.dirname, folder), root, { recursive: true });
  const cwd = join(root, place);
  const begun = performance.now();
  const took = (what: string) => t.diagnostic(`${folder}: ${what} after ${((performance.now() - begun) / 1000).toFixed(1)} s`);
  await install(root, cwd, kit, isInstalled);
  took('installed');
  const npx = (...args: string[]) => run('npx', ['--no-install', 'koa-bosun', ...args], { cwd, env: { ...process.env, PATH } });
  assert.match((await npx('init', '--yes')).stdout, found);
  const written = fingerprint(root);
  await npx('init', '--yes');
  assert.equal(fingerprint(root), written, 'a second init changes nothing');

  const name = basename(folder);
  const project = uniqueName();
  const env = { PATH, PORT: String(await freePort()), ADMIN_PORT: String(await freePort()), APP_IMAGE: project, COMPOSE_PROJECT_NAME: project, SHUTDOWN_DELAY_MS: String(DELAY_MS) };
  const compose = async (...args: string[]) => (await docker(['compose', '--project-directory', cwd, '--file', join(cwd, 'compose.yaml'), ...args], env)).trim();
  // Not atEnd: its list is that of a file whose tests run one after another.
  t.after(async () => {
    await compose('down', '--volumes', '--timeout', '1');
    await docker(['image', 'rm', '--force', project]);
    rmSync(root, { recursive: true });
  });
  took('written twice');
  if (noKubectl === false) assertManifests(join(cwd, 'k8s', 'overlays'));
  await compose('up', '--build', '--wait');
  const app = await App.of(await compose('ps', '--quiet', 'app'));

  const visitor = new Visitor();
  await visitor.count(app.port);
  took('first answer of its container');
  const counts = await visitor.countOnEveryWorker(app.port, WORKERS, 1);
  const { counter = 0, pid = 0 } = counts.at(-1) ?? {};
  await compose('exec', '--no-TTY', 'app', 'node', '-e', `process.kill(${pid}, 'SIGKILL')`);
  await app.event('worker.exit', event => event.workerPid === pid);
  assert.equal((await visitor.count(app.port)).counter, counter + 1, `${name}: the session outlives the worker ${pid}`);
  await stopUnderLoad(app, () => compose('kill', '--signal', 'TERM', 'app'), 1);
  took('stopped under load');
}

/** As a person would: npm from a folder beside the repository, pnpm by the version that the repository names. */
async function install(root: string, cwd: string, { folder, tarball }: Kit, isInstalled: boolean): Promise<void> {
  if (root === cwd) {
    await npm(root, 'install', ...(isInstalled ? [] : ['--package-lock-only']), tarball);
    if (!isInstalled) linkKit(root, folder);
    return;
  }
  const pnpm = join(await layOut('package-managers'), 'node_modules', '.bin', 'pnpm');
  cpSync(tarball, join(root, basename(tarball)));
  await run(pnpm, ['add', '--prefer-offline', `file:../../${basename(tarball)}`], { cwd, env: { ...process.env, PATH } });
}

function assertManifests(overlays: string): void {
  const [overlay = ''] = globSync('*', { cwd: overlays });
  const manifests = parse(kustomize(join(overlays, overlay)));
  assert.ok(manifests.length >= 8);
  const faults = [...broken(manifests), ...(['1.31', '1.36'] as const).flatMap(version => manifests.flatMap(one => problems(one, version)))];
  assert.deepEqual(faults, []);
}

/** Of every file outside node_modules. */
function fingerprint(root: string): string {
  const hash = createHash('sha256');
  for (const file of globSync('**/{*,.*,.*/**}', { cwd: root, exclude: path => path.includes('node_modules') }).sort())
    if (statSync(join(root, file)).isFile()) hash.update(`\0${file}\0`).update(readFileSync(join(root, file)));
  return hash.digest('hex');
}

test('docker compose watch copies a saved file into the container, where bosun dev reloads the app', { skip, timeout: 300_000 }, async t => {
  const root = mkdtempSync(join(tmpdir(), 'bosun-init-'));
  cpSync(join(import.meta.dirname, 'init-koa'), root, { recursive: true });
  await install(root, root, await kitOf(), false);
  await run('npx', ['--no-install', 'koa-bosun', 'init', '--yes'], { cwd: root, env: { ...process.env, PATH } });
  const project = uniqueName();
  const port = await freePort();
  const env = { ...process.env, PORT: String(port), ADMIN_PORT: String(await freePort()), APP_IMAGE: project, COMPOSE_PROJECT_NAME: project };
  const files = ['compose', '--file', 'compose.yaml', '--file', 'compose.dev.yaml'];
  const watching = spawn('docker', [...files, 'watch'], { cwd: root, env, stdio: 'ignore' });
  t.after(async () => {
    watching.kill('SIGINT');
    await run('docker', [...files, 'down', '--volumes', '--timeout', '1'], { cwd: root, env });
    await docker(['image', 'rm', '--force', `${project}-dev`]);
    rmSync(root, { recursive: true });
  });
  const shown = (text: string, timeoutMs: number) =>
    until(
      async () => (await request(port, '/').catch(() => undefined))?.body.includes(text) || undefined,
      () => `the app must answer with ${text}`,
      timeoutMs,
    );
  await shown('before', 200_000);
  const server = join(root, 'server.js');
  writeFileSync(server, readFileSync(server, 'utf8').replace("'before'", "'after'"));
  await shown('after', 30_000);
});
