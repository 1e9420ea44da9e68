/**
 * This worker's standard output, which ends in its primary. The kit's lines go through `process.stdout` like the app's `console.log`: two
 * writers of one descriptor would break each other's lines, as two processes do.
 */
import { createLog, type LogSource } from '../log.ts';

/** What one turn of the event loop logs waits until it ends; more than that while the primary stands still. */
const MAX_WAITING_BYTES = 8 << 20;

/** What has been written may still wait in this process; its exit does not wait longer than this. */
const FLUSH_MS = 1000;

/** Opens standard output with the first line: 4 ms that a quiet worker does without. */
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

/** This worker is about to be gone, too. */
function ignoreGonePrimary(): void {}

/** Resolves when all that was written so far is in the pipes to the primary; after a second in any case. */
export async function flushOutput(): Promise<void> {
  const written = (stream: NodeJS.WriteStream) =>
    new Promise<void>(resolve => (stream.writable ? stream.write('', () => resolve()) : resolve()));
  const timeout = new Promise<void>(resolve => setTimeout(resolve, FLUSH_MS).unref());
  await Promise.race([timeout, Promise.all([written(process.stdout), written(process.stderr)])]);
}
