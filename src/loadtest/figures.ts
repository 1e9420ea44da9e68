/**
 * The plots and tables of the report, as SVG and HTML text: pure and static, so that they print and need no script. Colors come from
 * report.css (`--s0` and so on).
 */
import { failuresOf, type Result, type Run } from './result.ts';

export interface Series {
  name: string;
  /** Index of the page's colors, 0 to 7. */
  color: number;
  /** x and y; null leaves a gap. */
  points: readonly (readonly [number, number | null])[];
  dashed?: boolean;
  /** Shades the area below it. */
  area?: boolean;
}

export interface PlotMark {
  x: number;
  kind: string;
  text: string;
}

export interface PlotOptions {
  /** For screen readers. */
  title: string;
  xLabel: string;
  yLabel: string;
  series: readonly Series[];
  marks?: readonly PlotMark[];
  /** Failures: bars from the bottom, on their own scale. */
  bars?: readonly (readonly [number, number])[];
  /** `percentile`: each nine of 90, 99, 99.9 … takes the same width. */
  x?: 'linear' | 'percentile';
  y?: 'linear' | 'log';
}

const WIDTH = 720;
const HEIGHT = 270;
const MARGIN = { top: 28, right: 24, bottom: 40, left: 58 };
const INNER = { width: WIDTH - MARGIN.left - MARGIN.right, height: HEIGHT - MARGIN.top - MARGIN.bottom };
/** The share of the height that the highest bar takes. */
const BAR_SHARE = 0.3;

interface Scale {
  at(value: number): number;
  ticks: { value: number; label: string }[];
}

export function linePlot(options: PlotOptions): string {
  const { title, xLabel, yLabel, series, marks = [], bars = [] } = options;
  const values = series.flatMap(({ points }) => points.flatMap(([, y]) => (y === null ? [] : [y])));
  if (values.length === 0) return `<p class="nothing">${escapeHtml(title)}: nothing was measured</p>`;
  const xs: number[] = [...series.flatMap(({ points }) => points.map(([x]) => x)), ...marks.map(({ x }) => x)];
  const x =
    options.x === 'percentile' ? percentileScale(xs) : linearScale(Math.min(0, ...xs), Math.max(...xs, 0.001), INNER.width, 8);
  const y = flipped(options.y === 'log' ? logScale(values) : linearScale(0, Math.max(...values, 0.001) * 1.08, INNER.height, 5));
  return [
    `<svg class="plot" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escapeHtml(title)}">`,
    `<title>${escapeHtml(title)}</title>`,
    `<g transform="translate(${MARGIN.left} ${MARGIN.top})">`,
    ...y.ticks.map(tick => `<path class="grid" d="M0 ${n(y.at(tick.value))}H${INNER.width}"/>`),
    ...y.ticks.map(tick => text(-10, y.at(tick.value) + 4, tick.label, 'end')),
    `<path class="axis" d="M0 ${INNER.height}H${INNER.width}"/>`,
    ...x.ticks.map(tick => text(x.at(tick.value), INNER.height + 18, tick.label, 'middle')),
    text(INNER.width, INNER.height + 34, xLabel, 'end', 'label'),
    text(-MARGIN.left + 4, -16, yLabel, 'start', 'label'),
    ...marks.map(mark => markAt(mark, x.at(mark.x))),
    ...barsOf(bars, x),
    ...series.map(one => lineOf(one, x, y)),
    '</g></svg>',
  ].join('');
}

/** The names of the lines, in their colors. */
export function legend(series: readonly Pick<Series, 'name' | 'color' | 'dashed'>[]): string {
  const entries = series.map(
    ({ name, color, dashed }) =>
      `<span><svg width="22" height="8" aria-hidden="true"><path class="line c${color}${dashed ? ' dashed' : ''}" d="M1 4H21"/></svg>${escapeHtml(name)}</span>`,
  );
  return `<p class="legend">${entries.join('')}</p>`;
}

/** One bar, divided by share. */
export function shareBar(title: string, parts: readonly { name: string; value: number }[]): string {
  const total = parts.reduce((sum, { value }) => sum + value, 0);
  if (total === 0) return '';
  let from = 0;
  const drawn = parts.map(({ name, value }, index) => {
    const width = (value / total) * WIDTH;
    const left = from;
    from += width;
    const share = `${((value / total) * 100).toFixed(width < 60 ? 0 : 1)} %`;
    const label = width < 34 ? '' : text(left + width / 2, 26, share, 'middle', 'inside');
    return `<g><title>${escapeHtml(`${name}: ${value} requests, ${share}`)}</title><rect class="f${index % 8}" x="${n(left)}" y="6" width="${n(Math.max(0, width - 2))}" height="30" rx="3"/>${label}</g>`;
  });
  return `<svg class="plot" viewBox="0 0 ${WIDTH} 42" role="img" aria-label="${escapeHtml(title)}"><title>${escapeHtml(title)}</title>${drawn.join('')}</svg>`;
}

function lineOf({ name, color, points, dashed, area }: Series, x: Scale, y: Scale): string {
  const parts: string[][] = [[]];
  for (const [px, py] of points) {
    if (py === null) parts.push([]);
    else parts.at(-1)?.push(`${n(x.at(px))} ${n(y.at(py))}`);
  }
  const drawn = parts.filter(part => part.length > 0);
  const line = drawn.map(part => `M${part.join('L')}${part.length === 1 ? 'h0.1' : ''}`).join('');
  const shade = area
    ? drawn.map(part => `M${part[0]?.split(' ')[0]} ${INNER.height}L${part.join('L')}V${INNER.height}Z`).join('')
    : '';
  return `${shade && `<path class="area f${color}" d="${shade}"/>`}<path class="line c${color}${dashed ? ' dashed' : ''}" d="${line}"><title>${escapeHtml(name)}</title></path>`;
}

function markAt({ kind, text: what }: PlotMark, x: number): string {
  const title = `<title>${escapeHtml(what)}</title>`;
  return `<g class="mark ${escapeHtml(kind)}">${title}<path d="M${n(x)} 0V${INNER.height}"/><circle cx="${n(x)}" cy="0" r="4"/></g>`;
}

function barsOf(bars: readonly (readonly [number, number])[], x: Scale): string[] {
  const highest = Math.max(0, ...bars.map(([, count]) => count));
  return bars.flatMap(([at, count]) => {
    if (count === 0) return [];
    const height = Math.max(3, (count / highest) * INNER.height * BAR_SHARE);
    const title = `<title>${count} failed</title>`;
    return [
      `<rect class="failed" x="${n(x.at(at) - 2)}" y="${n(INNER.height - height)}" width="4" height="${n(height)}">${title}</rect>`,
    ];
  });
}

function linearScale(from: number, to: number, length: number, wanted: number): Scale {
  const step = niceStep((to - from) / wanted);
  const ticks: Scale['ticks'] = [];
  for (let value = Math.ceil(from / step) * step; value <= to + step / 1e6; value += step)
    ticks.push({ value, label: short(value) });
  return { at: value => ((value - from) / (to - from)) * length, ticks };
}

function logScale(values: readonly number[]): Scale {
  const least = Math.max(0.01, Math.min(...values));
  const from = Math.log10(least);
  const to = Math.max(from + 0.3, Math.log10(Math.max(...values, least) * 1.1));
  const at = (value: number) => ((Math.log10(Math.max(value, least)) - from) / (to - from)) * INNER.height;
  const ticks: Scale['ticks'] = [];
  for (let power = Math.floor(from); power <= to; power++)
    for (const digit of to - from > 2.5 ? [1] : [1, 2, 5])
      ticks.push({ value: digit * 10 ** power, label: short(digit * 10 ** power) });
  return { at, ticks: ticks.filter(({ value }) => value >= least && Math.log10(value) <= to) };
}

function percentileScale(percentiles: readonly number[]): Scale {
  const nines = (percentile: number) => Math.log10(100 / Math.max(0.0001, 100 - percentile));
  const to = nines(Math.max(...percentiles, 50));
  const ticks = [0, 50, 75, 90, 95, 99, 99.5, 99.9, 99.99, 99.999].filter(value => nines(value) <= to + 1e-9);
  return { at: value => (nines(value) / to) * INNER.width, ticks: ticks.map(value => ({ value, label: String(value) })) };
}

function flipped({ at, ticks }: Scale): Scale {
  return { at: value => INNER.height - at(value), ticks };
}

function niceStep(rough: number): number {
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * ([1, 2, 2.5, 5, 10].find(factor => factor * power >= rough) ?? 10);
}

function short(value: number): string {
  if (value >= 1_000_000) return `${Number((value / 1_000_000).toPrecision(3))} M`;
  return value >= 10_000 ? `${Number((value / 1_000).toPrecision(3))} k` : String(Number(value.toPrecision(3)));
}

function text(x: number, y: number, content: string, anchor: string, className = 'tick'): string {
  return `<text class="${className}" x="${n(x)}" y="${n(y)}" text-anchor="${anchor}">${escapeHtml(content)}</text>`;
}

/** Coordinates to a tenth of a pixel. */
function n(value: number): string {
  return String(Math.round(value * 10) / 10);
}

export function escapeHtml(content: string): string {
  return content.replace(/[&<>"']/g, character => `&#${character.charCodeAt(0)};`);
}

export function comparison(runs: readonly Run[], older: readonly Run[]): string {
  const rows = runs.flatMap((run, index) => {
    const old = older.find(({ label }) => label === run.label) ?? older[index];
    if (old === undefined) return [];
    const cells = (name: string, before: number, after: number, more: 'better' | 'worse', shown = number) => {
      const change = before === 0 ? Number.NaN : (after / before - 1) * 100;
      const verdict = Math.abs(change) < 5 || Number.isNaN(change) ? '' : change > 0 === (more === 'better') ? 'better' : 'worse';
      const sign = Number.isNaN(change) ? '–' : `${change > 0 ? '+' : ''}${change.toFixed(1)} %`;
      return [escapeHtml(`${run.label}, ${name}`), shown(before), shown(after), `<span class="${verdict}">${sign}</span>`];
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
