/**
 * JSON lines through pino: one event each, named by its `event` field. The primary gives its lines to its own writer (output.ts). A worker
 * writes to `process.stdout`, like its app's `console.log`: two writers of one descriptor would break each other's lines.
 */
import { createRequire } from 'node:module';
import type { DestinationStream, Logger } from 'pino';
import { SECRETS } from '../config/variables.ts';
import type { EventLog } from '../protocol/event-log.ts';
import { activeTrace } from './telemetry.ts';

const SECRET_FIELDS = ['password', 'secret', 'token', 'authorization', 'cookie'];
/** ioredis' errors carry the command that failed: sessions, and what else the app keeps in Redis. */
const COMMAND_ARGUMENTS = '*.command.args';
/** Replaced by "[Redacted]": in the line itself, in its objects, and in their headers. */
const REDACTED = [
  ...SECRET_FIELDS.flatMap(field => [field, `*.${field}`, `*.headers.${field}`]),
  // As an app may copy them out of the configuration, and out of process.env: a path with `*` costs 0.3 µs in every line, one without nothing.
  ...SECRETS.flatMap(({ key, name }) => [key, `*.${key}`, name, `env.${name}`]),
  COMMAND_ARGUMENTS,
];

/** A worker's lines that its primary has not read yet; more are dropped and counted. */
const MAX_BUFFERED_BYTES = 8 << 20;

/** The longest time that a worker's exit waits for output which is still buffered in this process. */
const FLUSH_TIMEOUT_MS = 1000;

/** The app's logger, for any line. */
export type Log = Logger;
/** Returns the logger of the process, for the kit's own events. */
export type LogSource = () => EventLog;

/**
 * Makes a logger whose lines carry `fields`, and what `lineFields` returns for each, and go to `write`. pino is loaded with the first line: this
 * saves 14 ms in each fork and in a quiet worker.
 */
export function createLog(
  level: string,
  fields: object,
  write: DestinationStream['write'],
  lineFields?: () => object,
): () => Log {
  let log: Log | undefined;
  return () => {
    log ??= openLog(level, fields, write, lineFields);
    return log;
  };
}

function openLog(level: string, fields: object, write: DestinationStream['write'], lineFields?: () => object): Log {
  const { pino, stdTimeFunctions } = createRequire(import.meta.url)('pino') as typeof import('pino');
  const formatters = { level: (label: string) => ({ level: label }) };
  const mixin = lineFields && { mixin: lineFields };
  return pino(
    { level, base: { ...fields }, timestamp: stdTimeFunctions.isoTime, formatters, redact: REDACTED, ...mixin },
    { write },
  );
}

/** The logger of worker number `worker`. Opens standard output with the first line: this saves a quiet worker 4 ms. */
export function createWorkerLog(level: string, worker: number): () => Log {
  let dropped = 0;
  let isOpen = false;
  const write = (line: string) => {
    if (!isOpen) process.stdout.on('error', () => undefined); // the primary has exited, and so will this worker
    isOpen = true;
    if (process.stdout.writableLength < MAX_BUFFERED_BYTES) process.stdout.write(line);
    else if (dropped++ === 0) process.stdout.once('drain', logDropped);
  };
  const log = createLog(level, { pid: process.pid, worker }, write, () => activeTrace() ?? {});
  function logDropped(): void {
    log().warn({ event: 'log.dropped', stream: 'stdout', lines: dropped });
    dropped = 0;
  }
  return log;
}

/** Resolves when everything that this worker has written is in the pipes to the primary; after `timeoutMs` in any case. */
export async function flushWorkerOutput(timeoutMs = FLUSH_TIMEOUT_MS): Promise<void> {
  const written = (stream: NodeJS.WriteStream) =>
    new Promise<void>(resolve => (stream.writable ? stream.write('', () => resolve()) : resolve()));
  const timeout = new Promise<void>(resolve => setTimeout(resolve, timeoutMs).unref());
  await Promise.race([timeout, Promise.all([written(process.stdout), written(process.stderr)])]);
}
