/**
 * JSON lines through pino: one event each, named by its `event` field, on standard output; for people where that is a terminal.
 */
import { fstatSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Socket } from 'node:net';
import { isatty } from 'node:tty';
import type { DestinationStream, Logger } from 'pino';
import { prettyLine } from './pretty.ts';

const STDOUT = 1;
/** While nobody reads: what is more is dropped. */
const MOST_WAITING_BYTES = 1 << 20;
const SECRET_FIELDS = ['password', 'secret', 'token', 'authorization', 'cookie', 'redisUrl', 'sessionKeys'];
/** ioredis' errors carry the command that failed: sessions, and what else the app keeps in Redis. */
const ARGUMENTS = '*.command.args';
/** Replaced by "[Redacted]": in the line itself, in its objects, and in their headers. */
const SECRETS = [...SECRET_FIELDS.flatMap(field => [field, `*.${field}`, `*.headers.${field}`]), ARGUMENTS];

export type Log = Logger;
/** Gives the process' logger. */
export type LogSource = () => Log;

/**
 * Makes a logger whose lines carry `fields`. pino is loaded with the first line: 14 ms that neither a fork nor a quiet worker waits for.
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
  const formatters = { level: (label: string) => ({ level: label }) };
  return pino({ level, base: fields, timestamp: stdTimeFunctions.isoTime, formatters, redact: SECRETS }, destination());

  function destination(): DestinationStream {
    if (isatty(STDOUT)) return { write: line => void process.stdout.write(prettyLine(line)) };
    const stdout = fstatSync(STDOUT);
    return stdout.isFIFO() || stdout.isSocket()
      ? pipe()
      : pino.destination({ fd: STDOUT, sync: false, maxLength: MOST_WAITING_BYTES });
  }
}

/**
 * A pipe whose reader has gone or stands still neither stops the server nor holds its exit: a blocking write would do both, in
 * a thread too, for which an exiting process waits.
 */
function pipe(): DestinationStream {
  const socket = new Socket({ fd: STDOUT, readable: false, writable: true });
  socket.on('error', () => {
    /* nobody reads us any more; there is nowhere left to say so */
  });
  return {
    write: line => {
      if (!socket.destroyed && socket.writableLength < MOST_WAITING_BYTES) socket.write(line);
    },
  };
}
