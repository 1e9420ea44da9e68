/**
 * The entry point of the primary and of each worker. The order matters: signal handlers, compile cache, fork of the first worker, and only
 * then the rest of the primary.
 */
import cluster from 'node:cluster';
import { enableCompileCache } from 'node:module';
import { join } from 'node:path';
import { SignalQueue } from './primary/signals.ts';

// PID 1 ignores SIGTERM until it has a handler.
const isBeforeStart = process.env.BOSUN_BEFORE_START !== undefined;
const signals = cluster.isPrimary && !isBeforeStart ? new SignalQueue() : undefined;

// Stripping types costs 45 ms in each process. The compiled code is cached beside the packages: in the temp dir other users could plant
// code. NODE_COMPILE_CACHE takes precedence.
const compileCache = join(import.meta.dirname, '..', 'node_modules', '.cache', 'koa-bosun');
enableCompileCache(compileCache);

const { ConfigError, readWorkerConfig } = await import('./config/config.ts');
try {
  if (signals !== undefined) {
    const { prepare } = await import('./pool/first-fork.ts');
    const prepared = await prepare({ entry: import.meta.filename, compileCache });
    const { Events } = await import('./primary/events.ts');
    const events = new Events();
    events.logTo(prepared.log);
    const { startPool } = await import('./pool/pool.ts');
    const pool = startPool(prepared, events.emit);
    const { runPrimary } = await import('./primary/primary.ts');
    await runPrimary(pool, events, signals);
  } else if (isBeforeStart) {
    const { runBeforeStart } = await import('./worker/before-start.ts');
    await runBeforeStart(process.env);
  } else {
    const { inheritedOf, workerIdOf } = await import('./config/inherited.ts');
    const { runWorker } = await import('./worker/worker.ts');
    runWorker(readWorkerConfig(process.env), workerIdOf(process.env), inheritedOf(process.env));
  }
} catch (error) {
  const { PortError } = await import('./balancing/listener.ts');
  if (!(error instanceof ConfigError || error instanceof PortError)) throw error;
  const { writeTerminationMessage } = await import('./primary/shutdown.ts');
  writeTerminationMessage(error.message);
  // A PortError has been logged already.
  if (error instanceof ConfigError) process.stderr.write(`${error.message}\n`);
  process.exitCode = error instanceof ConfigError ? 78 : 1;
}
