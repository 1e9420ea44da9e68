/**
 * The way out: not ready → delay with open doors → drain → everybody gone. It says how it went; ending the process is not its part.
 */
import type { Config } from '../config.ts';
import type { LogSource } from '../log.ts';
import type { Supervisor } from './supervisor.ts';

/** Ends all workers; resolves when the last one has exited. `delayMs`: time to stay open, ending connections with their answers. */
export async function drainAll(
  supervisor: Supervisor,
  { shutdownTimeoutMs }: Config,
  delayMs: number,
  log: LogSource,
): Promise<void> {
  supervisor.stop();
  for (const handle of supervisor.handles) handle.send({ type: 'soft' });
  if (delayMs > 0) {
    log().info({ event: 'shutdown.delay', ms: delayMs });
    await Promise.race([new Promise(resolve => setTimeout(resolve, delayMs)), supervisor.empty()]);
  }
  log().info({ event: 'shutdown.drain', workers: supervisor.handles.length, timeoutMs: shutdownTimeoutMs });
  for (const handle of supervisor.handles) if (handle.isActive) handle.beginDrain('shutdown', shutdownTimeoutMs);
  await supervisor.empty();
}
