/**
 * `bosun status`: the pool on a terminal. Pure from the `/status` object to text.
 */
import { table } from './table.ts';

/** What of `/status` is shown here. */
export interface Status {
  version: string;
  pid: number;
  state: string;
  generation: number;
  uptimeSeconds: number;
  policy: string;
  sizing: { reason: string; memory: { heapPerWorkerMb: number | null } };
  workers: {
    id: number;
    pid: number;
    state: string;
    generation: number;
    uptimeSeconds: number;
    connections: number;
    inFlight: number;
    requests: number;
    responseTimeMs: { p50: number; p99: number };
    eventLoopUtilization: number;
    eventLoopDelayMs: number;
    memory: { rss: number };
    waitingFor?: { method: string; path: string; ageMs: number; bytesSent: number }[];
  }[];
  restarts: { total: number; byReason: Record<string, number> };
  drains: {
    count: number;
    finishedRequests: number;
    cutRequests: number;
    handedOverConnections: number;
    longestRequestMs: number;
  };
}

/** Requests per second of each worker, by its process id. */
export type Rates = ReadonlyMap<number, number>;

/** Between two looks; a worker that is new counts from its start. */
export function ratesBetween(before: Status, now: Status): Rates {
  const earlier = new Map(before.workers.map(worker => [worker.pid, worker]));
  return new Map(
    now.workers.map(({ pid, requests, uptimeSeconds }) => {
      const last = earlier.get(pid);
      const seconds = uptimeSeconds - (last?.uptimeSeconds ?? 0);
      return [pid, seconds > 0 ? (requests - (last?.requests ?? 0)) / seconds : 0];
    }),
  );
}

/** With `rates` a column of them, and their sum over the looks so far as a line of bars. */
export function renderStatus(status: Status, rates?: Rates, totals: readonly number[] = []): string {
  const { version, pid, state, generation, uptimeSeconds, policy, sizing, workers, restarts, drains } = status;
  const reasons = Object.entries(restarts.byReason).map(([reason, count]) => `${count} ${reason}`);
  return [
    `koa-bosun ${version}, process ${pid}, ${state} for ${duration(uptimeSeconds)}, generation ${generation}, policy ${policy}`,
    sizing.reason,
    '',
    table([
      [
        'worker',
        'pid',
        'state',
        'gen',
        'up',
        'conns',
        'open',
        'requests',
        ...(rates ? ['req/s'] : []),
        'p50',
        'p99',
        'loop',
        'late',
        'rss',
      ],
      ...workers.map(worker => [
        String(worker.id),
        String(worker.pid),
        worker.state,
        String(worker.generation),
        duration(worker.uptimeSeconds),
        String(worker.connections),
        String(worker.inFlight),
        String(worker.requests),
        ...(rates ? [(rates.get(worker.pid) ?? 0).toFixed(1)] : []),
        `${worker.responseTimeMs.p50} ms`,
        `${worker.responseTimeMs.p99} ms`,
        `${Math.round(worker.eventLoopUtilization * 100)} %`,
        `${worker.eventLoopDelayMs} ms`,
        `${Math.round(worker.memory.rss / 2 ** 20)} MiB`,
      ]),
    ]),
    ...workers.flatMap(({ id, waitingFor = [] }) =>
      waitingFor.map(
        ({ method, path, ageMs, bytesSent }) =>
          `worker ${id} waits for ${method} ${path}, ${duration(ageMs / 1000)} old, ${bytesSent} bytes sent`,
      ),
    ),
    ...(rates ? ['', `requests/s ${bars(totals)} ${(totals.at(-1) ?? 0).toFixed(1)}`] : []),
    '',
    `ended workers: ${restarts.total}${reasons.length > 0 ? ` (${reasons.join(', ')})` : ''}; drains: ${drains.count}, ${drains.finishedRequests} requests finished in them, ${drains.cutRequests} cut, ${drains.handedOverConnections} connections handed over, longest ${drains.longestRequestMs} ms`,
  ].join('\n');
}

const BARS = '▁▂▃▄▅▆▇█';

/** Each value by its share of the highest. */
export function bars(values: readonly number[]): string {
  const highest = Math.max(...values, Number.MIN_VALUE);
  return values.map(value => BARS[Math.round((value / highest) * (BARS.length - 1))]).join('');
}

function duration(seconds: number): string {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}
