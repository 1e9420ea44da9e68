/**
 * The tables of the report. Pure.
 */
import { escapeHtml } from './plots.ts';
import { failuresOf, type Result, type Run } from './result.ts';

export function comparison(runs: readonly Run[], older: readonly Run[]): string {
  const rows = runs.flatMap((run, index) => {
    const old = older.find(({ label }) => label === run.label) ?? older[index];
    if (old === undefined) return [];
    const cells = (name: string, before: number, after: number, more: 'better' | 'worse', shown = number) => {
      const change = before === 0 ? Number.NaN : (after / before - 1) * 100;
      const judged = Math.abs(change) < 5 || Number.isNaN(change) ? '' : change > 0 === (more === 'better') ? 'better' : 'worse';
      const sign = Number.isNaN(change) ? '–' : `${change > 0 ? '+' : ''}${change.toFixed(1)} %`;
      return [escapeHtml(`${run.label}, ${name}`), shown(before), shown(after), `<span class="${judged}">${sign}</span>`];
    };
    const latency = (['p50', 'p90', 'p99', 'max'] as const).map(name =>
      cells(`${name}, ms`, old.latencyMs[name], run.latencyMs[name], 'worse'),
    );
    return [
      cells('requests per second', old.rate, run.rate, 'better'),
      ...latency,
      cells('failed', failuresOf(old), failuresOf(run), 'worse', count),
    ];
  });
  return htmlTable(['', 'older', 'this', 'change'], rows);
}

export function figures(runs: readonly Run[]): string {
  return htmlTable(
    [
      'run',
      'answered',
      'per second',
      'mean',
      'p50',
      'p90',
      'p99',
      'p99.9',
      'slowest',
      'failed',
      'ended workers',
      'drains',
      'cut',
    ],
    runs.map(({ label, requests, rate, latencyMs: { mean, p50, p90, p99, p99_9, max }, failures, restarts, drains }) => [
      escapeHtml(label),
      count(requests),
      count(rate),
      ...[mean, p50, p90, p99, p99_9, max].map(ms => `${number(ms)} ms`),
      count(failuresOf({ failures })),
      escapeHtml(
        Object.entries(restarts)
          .map(([reason, times]) => `${times} ${reason}`)
          .join(', ') || '0',
      ),
      count(drains.count),
      count(drains.cutRequests),
    ]),
  );
}

export function environment({ environment: values, command }: Result): string {
  const rows = Object.entries(values).map(([name, value]) => `<dt>${escapeHtml(name)}</dt><dd>${escapeHtml(value)}</dd>`);
  return `<dl>${rows.join('')}</dl><pre>${escapeHtml(command)}</pre>`;
}

/** Cells are HTML. */
function htmlTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const body = rows.map(row => `<tr>${row.map(cell => `<td>${cell}</td>`).join('')}</tr>`);
  return `<div class="scroll"><table><tr>${head.map(cell => `<th>${cell}</th>`).join('')}</tr>${body.join('')}</table></div>`;
}

export function count(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

function number(value: number): string {
  return value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : count(value);
}

export function milliseconds(value: number): [string, string] {
  return value < 1000 ? [number(value), 'ms'] : [number(value / 1000), 's'];
}
