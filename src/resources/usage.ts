/**
 * What this container and its processes use: throttling, pressure, kills, free memory, the memory of a process, the limit of open files.
 * Reads the files that cgroup.ts found, and /proc; computes no rates. Formats: the kernel's sched-bwc.rst, psi.rst and cgroup-v2.rst.
 */
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Pressure, PressureResource } from '../protocol/pressure.ts';
import type { Limits, ReadText, UsageFiles } from './cgroup.ts';

/** Counters since the cgroup was created, and gauges. null: not reported. */
export interface Usage {
  /** Time for which CPUs were withheld because this cgroup had used up its own quota; summed over CPUs. */
  throttledSeconds: number | null;
  /** The same for a parent's quota, which this container may not be able to see (kernel 6.6 and newer). */
  parentThrottledSeconds: number | null;
  /** How tasks of this cgroup wait, by what they wait for. A resource is missing where the kernel does not report it. */
  pressure: Partial<Record<PressureResource, Pressure>>;
  /** Processes of this cgroup killed for lack of memory. */
  oomKills: number | null;
  /** How often memory.high was exceeded, and how often memory.max was about to be (v2 only). */
  memoryHighEvents: number | null;
  memoryMaxEvents: number | null;
}

/** Throws only if `read` does: what is missing, unreadable or malformed is null. */
export function readUsage(read: ReadText, files: UsageFiles): Usage {
  const textOf = (file: string | null): string => {
    const text = file === null ? undefined : read(file);
    return typeof text === 'string' ? text : '';
  };

  const throttledSeconds = parseThrottled(textOf(files.cpuStat));
  const allThrottledSeconds = parseThrottled(textOf(files.cpuStatLocal));
  const events = textOf(files.memoryEvents);
  return {
    throttledSeconds,
    parentThrottledSeconds: throttledByParents(allThrottledSeconds, throttledSeconds),
    pressure: Object.fromEntries(
      Object.entries(files.pressure).flatMap(([resource, file]) => {
        const pressure = parsePressure(textOf(file));
        return pressure === undefined ? [] : [[resource, pressure]];
      }),
    ),
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
 * has no own count. The two clocks differ slightly (local runs only while a task is runnable), so the difference is clamped at 0.
 */
function throttledByParents(all: number | null, own: number | null): number | null {
  return all === null || own === null ? null : Math.max(0, all - own);
}

/** @param text of a PSI file; `cpu.pressure` has no line `full` before kernel 5.13 */
function parsePressure(text: string): Pressure | undefined {
  const [some, full] = ['some', 'full'].map(kind => {
    const [, percent, microseconds] = new RegExp(`^${kind} avg10=(\\d+\\.\\d+) .*\\btotal=(\\d+)\\s*$`, 'm').exec(text) ?? [];
    return percent === undefined ? undefined : { percent: Number(percent), totalSeconds: Number(microseconds) / 1e6 };
  });
  return some && { waiting: some, ...(full && { stalled: full }) };
}

/** The value of one "name value" line. */
function counterOf(text: string, name: string): number | null {
  for (const line of text.split('\n')) {
    if (line.startsWith(`${name} `)) return parseCounter(line.slice(name.length + 1).trim());
  }
  return null;
}

function parseCounter(text: string): number | null {
  return /^\d{1,20}$/.test(text) ? Number(text) : null;
}

/** Memory that this container can still take before the kernel kills (or, above memory.high, throttles): the least that any level leaves. */
export interface Headroom {
  /** The limit less what is in use. Below 0 if a limit was lowered below it. */
  bytes: number;
  limitBytes: number;
  /** The limit that leaves least. */
  file: string;
}

/**
 * Page cache that the kernel reclaims first does not count as used. A limit of an invisible ancestor (v1, hierarchical_memory_limit)
 * is compared with what this cgroup uses.
 * @returns undefined without a limit, or if no file reports the use
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
 * Subtracts the page cache: files that were read or written stay in memory, and count as used until memory is needed. Mapped pages (programs
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

/** The memory of a process as the kernel counts it, in bytes. Linux only. */
export interface ProcessMemory {
  /** Pages of this process alone: what another such process would use. */
  privateBytes: number;
  /** Pages of files and of shared memory: the program itself, which all workers share. */
  sharedBytes: number;
}

/** Costs 60 µs, whatever the size. Undefined if the process has exited or is hidden, or if the kernel does not report it. */
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

/**
 * The proportional set size in bytes: private pages, and its share of each shared one. Undefined as above, and before kernel 4.14.
 * The kernel walks the page tables and locks the process's memory map for it: 5 ms at 100 MiB, 8 ms at 260 MiB, 31 ms at 2 GiB (kernel 6.18).
 * So it serves displayed sums, not decisions.
 */
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

let last: NodeJS.MemoryUsage = { rss: 0, heapTotal: 0, heapUsed: 0, external: 0, arrayBuffers: 0 };

/**
 * `process.memoryUsage()` of this process, in bytes. That opens a file of /proc, and throws without /proc or when a flood of connections has
 * used up the descriptors: then it is the previous reading.
 */
export function memoryUsage(): NodeJS.MemoryUsage {
  try {
    last = process.memoryUsage();
  } catch {
    /* the caller reads it again in a second */
  }
  return last;
}

/** How many files and sockets this process may have open (RLIMIT_NOFILE). Node.js raises the soft limit to the hard one at its start. `Infinity` if unlimited. */
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

/** Of a worker's descriptors these are not for connections: the app has databases, files and listeners. */
const RESERVED_SHARE = 1 / 4;
/** Node.js and the kit have 28 themselves, so the app has at least 40. */
const MIN_RESERVED = 72;
const MAX_RESERVED = 1000;
/** Even if few descriptors are left then. */
const MIN_CONNECTIONS = 16;

/** With NODE_CLUSTER_STICKY a connection has one to the worker that serves it, and that one's counterpart comes from another worker. */
const STICKY_DESCRIPTORS = 3;

/** How many connections a worker with that soft RLIMIT_NOFILE may have by default. */
export function connectionsWithin(descriptors: number, isSticky = false): number {
  const reserved = Math.min(MAX_RESERVED, Math.max(MIN_RESERVED, Math.ceil(descriptors * RESERVED_SHARE)));
  const left = descriptors - reserved;
  return Math.max(MIN_CONNECTIONS, isSticky ? Math.floor(left / STICKY_DESCRIPTORS) : left);
}

const numberOf = (text: string) => (text === 'unlimited' ? Number.POSITIVE_INFINITY : Number(text));
