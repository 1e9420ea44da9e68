// What this container has consumed and suffered: throttling, pressure, kills. Reads the files that cgroup.ts found, keeps no
// state and computes no rates. Formats: sched-bwc.rst, psi.rst and cgroup-v2.rst of the kernel.

import type { ReadText, UsageFiles } from './cgroup.ts';

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
