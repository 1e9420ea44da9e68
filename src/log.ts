/**
 * JSON lines through pino: one event each, named by its `event` field, on standard output.
 */
import { createRequire } from 'node:module';
import type { Logger } from 'pino';

export type Log = Logger;
/** Gives the process' logger. */
export type LogSource = () => Log;

/**
 * Makes a logger whose lines carry `fields`. pino is loaded with the first line: 14 ms that neither a fork nor a quiet worker waits for.
 * A blocked or broken standard output does not stop the server: writes are asynchronous, and a closed pipe is ignored.
 */
export function createLog(level: string, fields: Record<string, unknown>): LogSource {
  let log: Log | undefined;
  return () => {
    log ??= openLog(level, fields);
    return log;
  };
}

function openLog(level: string, fields: Record<string, unknown>): Log {
  const { pino, stdTimeFunctions } = createRequire(import.meta.url)('pino') as typeof import('pino');
  const destination = pino.destination({ fd: 1, sync: false });
  destination.on('error', () => {
    /* nobody reads us any more; there is nowhere left to say so */
  });
  const formatters = { level: (label: string) => ({ level: label }) };
  return pino({ level, base: fields, timestamp: stdTimeFunctions.isoTime, formatters }, destination);
}
