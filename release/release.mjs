/**
 * `make release`: from a clean tree whose CHANGELOG has a dated section for the version of package.json, checks, tests, packs, writes the notes and
 * tags. It pushes nothing; it prints what to push. With --dry-run it writes no tag. Plain JavaScript for Node.js 20.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { notesOf } from './notes.mjs';

const ROOT = resolve(import.meta.dirname, '..');
const OUT = join(ROOT, 'release', 'out');
const isDryRun = process.argv.includes('--dry-run');
const areChecksLeftOut = process.argv.includes('--no-checks');

const git = (...args) => execFileSync('git', args, { cwd: ROOT, encoding: 'utf8' }).trim();
const show = (command, ...args) => {
  console.log(`$ ${[command, ...args].join(' ')}`);
  execFileSync(command, args, { cwd: ROOT, stdio: 'inherit' });
};

const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
const changelog = readFileSync(join(ROOT, 'CHANGELOG.md'), 'utf8');
const tag = `v${version}`;
const notes = notesOf(changelog, version);

const problems = [
  [!/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version), `the version in package.json must be one of semver, got "${version}"`],
  [git('status', '--porcelain') !== '', 'the tree must be clean: commit or remove what git status shows'],
  [git('tag', '--list', tag) !== '', `the tag ${tag} exists: raise the version in package.json`],
  [notes === undefined, `CHANGELOG.md must have a section "## ${version}" with text`],
  [
    !new RegExp(`^## ${RegExp.escape?.(version) ?? version.replaceAll('.', '\\.')} \\(\\d{4}-\\d{2}-\\d{2}\\)$`, 'm').test(
      changelog,
    ),
    `the heading of ${version} in CHANGELOG.md must have the date of the release, as in "## ${version} (2026-12-31)"`,
  ],
].flatMap(([isProblem, text]) => (isProblem ? [text] : []));

if (problems.length > 0) {
  for (const problem of problems) console.error(`release: ${problem}`);
  process.exit(1);
}
if (!areChecksLeftOut) {
  show('make', 'check');
  show('make', 'test');
}
mkdirSync(OUT, { recursive: true });
show('make', 'package', `PACKAGE_DIR=${OUT}`);
writeFileSync(join(OUT, `notes-${version}.md`), `${notes}\n`);
if (!isDryRun) git('tag', '--annotate', tag, '--message', `koa-bosun ${version}`);
console.log(`
${isDryRun ? `dry run: ${tag} is ready to be tagged` : `${tag} is tagged`}. In release/out: koa-bosun-${version}.tgz, notes-${version}.md.
Push the commit and the tag; the workflow "release" then publishes the package and the image:
  git push origin HEAD ${tag}`);
