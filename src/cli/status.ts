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
    memory: { rss: number; heapUsed: number };
    /** The oldest of `waitingForCount`. */
    waitingFor?: { method: string; path: string; ageMs: number; bytesSent: number }[];
    waitingForCount?: number;
  }[];
  /** `at` is milliseconds since the epoch. */
  failedStarts?: { count: number; last: { at: number; worker: number; reason: string; failure?: string } | null };
  restarts: { total: number; byReason: Record<string, number> };
  drains: {
    count: number;
    finishedRequests: number;
    cutRequests: number;
    handedOverConnections: number;
    longestRequestMs: number;
  };
}

export function renderStatus(status: Status): string {
  const { version, pid, state, generation, uptimeSeconds, policy, sizing, workers } = status;
  return [
    `koa-bosun ${version}, process ${pid}, ${state} for ${duration(uptimeSeconds)}, generation ${generation}, policy ${policy}`,
    sizing.reason,
    '',
    table([
      ['worker', 'pid', 'state', 'gen', 'up', 'conns', 'open', 'requests', 'p50', 'p99', 'loop', 'late', 'rss'],
      ...workers.map(worker => [
        String(worker.id),
        String(worker.pid),
        worker.state,
        String(worker.generation),
        duration(worker.uptimeSeconds),
        String(worker.connections),
        String(worker.inFlight),
        String(worker.requests),
        `${worker.responseTimeMs.p50} ms`,
        `${worker.responseTimeMs.p99} ms`,
        `${Math.round(worker.eventLoopUtilization * 100)} %`,
        `${worker.eventLoopDelayMs} ms`,
        `${Math.round(worker.memory.rss / 2 ** 20)} MiB`,
      ]),
    ]),
    ...waits(status, Number.POSITIVE_INFINITY),
    '',
    ...failures(status),
    endings(status),
  ].join('\n');
}

/** What draining workers wait for: `most` requests at most, a line each, and how many more there are. */
export function waits({ workers }: Status, most: number): string[] {
  const named = workers.flatMap(({ id, waitingFor = [] }) =>
    waitingFor.map(
      ({ method, path, ageMs, bytesSent }) =>
        `worker ${id} waits for ${method} ${path}, ${duration(ageMs / 1000)} old, ${bytesSent} bytes sent`,
    ),
  );
  const shown = named.slice(0, most);
  const left = workers.reduce((sum, { waitingForCount = 0 }) => sum + waitingForCount, 0) - shown.length;
  return left > 0 ? [...shown, `${left} more requests that are waited for`] : shown;
}

/** How many workers failed to start, and the last error; empty if none has. */
function failures({ failedStarts }: Status): string[] {
  const last = failedStarts?.last;
  if (failedStarts === undefined || !last) return [];
  const ago = duration((Date.now() - last.at) / 1000);
  return [
    `failed starts: ${failedStarts.count}; the last ${ago} ago, worker ${last.worker} (${last.reason}): ${last.failure ?? ''}`,
  ];
}

/** How many workers have ended, why, and what their drains did. */
export function endings({ restarts, drains }: Status): string {
  const reasons = Object.entries(restarts.byReason).map(([reason, count]) => `${count} ${reason}`);
  return `ended workers: ${restarts.total}${reasons.length > 0 ? ` (${reasons.join(', ')})` : ''}; drains: ${drains.count}, ${drains.finishedRequests} requests finished in them, ${drains.cutRequests} cut, ${drains.handedOverConnections} connections handed over, longest ${drains.longestRequestMs} ms`;
}

export function duration(seconds: number): string {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}
