/**
 * Whether a new worker may start beside the one that it replaces, by what fits into the memory. Pure. Sizes are in bytes.
 */
import type { Config } from '../../config.ts';
import type { Headroom } from '../../resources/headroom.ts';
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
  /** Undefined without a limit, and where nobody knows what is in use. */
  headroom: Headroom | undefined;
  /** Undefined before the first worker is ready. */
  fresh: Pick<Fresh, 'readyBytes' | 'expectedBytes'> | undefined;
  /** What goes with the old one. */
  oldBytes: number;
  /** A hung worker goes in any case. */
  isHung: boolean;
}

/** Left free beside a worker that starts: what the others take meanwhile. */
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
