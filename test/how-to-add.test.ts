/**
 * "How to add" of CONTRIBUTING, on paper: one of each kind is added to a copy of the sources, and the compiler must name the places that
 * still have to handle it, and no others.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';

const ROOT = join(import.meta.dirname, '..');

interface Addition {
  file: string;
  /** The text after which it is added, and what. */
  after: string;
  add: string;
}

/** Each name is found in the errors that it causes. */
const ADDITIONS: Record<string, Addition[]> = {
  'paper-policy': [
    { file: 'config/variables.ts', after: 'const POLICY_HELP = {', add: "\n  'paper-policy': 'to a worker on paper'," },
  ],
  'paper-reason': [
    { file: 'protocol/exit.ts', after: 'export const EXIT_REASONS = {', add: "\n  'paper-reason': planned('it was on paper')," },
  ],
  'paper-to-worker': [
    { file: 'protocol/messages.ts', after: 'export type ToWorker =', add: "\n  | { type: 'paper-to-worker'; sheets: number }" },
  ],
  'paper-to-primary': [
    { file: 'protocol/messages.ts', after: 'export type ToPrimary =', add: "\n  | { type: 'paper-to-primary'; sheets: number }" },
  ],
  'paper.event': [
    {
      file: 'protocol/log-events.ts',
      after: 'export const LOG_EVENTS = {',
      add: "\n  'paper.event': info('Something happened on paper.', { worker }),",
    },
    { file: 'protocol/events.ts', after: 'export type LifecycleEvent =', add: "\n  | LogEvent<'paper.event'>" },
  ],
  paperSize: [
    {
      file: 'config/http-variables.ts',
      after: 'export const httpVariables = {',
      add: "\n  paperSize: variable('PAPER_SIZE', '4', wholeNumber(0), 'the size of the paper'),",
    },
  ],
};

/** The places that have to handle an addition: the file, and the declaration with the error. */
const PLACES: Record<string, string[]> = {
  'paper-policy': ['src/balancing/policy.ts RULES'],
  'paper-reason': [],
  'paper-to-worker': ['src/protocol/message-shapes.ts TO_WORKER', 'src/worker/worker.ts #receive'],
  'paper-to-primary': [
    'src/pool/worker-state.ts receive',
    'src/primary/primary.ts #onMessage',
    'src/protocol/message-shapes.ts TO_PRIMARY',
  ],
  'paper.event': ['src/admin/history.ts WORDS'],
  paperSize: [],
};

/** A table that lacks an entry cannot be indexed by every key: a consequence, and no place of its own. */
const CONSEQUENCES = /error TS(7053|2536)/;

test('the compiler names every place that must handle a new policy, exit reason, message, event or variable', async () => {
  const copy = mkdtempSync(join(tmpdir(), 'bosun-paper-'));
  after(() => rmSync(copy, { recursive: true }));
  cpSync(join(ROOT, 'src'), join(copy, 'src'), { recursive: true });
  for (const file of ['package.json', 'tsconfig.json']) cpSync(join(ROOT, file), join(copy, file));
  symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
  for (const { file, after, add } of Object.values(ADDITIONS).flat()) {
    const path = join(copy, 'src', file);
    const source = readFileSync(path, 'utf8');
    assert.equal(source.split(after).length, 2, `${file} has "${after}" once`);
    writeFileSync(
      path,
      source.replace(after, () => after + add),
    );
  }
  const output = await tscIn(copy);
  const errors = output.split(/\n(?=\S)/).filter(error => error.trim() !== '' && !CONSEQUENCES.test(error));
  const places = Object.groupBy(errors, nameIn);
  assert.deepEqual(
    {
      ...Object.fromEntries(Object.keys(ADDITIONS).map(name => [name, []])),
      ...mapValues(places, error => placeOf(copy, error)),
    },
    PLACES,
  );
});

test('CONTRIBUTING names the files of every addition, and of the places that must handle it', () => {
  const [, section = ''] = /## How to add\n([\s\S]*?)\n## /.exec(readFileSync(join(ROOT, 'CONTRIBUTING.md'), 'utf8')) ?? [];
  const files = [
    ...Object.values(ADDITIONS)
      .flat()
      .map(({ file }) => `src/${file}`),
    ...Object.values(PLACES).flat(),
  ];
  for (const file of files) assert.ok(section.includes(file.split(' ')[0] ?? ''), file);
});

/** The addition that an error is about: the one that it names first. */
function nameIn(error: string): string {
  const named = Object.keys(ADDITIONS).filter(name => error.includes(name));
  return named.sort((a, b) => error.indexOf(a) - error.indexOf(b))[0] ?? error;
}

function mapValues(groups: Partial<Record<string, string[]>>, map: (error: string) => string): Record<string, string[]> {
  return Object.fromEntries(Object.entries(groups).map(([name, errors = []]) => [name, errors.map(map).sort()]));
}

/** What the compiler prints. */
async function tscIn(folder: string): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  const tsc = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
  execFile(process.execPath, [tsc, '-p', folder], { cwd: folder }, (_error, stdout) => resolve(stdout));
  return promise;
}

/** The file of an error, and the declaration around it. */
function placeOf(folder: string, error: string): string {
  const [, file = '', line = ''] = /^(\S+?)\((\d+),/.exec(error) ?? [];
  const before = readFileSync(join(folder, file), 'utf8').split('\n').slice(0, Number(line));
  const declaration = before.findLast(text => /^(export )?(const|function|class|type) |^ {2}#?\w+\(.*\{$/.test(text)) ?? '';
  const [name = ''] = /#?[\w]+(?=[:(=<]| =)/.exec(declaration.replace(/^(export )?(const|function|class|type) /, '')) ?? [];
  return `${file} ${name}`;
}
