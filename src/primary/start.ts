/**
 * The start of the primary: the first worker is forked before the pool and the rest are loaded. In the package this file and all that it loads
 * are one (release/bundle.mjs).
 */
import { type Installation, prepare } from '../pool/first-fork.ts';
import type { SignalQueue } from './signals.ts';

/** Starts the pool, and runs this process as its primary. @throws ConfigError, PortError */
export async function startPrimary(installation: Installation, signals: SignalQueue): Promise<void> {
  const prepared = await prepare(installation);
  const { Events } = await import('./events.ts');
  const events = new Events();
  events.logTo(prepared.log);
  const { startPool } = await import('../pool/pool.ts');
  const pool = startPool(prepared, events.emit);
  const { runPrimary } = await import('./primary.ts');
  await runPrimary(pool, events, signals);
}
