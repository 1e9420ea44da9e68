/**
 * How many files and sockets this process may have open, according to the kernel.
 */
import { readFileSync } from 'node:fs';

/** RLIMIT_NOFILE. Node.js raises the soft limit to the hard one at its start. `Infinity` if unlimited. */
export interface FileLimit {
  soft: number;
  hard: number;
}

/** Undefined if the system has no /proc. */
export function fileLimit(limitsFile = '/proc/self/limits'): FileLimit | undefined {
  try {
    const [, soft, hard] = /^Max open files\s+(\d+|unlimited)\s+(\d+|unlimited)/m.exec(readFileSync(limitsFile, 'utf8')) ?? [];
    return soft === undefined || hard === undefined ? undefined : { soft: numberOf(soft), hard: numberOf(hard) };
  } catch {
    return undefined;
  }
}

const numberOf = (text: string) => (text === 'unlimited' ? Number.POSITIVE_INFINITY : Number(text));
