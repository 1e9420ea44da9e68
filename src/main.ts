/**
 * The entry of the primary and of each worker.
 */
import cluster from 'node:cluster';
import { enableCompileCache } from 'node:module';
import { join } from 'node:path';
import { SignalQueue } from './primary/signals.ts';

// Before anything that takes time: as PID 1, a process without a handler never sees SIGTERM.
const signals = cluster.isPrimary ? new SignalQueue() : undefined;

// Stripping types costs 45 ms once per process; compiled code is kept beside the packages, and not in the temp dir,
// where other users could leave theirs for us. NODE_COMPILE_CACHE wins where it is set.
const compileCache = join(import.meta.dirname, '..', 'node_modules', '.cache', 'koa-bosun');
enableCompileCache(compileCache);

const { ConfigError, inheritedOf, readWorkerConfig, workerIdOf } = await import('./config/config.ts');
try {
  if (signals !== undefined) {
    const { startPool } = await import('./pool/pool.ts');
    const { Events } = await import('./primary/events.ts');
    const events = new Events();
    const { emit } = events;
    const pool = await startPool({ entry: import.meta.filename, compileCache, emit, onLog: log => events.logTo(log) });
    const { runPrimary } = await import('./primary/primary.ts');
    await runPrimary(pool, events, signals);
  } else {
    const { runWorker } = await import('./worker/worker.ts');
    runWorker(readWorkerConfig(process.env), workerIdOf(process.env), inheritedOf(process.env));
  }
} catch (error) {
  const { PortError } = await import('./balancing/listener.ts');
  if (!(error instanceof ConfigError || error instanceof PortError)) throw error;
  const { writeTerminationMessage } = await import('./primary/shutdown.ts');
  writeTerminationMessage(error.message);
  // What concerns the port has been logged, like every failure of a start whose settings are good.
  if (error instanceof ConfigError) process.stderr.write(`${error.message}\n`);
  process.exitCode = error instanceof ConfigError ? 78 : 1;
}
