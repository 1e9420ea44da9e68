// What this container has consumed and suffered: throttling, pressure, kills. Reads the files that cgroup.ts found, keeps no
// state and computes no rates. Formats: sched-bwc.rst, psi.rst and cgroup-v2.rst of the kernel.

import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Limits, ReadText, UsageFiles } from './cgroup.ts';

/** Counters since the cgroup was made, and gauges. null: no file of this cgroup tells. */
export interface Usage {
  /** Time that CPUs were withheld because this cgroup's own quota was used up; summed over CPUs. */
  throttledSeconds: number | null;
  /** The same because of a parent's quota, which this container may not be able to see (kernel 6.6 and newer). */
  parentThrottledSeconds: number | null;
  /** Tasks of this cgroup waiting for a CPU. */
  cpuPressure: Pressure | null;
  /** Tasks of this cgroup waiting for memory. */
  memoryPressure: Pressure | null;
  /** Processes of this cgroup killed for lack of memory. */
  oomKills: number | null;
  /** How often memory.high was exceeded, and how often memory.max was about to be (v2 only). */
  memoryHighEvents: number | null;
  memoryMaxEvents: number | null;
}

/** The "some" line of a PSI file: at least one task was stalled. */
export interface Pressure {
  /** Per cent of the last 10 seconds. */
  avg10: number;
  totalSeconds: number;
}

/** Reads usage. Never throws as long as `read` does not: what is absent, unreadable or garbage is null. */
export function readUsage(read: ReadText, files: UsageFiles): Usage {
  const textOf = (file: string | null): string => {
    const text = file === null ? undefined : read(file);
    return typeof text === 'string' ? text : '';
  };

  const throttledSeconds = parseThrottled(textOf(files.cpuStat));
  const everyThrottledSeconds = parseThrottled(textOf(files.cpuStatLocal));
  const events = textOf(files.memoryEvents);
  return {
    throttledSeconds,
    parentThrottledSeconds: throttledByParents(everyThrottledSeconds, throttledSeconds),
    cpuPressure: parsePressure(textOf(files.cpuPressure)),
    memoryPressure: parsePressure(textOf(files.memoryPressure)),
    oomKills: counterOf(events, 'oom_kill') ?? counterOf(textOf(files.memoryOomControl), 'oom_kill'),
    memoryHighEvents: counterOf(events, 'high'),
    memoryMaxEvents: counterOf(events, 'max'),
  };
}

/** v2 counts microseconds, v1 nanoseconds; each has its own name. */
function parseThrottled(text: string): number | null {
  const microseconds = counterOf(text, 'throttled_usec');
  if (microseconds !== null) return microseconds / 1e6;
  const nanoseconds = counterOf(text, 'throttled_time');
  return nanoseconds === null ? null : nanoseconds / 1e9;
}

/**
 * cpu.stat.local counts throttling by this cgroup and by all above it, cpu.stat only its own. A cgroup without the cpu controller
 * has no own count. The two clocks differ a little (local runs only while something wants to run), hence never below 0.
 */
function throttledByParents(every: number | null, own: number | null): number | null {
  return every === null || own === null ? null : Math.max(0, every - own);
}

function parsePressure(text: string): Pressure | null {
  const [, avg10, total] = /^some avg10=(\d+\.\d+) .*\btotal=(\d+)\s*$/m.exec(text) ?? [];
  return avg10 === undefined || total === undefined ? null : { avg10: Number(avg10), totalSeconds: Number(total) / 1e6 };
}

/** The value of one "name value" line. */
export function counterOf(text: string, name: string): number | null {
  for (const line of text.split('\n')) {
    if (line.startsWith(`${name} `)) return parseCounter(line.slice(name.length + 1).trim());
  }
  return null;
}

export function parseCounter(text: string): number | null {
  return /^\d{1,20}$/.test(text) ? Number(text) : null;
}

/**
 * How much memory this container may still take before the kernel kills (or, above memory.high, throttles): the least that any level
 * leaves. Reads the files of the levels that cgroup.ts found; keeps no state.
 */

export interface Headroom {
  /** The limit less what is in use. Below 0 where a limit was lowered below it. */
  bytes: number;
  limitBytes: number;
  /** The file of the limit that leaves least. */
  file: string;
}

/**
 * Page cache that the kernel reclaims first does not count as used. A limit of an invisible ancestor (v1, hierarchical_memory_limit)
 * is compared with what this cgroup uses.
 * @returns undefined without a limit, or if no file has the use
 */
export function readHeadroom(read: ReadText, { levels }: Pick<Limits, 'levels'>): Headroom | undefined {
  let least: Headroom | undefined;
  for (const { controller, file, value } of levels) {
    if (controller !== 'memory' || value === null || value === 0) continue;
    const usedBytes = usedBelow(read, dirname(file));
    if (usedBytes === null) continue;
    const bytes = value - usedBytes;
    if (least === undefined || bytes < least.bytes) least = { bytes, limitBytes: value, file };
  }
  return least;
}

function usedBelow(read: ReadText, directory: string): number | null {
  const textOf = (name: string) => {
    const text = read(`${directory}/${name}`);
    return typeof text === 'string' ? text : undefined;
  };
  const used = textOf('memory.current') ?? textOf('memory.usage_in_bytes');
  return used === undefined ? null : withoutPageCache(parseCounter(used.trim()), textOf('memory.stat') ?? '');
}

/**
 * Files that were read or written stay in memory, and count as used until memory is needed. Mapped pages (programs
 * and libraries) are not subtracted: without them the processes would read their code from disk repeatedly. tmpfs does not count as page cache.
 * @param stat memory.stat; in v1 only the lines with `total_` include children
 */
export function withoutPageCache(usedBytes: number | null, stat: string): number | null {
  if (usedBytes === null) return null;
  const bytesOf = (v2: string, v1: string) => counterOf(stat, v1) ?? counterOf(stat, v2) ?? 0;
  const inactive = bytesOf('inactive_file', 'total_inactive_file');
  const active = bytesOf('active_file', 'total_active_file');
  const mapped = bytesOf('file_mapped', 'total_mapped_file');
  return Math.max(0, usedBytes - Math.max(inactive, inactive + active - mapped));
}

/**
 * The memory of a process as the kernel counts it. Linux only; elsewhere, or if /proc hides the process, nothing can be read.
 *
 * /proc/PID/status costs 60 µs whatever the size. /proc/PID/smaps_rollup walks the page tables: 5 ms at 100 MiB, 8 ms at 260 MiB, 31 ms
 * at 2 GiB (kernel 6.18), and it locks the process' memory map. So decisions use the first, and sums for people the second.
 */

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

/**
 * The memory of this process.
 */

let last: NodeJS.MemoryUsage = { rss: 0, heapTotal: 0, heapUsed: 0, external: 0, arrayBuffers: 0 };

/**
 * As `process.memoryUsage()`, in bytes. That opens a file of /proc, and throws without /proc, or if a flood of connections has left no descriptor:
 * then the last reading is used.
 */
export function memoryUsage(): NodeJS.MemoryUsage {
  try {
    last = process.memoryUsage();
  } catch {
    // It is read again in a second.
  }
  return last;
}

/**
 * How many files and sockets this process may have open, according to the kernel.
 */

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
