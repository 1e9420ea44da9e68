/**
 * What `bosun init` finds out about a repository, of files in memory.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DetectError, nameOf } from '../../src/init/detect.ts';
import { locate } from '../../src/init/location.ts';
import { found, KOA, WORKSPACE } from './files.ts';

test('the entry is what npm start runs, as bosun start would serve it', () => {
  for (const [start, files, module, source] of [
    ['node server.js', ['server.js'], 'server.js', 'server.js'],
    ['NODE_ENV=production node --enable-source-maps ./bin/www', ['bin/www'], 'bin/www', 'bin/www'],
    ['nodemon -r dotenv/config app.js', ['app.js', 'server.js'], 'app.js', 'app.js'],
    ['bosun start src/app.mjs', ['src/app.mjs'], 'src/app.mjs', 'src/app.mjs'],
    ['tsx watch src/main.ts', ['src/main.ts'], 'src/main.ts', 'src/main.ts'],
    ['', ['src/index.js'], 'src/index.js', 'src/index.js'],
  ] as const) {
    const texts = Object.fromEntries(files.map(file => [file, '']));
    const { entry } = found({ 'package.json': { scripts: { start } }, ...texts });
    assert.deepEqual([entry.module, entry.source, entry.build], [module, source, undefined], start);
  }
});

test('a build is what the image serves; its source is for bosun dev where a loader can load it', () => {
  const scripts = { build: 'tsc', start: 'node dist/server.js' };
  const texts = { 'src/server.ts': '', 'tsconfig.json': '{ "compilerOptions": { "outDir": "./dist", } }' };
  const plain = found({ 'package.json': { scripts }, ...texts }).entry;
  assert.deepEqual([plain.module, plain.source, plain.build?.script], ['dist/server.js', undefined, 'build']);
  const withTsx = found({ 'package.json': { scripts, devDependencies: { tsx: '4' } }, ...texts }).entry;
  assert.equal(withTsx.source, 'src/server.ts');
  const unnamed = found({ 'package.json': { scripts: { build: 'tsc' } }, ...texts }).entry;
  assert.equal(unnamed.module, 'dist/server.js', 'the output of the source that is found');
});

test('a NestJS app is built, and decorators need a loader that emits their metadata', () => {
  const manifest = {
    scripts: { build: 'nest build', start: 'nest start', 'start:prod': 'node dist/main' },
    dependencies: { '@nestjs/core': '11' },
    devDependencies: { tsx: '4' },
  };
  const tsconfig = '{ "compilerOptions": { "outDir": "dist", "emitDecoratorMetadata": true } }';
  const texts = { 'package.json': manifest, 'src/main.ts': 'app.listen(process.env.PORT ?? 8081)', 'tsconfig.json': tsconfig };
  const project = found(texts);
  assert.deepEqual([project.framework, project.entry.module, project.entry.source], ['NestJS', 'dist/main.js', undefined]);
  const swc = { ...manifest, devDependencies: { '@swc-node/register': '1' } };
  const { entry, port } = found({ ...texts, 'package.json': swc });
  assert.deepEqual([entry.source, port], ['src/main.ts', 8081]);
});

test('nothing that looks like an app is an error that names the option', () => {
  assert.throws(
    () => found({ 'package.json': {} }),
    /--module FILE; found none by "start", "main" or "exports" in package\.json/,
  );
  assert.throws(() => found({ 'package.json': {} }, { module: 'absent.js' }), /got "absent\.js"/);
  assert.throws(() => found({}), DetectError);
  assert.throws(() => found({ 'package.json': '{ "name": ' }), /package\.json must be JSON/);
});

test('the package manager is the one that is named, else that of the lock file', () => {
  for (const [files, manifest, name, version, lockFile] of [
    [{}, {}, 'npm', undefined, undefined],
    [{ 'package-lock.json': '' }, {}, 'npm', undefined, 'package-lock.json'],
    [{ 'pnpm-lock.yaml': "lockfileVersion: '9.0'\n" }, {}, 'pnpm', '10', 'pnpm-lock.yaml'],
    [{ 'pnpm-lock.yaml': "lockfileVersion: '6.0'\n" }, {}, 'pnpm', '8', 'pnpm-lock.yaml'],
    [{ 'pnpm-lock.yaml': '' }, { packageManager: 'pnpm@9.15.4+sha512.abc' }, 'pnpm', '9.15.4', 'pnpm-lock.yaml'],
    [{ 'yarn.lock': '# yarn lockfile v1\n' }, {}, 'yarn', '1.22.22', 'yarn.lock'],
    [{ 'yarn.lock': '__metadata:\n' }, {}, 'berry', '4', 'yarn.lock'],
    [{ 'yarn.lock': '' }, { packageManager: 'yarn@4.9.1' }, 'berry', '4.9.1', 'yarn.lock'],
    [{ '.yarnrc.yml': '' }, {}, 'berry', '4', undefined],
    [{ 'bun.lock': '' }, {}, 'bun', '1', 'bun.lock'],
    [{ 'bun.lockb': '' }, {}, 'bun', '1', 'bun.lockb'],
  ] as const)
    assert.deepEqual(found({ 'package.json': manifest, 'server.js': '', ...files }).manager, { name, version, lockFile });
});

test('Node.js is the newest that the project accepts and the kit runs on', () => {
  for (const [files, manifest, major, from, refused] of [
    [{}, {}, 26, undefined, undefined],
    [{}, { engines: { node: '>=20' } }, 26, 'engines.node', undefined],
    [{}, { engines: { node: '^24.1.0' } }, 24, 'engines.node', undefined],
    [{}, { engines: { node: '22.x || 24.x' } }, 24, 'engines.node', undefined],
    [{}, { engines: { node: '<20' } }, 26, 'engines.node', '<20'],
    [{}, { volta: { node: '24.3.1' } }, 24, 'volta.node', undefined],
    [{ '.nvmrc': 'v24.11.0\n' }, { engines: { node: '>=26' } }, 24, '.nvmrc', undefined],
    [{ '.nvmrc': 'lts/krypton\n' }, {}, 24, '.nvmrc', undefined],
    [{ '.nvmrc': 'lts/*' }, {}, 26, '.nvmrc', undefined],
    [{ '.node-version': '18' }, {}, 26, '.node-version', '18'],
  ] as const) {
    const { node } = found({ 'package.json': manifest, 'server.js': '', ...files });
    assert.deepEqual(node, { major, from, refused }, JSON.stringify({ files, manifest }));
  }
});

test('Redis comes with what uses it or sessions, by package or by the kit', () => {
  for (const [dependencies, code, redis, uses] of [
    [KOA, 'module.exports = app', false, []],
    [KOA, 'app.use(kit.session)', true, ['sessions']],
    [{ 'express-session': '1' }, '', true, ['express-session']],
    [{ 'express-session': '1', 'connect-redis': '9' }, '', true, ['redis']],
    [{ ioredis: '5' }, '', true, ['redis']],
    [KOA, "kit.broadcast('a', 1)", true, ['redis']],
    [{ ws: '8' }, '', false, ['websockets']],
  ] as const) {
    const project = found({ 'package.json': { dependencies }, 'server.js': code });
    assert.deepEqual([project.redis, project.uses], [redis, uses], code);
  }
  assert.equal(found({ 'package.json': { dependencies: KOA }, 'server.js': '' }, { redis: true }).redis, true);
});

test('the port is that of the source, else of .env, else 3000; never one that needs root, nor the admin port', () => {
  for (const [code, env, port] of [
    ['app.listen(8080)', '', 8080],
    ['const { PORT = 1 } = process.env; listen(process.env.PORT || 5000)', '', 5000],
    ['app.listen({ port: 4000 })', '', 4000],
    ['app.listen(process.env.PORT)', 'PORT=4100\n', 4100],
    ['app.listen(80)', '', 3000],
    ['app.listen(9090)', '', 3000],
    ['', '', 3000],
  ] as const)
    assert.equal(found({ 'package.json': {}, 'server.js': code, '.env': env }).port, port, code);
});

test('a name is a DNS label, an image has a tag', () => {
  for (const [text, name] of [
    ['@acme/Shop_API', 'shop-api'],
    ['42', 'app'],
    ['', 'app'],
    ['a'.repeat(60), 'a'.repeat(40)],
  ] as const)
    assert.equal(nameOf(text), name);
  const project = found({ 'package.json': { name: '@acme/shop', version: '2.0.1' }, 'server.js': '' });
  assert.deepEqual([project.name, project.image], ['shop', 'shop:2.0.1']);
  const image = (given: string) => found({ 'package.json': {}, 'server.js': '' }, { image: given }).image;
  assert.equal(image('registry:5000/shop'), 'registry:5000/shop:1.0.0');
  assert.equal(image('registry/shop@sha256:abc'), 'registry/shop@sha256:abc');
});

test('a package of a workspace is built from the root, with the tarballs that it depends on', () => {
  const { packages, workspace, kit, lifecycle, manager, name } = found(WORKSPACE, {}, 'packages/api');
  assert.deepEqual(packages, ['.', 'packages/api', 'packages/lib', 'apps/web/site']);
  assert.deepEqual([workspace, manager.name, name, lifecycle.prepare], ['@acme/api', 'pnpm', 'api', true]);
  assert.deepEqual(kit.tarballs, ['../kit/koa-bosun-0.1.0.tgz', 'tar/other.tgz']);
  assert.equal(kit.folder, 'packages/api/node_modules/koa-bosun');
});

test('a kit among the devDependencies, or not among them at all, is seen', () => {
  assert.equal(found({ 'package.json': { devDependencies: KOA }, 'server.js': '' }).kit.isDevelopment, true);
  assert.equal(found({ 'package.json': {}, 'server.js': '' }).kit.spec, undefined);
});

test('bosun init refuses a folder without package.json, one in node_modules, and the kit itself', () => {
  const root = new URL('../..', import.meta.url).pathname.replace(/\/$/, '');
  assert.throws(() => locate(import.meta.dirname, root), /found none in .*test\/init: run it in the folder of the app/);
  assert.throws(() => locate(`${root}/node_modules/koa`, root), /got a folder of node_modules/);
  assert.throws(() => locate(root, root), /is koa-bosun itself/);
});
