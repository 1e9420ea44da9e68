/**
 * This worker's standard output, a pipe to its primary. The kit's lines go through `process.stdout` like the app's `console.log`: two
 * writers of one descriptor would break each other's lines, as two processes do.
 */
import { createLog, type LogSource } from '../log/log.ts';

/** The lines of one turn of the event loop are buffered until it ends; more if the primary does not read. */
const MAX_WAITING_BYTES = 8 << 20;

/** The longest time that an exit waits for written output still buffered in this process. */
const FLUSH_MS = 1000;

/** Opens standard output with the first line: this saves a quiet worker 4 ms. */
export function createWorkerLog(level: string, worker: number): LogSource {
  let dropped = 0;
  let isOpen = false;
  const log = createLog(level, { pid: process.pid, worker }, line => {
    if (!isOpen) process.stdout.on('error', ignoreGonePrimary);
    isOpen = true;
    if (process.stdout.writableLength < MAX_WAITING_BYTES) process.stdout.write(line);
    else if (dropped++ === 0) process.stdout.once('drain', tellDropped);
  });
  function tellDropped(): void {
    log().warn({ event: 'log.dropped', stream: 'stdout', lines: dropped });
    dropped = 0;
  }
  return log;
}

/** This worker is about to end too. */
function ignoreGonePrimary(): void {}

/** Resolves when all that was written so far is in the pipes to the primary; after a second in any case. */
export async function flushOutput(): Promise<void> {
  const written = (stream: NodeJS.WriteStream) =>
    new Promise<void>(resolve => (stream.writable ? stream.write('', () => resolve()) : resolve()));
  const timeout = new Promise<void>(resolve => setTimeout(resolve, FLUSH_MS).unref());
  await Promise.race([timeout, Promise.all([written(process.stdout), written(process.stderr)])]);
}
