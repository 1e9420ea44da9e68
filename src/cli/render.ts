/**
 * What `bosun` prints: pure functions from what the primary answers to text.
 */
import { stripVTControlCharacters, styleText } from 'node:util';
import type { Peer, Status, WorkerState } from '../protocol/api.ts';
import { checkInWords } from '../protocol/check-words.ts';
import type { Finding } from '../protocol/commands.ts';
import type { LeaderStatus } from '../protocol/leader.ts';
import { PRESSURE_RESOURCES } from '../protocol/pressure.ts';
import { youngGeneration } from '../resources/heap.ts';
import type { Detected } from '../resources/sizing.ts';

export function renderStatus(status: Status): string {
  const { version, pid, state, generation, uptimeSeconds, policy, sizing, workers } = status;
  const why = reasonOf(status);
  const isUnready = state === 'ready' && Object.values(status.health ?? {}).some(check => check.isUnready);
  return [
    `koa-bosun ${version}, process ${pid}, ${isUnready ? `${colored('not ready')}, running` : colored(state)} for ${duration(uptimeSeconds)}${why && ` (${why})`}, generation ${generation}, policy ${policy}`,
    sizing.reason,
    ...use(status),
    '',
    table([
      heading(
        'worker',
        'pid',
        'state',
        'gen',
        'up',
        'conns',
        'open',
        'requests',
        '4xx/s',
        '5xx/s',
        'errors',
        'p50',
        'p99',
        'loop',
        'late',
        'rss',
      ),
      ...workers.map(worker => [
        String(worker.id),
        String(worker.pid),
        colored(worker.state),
        String(worker.generation),
        duration(worker.uptimeSeconds),
        String(worker.connections),
        String(worker.inFlight),
        String(worker.requests),
        worker.errors['4xx'].perSecond.toFixed(1),
        worker.errors['5xx'].perSecond.toFixed(1),
        percent(worker.errors.share),
        `${worker.responseTimeMs.p50} ms`,
        `${worker.responseTimeMs.p99} ms`,
        `${Math.round(worker.eventLoopUtilization * 100)} %`,
        `${worker.eventLoopDelayMs} ms`,
        `${mebibytes(worker.memory.rss)} MiB`,
      ]),
    ]),
    ...errorLine(status),
    ...pendingRequests(status, Number.POSITIVE_INFINITY),
    ...concurrency(status),
    ...checks(status),
    '',
    ...leaders(status),
    ...failedStarts(status),
    endedWorkers(status),
  ].join('\n');
}

/** How much of what the pod can do is in use, and what its processes wait for; empty where neither is known. */
function use({ utilization, pressure = {} }: Status): string[] {
  const names = { cpu: 'a CPU', memory: 'memory', io: 'a disk' };
  const waits = PRESSURE_RESOURCES.flatMap(resource => {
    const { waiting } = pressure[resource] ?? {};
    return waiting === undefined ? [] : [`${waiting.percent} % for ${names[resource]}`];
  });
  const shown = [
    ...(typeof utilization === 'number' ? [`utilization ${Math.round(utilization * 100)} %`] : []),
    ...(waits.length === 0 ? [] : [`processes waited in the last 10 s: ${waits.join(', ')}`]),
  ];
  return shown.length === 0 ? [] : [shown.join('; ')];
}

/** The errors of the pool, over the last 10 s and since its start. */
function errorLine({ errors }: Status): string[] {
  const { '4xx': clientErrors, '5xx': serverErrors, share, abandoned } = errors;
  if (clientErrors.count + serverErrors.count + abandoned.count === 0) return [];
  const now = `${percent(share)} of the answers of the last 10 s are 5xx (${serverErrors.perSecond.toFixed(1)} per second)`;
  return [
    `errors: ${now}; since the start: ${serverErrors.count} 5xx, ${clientErrors.count} 4xx, ${abandoned.count} abandoned by clients`,
  ];
}

/** What `/readyz` gives as the reason, without the state before it; empty if there is none. */
export function reasonOf({ state, reason = '' }: Status): string {
  return reason === state ? '' : reason.replace(`${state}: `, '');
}

/** The requests that draining workers wait for, one per line: at most `limit` of them, and a count of the rest. */
export function pendingRequests({ workers }: Status, limit: number): string[] {
  const named = workers.flatMap(({ id, waitingFor = [] }) =>
    waitingFor.map(
      ({ method, path, ageMs, bytesSent }) =>
        `worker ${id} waits for ${method} ${path}, ${duration(ageMs / 1000)} old, ${bytesSent} bytes sent`,
    ),
  );
  const shown = named.slice(0, limit);
  const left = workers.reduce((sum, { waitingForCount = 0 }) => sum + waitingForCount, 0) - shown.length;
  return left > 0 ? [...shown, `and ${left} more pending requests`] : shown;
}

/** The limit of ADAPTIVE_CONCURRENCY, a line for each worker. */
function concurrency({ workers }: Status): string[] {
  return workers.flatMap(({ id, concurrency: of }) =>
    of === undefined
      ? []
      : [
          `worker ${id} handles ${of.inFlight} of at most ${of.limit} requests, ${of.queued} wait, ${of.rejected} turned away (${of.rejectedPerSecond} a second)`,
        ],
  );
}

/** The app's health checks, a line each. */
function checks({ health = {} }: Status): string[] {
  return Object.entries(health).map(([name, check]) => `check ${checkInWords(name, check)}`);
}

const leaders = ({ leader = {} }: Status): string[] =>
  Object.entries(leader).map(([name, status]) => `leader ${renderLeader(name, status)}`);

/** Who leads under that name. */
export function renderLeader(name: string, { holder, scope }: LeaderStatus): string {
  if (holder === null) return `${name}: nobody leads`;
  const { worker, pod, isSelf, since, token } = holder;
  const where = isSelf ? 'this pod' : pod;
  const isOfPod = scope === 'pod' ? ', one in each pod' : '';
  return `${name}: worker ${worker} of ${where} for ${duration((Date.now() - since) / 1000)}, token ${token}${isOfPod}`;
}

function failedStarts({ failedStarts: failed }: Status): string[] {
  if (!failed?.last) return [];
  const { at, worker, reason, failure = '' } = failed.last;
  const ago = duration((Date.now() - at) / 1000);
  return [`failed starts: ${failed.count}; the last ${ago} ago, worker ${worker} (${reason}): ${failure}`];
}

/** How many workers have exited, why, and what their drains did. */
export function endedWorkers({ restarts, drains, moved }: Status): string {
  const reasons = Object.entries(restarts.byReason).map(([reason, count]) => `${count} ${reason}`);
  return `ended workers: ${restarts.total}${reasons.length > 0 ? ` (${reasons.join(', ')})` : ''}; drains: ${drains.count}, ${drains.finishedRequests} requests finished in them, ${drains.cutRequests} cut, ${drains.handedOverConnections} connections closed gracefully, ${moved} moved, longest ${drains.longestRequestMs} ms`;
}

/** Pods send a heartbeat every second. */
const MAX_SILENCE_S = 3;

export function renderFleet(pods: readonly Peer[]): string {
  return table([
    heading('pod', 'version', 'state', 'gen', 'workers', 'req/s', '4xx/s', '5xx/s', 'p99', ''),
    ...pods.map(pod => [
      pod.pod,
      pod.version,
      colored(pod.state),
      String(pod.generation),
      `${pod.workers} of ${pod.wanted}`,
      pod.requestsPerSecond.toFixed(1),
      pod.errors?.['4xx'].toFixed(1) ?? '–',
      pod.errors?.['5xx'].toFixed(1) ?? '–',
      `${pod.p99Ms} ms`,
      pod.isSelf ? 'this pod' : pod.silentSeconds > MAX_SILENCE_S ? `silent for ${Math.round(pod.silentSeconds)} s` : '',
    ]),
  ]);
}

export function renderFindings(findings: readonly Finding[]): string {
  return table(findings.map(({ check, verdict, detail }) => [colored(verdict), check, detail]));
}

/** Where the results of `bosun sizing` begin. */
const RESULT_COLUMN = 18;

/** `bosun sizing`: the files that were read, what they say, and what follows. */
export function renderSizing({ limits, sizing, refusal }: Detected): string {
  const levels = limits.levels.map(({ controller, file, text, value }) => [
    controller,
    file,
    text,
    value === null ? 'no limit' : String(value),
  ]);
  const { cpus, memory } = sizing;
  const { limitBytes, heapPerWorkerMb, semiSpaceMb } = memory;
  const results: [name: string, value: string][] = [
    ['CPU quota', cpus.quota === null ? 'none' : `${cpus.quota} cores`],
    ['CPU set', cpus.cpuset === null ? 'unknown' : `${cpus.cpuset} CPUs`],
    ['effective CPUs', `${cpus.effective} (${cpus.source})`],
    ['memory limit', limitBytes === null ? 'none' : `${mebibytes(limitBytes)} MiB (${memory.source})`],
    ['heap per worker', heapPerWorkerMb === null ? "V8's default" : `${heapPerWorkerMb} MiB (--max-old-space-size)`],
    [
      'young generation',
      semiSpaceMb === null ? "V8's default" : `${youngGeneration(semiSpaceMb)} MiB (--max-semi-space-size=${semiSpaceMb})`,
    ],
    ['workers', String(sizing.workers)],
  ];
  return [
    table([heading('controller', 'file', 'says', 'limit'), ...levels]),
    '',
    ...results.map(([name, value]) => name.padEnd(RESULT_COLUMN) + value),
    '',
    sizing.reason,
    ...(refusal === undefined ? [] : [`refused: ${refusal}`]),
    ...sizing.warnings.map(warning => `warning: ${warning}`),
    ...limits.skipped.map(({ file, why }) => `skipped: ${file}: ${why}`),
  ].join('\n');
}

/** Columns as wide as needed, numbers aligned to the right, `gap` between them. */
export function table(rows: readonly (readonly string[])[], gap = '  '): string {
  const width = (cell = '') => stripVTControlCharacters(cell).length;
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map(row => width(row[column])))) ?? [];
  const isNumber = (cell: string) => /^[\d.,]+( ?[a-zA-Z%]+)?$/.test(stripVTControlCharacters(cell));
  const padded = (cell: string, column: number) => {
    const padding = ' '.repeat((widths[column] ?? 0) - width(cell));
    return isNumber(cell) ? padding + cell : cell + padding;
  };
  return rows.map(row => row.map(padded).join(gap).trimEnd()).join('\n');
}

const heading = (...cells: string[]) => cells.map(cell => styleText('bold', cell));

const COLORS = {
  starting: 'yellow',
  ready: 'green',
  'not ready': 'red',
  cordoned: 'yellow',
  draining: 'yellow',
  exited: 'red',
  gone: 'red',
  ok: 'green',
  warning: 'yellow',
  problem: 'red',
} satisfies Record<WorkerState | 'not ready' | Peer['state'] | Finding['verdict'], 'green' | 'yellow' | 'red'>;

/** A state or verdict in its color: on a terminal without NO_COLOR, and with FORCE_COLOR. */
const colored = (word: keyof typeof COLORS) => styleText(COLORS[word], word);

/** Of a share from 0 to 1; a decimal below 10 %. */
export const percent = (share: number) => `${(share * 100).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;

export function duration(seconds: number): string {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

export const mebibytes = (bytes: number) => Math.round(bytes / 2 ** 20);
