/**
 * Renders a result: as a page of its own, without scripts and other files, and as text for the terminal. Compared with an older result,
 * its lines are dashed and a table shows the changes.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { table } from '../cli/render.ts';
import {
  comparison,
  count,
  environment,
  escapeHtml,
  figures,
  legend,
  linePlot,
  milliseconds,
  type PlotMark,
  type Series,
  shareBar,
} from './figures.ts';
import { failuresOf, type Mark, type Result, type Run } from './result.ts';

const STYLE = readFileSync(join(import.meta.dirname, 'report.css'), 'utf8');

export function renderHtml(result: Result, compared?: Result): string {
  const { scenario, target, startedAt, runs, problems, interrupted } = result;
  const verdict = problems.length > 0 ? '<span class="verdict bad">failed</span>' : '<span class="verdict">passed</span>';
  const lines = [...linesOf(runs, false), ...linesOf(compared?.runs ?? [], true)];
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,">
<title>${escapeHtml(scenario)} · koa-bosun load test</title>
<style>${STYLE}</style>
<main>
<header><h1>${escapeHtml(scenario)}</h1>${verdict}<p>${escapeHtml(target)} · ${escapeHtml(startedAt.replace('T', ' ').slice(0, 19))} UTC${interrupted ? ' · ended early by Ctrl-C' : ''}</p></header>
${tiles(runs)}
${findings(result)}
<section><h2>Latency and throughput over time</h2><p class="about">${about(runs)}</p>
${overTime(lines)}</section>
<div class="grid2">
${card('Latency by percentile', 'Milliseconds, logarithmic. Each nine of 90, 99, 99.9 is as wide as the one before.', curves(lines))}
${card('CPU', 'Cores used by the primary and its workers (left out where they run elsewhere), and how busy the workers’ event loops are.', usage(lines) + throttling(runs))}
</div>
${card('Requests per worker', 'The share of each worker. A replacement counts as another worker.', shares(runs))}
${compared ? card('Compared with the older result', `${escapeHtml(compared.startedAt)}: <code>${escapeHtml(compared.command)}</code>`, comparison(runs, compared.runs)) : ''}
${card('All figures', '', figures(runs))}
${card('Environment', '', environment(result))}
</main>
</html>
`;
}

interface Line {
  name: string;
  run: Run;
  color: number;
  older: boolean;
}

function linesOf(runs: readonly Run[], older: boolean): Line[] {
  return runs.map((run, index) => ({ name: older ? `${run.label}, older` : run.label, run, color: index % 8, older }));
}

function tiles(runs: readonly Run[]): string {
  const [run] = runs;
  if (run === undefined || runs.length > 1) return '';
  const failed = failuresOf(run);
  return `<div class="tiles">${[
    tile('answered', count(run.requests)),
    tile('per second', count(run.rate)),
    tile('p50', ...milliseconds(run.latencyMs.p50)),
    tile('p99', ...milliseconds(run.latencyMs.p99)),
    tile('slowest', ...milliseconds(run.latencyMs.max)),
    tile('failed', count(failed), '', failed > 0),
  ].join('')}</div>`;
}

function tile(name: string, value: string, unit = '', bad = false): string {
  return `<div class="tile${bad ? ' bad' : ''}"><span>${name}</span><b>${value}${unit && ` <small>${unit}</small>`}</b></div>`;
}

/** Problems, failures and notes. */
function findings({ problems, runs }: Result): string {
  const named = (run: Run, text: string) => (runs.length > 1 ? `${run.label}: ${text}` : text);
  const limited = runs.filter(({ generatorUtilization }) => generatorUtilization > 0.9);
  const items = [
    ...problems.map(problem => `<li class="bad">${escapeHtml(problem)}</li>`),
    ...runs.flatMap(run =>
      Object.entries(run.failures).map(([kind, times]) => `<li>${escapeHtml(named(run, `${times} × ${kind}`))}</li>`),
    ),
    ...limited.map(
      run => `<li>${escapeHtml(named(run, 'the load generator was busy all the time: the server can do more'))}</li>`,
    ),
    ...[...new Set(runs.flatMap(({ notes }) => notes))].map(note => `<li>${escapeHtml(note)}</li>`),
  ];
  return items.length > 0 ? `<section><h2>Findings</h2><ul>${items.join('')}</ul></section>` : '';
}

function about(runs: readonly Run[]): string {
  const kinds = [...new Set(runs.flatMap(({ events }) => events.map(({ kind }) => kind)))];
  const legends = kinds.map(kind => `<span class="dot ${kind}">${KINDS[kind]}</span>`).join(' &nbsp; ');
  return legends || 'p99 and p50 of each slice of time; failures in red, where there are any.';
}

const KINDS: Record<Mark['kind'], string> = {
  restart: 'rolling restart',
  ready: 'worker ready',
  draining: 'worker draining',
  exited: 'worker gone',
  killed: 'worker killed',
  load: 'load changes',
};

function overTime(lines: readonly Line[]): string {
  const single = lines.length === 1;
  const marks: PlotMark[] = lines.flatMap(({ run, older }) =>
    older ? [] : run.events.map(({ atSeconds, kind, text }) => ({ x: atSeconds, kind, text: `${atSeconds} s: ${text}` })),
  );
  const latency: Series[] = lines.flatMap(({ name, run, color, older }) => [
    {
      name: `p99 ${single ? '' : name}`.trim(),
      color,
      dashed: older,
      points: run.slices.map(slice => [slice.atSeconds, slice.p99Ms] as const),
    },
    ...(single ? [{ name: 'p50', color: 2, points: run.slices.map(slice => [slice.atSeconds, slice.p50Ms] as const) }] : []),
  ]);
  const rates: Series[] = lines.map(({ name, run, color, older }) => ({
    name,
    color,
    dashed: older,
    area: single,
    points: run.slices.map(slice => [slice.atSeconds, slice.rate] as const),
  }));
  const bars = lines.flatMap(({ run, older }) =>
    older ? [] : run.slices.map(slice => [slice.atSeconds, slice.failures] as const),
  );
  const xLabel = 'seconds';
  return `<div class="grid2"><div>${linePlot({ title: 'Latency over time', xLabel, yLabel: 'ms', series: latency, marks })}${legend(latency)}</div>
<div>${linePlot({ title: 'Throughput over time', xLabel, yLabel: 'requests per second', series: rates, marks, bars })}${legend(rates)}</div></div>`;
}

function curves(lines: readonly Line[]): string {
  const series = lines.map(({ name, run, color, older }) => ({ name, color, dashed: older, points: run.curve }));
  return (
    linePlot({ title: 'Latency by percentile', xLabel: 'percentile', yLabel: 'ms', series, x: 'percentile', y: 'log' }) +
    legend(series)
  );
}

function usage(lines: readonly Line[]): string {
  const series: Series[] = lines.flatMap(({ name, run, color, older }) => {
    const label = (what: string) => (lines.length > 1 ? `${name}: ${what}` : what);
    const cores = run.usage.map(({ atSeconds, cores }) => [atSeconds, cores] as const);
    const loops = run.usage.map(({ atSeconds, loop }) => [atSeconds, loop] as const);
    const all: Series[] = [];
    const measured = run.usage.some(({ cores }) => cores !== null);
    if (measured) all.push({ name: label('cores'), color, dashed: older, points: cores });
    // With many lines, only the cores.
    if (!measured || lines.length <= 2)
      all.push({ name: label('event loops'), color: (color + 4) % 8, dashed: older, points: loops });
    return all;
  });
  return linePlot({ title: 'CPU over time', xLabel: 'seconds', yLabel: 'cores; share of time', series }) + legend(series);
}

function throttling(runs: readonly Run[]): string {
  const texts = runs.map(({ label, throttledSeconds }) => {
    const text = throttledSeconds === null ? 'no quota is set' : `${throttledSeconds} s withheld by the quota`;
    return runs.length > 1 ? `${label}: ${text}` : text;
  });
  return `<p class="about">Throttling: ${escapeHtml([...new Set(texts)].join('; '))}.</p>`;
}

function shares(runs: readonly Run[]): string {
  return runs
    .map(({ label, workers }) => {
      const parts = workers
        .filter(({ requests }) => requests > 0)
        .map(({ id, pid, generation, requests }) => ({
          name: `worker ${id}, generation ${generation} (${pid})`,
          value: requests,
        }));
      const names = parts.map(({ name, value }, color) => ({ name: `${name}: ${count(value)}`, color: color % 8 }));
      const title = `Requests per worker, ${label}`;
      return `<p class="about">${escapeHtml(label)}</p>${shareBar(title, parts) || '<p class="nothing">unknown: the admin port was not reachable</p>'}${legend(names)}`;
    })
    .join('');
}

function card(title: string, explanation: string, content: string): string {
  return `<section><h2>${title}</h2>${explanation && `<p class="about">${explanation}</p>`}${content}</section>`;
}

export function renderText(result: Result): string {
  const { scenario, target, runs, problems, interrupted } = result;
  return [
    `${scenario} on ${target}${interrupted ? ', ended early by Ctrl-C' : ''}`,
    '',
    table([
      ['run', 'requests', 'per second', 'p50', 'p90', 'p99', 'p99.9', 'max', 'failed'],
      ...runs.map(run => [
        run.label,
        String(run.requests),
        run.rate.toFixed(0),
        ...[run.latencyMs.p50, run.latencyMs.p90, run.latencyMs.p99, run.latencyMs.p99_9, run.latencyMs.max].map(
          ms => `${ms.toFixed(ms < 10 ? 2 : 0)} ms`,
        ),
        String(failuresOf(run)),
      ]),
    ]),
    ...runs.flatMap(run => details(run, runs.length > 1)),
    '',
    ...(problems.length > 0 ? problems.map(problem => `FAILED: ${problem}`) : ['passed']),
  ].join('\n');
}

function details(run: Run, named: boolean): string[] {
  const total = run.workers.reduce((sum, { requests }) => sum + requests, 0);
  const failures = Object.entries(run.failures).map(([kind, count]) => `${count} × ${kind}`);
  const restarts = Object.entries(run.restarts).map(([reason, count]) => `${count} ${reason}`);
  const { count, finishedRequests, cutRequests } = run.drains;
  return [
    '',
    ...(named ? [run.label] : []),
    ...(failures.length > 0 ? [`failures: ${failures.join(', ')}`] : []),
    ...(total > 0
      ? [`workers: ${run.workers.map(({ id, pid, requests }) => `${id} (${pid}) ${percent(requests / total)}`).join(', ')}`]
      : []),
    ...(restarts.length > 0 ? [`ended workers: ${restarts.join(', ')}`] : []),
    ...(count > 0 ? [`drains: ${count}, ${finishedRequests} requests finished in them, ${cutRequests} cut`] : []),
    ...(run.throttledSeconds ? [`CPU withheld by the quota: ${run.throttledSeconds} s`] : []),
    ...(run.generatorUtilization > 0.9
      ? [`the load generator was ${percent(run.generatorUtilization)} busy: the server could do more`]
      : []),
    ...run.notes,
  ];
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}
