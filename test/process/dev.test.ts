/**
 * `bosun dev` with real saves: what reloads the app, what is shown when the new code does not run, and how it ends.
 */
import assert from 'node:assert/strict';
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { until } from '../until.ts';
import { RawClient, request } from './clients.ts';
import { CLEAN, type Kit, type KitOptions, ROOT, startKit } from './kit.ts';
import { temporaryFolder } from './operator.ts';

const APP = `
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { label } from './label.mjs';
import settings from './settings.json' with { type: 'json' };
import { typed } from './typed.ts';
import { linked } from 'linked';
const { legacy } = createRequire(import.meta.url)('./legacy.cjs');
const optional = await import('./optional.mjs').then(({ optional }) => optional, () => 'missing');
const view = readFileSync(new URL('./views/deep/a.html', import.meta.url), 'utf8');
export default async (req, res) => {
  if (req.url === '/crash') setTimeout(() => { throw new Error('boom'); });
  if (req.url === '/open') return res.write('begun');
  const lazy = req.url === '/lazy' ? (await import('./lazy.mjs')).lazy : undefined;
  res.end(JSON.stringify({ label, ...settings, typed, linked, legacy, optional, view, greeting: process.env.GREETING, lazy }));
};`;

/** The project of an app, in a folder of its own. */
class Project {
  readonly folder = temporaryFolder();

  constructor(files: Record<string, string>) {
    for (const [name, text] of Object.entries(files)) this.write(name, text);
  }

  write(name: string, text: string): void {
    const path = join(this.folder, name);
    mkdirSync(join(path, '..'), { recursive: true });
    writeFileSync(path, text);
  }

  /** By a rename, as many editors save: a reader never sees half of the file. */
  replace(name: string, text: string): void {
    this.write(`${name}.tmp`, text);
    renameSync(join(this.folder, `${name}.tmp`), join(this.folder, name));
  }
}

const startDev = (project: Project, options: string[] = [], env: KitOptions['env'] = {}) =>
  startKit({
    command: [process.execPath, join(ROOT, 'src', 'cli', 'bosun.ts'), 'dev', './server.mjs', '--json', ...options],
    cwd: project.folder,
    env,
    detached: true,
  });

/** Saves, and resolves when the new code serves. */
async function reloadedBy(kit: Kit, save: () => unknown): Promise<void> {
  const before = kit.all('dev.reloaded').length;
  await save();
  await until(
    () => kit.all('dev.reloaded').length > before || undefined,
    () => kit.transcript(),
  );
}

/** Saves, and resolves with the error of the new code. */
async function failedBy(kit: Kit, save: () => unknown): Promise<{ error: string; stack: string; note: string }> {
  const before = kit.all('dev.failed').length;
  await save();
  const look = () => kit.all('dev.failed')[before];
  const { error, stack, note } = await until(look, () => kit.transcript());
  return { error: String(error), stack: String(stack), note: String(note) };
}

const shownError = async (kit: Kit) => ((await kit.status()).dev as { error: { stack?: string } | null }).error;

test('bosun dev reloads what was loaded, however it is saved, and shows what does not run', async () => {
  const project = new Project({
    'server.mjs': APP,
    'package.json': '{ "private": true }',
    'label.mjs': "export const label = 'one';",
    'settings.json': '{ "setting": 1 }',
    'typed.ts': 'export const typed: number = 1;',
    'legacy.cjs': 'exports.legacy = 1;',
    'lazy.mjs': 'export const lazy = 1;',
    'views/deep/a.html': 'one',
    '.env': 'GREETING=hello',
    'packages/linked/package.json': '{ "name": "linked", "exports": "./index.mjs" }',
    'packages/linked/index.mjs': 'export const linked = 1;',
  });
  mkdirSync(join(project.folder, 'node_modules'));
  symlinkSync(join(project.folder, 'packages', 'linked'), join(project.folder, 'node_modules', 'linked'));
  const kit = await startDev(project, ['--watch', 'views/**/*.html'], { GREETING: undefined });
  await kit.event('dev.watching');
  const { port } = await kit.ready();
  const answer = async (path = '/') => JSON.parse((await request(port, path)).body) as Record<string, unknown>;
  assert.deepEqual(await answer('/lazy'), {
    label: 'one',
    setting: 1,
    typed: 1,
    linked: 1,
    legacy: 1,
    optional: 'missing',
    view: 'one',
    greeting: 'hello',
    lazy: 1,
  });
  assert.deepEqual((await kit.status()).workers.length, 1);

  for (const [name, save, expected] of [
    ['an ES module', () => project.write('label.mjs', "export const label = 'two';"), { label: 'two' }],
    ['a rename over it', () => project.replace('label.mjs', "export const label = 'three';"), { label: 'three' }],
    ['a CommonJS module', () => project.write('legacy.cjs', 'exports.legacy = 2;'), { legacy: 2 }],
    ['JSON', () => project.replace('settings.json', '{ "setting": 2 }'), { setting: 2 }],
    ['TypeScript', () => project.write('typed.ts', 'export const typed: number = 2;'), { typed: 2 }],
    ['.env', () => project.write('.env', 'GREETING=ahoy'), { greeting: 'ahoy' }],
    ['a template', () => project.write('views/deep/a.html', 'two'), { view: 'two' }],
    ['a linked package', () => project.write('packages/linked/index.mjs', 'export const linked = 2;'), { linked: 2 }],
    ['a module that was missing', () => project.write('optional.mjs', "export const optional = 'there';"), { optional: 'there' }],
    ['a module that was loaded later', () => project.write('lazy.mjs', 'export const lazy = 2;'), { lazy: 2 }],
  ] as const) {
    await reloadedBy(kit, save);
    const now = await answer('/lazy');
    for (const [key, value] of Object.entries(expected)) assert.equal(now[key], value, `${name}: ${kit.transcript()}`);
  }
  assert.equal(kit.all('dev.reloaded').length, 10, kit.transcript());

  // One reload for a checkout that replaces several files; an editor that truncates first may cost a second one.
  await reloadedBy(kit, () => {
    for (const name of ['label.mjs', 'typed.ts', 'legacy.cjs', 'lazy.mjs']) rmSync(join(project.folder, name));
    project.write('label.mjs', "export const label = 'four';");
    project.write('typed.ts', 'export const typed: number = 4;');
    project.write('legacy.cjs', 'exports.legacy = 4;');
    project.write('lazy.mjs', 'export const lazy = 4;');
  });
  const { label, typed, legacy } = await answer();
  assert.deepEqual([label, typed, legacy], ['four', 4, 4]);

  const broken = await failedBy(kit, () => project.write('label.mjs', "export const label = = 'five';"));
  assert.match(broken.stack, /label\.mjs:1\n/);
  assert.match(broken.note, /goes on serving/);
  assert.equal((await answer()).label, 'four');
  assert.match((await shownError(kit))?.stack ?? '', /label\.mjs:1\n[\s\S]*SyntaxError/);
  await reloadedBy(kit, () => project.write('label.mjs', "export const label = 'five';"));
  assert.equal((await answer()).label, 'five');
  assert.equal(await shownError(kit), null);

  // A start that hangs is given up at the next save.
  const starts = kit.all('pool.restart').length;
  project.write('label.mjs', 'while (true);');
  await until(
    () => kit.all('pool.restart').length > starts || undefined,
    () => kit.transcript(),
  );
  await reloadedBy(kit, () => project.write('label.mjs', "export const label = 'six';"));
  assert.equal((await answer()).label, 'six');

  // An open answer of the old worker delays neither the next reload nor the end.
  await using _ = await openAnswer(port);
  await reloadedBy(kit, () => project.write('legacy.cjs', 'exports.legacy = 6;'));
  await reloadedBy(kit, () => project.write('legacy.cjs', 'exports.legacy = 7;'));
  assert.equal((await answer()).legacy, 7);

  const crash = await failedBy(kit, () => request(port, '/crash'));
  assert.match(crash.stack, /Error: boom\n +at .*server\.mjs:12/);
  assert.match(crash.note, /nothing serves until the next save/);
  await reloadedBy(kit, () => project.write('label.mjs', "export const label = 'seven';"));
  assert.equal((await answer()).label, 'seven');
  assert.equal(await shownError(kit), null);
  assert.deepEqual(kit.all('pool.restart-failed').length, 1, 'the syntax error');

  const last = await openAnswer(port);
  process.kill(-kit.pid, 'SIGINT');
  const from = performance.now();
  assert.equal((await kit.exit()).signal, null, kit.transcript());
  assert.ok(performance.now() - from < 2500, `ended after ${performance.now() - from} ms`);
  await last[Symbol.asyncDispose]();
  await kit.workersGone();
  await new Promise<void>((resolve, reject) => {
    const server = createServer().once('error', reject);
    server.listen(port, '127.0.0.1', () => server.close(() => resolve()));
  });
});

test('bosun dev waits for a save when the first start fails, and for each of its workers', async () => {
  const project = new Project({ 'server.mjs': "import './nowhere.mjs';\nexport default (req, res) => res.end('ok');" });
  const kit = await startDev(project, ['--workers', '2'], { START_TIMEOUT_MS: '500', RESTART_INTENSITY: '0' });
  const { stack } = await failedBy(kit, () => undefined);
  assert.match(stack, /server\.mjs.*nowhere\.mjs|nowhere\.mjs.*server\.mjs/);
  await failedBy(kit, () => project.write('nowhere.mjs', 'throw new Error("not yet");'));
  await reloadedBy(kit, () => project.write('nowhere.mjs', ''));
  const { port } = await kit.ready();
  assert.equal((await request(port, '/')).body, 'ok');
  await kit.statusWhere(({ workers }) => workers.map(({ state }) => state).join() === 'ready,ready');
  assert.deepEqual(await kit.stop('SIGINT'), CLEAN, kit.transcript());
});

test('bosun dev refuses production, and says why', async () => {
  const project = new Project({ 'server.mjs': 'export default () => {};' });
  const kit = await startDev(project, [], { NODE_ENV: 'production' });
  assert.equal((await kit.exit()).code, 78);
  assert.match(kit.stderr, /NODE_ENV must not be "production" for bosun dev \(environment\): unset it, or run bosun start/);
});

/** An answer that has begun and never ends. */
async function openAnswer(port: number): Promise<RawClient> {
  const client = await RawClient.open(port);
  client.write('GET /open HTTP/1.1\r\nHost: x\r\n\r\n');
  await client.received(/begun/);
  return client;
}
