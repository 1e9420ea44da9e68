/**
 * The tables of docs/benchmark-history.md, from the reports that docs/bench keeps (`make bench OUT=docs/bench/….json`).
 */
import { globSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Report } from '../bench/report.ts';
import { type Comparison, type Figure, ratiosOf, summaryOf } from '../bench/rounds.ts';
import { ROOT } from './blocks.ts';
import { table } from './generated.ts';

export interface Kept {
  /** Relative to docs. */
  path: string;
  report: Report;
}

/** Of docs/bench, the latest first. @throws if one is no report, or names a subject or figure without values for each round */
export function keptReports(): Kept[] {
  const paths = globSync('docs/bench/*.json', { cwd: ROOT }).map(path => `bench/${basename(path)}`);
  const kept = paths.map(path => ({ path, report: JSON.parse(readFileSync(join(ROOT, 'docs', path), 'utf8')) as Report }));
  for (const { path, report } of kept) check(path, report);
  return kept.sort((a, b) => b.report.date.localeCompare(a.report.date) || b.path.localeCompare(a.path));
}

export function check(path: string, { date, machine, command, comparisons }: Report): void {
  if (!/^20\d\d-\d\d-\d\d$/.test(date) || !(machine.cpus > 0) || !command.startsWith('make bench'))
    throw new Error(`docs/${path}: date, machine or command is missing`);
  for (const { name, rounds, baseline, figures, values } of comparisons) {
    if (values[baseline] === undefined) throw new Error(`docs/${path}: ${name}: no values of the baseline "${baseline}"`);
    for (const [subject, series] of Object.entries(values))
      for (const figure of Object.keys(figures))
        if (series[figure]?.length !== rounds)
          throw new Error(
            `docs/${path}: ${name}: ${subject}: ${figure}: expected ${rounds} values, got ${series[figure]?.length}`,
          );
  }
}

/** The runs, then a table for each comparison: a line for each run, a column for each subject. */
export function benchHistory(kept: readonly Kept[]): string {
  const runs = kept.map(({ path, report: { date, commit = '', machine, command, comparisons } }) => [
    `[${date}](${path})`,
    commit,
    `${machine.cpus} cores, ${machine.model}${machine.isVirtual ? ', virtual' : ''}`,
    machine.kernel,
    machine.node,
    `\`${command}\``,
    `${sum(comparisons, ({ rounds }) => rounds)}, ${sum(comparisons, ({ discarded }) => discarded)} discarded`,
  ]);
  const names = [...new Set(kept.flatMap(({ report }) => report.comparisons.map(({ name }) => name)))];
  return [
    table(['measured on', 'commit', 'machine', 'kernel', 'Node.js', 'command', 'rounds'], runs),
    ...names.map(name => historyOf(name, kept)),
  ].join('\n\n');
}

function historyOf(name: string, kept: readonly Kept[]): string {
  const runs = kept.flatMap(({ report: { date, comparisons } }) => {
    const comparison = comparisons.find(one => one.name === name);
    return comparison === undefined ? [] : [{ date, comparison }];
  });
  const subjects = [...new Set(runs.flatMap(({ comparison }) => Object.keys(comparison.values)))];
  const rows = runs.map(({ date, comparison }) => [date, ...subjects.map(subject => cellOf(comparison, subject))]);
  return `### ${name}\n\n${table(['measured on', ...subjects], rows)}`;
}

/** CPU first. The baseline's own values, and the ratio of the others. */
function cellOf(comparison: Comparison, subject: string): string {
  if (comparison.values[subject] === undefined) return '';
  const order: Figure['kind'][] = ['cpu', 'rate', 'other'];
  const figures = Object.entries(comparison.figures).filter(([, { unit }]) => unit !== 'failed');
  return figures
    .toSorted(([, a], [, b]) => order.indexOf(a.kind) - order.indexOf(b.kind))
    .map(([figure, { unit, digits }]) =>
      subject === comparison.baseline
        ? `${bold(comparison.values[subject]?.[figure] ?? [], digits)} ${unit}`
        : `${bold(ratiosOf(comparison, subject, figure), 2)} × ${unit}`,
    )
    .join('<br>');
}

function bold(values: readonly number[], digits: number): string {
  const { min, median, max } = summaryOf(values);
  return values.length === 1
    ? min.toFixed(digits)
    : `${min.toFixed(digits)}/**${median.toFixed(digits)}**/${max.toFixed(digits)}`;
}

const sum = (comparisons: readonly Comparison[], of: (comparison: Comparison) => number) =>
  comparisons.reduce((total, comparison) => total + of(comparison), 0);
