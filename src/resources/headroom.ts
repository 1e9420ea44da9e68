/**
 * How much memory this container may still take before the kernel kills (or, above memory.high, throttles): the least that any level
 * leaves. Reads the files of the levels that cgroup.ts found; keeps no state.
 */
import { dirname } from 'node:path';
import type { Limits, ReadText } from './cgroup.ts';
import { counterOf, parseCounter } from './usage.ts';

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
