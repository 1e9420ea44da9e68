/**
 * The operator's Node.js options: in NODE_OPTIONS, on the primary's command line, and for the workers only. Options for the
 * heap are removed, because each worker gets its heap on its command line (docs/decisions/1-cgroup-files.md).
 */
import type { HeapChoice } from './sizing.ts';

export interface NodeOptions {
  /** NODE_OPTIONS. */
  environment: readonly string[];
  /** Of the primary, and so of the workers: process.execArgv. */
  commandLine: readonly string[];
  /** WORKER_NODE_OPTIONS. */
  workers: readonly string[];
}

/** What a worker starts with. */
export interface WorkerOptions {
  choice: HeapChoice;
  /** NODE_OPTIONS. */
  environment: string;
  commandLine: string[];
}

/** Removes the heap options. The last one wins: as in Node.js, NODE_OPTIONS come before the command line, and WORKER_NODE_OPTIONS come last. */
export function takeHeapChoice({ environment, commandLine, workers }: NodeOptions): WorkerOptions {
  let choice: HeapChoice = {};
  const rest = (options: readonly string[]) =>
    options.filter(option => {
      const { name, value } = parsed(option);
      const number = Number(value);
      if (!HEAP_OPTIONS.has(name)) return true;
      if (!(number > 0)) return false;
      if (name === 'max-old-space-size-percentage') choice = { percent: number };
      else choice = { sizeMb: Math.floor(number), ...(name === 'max-heap-size' && { isWhole: true }) };
      return false;
    });
  const inEnvironment = joinNodeOptions(rest(environment));
  const onCommandLine = [...rest(commandLine), ...rest(workers)];
  return { choice, environment: inEnvironment, commandLine: onCommandLine };
}

const HEAP_OPTIONS: ReadonlySet<string> = new Set(['max-old-space-size', 'max-old-space-size-percentage', 'max-heap-size']);

/** The option for a worker's heap of `mb` MiB. */
export const heapOption = (mb: number, { isWhole = false }: HeapChoice): string =>
  `--${isWhole ? 'max-heap-size' : 'max-old-space-size'}=${mb}`;

/** An option by its documented name: Node.js also accepts underscores for dashes. The value if it is given with `=`. */
export function parsed(option: string): { name: string; value?: string } {
  const [, dashes = '', flag = '', value] = /^(-{0,2})([^=]*)(?:=(.*))?$/s.exec(option) ?? [];
  if (dashes === '') return { name: '' };
  const name = dashes === '-' ? (SHORT[flag] ?? flag) : flag.replaceAll('_', '-');
  return value === undefined ? { name } : { name, value };
}

const SHORT: Record<string, string> = { r: 'require', C: 'conditions', i: 'interactive' };

/** As splitNodeOptions reads it. */
export function joinNodeOptions(options: readonly string[]): string {
  return options.map(option => (/[ "\\]/.test(option) ? `"${option.replace(/["\\]/g, '\\$&')}"` : option)).join(' ');
}
