/**
 * Whether a new worker may start beside the one that it replaces: it depends on what fits into memory. Pure. Sizes are in bytes.
 */
import type { Config } from '../config/config.ts';
import type { Headroom } from '../resources/usage.ts';
import type { Fresh } from './footprints.ts';

const MIB = 2 ** 20;

export type Plan =
  /** The new one starts first. */
  | { kind: 'surge' }
  /** The old one ends first: connections wait in the queue of the listening socket meanwhile. */
  | { kind: 'old-first'; why: string }
  /** The old one stays. */
  | { kind: 'refuse'; why: string };

export interface Replacement {
  surge: Config['restartSurge'];
  /** Undefined without a limit, and if the use is unknown. */
  headroom: Headroom | undefined;
  /** Undefined before the first worker is ready. */
  fresh: Pick<Fresh, 'readyBytes' | 'expectedBytes'> | undefined;
  /** What the end of the old one frees. */
  oldBytes: number;
  /** A hung worker is replaced in any case. */
  isHung: boolean;
}

/** Kept free beside a starting worker, for growth of the others in the meantime. */
export function reserveOf({ limitBytes }: Headroom): number {
  return Math.min(64 * MIB, Math.max(16 * MIB, limitBytes * 0.04));
}

export function planReplacement({ surge, headroom, fresh, oldBytes, isHung }: Replacement): Plan {
  if (surge === 'always') return { kind: 'surge' };
  if (surge === 'never') return { kind: 'old-first', why: 'RESTART_SURGE=never' };
  if (headroom === undefined || fresh === undefined) return { kind: 'surge' };
  const needed = fresh.expectedBytes + reserveOf(headroom);
  if (headroom.bytes >= needed) return { kind: 'surge' };
  const freed = { ...headroom, bytes: headroom.bytes + oldBytes };
  if (freed.bytes < fresh.readyBytes && !isHung) {
    return { kind: 'refuse', why: lacks(freed, fresh.readyBytes, 'in place of the old one') };
  }
  return { kind: 'old-first', why: lacks(headroom, needed, 'beside the others') };
}

function lacks({ bytes, limitBytes, file }: Headroom, needed: number, where: string): string {
  return `a new worker needs ${mib(needed)} MiB ${where}, but only ${mib(Math.max(0, bytes))} MiB of ${mib(limitBytes)} MiB are free (${file})`;
}

const mib = (bytes: number) => Math.round(bytes / MIB);
