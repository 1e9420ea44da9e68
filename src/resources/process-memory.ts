/**
 * The memory of a process as the kernel counts it. Linux only; elsewhere, or if /proc hides the process, nothing can be read.
 *
 * /proc/PID/status costs 60 µs whatever the size. /proc/PID/smaps_rollup walks the page tables: 5 ms at 100 MiB, 8 ms at 260 MiB, 31 ms
 * at 2 GiB (kernel 6.18), and it locks the process' memory map. So decisions use the first, and sums for people the second.
 */
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';

/** In bytes. */
export interface ProcessMemory {
  /** Pages of this process alone: what another such process would use. */
  privateBytes: number;
  /** Pages of files and of shared memory: the program itself, which all workers share. */
  sharedBytes: number;
}

/** Undefined if the process has ended or is hidden, or if the kernel does not report it. */
export function readProcessMemory(pid: number): ProcessMemory | undefined {
  try {
    return parseStatus(readFileSync(`/proc/${pid}/status`, 'latin1'));
  } catch {
    return undefined;
  }
}

/** @param text of /proc/PID/status; if it does not distinguish private from shared pages (gVisor), all count as private */
export function parseStatus(text: string): ProcessMemory | undefined {
  const anonymous = kibOf(text, 'RssAnon');
  if (anonymous !== undefined) {
    return { privateBytes: anonymous, sharedBytes: (kibOf(text, 'RssFile') ?? 0) + (kibOf(text, 'RssShmem') ?? 0) };
  }
  const resident = kibOf(text, 'VmRSS');
  return resident === undefined ? undefined : { privateBytes: resident, sharedBytes: 0 };
}

/** The proportional set size: private pages, and of each shared one its share. Undefined as above, and before kernel 4.14. */
export async function readPss(pid: number): Promise<number | undefined> {
  try {
    return kibOf(await readFile(`/proc/${pid}/smaps_rollup`, 'latin1'), 'Pss');
  } catch {
    return undefined;
  }
}

function kibOf(text: string, name: string): number | undefined {
  const kib = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1];
  return kib === undefined ? undefined : Number(kib) * 1024;
}
