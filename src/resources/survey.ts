// The notebook of one resolve: reads files, and writes down what each level says, what could not be used and what to watch.
// It knows nothing of cgroups.

import type { Skipped } from './mounts.ts';

/** Reads one file by absolute path: its text, undefined where it is absent, or the error code where it is there but unreadable. */
export type ReadText = (path: string) => string | { error: string } | undefined;

/** A value and the file that decided it. */
export interface Bound {
  value: number;
  file: string;
}

/** One level that was looked at. `value` is null where it says "no limit". */
export interface Level {
  controller: 'cpu' | 'memory' | 'cpuset';
  file: string;
  /** What the file says; a v1 quota and its period are joined the way cpu.max prints them. */
  text: string;
  /** Cores, bytes or a count of CPUs. */
  value: number | null;
}

/** What one file says: a number, null for "no limit", undefined for something that the kernel does not write. */
export type Reading = number | null | undefined;

export interface Survey {
  read: ReadText;
  levels: Level[];
  skipped: Skipped[];
  /** The limit files that were read. */
  files: Set<string>;
}

/** Reads any file, as it is. */
export function readText(survey: Survey, file: string): string | undefined {
  const answer = survey.read(file);
  if (answer === undefined || typeof answer === 'string') return answer;
  survey.skipped.push({ file, why: `cannot be read (${answer.error})` });
  return undefined;
}

/** Reads a limit file, trimmed, and remembers it as one to watch. */
export function readLimit(survey: Survey, file: string): string | undefined {
  const text = readText(survey, file)?.trim();
  if (text !== undefined) survey.files.add(file);
  return text;
}

/** Writes down what a level says; a bound if it is one. */
export function judge(survey: Survey, controller: Level['controller'], file: string, text: string, value: Reading): Bound | null {
  if (value === undefined) {
    survey.skipped.push({ file, why: `makes no sense: ${JSON.stringify(text.slice(0, 80))}` });
    return null;
  }
  survey.levels.push({ controller, file, text: text.slice(0, 200), value });
  return value === null ? null : { value, file };
}
