/**
 * The size of the pool and its memory, as `/status` and `bosun sizing --json` have them.
 */

/** The size of the pool, and why: in `/status` and of `bosun sizing --json`. */
export interface Sizing {
  /** How many workers to run. */
  workers: number;
  /** How many the CPUs or the setting call for, before memory lowered the number. */
  wanted: number;
  /** Which limit decided, in which file, and how it was rounded. */
  reason: string;
  cpus: {
    /** In cores; null without a quota. */
    quota: number | null;
    /** A count; null where unknown. */
    cpuset: number | null;
    /** The smaller of the two. */
    effective: number;
    /** The file, or the call, that decided. */
    source: string;
  };
  memory: {
    /** In bytes; null without a limit. */
    limitBytes: number | null;
    source: string | null;
    /** Passed as --max-old-space-size; null leaves V8's own default. */
    heapPerWorkerMb: number | null;
    /** Passed as --max-semi-space-size: a third of the young generation, which comes on top of the heap; null leaves V8's own default. */
    semiSpaceMb: number | null;
  };
  /** For the operator: more was requested than there is. */
  warnings: string[];
}

/** Of the pod, in bytes. */
export interface MemoryStatus {
  /** By all processes; what they share counts once. */
  usedBytes: number;
  /** Left below the tightest limit, page cache not counted as used; null where it is unknown. */
  headroomBytes: number | null;
  /** Private pages of a worker that has served for a while; null before the first one is ready. */
  freshWorkerBytes: number | null;
  /** How a restart would replace a worker now. */
  restart: 'surge' | 'old-first' | 'refuse';
}
