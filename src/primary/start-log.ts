/**
 * What the log says of a pool that begins: its size and why, and what an operator should know of its settings.
 */
import type { Pool } from '../pool/pool.ts';
import { VERSION } from './version.ts';

export function logStart({ settings, resizer, balancing, log }: Pool): void {
  const { workers, reason, memory, warnings } = resizer.sizing;
  log().info({
    event: 'primary.start',
    version: VERSION,
    node: process.version,
    workers,
    reason,
    heapPerWorkerMb: memory.heapPerWorkerMb,
    policy: balancing.policy,
  });
  const { warning: fallback } = balancing;
  if (fallback !== undefined) log().warn({ event: 'balancing.fallback', warning: fallback });
  for (const warning of warnings) log().warn({ event: 'sizing.warning', warning });
  for (const { file, why } of resizer.limits.skipped) log().debug({ event: 'sizing.skipped', file, why });
  for (const warning of settings.nodeOptionWarnings) log().warn({ event: 'node-options.warning', warning });
  if (settings.areSessionKeysGenerated) {
    const warning =
      'SESSION_KEYS is not set and there is no Redis: sessions end with this start, and other pods do not know them';
    log().warn({ event: 'session.keys-generated', warning });
  }
}
