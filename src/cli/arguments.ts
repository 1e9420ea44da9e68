/**
 * Parsers of what follows the commands and options of `bosun`. Each throws a CommandError.
 */
import { CliExitCode } from '../protocol/exit.ts';
import { CommandError } from './client.ts';

export function workerNumber(value: string): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number) || number < 1)
    throw new CommandError(`a worker is a whole number of at least 1, got "${value}"`, CliExitCode.usage);
  return number;
}

export function lineCount(value: string): number {
  if (/^\d{1,9}$/.test(value)) return Number(value);
  throw new CommandError(`--lines must be a whole number of at least 0, got "${value}"`, CliExitCode.usage);
}

export function secondsOf(value: string): number {
  const seconds = Number(value);
  if (!(seconds > 0)) throw new CommandError(`--seconds must be a number above 0, got "${value}"`, CliExitCode.usage);
  return seconds;
}

export function parseJson(text: string | undefined): unknown {
  try {
    return text === undefined ? null : JSON.parse(text);
  } catch (error) {
    throw new CommandError(`the data of an event must be JSON: ${(error as Error).message}`, CliExitCode.usage);
  }
}
