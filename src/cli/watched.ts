/**
 * `bosun status --watch`: what the dashboard shows, on a terminal. Pure from what the primary keeps to text that fits.
 */
import { stripVTControlCharacters } from 'node:util';
import { duration, endings, type Status, waits } from './status.ts';
import { table } from './table.ts';

/** What the primary tells who watches: `/status`, and the last seconds and events, the newest last. */
export interface Watched {
  status: Status;
  samples: readonly Sample[];
  events: readonly { at: number; text: string }[];
}

/** What of a second of the pod is shown here (primary/history.ts). */
export interface Sample {
  workers: Record<number, [requestsPerSecond: number, utilization: number]>;
  p50: number;
  p99: number;
  memoryBytes: number;
  limitBytes: number | null;
  cpus: number;
  cpuLimit: number;
  throttled: number | null;
}

export interface Screen {
  columns: number;
  rows: number;
}

/** Of the screen; more where the workers leave more. */
const LEAST_EVENT_ROWS = 4;
const MOST_NAMED_WAITS = 2;
/** A gauge has its name before its bars, and its figures after them. */
const NAME_COLUMNS = 11;
const FIGURE_COLUMNS = 39;
const CLOCK_COLUMNS = 9;

/** At most `columns` wide, and a row less than the screen has: the cursor has the last one. */
export function renderWatched({ status, samples, events }: Watched, { columns, rows }: Screen): string {
  const lines = (text: string) => wrap(text, columns);
  const { version, pid, state, uptimeSeconds, generation, policy } = status;
  const top = [
    ...lines(`koa-bosun ${version}, pid ${pid}, ${state}, up ${duration(uptimeSeconds)}, generation ${generation}, ${policy}`),
    ...lines(sizingInWords(status)),
    '',
    ...gauges(samples, columns),
    '',
  ];
  const bottom = [...waits(status, MOST_NAMED_WAITS).flatMap(lines), '', ...lines(endings(status))];
  const room = rows - 1 - top.length - bottom.length;
  const pool = workerRows(status, samples.at(-1), Math.max(2, room - LEAST_EVENT_ROWS), columns);
  return [...top, ...pool, ...bottom, ...eventRows(events, columns).slice(0, Math.max(0, room - pool.length))]
    .slice(0, rows - 1)
    .map(line => clip(line, columns))
    .join('\n');
}

function sizingInWords({ sizing: { reason, memory } }: Status): string {
  return `${reason}; ${memory.heapPerWorkerMb === null ? "V8's default heap" : `${memory.heapPerWorkerMb} MiB of heap`} each`;
}

/** The last seconds as bars, the last second in figures. */
function gauges(samples: readonly Sample[], columns: number): string[] {
  const now = samples.at(-1);
  if (now === undefined) return ['the first second is not over yet', '', ''];
  const width = Math.max(0, columns - NAME_COLUMNS - FIGURE_COLUMNS);
  const gauge = (name: string, pick: (sample: Sample) => number, full: number | undefined, figures: string) =>
    `${name.padEnd(NAME_COLUMNS)}${bars(samples.slice(-width).map(pick), full).padStart(width)} ${figures}`;
  const { p50, p99, cpus, cpuLimit, throttled, memoryBytes, limitBytes } = now;
  const withheld = throttled === null ? '' : `, throttled ${throttled.toFixed(2)} s/s`;
  return [
    gauge('requests/s', rateOf, undefined, `${rateOf(now).toFixed(1)}, p50 ${p50} ms, p99 ${p99} ms`),
    gauge('CPU', sample => sample.cpus, cpuLimit, `${cpus.toFixed(2)} of ${cpuLimit} CPUs${withheld}`),
    gauge(
      'memory',
      sample => sample.memoryBytes,
      limitBytes ?? undefined,
      limitBytes === null
        ? `${mib(memoryBytes)} MiB, no limit`
        : `${mib(memoryBytes)} of ${mib(limitBytes)} MiB, ${Math.round((memoryBytes / limitBytes) * 100)} %`,
    ),
  ];
}

const rateOf = ({ workers }: Sample) => Object.values(workers).reduce((sum, [rate]) => sum + rate, 0);
const mib = (bytes: number) => Math.round(bytes / 2 ** 20);

const BARS = '▁▂▃▄▅▆▇█';

/** Each value by its share of `full`, which is the highest of them where it is not given. */
export function bars(values: readonly number[], full = Math.max(...values, Number.MIN_VALUE)): string {
  return values.map(value => BARS[Math.round(Math.min(1, value / full) * (BARS.length - 1))]).join('');
}

/** A heading and a row each; where they are too many, first those that are not simply ready. */
function workerRows({ workers }: Status, now: Sample | undefined, most: number, columns: number): string[] {
  const room = workers.length < most ? workers.length : Math.max(0, most - 2);
  const byNews = workers.toSorted((a, b) => Number(a.state === 'ready') - Number(b.state === 'ready'));
  const shown = new Set(byNews.slice(0, room));
  const cells = workers
    .filter(worker => shown.has(worker))
    .map(worker => [
      String(worker.id),
      String(worker.pid),
      worker.state,
      String(worker.generation),
      duration(worker.uptimeSeconds).replace(/ (.).*/, '$1'),
      String(worker.connections),
      String(worker.inFlight),
      figure(now?.workers[worker.id]?.[0] ?? 0),
      short(worker.responseTimeMs.p50),
      short(worker.responseTimeMs.p99),
      `${Math.round(worker.eventLoopUtilization * 100)}%`,
      short(worker.eventLoopDelayMs),
      `${mib(worker.memory.rss)}M`,
      `${mib(worker.memory.heapUsed)}M`,
    ]);
  const heading = ['id', 'pid', 'state', 'gen', 'up', 'conns', 'open', 'req/s', 'p50', 'p99', 'loop', 'late', 'rss', 'heap'];
  const rows = [heading, ...cells];
  const narrow = table(
    rows.map(row => row.slice(0, -1)), // without the heap
    ' ',
  );
  const drawn = [table(rows), table(rows, ' ')].map(text => text.split('\n'));
  const fitting = drawn.find(lines => lines.every(line => line.length <= columns)) ?? narrow.split('\n');
  const left = workers.length - shown.size;
  return left === 0 ? fitting : [...fitting, `and ${left} more${byNews[room]?.state === 'ready' ? ', all ready' : ''}`];
}

/** Short: no decimals where they say nothing. */
const figure = (value: number) => (value >= 100 ? String(Math.round(value)) : String(Math.round(value * 10) / 10));

const short = (ms: number) => (ms < 10_000 ? `${figure(ms)}ms` : `${figure(ms / 1000)}s`);

/** The newest first. */
function eventRows(events: Watched['events'], columns: number): string[] {
  return events.toReversed().flatMap(({ at, text }) => {
    const [first = '', ...others] = wrap(text, columns - CLOCK_COLUMNS);
    const clock = new Date(at).toLocaleTimeString('en-GB');
    return [`${clock} ${first}`, ...others.map(line => `${' '.repeat(CLOCK_COLUMNS)}${line}`)];
  });
}

/** As two lines at most. Errors of an app, and paths, may hold what moves a cursor. */
function wrap(text: string, columns: number): string[] {
  const plain = stripVTControlCharacters(text).replace(/\p{Cc}+/gu, ' ');
  if (plain.length <= columns) return [plain];
  const space = plain.lastIndexOf(' ', columns);
  const end = space > columns / 2 ? space : columns;
  return [plain.slice(0, end), clip(plain.slice(end).trimStart(), columns)];
}

function clip(line: string, columns: number): string {
  return line.length <= columns ? line : `${line.slice(0, columns - 1)}…`;
}
