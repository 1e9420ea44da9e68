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
 * Page cache that the kernel takes back first is not in use. A limit of an ancestor that cannot be seen (v1, hierarchical_memory_limit)
 * is compared with what this cgroup uses.
 * @returns undefined without a limit, or where no file says what is in use
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
 * Files that were read or written stay in memory, and count as used until something needs the room. Pages that are mapped (programs
 * and libraries) are kept: without them the processes would read their code from disk again and again. tmpfs is no page cache here.
 * @param stat memory.stat; v1 tells of children only in the lines with `total_`
 */
export function withoutPageCache(usedBytes: number | null, stat: string): number | null {
  if (usedBytes === null) return null;
  const bytesOf = (v2: string, v1: string) => counterOf(stat, v1) ?? counterOf(stat, v2) ?? 0;
  const inactive = bytesOf('inactive_file', 'total_inactive_file');
  const active = bytesOf('active_file', 'total_active_file');
  const mapped = bytesOf('file_mapped', 'total_mapped_file');
  return Math.max(0, usedBytes - Math.max(inactive, inactive + active - mapped));
}
