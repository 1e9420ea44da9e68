/**
 * `bosun logs`: prints what the primary sends of the log. On a terminal formatted for people, else as it was written; with --json a JSON object
 * per line, also where the app wrote something else.
 */
import { once } from 'node:events';
import { hasColours } from '../log/output.ts';
import type { ParametersOf, WrittenLines } from '../protocol/commands.ts';
import { readLogs } from './client.ts';

/** Prints until everything is read, or with `follow` until the primary ends. @throws CommandError */
export async function printLogs(socket: string, parameters: ParametersOf<'logs'>, json: boolean): Promise<void> {
  const { prettyLine } = await import('../log/format.ts');
  const isColoured = hasColours(1);
  const textOf = (part: WrittenLines) => {
    if (json)
      return linesOf(part)
        .map(line => jsonLine(line, part))
        .join('');
    return process.stdout.isTTY
      ? linesOf(part)
          .map(line => prettyLine(line, isColoured))
          .join('')
      : part.text;
  };
  await readLogs(socket, parameters, async part => {
    if ('dropped' in part && !json) process.stderr.write(`bosun: ${missing(part.dropped)}\n`);
    else await write('dropped' in part ? `${JSON.stringify(part)}\n` : textOf(part));
  });
}

const missing = (lines: number) => `${lines} ${lines === 1 ? 'line is' : 'lines are'} missing here: this reader was too slow`;

/** Each with its newline. */
const linesOf = ({ text }: WrittenLines): string[] => text.split(/(?<=\n)/);

/** A JSON object as it is, other output as the `text` of one. */
function jsonLine(line: string, { at, worker, stream }: WrittenLines): string {
  const text = line.replace(/\n$/, '');
  if (isObject(text)) return line;
  return `${JSON.stringify({ time: new Date(at).toISOString(), worker, stream, text })}\n`;
}

function isObject(text: string): boolean {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}

/** Waits for the reader of the output: what it does not read must not fill this process. */
async function write(text: string): Promise<void> {
  if (!process.stdout.write(text)) await once(process.stdout, 'drain');
}
