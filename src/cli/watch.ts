/**
 * `bosun status --watch`: what the dashboard shows, on a terminal. Polls the primary once a second until Ctrl-C, or until the reader
 * of its output exits; `renderWatch` is pure.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import { stripVTControlCharacters } from 'node:util';
import type { Sample, Status } from '../protocol/api.ts';
import type { ResultOf } from '../protocol/commands.ts';
import { call } from './client.ts';
import { duration, endedWorkers, mebibytes, pendingRequests, percent, reasonOf, table } from './render.ts';

/** `/status`, and the last seconds and events, the newest last. */
export type Watched = ResultOf<'watch'>;

export interface Screen {
  columns: number;
  rows: number;
}

const POLL_INTERVAL_MS = 1000;
/** Where output is no terminal, or one that does not report its size. */
const DEFAULT_SCREEN = { columns: 80, rows: 24 };
const CLEAR = '\u001b[2J';
const HOME = '\u001b[H';
const CLEAR_LINE = '\u001b[K';
const CLEAR_BELOW = '\u001b[J';

/** With `json`, prints `/status` on one line per poll. */
export async function watchStatus(socket: string, json: boolean): Promise<void> {
  const { stdout } = process;
  let isClosed = false;
  stdout.once('error', () => {
    isClosed = true; // as in `bosun status --watch | head`
  });
  if (!json) stdout.write(CLEAR);
  while (!isClosed) {
    const watched = await call(socket, 'watch');
    // Drawn over the last screen, line by line: clearing it first would flicker.
    stdout.write(
      json ? `${JSON.stringify(watched.status)}\n` : onScreen(renderWatch(watched, { ...DEFAULT_SCREEN, ...sizeOf(stdout) })),
    );
    await sleep(POLL_INTERVAL_MS);
  }
}

function sizeOf({ columns, rows }: NodeJS.WriteStream) {
  return { ...(columns > 0 && { columns }), ...(rows > 0 && { rows }) };
}

function onScreen(text: string): string {
  return `${HOME}${text.replaceAll('\n', `${CLEAR_LINE}\n`)}${CLEAR_LINE}\n${CLEAR_BELOW}`;
}

/** Rows kept for events; more where the workers leave room. */
const MIN_EVENT_ROWS = 4;
const MAX_PENDING_REQUESTS = 2;
/** The columns of a gauge before and after its bars: name and figures. */
const NAME_COLUMNS = 11;
const FIGURE_COLUMNS = 39;
const CLOCK_COLUMNS = 9;

/** At most `columns` wide, and one row less than the screen: the cursor takes the last one. */
export function renderWatch({ status, samples, events }: Watched, { columns, rows }: Screen): string {
  const lines = (text: string) => wrap(text, columns);
  const { version, pid, state, uptimeSeconds, generation, policy } = status;
  const why = reasonOf(status);
  const top = [
    ...lines(
      `koa-bosun ${version}, pid ${pid}, ${state}${why && ` (${why})`}, up ${duration(uptimeSeconds)}, generation ${generation}, ${policy}`,
    ),
    ...lines(sizingLine(status)),
    '',
    ...gauges(samples, columns),
    '',
  ];
  const bottom = [
    ...pendingRequests(status, MAX_PENDING_REQUESTS).flatMap(lines),
    ...concurrencyLine(status).flatMap(lines),
    '',
    ...lines(endedWorkers(status)),
  ];
  const room = rows - 1 - top.length - bottom.length;
  const pool = workerRows(status, samples.at(-1), Math.max(2, room - MIN_EVENT_ROWS), columns);
  return [...top, ...pool, ...bottom, ...eventRows(events, columns).slice(0, Math.max(0, room - pool.length))]
    .slice(0, rows - 1)
    .map(line => clip(line, columns))
    .join('\n');
}

/** The limits of ADAPTIVE_CONCURRENCY, summed over the workers. */
function concurrencyLine({ workers }: Status): string[] {
  const all = workers.flatMap(({ concurrency }) => concurrency ?? []);
  if (all.length === 0) return [];
  const sum = (pick: (of: (typeof all)[number]) => number) => all.reduce((total, of) => total + pick(of), 0);
  const handled = `the workers handle ${sum(of => of.inFlight)} of at most ${sum(of => of.limit)} requests`;
  return [`${handled}, ${sum(of => of.queued)} wait, ${figure(sum(of => of.rejectedPerSecond))} turned away a second`];
}

function sizingLine({ sizing: { reason, memory } }: Status): string {
  return `${reason}; ${memory.heapPerWorkerMb === null ? "V8's default heap" : `${memory.heapPerWorkerMb} MiB of heap`} each`;
}

/** The last seconds as bars, the last second as figures. */
function gauges(samples: readonly Sample[], columns: number): string[] {
  const now = samples.at(-1);
  if (now === undefined) return ['waiting for the first sample', '', '', ''];
  const width = Math.max(0, columns - NAME_COLUMNS - FIGURE_COLUMNS);
  const gauge = (name: string, pick: (sample: Sample) => number, full: number | undefined, figures: string) =>
    `${name.padEnd(NAME_COLUMNS)}${bars(samples.slice(-width).map(pick), full).padStart(width)} ${figures}`;
  const { p50, p99, cpus, cpuLimit, throttled, memoryBytes, limitBytes } = now;
  const [, , clientErrors, serverErrors] = now.statuses;
  const answers = now.statuses.reduce((sum, count) => sum + count, 0);
  const throttling = throttled === null ? '' : `, throttled ${throttled.toFixed(2)} s/s`;
  return [
    gauge('requests/s', rateOf, undefined, `${rateOf(now).toFixed(1)}, p50 ${p50} ms, p99 ${p99} ms`),
    gauge(
      'errors/s',
      ({ statuses }) => statuses[3],
      undefined,
      `5xx ${figure(serverErrors)}, 4xx ${figure(clientErrors)}, ${percent(serverErrors / (answers || 1))} are 5xx`,
    ),
    gauge('CPU', sample => sample.cpus, cpuLimit, `${cpus.toFixed(2)} of ${cpuLimit} CPUs${throttling}`),
    gauge(
      'memory',
      sample => sample.memoryBytes,
      limitBytes ?? undefined,
      limitBytes === null
        ? `${mebibytes(memoryBytes)} MiB, no limit`
        : `${mebibytes(memoryBytes)} of ${mebibytes(limitBytes)} MiB, ${Math.round((memoryBytes / limitBytes) * 100)} %`,
    ),
  ];
}

const rateOf = ({ workers }: Sample) => Object.values(workers).reduce((sum, [rate]) => sum + rate, 0);

const BARS = '▁▂▃▄▅▆▇█';

/** One bar per value, by its share of `full` (default: the highest value). */
export function bars(values: readonly number[], full = Math.max(...values, Number.MIN_VALUE)): string {
  return values.map(value => BARS[Math.round(Math.min(1, value / full) * (BARS.length - 1))]).join('');
}

/** A heading and one row per worker; where there are too many, workers that are not ready come first. */
function workerRows({ workers }: Status, now: Sample | undefined, limit: number, columns: number): string[] {
  const room = workers.length < limit ? workers.length : Math.max(0, limit - 2);
  const byState = workers.toSorted((a, b) => Number(a.state === 'ready') - Number(b.state === 'ready'));
  const shown = new Set(byState.slice(0, room));
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
      figure(worker.errors['4xx'].perSecond),
      figure(worker.errors['5xx'].perSecond),
      short(worker.responseTimeMs.p50),
      short(worker.responseTimeMs.p99),
      `${Math.round(worker.eventLoopUtilization * 100)}%`,
      short(worker.eventLoopDelayMs),
      `${mebibytes(worker.memory.rss)}M`,
      `${mebibytes(worker.memory.heapUsed)}M`,
    ]);
  const heading = [
    'id',
    'pid',
    'state',
    'gen',
    'up',
    'conns',
    'open',
    'req/s',
    '4xx',
    '5xx',
    'p50',
    'p99',
    'loop',
    'late',
    'rss',
    'heap',
  ];
  const rows = [heading, ...cells];
  const without = (...names: string[]) => rows.map(row => row.filter((_, column) => !names.includes(heading[column] ?? '')));
  const narrow = [rows, without('heap'), without('heap', '4xx'), without('heap', '4xx', 'late')].map(each => table(each, ' '));
  const drawn = [table(rows), ...narrow].map(text => text.split('\n'));
  const fitting = drawn.find(lines => lines.every(line => line.length <= columns)) ?? drawn.at(-1) ?? [];
  const left = workers.length - shown.size;
  return left === 0 ? fitting : [...fitting, `and ${left} more${byState[room]?.state === 'ready' ? ', all ready' : ''}`];
}

/** At most one decimal, and none from 100 on. */
const figure = (value: number) => (value >= 100 ? String(Math.round(value)) : String(Math.round(value * 10) / 10));

const short = (ms: number) => (ms < 10_000 ? `${figure(ms)}ms` : `${figure(ms / 1000)}s`);

/** Newest first. */
function eventRows(events: Watched['events'], columns: number): string[] {
  return events.toReversed().flatMap(({ at, text }) => {
    const [first = '', ...others] = wrap(text, columns - CLOCK_COLUMNS);
    const clock = new Date(at).toLocaleTimeString('en-GB');
    return [`${clock} ${first}`, ...others.map(line => `${' '.repeat(CLOCK_COLUMNS)}${line}`)];
  });
}

/** At most two lines, without control characters: an app's errors and paths may contain some that move the cursor. */
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
