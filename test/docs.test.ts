import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { LOG_EVENTS } from '../src/protocol/log-events.ts';
import { resolveLimits } from '../src/resources/cgroup.ts';
import { youngGeneration } from '../src/resources/heap.ts';
import { size } from '../src/resources/sizing.ts';

const ROOT = join(import.meta.dirname, '..');

test('every log event in the table is logged somewhere', () => {
  const files = globSync('src/**/*.ts', { cwd: ROOT }).filter(
    file => !file.endsWith('log-events.ts') && !file.endsWith('protocol/events.ts'),
  );
  const source = files.map(file => readFileSync(join(ROOT, file), 'utf8')).join('\n');
  const missing = Object.keys(LOG_EVENTS).filter(name => !source.includes(`event: '${name}'`));
  assert.deepEqual(missing, ['redis.unreachable', 'redis.refused', 'redis.faulty'], 'those are made of the state');
});

/** Made by the tests that leave something to look at: a bare clone has none. */
const OUTPUT = 'test/output';

/** Every page of the documentation, by its path in the tree. */
const pages = new Map(
  ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', ...globSync('docs/**/*.md', { cwd: ROOT, exclude: ['docs/site'] })].map(
    path => [path, readFileSync(join(ROOT, path), 'utf8')],
  ),
);

test('no page names a make target, a test or benchmark, or a command of bosun that does not exist', () => {
  const makefile = readFileSync(join(ROOT, 'Makefile'), 'utf8');
  const help = execFileSync(process.execPath, [join(ROOT, 'src', 'cli', 'bosun.ts'), '--help'], { encoding: 'utf8' });
  for (const [page, text] of pages) {
    for (const [, target] of text.matchAll(/\bmake ([a-z][a-z0-9-]*)/g))
      assert.match(makefile, new RegExp(`^${target}:`, 'm'), `${page}: make ${target}`);
    for (const [, command] of text.matchAll(/`(?:npx )?bosun ([a-z][a-z-]*)/g))
      assert.match(help, new RegExp(`^  ${command} `, 'm'), `${page}: bosun ${command}`);
    for (const [, path = ''] of text.matchAll(/`((?:src|test|docker|k8s|docs)\/[\w./-]+)`/g))
      assert.ok(path.startsWith(OUTPUT) || existsSync(join(ROOT, path)), `${page}: ${path}`);
  }
  assert.ok([...pages.values()].join('').match(/\bmake [a-z]/g)?.length ?? 0 > 10);
});

test('the sizes in docs/guide/sizing.md are what the kit decides', () => {
  const rows = [
    ...pageOf('docs/guide/sizing.md').matchAll(/^\| ([\d.]+) \| (\d+) MiB \| (\d+) \| (\d+) MiB \| (\d+) MiB \| (.*?) ?\|$/gm),
  ];
  assert.ok(rows.length >= 5);
  for (const [row, cores, memoryMib, workers, heapMib, youngMib, why = ''] of rows) {
    const quota = { value: Number(cores), file: '' };
    const memory = { value: Number(memoryMib) * 2 ** 20, file: '' };
    const limits = { ...resolveLimits(() => undefined), quota, memory };
    const sizing = size(limits, { kind: 'auto' }, { cpus: 64, totalMemoryBytes: 2 ** 40 });
    const { heapPerWorkerMb, semiSpaceMb } = sizing.memory;
    assert.deepEqual([sizing.workers, heapPerWorkerMb], [Number(workers), Number(heapMib)], row);
    assert.equal(youngGeneration(semiSpaceMb ?? Number.NaN), Number(youngMib), row);
    assert.ok(sizing.reason.includes(why), row);
  }
});

test('docs/architecture.md names no source file that does not exist', () => {
  const files = globSync('src/**/*.ts', { cwd: ROOT });
  const names = [...pageOf('docs/architecture.md').matchAll(/`([\w/.-]+\.ts)`/g)].map(([, name = '']) => name);
  assert.ok(names.length > 2);
  for (const name of names) assert.ok(files.some(file => `/${file}`.endsWith(`/${name}`)) || existsSync(join(ROOT, name)), name);
});

test('docs/failures.md names no test file that does not exist', () => {
  const rows = pageOf('docs/failures.md')
    .split('\n')
    .filter(line => /^\| (?!situation)/.test(line));
  const names = rows.flatMap(
    row =>
      row
        .split(' | ')
        .at(-1)
        ?.match(/[\w/-]+(?=[ ,])/g) ?? [],
  );
  assert.ok(names.length > 100);
  for (const name of new Set(names))
    assert.ok(
      ['.test.ts', '.ts'].some(end => existsSync(join(ROOT, 'test', `${name}${end}`))),
      name,
    );
});

test('no page links to a page or a heading that does not exist', () => {
  for (const [page, text] of pages) {
    const links = [...text.matchAll(/\]\(([^)]+)\)|(?:src|srcset)="([^"]+)"/g)].map(([, link, source]) => link ?? source ?? '');
    for (const link of links.filter(target => !/^https?:/.test(target))) {
      const [path = '', anchor] = link.split('#');
      const target = path === '' ? page : join(dirname(page), path);
      assert.ok(existsSync(join(ROOT, target)), `${page}: ${link}`);
      if (anchor !== undefined) assert.ok(headingsOf(target).includes(anchor), `${page}: ${link}`);
    }
  }
});

function pageOf(path: string): string {
  const page = pages.get(path);
  assert.ok(page, path);
  return page;
}

test('README.md has at most 200 lines', () => {
  assert.ok(pageOf('README.md').split('\n').length <= 200);
});

/** As GitHub makes anchors of headings. */
function headingsOf(page: string): string[] {
  const text = (pages.get(page) ?? '').replace(/```[\s\S]*?```/g, '');
  return [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\w\s-]/g, '')
      .replace(/\s/g, '-'),
  );
}

/** Min/median/max, a count of losses, a time in microseconds, a factor. */
const FIGURE =
  /[\d.]+\/(?:\*\*)?[\d.]+(?:\*\*)?\/[\d.]+|\d (?:failed|lost) of [\d,]+|0 of [\d,]{5,}|\d µs|\d times (?:PM2|as many)/;
const COMMAND = /`(?:[A-Z]+=\S+ )*make (?:bench|soak|k8s-rollout)|`test\/(?:container|bench)\/[\w-]+/;

test('every section with a measurement names the command that prints it, the date and the machine', () => {
  let measured = 0;
  for (const [page, text] of pages) {
    if (page === 'CHANGELOG.md') continue;
    for (const section of text.split(/^(?=## )/m)) {
      const [figure] = FIGURE.exec(section) ?? [];
      if (figure === undefined) continue;
      measured++;
      const where = `${page}: ${figure} in ${section.slice(0, 50)}`;
      assert.match(section, COMMAND, `${where}: the command`);
      assert.match(section, /\b[Mm]easured on[\s\S]*?20\d\d-\d\d-\d\d/, `${where}: measured on which day`);
      assert.match(section + text.split(/^(?=## )/m)[0], /\b2 cores\b/, `${where}: the machine`);
    }
  }
  assert.ok(measured > 10, `${measured} sections`);
});
