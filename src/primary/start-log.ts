/**
 * What the log says of the start: the size of the pool, warnings about its settings, and where the app is served.
 */
import { openUrl } from '../config/open-url.ts';
import { socketPathOf } from '../config/parse.ts';
import type { Pool } from '../pool/pool.ts';
import type { AdoptedServer, ToPrimary } from '../protocol/messages.ts';
import { VERSION } from './pod-view.ts';

const LOOPBACK = /^(?:127\.|::1$|localhost$)/;

/** The first lines of a pool: its size, and what in its settings deserves a warning. */
export function logStart({ settings, resizer, balancing, log }: Pool): void {
  const { workers, reason, memory, warnings } = resizer.sizing;
  log().info({
    event: 'primary.start',
    version: VERSION,
    node: process.version,
    workers,
    reason,
    heapPerWorkerMb: memory.heapPerWorkerMb,
    semiSpaceMb: memory.semiSpaceMb,
    policy: balancing.policy,
  });
  const { warning: fallback } = balancing;
  if (fallback !== undefined) log().warn({ event: 'balancing.fallback', warning: fallback });
  for (const warning of warnings) log().warn({ event: 'sizing.warning', warning });
  for (const { file, why } of resizer.limits.skipped) log().debug({ event: 'sizing.skipped', file, why });
  for (const warning of settings.nodeOptionWarnings) log().warn({ event: 'node-options.warning', warning });
  if (settings.isDemoByDefault && settings.config.production) {
    const warning =
      'no app is configured, so the demo app of koa-bosun is served: set APP_MODULE, or name the app to bosun start';
    log().warn({ event: 'app.demo', warning });
  }
  if (settings.areSessionKeysGenerated) {
    const warning =
      'SESSION_KEYS and Redis are not configured: sessions end when the primary exits, and other pods cannot verify them';
    log().warn({ event: 'session.keys-generated', warning });
  }
}

/** Once the first worker serves. */
export function logListening({ settings, emit, log }: Pool, { port, adopted }: Extract<ToPrimary, { type: 'ready' }>): void {
  const { host } = settings.config;
  const isUnix = socketPathOf(host) !== undefined;
  const url = openUrl(adopted?.kind ?? 'http', host, port);
  emit({ event: 'app.listening', url, host });
  if (adopted === undefined) return;
  const warning = isUnix ? undefined : warningOf(adopted, host, port);
  log()[warning === undefined ? 'info' : 'warn']({ event: 'app.adopted', ...adopted, url, warning });
}

/** Where an app that listens by itself is served on another port or address than in its own call. */
function warningOf({ port: wanted, host: wantedHost }: AdoptedServer, host: string, port: number): string | undefined {
  if (wanted !== 0 && wanted !== port)
    return `the app listens on ${wanted}, and is served on ${port} (PORT): listen on process.env.PORT, or set PORT=${wanted}`;
  const isLocal = wantedHost !== undefined && LOOPBACK.test(wantedHost);
  if (isLocal && !LOOPBACK.test(host))
    return `the app listens on ${wantedHost}, and is served on ${host} (HOST): set HOST=${wantedHost} to serve this machine only`;
  return undefined;
}
