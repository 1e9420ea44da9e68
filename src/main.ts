/**
 * The entry point of the primary and of each worker. The order matters: signal handlers, compile cache, and only then what is large: primary or
 * worker.
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

try {
  if (signals !== undefined) {
    const { startPrimary } = await import('./primary/start.ts');
    await startPrimary({ entry: import.meta.filename, compileCache }, signals);
  } else if (isBeforeStart) {
    const { runBeforeStart } = await import('./worker/before-start.ts');
    await runBeforeStart(process.env);
  } else {
    const { runWorker } = await import('./worker/worker.ts');
    runWorker(process.env);
  }
} catch (error) {
  // By name: in the package primary and worker have a class each (release/bundle.mjs).
  if (!(error instanceof Error) || !(error.name === 'ConfigError' || error.name === 'PortError')) throw error;
  const { writeTerminationMessage } = await import('./primary/shutdown.ts');
  writeTerminationMessage(error.message);
  // A PortError has been logged already.
  if (error.name === 'ConfigError') process.stderr.write(`${error.message}\n`);
  process.exitCode = error.name === 'ConfigError' ? 78 : 1;
}
