/**
 * What bounds the requests and connections of a worker, as the configuration says: by the event loop delay, by time, by number.
 */
import type { ServerResponse } from 'node:http';
import type { Config } from '../config/config.ts';
import type { LogSource } from '../log/log.ts';
import { traceOf } from '../log/telemetry.ts';
import { connectionsWithin, fileLimit } from '../resources/usage.ts';
import type { AdaptiveConcurrency } from './concurrency/adaptive.ts';
import type { Exchange } from './connections.ts';
import { noteCause } from './error-list.ts';
import { MaxConnections } from './max-connections.ts';
import type { AppServer, Refuse } from './server.ts';
import type { Stats } from './stats.ts';
import type { WrongProtocols } from './wrong-protocol.ts';

/** How often the event loop delay is measured for MAX_EVENT_LOOP_DELAY_MS. */
const DELAY_SAMPLE_MS = 20;
const RETRY_AFTER_SECONDS = 1;

/** A worker that is full again within this time logs nothing. */
const FULL_EPISODE_MS = 60_000;
const FULL =
  'the worker closes its idle connections, and leaves new ones to other workers while all are in use: raise MAX_CONNECTIONS, and the limit of open files, or run more pods';

const TURNING_AWAY =
  'more requests come than the app can answer in its usual time: the rest gets 503 with Retry-After. Find what the app waits for, or run more pods';

/** Responds with 503 and Retry-After while a timer last fired more than `maxDelayMs` late, so that accepted requests finish. */
export function shedWhenLate(maxDelayMs: number, stats: Stats): Refuse {
  let dueAt = performance.now() + DELAY_SAMPLE_MS;
  let delayMs = 0;
  setInterval(() => {
    const now = performance.now();
    delayMs = now - dueAt;
    dueAt = now + DELAY_SAMPLE_MS;
  }, DELAY_SAMPLE_MS).unref();
  return ({ request, response }) => {
    if (delayMs <= maxDelayMs) return false;
    stats.shedOne();
    noteCause(request, { own: 'Overloaded' });
    answerOverloaded(response);
    return true;
  };
}

function answerOverloaded(response: ServerResponse): void {
  response.writeHead(503, { 'Retry-After': RETRY_AFTER_SECONDS, 'Content-Type': 'text/plain; charset=utf-8' });
  response.end('This server is overloaded. Please try again in a moment.\n');
}

/** Starts ADAPTIVE_CONCURRENCY (concurrency/). */
export async function limitConcurrency(log: LogSource): Promise<AdaptiveConcurrency> {
  const { AdaptiveConcurrency } = await import('./concurrency/adaptive.ts');
  const { Episode } = await import('./concurrency/episode.ts');
  const episode = new Episode();
  const concurrency = new AdaptiveConcurrency({
    onTurnedAway: ({ request, response }, now) => {
      noteCause(request, { own: 'ConcurrencyLimit' });
      answerOverloaded(response);
      if (episode.add(now))
        log().warn({ event: 'concurrency.turning-away', limit: concurrency.status.limit, warning: TURNING_AWAY });
    },
    onWindow: now => {
      const ended = episode.endedBy(now);
      if (ended !== undefined) log().info({ event: 'concurrency.recovered', ...ended });
    },
  });
  return concurrency.start();
}

/** Starts HANDLER_TIMEOUT_MS (handler-timeout.ts). */
export async function watchHandlers(config: Config, server: AppServer, stats: Stats, log: LogSource): Promise<void> {
  const { HandlerTimeout, TIMED_OUT_STATUS, TimeoutLines } = await import('./handler-timeout.ts');
  const lines = new TimeoutLines();
  const onTimeout = (exchange: Exchange, ms: number) => {
    noteCause(exchange.request, { own: 'HandlerTimeout' });
    server.onOwnAnswer(exchange, TIMED_OUT_STATUS, ms);
    stats.timedOutOne();
    const line = lines.lineFor(exchange.request, ms, performance.now());
    if (line !== undefined) log().warn({ event: 'request.timed-out', ...line, ...traceOf(exchange.request) });
  };
  new HandlerTimeout(config, () => server.openConnections, onTimeout).start();
}

/** MAX_CONNECTIONS, or what the descriptors of this process allow; undefined if the system has no such limit. */
export function maxConnectionsOf({ maxConnections, sticky }: Pick<Config, 'maxConnections' | 'sticky'>): number | undefined {
  if (maxConnections !== undefined) return maxConnections;
  const { soft = Number.POSITIVE_INFINITY } = fileLimit() ?? {};
  return Number.isFinite(soft) ? connectionsWithin(soft, sticky !== undefined) : undefined;
}

/** Starts MAX_CONNECTIONS. `accept` is called when the worker becomes full, and when it no longer is. */
export function boundConnections(
  max: number,
  server: AppServer,
  accept: () => void,
  stats: Stats,
  log: LogSource,
): MaxConnections {
  let mayLogAt = Number.NEGATIVE_INFINITY;
  const onFull = (isFull: boolean) => {
    accept();
    const now = performance.now();
    if (isFull && now >= mayLogAt) log().warn({ event: 'connections.full', max, warning: FULL });
    mayLogAt = now + FULL_EPISODE_MS;
  };
  return new MaxConnections(max, server, { onFull, onReclaimed: () => stats.reclaimedOne() });
}

/** Called with the errors of connections: logs those that do not speak HTTP/1.1 (wrong-protocol.ts). */
export function wrongProtocolLogger(log: LogSource): AppServer['onClientError'] {
  let protocols: Promise<WrongProtocols> | undefined;
  return error => {
    protocols ??= import('./wrong-protocol.ts').then(({ WrongProtocols }) => new WrongProtocols(log));
    void protocols.then(each => each.onClientError(error));
  };
}
