/**
 * Names in the text of the documentation exist: variables, metrics, log events, signals, members of the kit, commands of bosun and their options,
 * paths of the admin port. A name is what stands in backticks, or in a code block of a shell.
 */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { environmentTable } from '../src/config/config.ts';
import { EXIT_REASONS } from '../src/protocol/exit.ts';
import { LOG_EVENTS } from '../src/protocol/log-events.ts';
import { ALL_PAGES, ROOT } from './docs/blocks.ts';
import { programOf } from './docs/cli-reference.ts';
import { metrics } from './docs/metrics-reference.ts';
import { PATHS } from './docs/openapi.ts';

interface Text {
  page: string;
  text: string;
}

const pages: Text[] = ALL_PAGES.map(page => ({ page, text: readFileSync(join(ROOT, page), 'utf8') }));

const inlineCodes = pages.flatMap(({ page, text }) => {
  const prose = text.replace(/^```[\s\S]*?^```$/gm, '');
  return [...prose.matchAll(/`([^`\n]+)`/g)].map(([, text = '']) => ({ page, text }));
});

/** Fails with each name that does not exist, and its page. */
function assertExist(pattern: RegExp, exists: (name: string) => boolean, least: number, texts = inlineCodes): void {
  const found = texts.flatMap(({ page, text }) => [...text.matchAll(pattern)].map(([all, name = all]) => ({ page, name })));
  assert.ok(found.length >= least, `${found.length} names of ${pattern}`);
  const wrong = found.filter(({ name }) => !exists(name)).map(({ page, name }) => `${page}: ${name}`);
  assert.deepEqual([...new Set(wrong)], []);
}

/** Of PM2, of chokidar, of the kernel, of an app; `X_FILE` stands for every secret. */
const FOREIGN_VARIABLES = ['NODE_APP_INSTANCE', 'SESSION_SECRET', 'CHOKIDAR_USEPOLLING', 'SO_REUSEPORT', 'X_FILE'];
/** Koa's properties. */
const NO_EVENTS = ['app.keys', 'app.proxy', 'service.name', 'service.version'];
const SOURCES = [
  'src/**/*.ts',
  'test/{bench,soak,mutants}/**/*.ts',
  'test/apps/tracing.ts',
  'docker/*',
  'k8s/**/*.yaml',
  'compose.yaml',
  'Makefile',
];
let sources = '';

before(() => {
  const files = SOURCES.flatMap(pattern => globSync(pattern, { cwd: ROOT, exclude: ['docker/grafana'] }));
  sources = files.map(file => readFileSync(join(ROOT, file), 'utf8')).join('\n');
});

test('every variable that a page names is read somewhere', () => {
  const table = environmentTable();
  const isRead = (name: string) =>
    table.includes(`\`${name}\``) || FOREIGN_VARIABLES.includes(name) || new RegExp(`\\b${name}\\b`).test(sources);
  assertExist(/(?<![\w-])[A-Z][A-Z0-9]*_[A-Z0-9_]*[A-Z0-9]\b/g, isRead, 100);
});

test('every metric that a page names is on /metrics', async () => {
  const names = (await metrics()).map(({ name }) => name);
  const isThere = (name: string) => (name.endsWith('_') ? names.some(one => one.startsWith(name)) : names.includes(name));
  assertExist(/\b(?:bosun|http|nodejs|process)_\w+/g, isThere, 50);
});

test('every log event that a page names is in the table', () => {
  const areas = new Set(Object.keys(LOG_EVENTS).map(name => name.split('.')[0]));
  const pattern = new RegExp(`^(?:${[...areas].join('|')})\\.(?!m?[jt]s$)[a-z-]+$`, 'g');
  // Names with a dot are values of the chart there: test/chart.test.ts.
  const texts = inlineCodes.filter(({ page }) => page !== 'docs/guide/helm.md');
  assertExist(pattern, name => name in LOG_EVENTS || NO_EVENTS.includes(name), 60, texts);
});

test('every signal that a page names exists', () => {
  assertExist(/\bSIG[A-Z0-9]+\b/g, name => name in constants.signals, 50, pages);
});

test('every reason that a page names is an exit reason, or a label of a metric', async () => {
  const labels = (await metrics()).flatMap(({ labels }) => [...(labels.get('reason') ?? [])]);
  const isReason = (name: string) => name in EXIT_REASONS || labels.includes(name);
  assertExist(/\breason(?:="|=| `)([a-z][\w-]+)/g, isReason, 3, pages);
});

test('every member of the kit that a page names is declared in src/index.ts', () => {
  const declared = readFileSync(join(ROOT, 'src', 'index.ts'), 'utf8');
  const isDeclared = (name: string) => new RegExp(`^  (?:readonly )?${name}[?:(<]`, 'm').test(declared);
  assertExist(/(?<!\/)\bkit\.(?!ts\b|md\b)(\w+)/g, isDeclared, 20);
});

test('every command of bosun that a page names exists, with its options', async () => {
  const program = await programOf();
  const shells = pages.flatMap(({ page, text }) =>
    [...text.matchAll(/^```(?:sh|console)\n([\s\S]*?)^```$/gm)].map(([, text = '']) => ({ page, text })),
  );
  const lines = [...inlineCodes, ...shells].flatMap(({ page, text }) =>
    [...text.matchAll(/(?<![\w./-])bosun ([a-z][a-z-]*)([^`|\n;)]*)/g)].map(([, name = '', rest = '']) => ({ page, name, rest })),
  );
  assert.ok(lines.length > 60);
  for (const { page, name, rest } of lines) {
    const command = program.commands.find(one => one.name() === name);
    if (name === 'help') continue;
    assert.ok(command, `${page}: bosun ${name}`);
    const options = ['--json', '--socket', '--help', ...command.options.map(({ long }) => long)];
    const own = rest.split(' -- ', 1)[0] ?? ''; // what follows is the app's
    for (const [option] of own.matchAll(/(?<=\s)--[a-z-]+/g))
      assert.ok(options.includes(option), `${page}: bosun ${name} ${option}`);
  }
});

test('every path of the admin port that a page names is in openapi.yaml', () => {
  assertExist(/^\/(?:[a-z]+z|status|metrics|events|health\w*|ready|live)\b/g, name => name in PATHS, 30);
});
