/**
 * Reads the memory use of the workers and the container, and plans replacements accordingly.
 *
 * The primary reads /proc itself: a worker's own report is up to a second old, and a hung worker reports nothing. If /proc has nothing
 * about a worker, its last reported resident size is used.
 */
import type { ExitReason } from '../protocol/exit.ts';
import { type Headroom, readProcessMemory } from '../resources/usage.ts';
import { Footprints } from './footprints.ts';
import { type Plan, planReplacement, type Replacement } from './surge.ts';
import type { WorkerProcess } from './worker-process.ts';

/** The pool's memory, for people. */
export interface MemoryView {
  /** Of the container; undefined without a limit. */
  headroom: Headroom | undefined;
  /** What a worker takes that has served for a while; undefined before the first one is ready. */
  freshWorkerBytes: number | undefined;
  /** How a restart would begin now. */
  restart: Plan;
  /** Why WORKER_MAX_RSS_MB can't be kept; undefined as long as it can. */
  pointlessRecycling: string | undefined;
}

/** Of one worker; it costs 60 µs. */
const READ_EVERY_MS = 1000;

export class PoolMemory {
  readonly footprints = new Footprints<WorkerProcess>();
  readonly #readHeadroom: () => Headroom | undefined;
  readonly #readAt = new WeakMap<WorkerProcess, number>();
  /** Since when workers were seen to answer requests. */
  readonly #busySince = new WeakMap<WorkerProcess, number>();

  constructor(readHeadroom: () => Headroom | undefined) {
    this.#readHeadroom = readHeadroom;
  }

  /** Now; undefined without a limit. */
  get headroom(): Headroom | undefined {
    return this.#readHeadroom();
  }

  /** Reads what has not been read for a second. */
  look(handles: readonly WorkerProcess[], now: number): void {
    this.footprints.keep(handles);
    for (const handle of handles) {
      if (handle.readyAt === undefined || now - (this.#readAt.get(handle) ?? Number.NEGATIVE_INFINITY) < READ_EVERY_MS) continue;
      const rss = handle.snapshot?.memory.rss;
      const memory = readProcessMemory(handle.pid) ?? (rss === undefined ? undefined : { privateBytes: rss, sharedBytes: 0 });
      if (memory === undefined) continue;
      this.#readAt.set(handle, now);
      if ((handle.snapshot?.requests ?? 0) > 0 && !this.#busySince.has(handle)) this.#busySince.set(handle, now);
      this.footprints.note(handle, memory, this.#busySince.get(handle), now);
    }
  }

  /** How to replace this worker. */
  plan(old: WorkerProcess, surge: Replacement['surge'], reason: ExitReason): Plan {
    const { fresh } = this.footprints;
    // The current size of leaking workers says nothing about a new one.
    const expectedBytes = reason === 'recycled-rss' ? fresh?.settledBytes : fresh?.expectedBytes;
    return planReplacement({
      surge,
      headroom: this.headroom,
      fresh: fresh && { readyBytes: fresh.readyBytes, expectedBytes: expectedBytes ?? fresh.expectedBytes },
      oldBytes: this.footprints.of(old)?.latestBytes ?? 0,
      isHung: reason === 'hung',
    });
  }
}
