/**
 * docs/reference shows what the tables in the source say; `make docs` writes it.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { environmentTable } from '../src/config/config.ts';
import { SIGNALS } from '../src/primary/signals.ts';
import { CLI_EXIT_CODE_MEANINGS, EXIT_CODE_MEANINGS, EXIT_REASONS } from '../src/protocol/exit.ts';
import { LOG_EVENTS } from '../src/protocol/log-events.ts';
import { cliReference, programOf } from './docs/cli-reference.ts';
import { checkGenerated, table } from './docs/generated.ts';
import { kitReference } from './docs/kit-reference.ts';
import { metrics, metricsReference } from './docs/metrics-reference.ts';

const ROOT = join(import.meta.dirname, '..');

test('docs/reference/environment.md shows the table of the environment variables that the kit reads', () => {
  checkGenerated('docs/reference/environment.md', 'environment', environmentTable());
});

test('docs/reference/kit.md shows every type that an app may import, with its docstrings', () => {
  checkGenerated('docs/reference/kit.md', 'kit', kitReference());
});

test('docs/reference/cli.md shows every command of bosun, with its options and examples', async () => {
  const program = await programOf();
  assert.ok(program.commands.length > 10);
  checkGenerated('docs/reference/cli.md', 'commands', cliReference(program));
  checkGenerated('docs/reference/cli.md', 'exit codes', exitCodeTable(CLI_EXIT_CODE_MEANINGS));
});

test('docs/reference/metrics.md shows every metric, with its type, unit, labels and help', async () => {
  checkGenerated('docs/reference/metrics.md', 'metrics', await metricsReference());
});

test('no metric of the sources is missing among those that the reference shows', async () => {
  const names = new Set((await metrics()).map(({ name }) => name));
  const sources = ['metrics', 'process-metrics'].map(name => readFileSync(join(ROOT, 'src', 'admin', `${name}.ts`), 'utf8'));
  const named = sources.join().match(/\b(?:http|bosun|nodejs|process)_\w*[a-z]\b/g) ?? [];
  assert.ok(names.size > 30);
  assert.deepEqual(new Set(named), names);
});

test('docs/reference/signals.md shows what each signal to the primary does', () => {
  const rows = Object.entries(SIGNALS).map(([signal, { effect }]) => [`\`${signal}\``, effect]);
  checkGenerated('docs/reference/signals.md', 'signals', table(['signal', 'effect'], rows));
});

test('docs/reference/exit-codes.md shows every exit code of the primary, and every exit reason of a worker', () => {
  checkGenerated('docs/reference/exit-codes.md', 'exit codes', exitCodeTable(EXIT_CODE_MEANINGS));
  const rows = Object.entries(EXIT_REASONS).map(([name, { kind, meaning }]) => [`\`${name}\``, kind, meaning]);
  checkGenerated('docs/reference/exit-codes.md', 'exit reasons', table(['reason', 'kind', 'meaning'], rows));
});

test('docs/reference/log-events.md shows every event that the kit logs, and its fields', () => {
  const rows = Object.entries(LOG_EVENTS).map(([name, { levels, meaning, fields }]) => {
    const shown = Object.entries(fields).map(
      ([field, { meaning, isOptional }]) => `\`${field}\`${isOptional ? ' (optional)' : ''}: ${meaning}`,
    );
    return [`\`${name}\``, levels.join(', '), meaning, shown.join(' · ')];
  });
  checkGenerated('docs/reference/log-events.md', 'log events', table(['event', 'level', 'meaning', 'fields'], rows));
});

const exitCodeTable = (meanings: Record<number, string>) =>
  table(
    ['code', 'meaning'],
    Object.entries(meanings).map(([code, meaning]) => [code, meaning]),
  );
