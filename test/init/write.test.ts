/**
 * `bosun init` and `bosun upgrade --check` in a repository: what is written, kept, compared and refused.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { stateOf } from '../../src/init/record.ts';
import { Running, temporaryFolder } from '../process/operator.ts';

test('a change in the repository is not mistaken for one of the template', async () => {
  const { header, hashOf } = await import('../../src/init/record.ts');
  const recorded = hashOf('a\nb\n');
  assert.equal(stateOf(undefined, 'a\n', recorded), 'new');
  assert.equal(stateOf('a\r\nb\r\n', 'a\nb\n', recorded), 'same', 'as git checks it out on Windows');
  assert.equal(stateOf(`${header('0.0.9', 'x')}a\nb\n`, `${header('0.1.0', 'x')}a\nb\n`, recorded), 'same', 'another version');
  assert.equal(stateOf('a\nb\n', 'a\nc\n', recorded), 'outdated');
  assert.equal(stateOf('a\nmine\n', 'a\nb\n', recorded), 'edited');
  assert.equal(stateOf('a\nmine\n', 'a\nc\n', recorded), 'both');
  assert.equal(stateOf('a\nmine\n', 'a\nc\n', recorded, 'a\nb\n'), 'options');
  assert.equal(stateOf('mine\n', 'a\nb\n', undefined), 'foreign');
});

const bosun = (args: readonly string[], cwd: string) => new Running(args, { cwd }).ended;

function shop(): string {
  const cwd = temporaryFolder();
  writeFileSync(join(cwd, 'package.json'), '{ "name": "shop", "dependencies": { "koa-bosun": "^0.1.0" } }\n');
  writeFileSync(join(cwd, 'server.js'), 'app.use(kit.session)');
  return cwd;
}

const contentOf = (cwd: string) =>
  readdirSync(cwd, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath, entry.name))
    .sort()
    .map(file => [file, readFileSync(file, 'utf8')]);

test('without a terminal bosun init writes what it found, and a second run changes nothing', async () => {
  const cwd = shop();
  const before = contentOf(cwd);
  const dry = await bosun(['init', '--dry-run'], cwd);
  assert.equal(dry.code, 0, dry.stderr);
  assert.match(
    dry.stdout,
    /^--- \/dev\/null\n\+\+\+ b\/Dockerfile\n@@ -0,0 \+1,\d+ @@\n\+# koa-bosun 0\.1\.0, docker\/Dockerfile: written by bosun init$/m,
  );
  assert.match(dry.stdout, /^--- a\/package\.json\n\+\+\+ b\/package\.json$/m);
  assert.deepEqual(contentOf(cwd), before);

  const first = await bosun(['init'], cwd);
  assert.equal(first.code, 0, first.stderr);
  assert.match(
    first.stdout,
    /^shop: Node\.js, module server\.js, no build, npm, Node\.js 26, image shop:1\.0\.0, port 3000, with Redis$/m,
  );
  assert.match(first.stdout, /no lock file/);
  const written = contentOf(cwd);
  for (const crlf of [false, true]) {
    if (crlf) writeFileSync(join(cwd, 'compose.yaml'), readFileSync(join(cwd, 'compose.yaml'), 'utf8').replaceAll('\n', '\r\n'));
    const unchanged = contentOf(cwd);
    const second = await bosun(['init', '--yes'], cwd);
    assert.equal(second.code, 0, second.stderr);
    assert.doesNotMatch(second.stdout, / (write|keep|overwrite|add to) /);
    assert.deepEqual(contentOf(cwd), unchanged);
  }
  assert.ok(written.length > 10);
  assert.deepEqual(await bosun(['upgrade', '--check'], cwd), {
    code: 0,
    signal: null,
    stdout: 'every file is as bosun init would write it\n',
    stderr: '',
  });
});

test('bosun init keeps what is there unless --force, and upgrade --check shows each difference', async () => {
  const cwd = shop();
  writeFileSync(join(cwd, 'Dockerfile'), 'FROM mine\n');
  const kept = await bosun(['init', '--yes', '--image', 'registry/shop:3'], cwd);
  assert.match(kept.stdout, /keep {7}Dockerfile is kept, it differs: it is not from bosun init \(--force overwrites it\)/);
  assert.equal(readFileSync(join(cwd, 'Dockerfile'), 'utf8'), 'FROM mine\n');
  const forced = await bosun(['init', '--yes', '--force', '--json'], cwd);
  assert.deepEqual(JSON.parse(forced.stdout), { written: ['Dockerfile'], kept: [] });
  assert.match(readFileSync(join(cwd, 'compose.yaml'), 'utf8'), /registry\/shop:3/, 'the image of the first run is remembered');

  writeFileSync(join(cwd, 'compose.yaml'), readFileSync(join(cwd, 'compose.yaml'), 'utf8').replace('40s', '50s'));
  rmSync(join(cwd, 'docker'), { recursive: true });
  const check = await bosun(['upgrade', '--check'], cwd);
  assert.equal(check.code, 1);
  assert.match(
    check.stdout,
    /^compose\.yaml differs: edited in this repository, the template is the same\n--- a\/compose\.yaml$/m,
  );
  assert.match(check.stdout, /^- {4}stop_grace_period: 50s\n\+ {4}stop_grace_period: 40s$/m);
  assert.match(check.stdout, /^docker\/alerts\.yml is missing$/m);
});

test('what nobody has edited follows the options, and what is edited is kept with the choice that it has', async () => {
  const cwd = shop();
  await bosun(['init', '--yes'], cwd);
  const read = (path: string) => readFileSync(join(cwd, path), 'utf8');
  const overlay = 'k8s/overlays/shop/kustomization.yaml';

  const moved = await bosun(['init', '--yes', '--namespace', 'team', '--image', 'registry/shop:3'], cwd);
  assert.doesNotMatch(moved.stdout, / keep /);
  assert.match(read(overlay), /^namespace: "team"$/m);
  const { image } = JSON.parse(read('package.json')).scripts;
  assert.equal(image, 'docker build --tag registry/shop:3 .');

  writeFileSync(join(cwd, overlay), `${read(overlay)}# mine\n`);
  const edited = await bosun(['upgrade'], cwd);
  assert.deepEqual(
    [edited.code, edited.stdout.split('\n')[0]],
    [0, `${overlay} differs: edited in this repository, the template is the same`],
  );
  const kept = await bosun(['init', '--yes', '--namespace', 'other'], cwd);
  assert.match(kept.stdout, /kustomization\.yaml is kept, it differs: edited in this repository, and your options have changed/);
  assert.match(kept.stdout, /the namespace team/);
  assert.equal(JSON.parse(read('.bosun.json')).choices.namespace, 'team');

  await bosun(['init', '--yes', '--image', 'registry/shop:4'], cwd);
  const open = await bosun(['upgrade', '--check'], cwd);
  assert.deepEqual(
    [open.code, JSON.parse(read('.bosun.json')).choices.image],
    [1, 'registry/shop:4'],
    'the image is in other files',
  );
  await bosun(['upgrade', '--accept'], cwd);
  assert.equal((await bosun(['upgrade', '--check'], cwd)).code, 0);

  await bosun(['init', '--yes', '--helm'], cwd);
  assert.ok(existsSync(join(cwd, 'k8s/base')), 'the edited overlay may need it');
  assert.match(JSON.parse(read('package.json')).scripts['k8s-apply'], /^helm /);
  await bosun(['init', '--yes', '--no-helm', '--no-redis', '--force'], cwd);
  assert.doesNotMatch(read(overlay), /mine|components\/redis/);
  await bosun(['init', '--yes', '--helm'], cwd);
  assert.deepEqual(
    readdirSync(join(cwd, 'k8s')).filter(name => name !== 'make'),
    ['chart'],
  );
  assert.equal((await bosun(['upgrade', '--check'], cwd)).code, 0);
});

test('what bosun init cannot do is an error that says what to do', async () => {
  const cwd = temporaryFolder();
  const absent = await bosun(['init'], cwd);
  assert.deepEqual([absent.code, absent.stdout], [78, '']);
  assert.match(absent.stderr, /^bosun: bosun init needs the package\.json of your app, found none in /);
  writeFileSync(join(cwd, 'package.json'), '{ "name": ');
  assert.match((await bosun(['init'], cwd)).stderr, /package\.json must be JSON/);
  const folder = shop();
  assert.match(
    (await bosun(['init', '--port', '80'], folder)).stderr,
    /--port must be from 1024 to 65535, and not 9090, got "80"/,
  );
  assert.match((await bosun(['upgrade', '--check'], folder)).stderr, /found no \.bosun\.json/);
  mkdirSync(join(folder, 'compose.yaml'));
  const half = await bosun(['init', '--yes'], folder);
  assert.deepEqual([half.code, existsSync(join(folder, '.bosun.json'))], [1, false]);
  assert.match(half.stderr, /^bosun: compose\.yaml cannot be written: EISDIR/);
  assert.deepEqual(
    readdirSync(folder).filter(name => name.endsWith('.tmp')),
    [],
  );
});
