/**
 * `bosun logs`: sends what the primary keeps of the log, and what is written then. Nothing is buffered for a reader beyond its own connection:
 * one that does not read misses lines, and gets their number.
 */
import type { Writable } from 'node:stream';
import { KEPT_LINES, type LogMemory } from '../log/memory.ts';
import type { AnswerLine } from '../protocol/commands.ts';
import { ControlError, type Parameters, Streamed } from './socket.ts';

/** Each has a connection of the control socket, which other commands need too. */
const MAX_READERS = 16;

/** The answer to `logs`. `running` are the numbers of the workers. @throws ControlError */
export function logsOf(
  memory: LogMemory,
  { worker, lines = KEPT_LINES, follow = false }: Parameters,
  running: readonly number[] = [],
): Streamed {
  const isCount = (value: unknown): value is number => typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
  if (worker !== undefined && !isCount(worker)) throw malformed('worker', 'a whole number', worker);
  if (!isCount(lines)) throw malformed('lines', 'a whole number of at least 0', lines);
  if (typeof follow !== 'boolean') throw malformed('follow', 'true or false', follow);
  if (worker !== undefined && !running.includes(worker) && !memory.workers.includes(worker)) {
    const known = [...new Set([...running, ...memory.workers])].sort((a, b) => a - b).join(', ');
    throw new ControlError(404, `there was no worker ${worker}; there ${known === '' ? 'was none' : `was ${known}`}`);
  }
  if (memory.readers >= MAX_READERS) throw new ControlError(409, `${MAX_READERS} others read the log at this time; end one`);
  return new Streamed(response => send(memory, worker, lines, follow, response));
}

const malformed = (name: string, expected: string, value: unknown) =>
  new ControlError(400, `${name} must be ${expected}, got ${JSON.stringify(value)}`);

async function send(
  memory: LogMemory,
  worker: number | undefined,
  lines: number,
  follow: boolean,
  response: Writable,
): Promise<void> {
  const reader = memory.read(worker, lines);
  const end = memory.next;
  let wake = () => {};
  const unsubscribe = memory.onWrite(() => wake());
  for (const event of ['drain', 'close']) response.on(event, () => wake());
  try {
    while (!response.destroyed) {
      const part = response.writableNeedDrain ? undefined : reader.next();
      if (part !== undefined) response.write(answerLine({ log: part }));
      else if (!response.writableNeedDrain && (memory.hasEnded || !follow)) break;
      else await new Promise<void>(resolve => (wake = resolve));
      if (!follow && reader.hasReached(end)) break;
    }
  } finally {
    unsubscribe();
  }
  if (!response.destroyed) response.write(answerLine({ result: null }));
}

const answerLine = (line: AnswerLine) => `${JSON.stringify(line)}\n`;
