/**
 * The memory of all processes of the pod together: the sum of their proportional set sizes, in which a page that several share counts
 * once. The sum of their resident sizes is larger by the program itself, 55 MiB for each worker.
 */
import { type ProcessMemory, readProcessMemory, readPss } from '../../resources/process-memory.ts';

/** It costs 5 to 30 ms of a thread, and holds the process' memory map meanwhile; between two readings the private pages tell what changed. */
const READ_PSS_EVERY_MS = 10_000;

/** A process, with its resident size as last known: for where /proc hides it. */
export interface Measured {
  pid: number;
  rssBytes: number;
}

/** What the system tells of a process; tests take it away. */
export interface Sources {
  memoryOf: (pid: number) => ProcessMemory | undefined;
  pssOf: (pid: number) => Promise<number | undefined>;
}

export class MemorySum {
  readonly #sources: Sources;
  readonly #pss = new Map<number, { at: number; bytes: number | undefined; privateBytes: number }>();
  #isReading = false;

  constructor(sources: Sources = { memoryOf: readProcessMemory, pssOf: readPss }) {
    this.#sources = sources;
  }

  /** In bytes, `now` by the monotonic clock. Where no proportional size is known: private pages, and the shared ones of one process. */
  of(processes: readonly Measured[], now: number): number {
    let [sum, shared] = [0, 0];
    for (const pid of this.#pss.keys()) if (!processes.some(process => process.pid === pid)) this.#pss.delete(pid);
    for (const { pid, rssBytes } of processes) {
      const memory = this.#sources.memoryOf(pid);
      if (memory === undefined) {
        sum += rssBytes;
        continue;
      }
      const pss = this.#pss.get(pid);
      if (pss === undefined || now - pss.at >= READ_PSS_EVERY_MS) void this.#read(pid, memory.privateBytes, now);
      if (pss?.bytes !== undefined) sum += Math.max(0, pss.bytes + memory.privateBytes - pss.privateBytes);
      else {
        sum += memory.privateBytes;
        shared = Math.max(shared, memory.sharedBytes);
      }
    }
    return sum + shared;
  }

  /** One process at a time. */
  async #read(pid: number, privateBytes: number, now: number): Promise<void> {
    if (this.#isReading) return;
    this.#isReading = true;
    try {
      const bytes = await this.#sources.pssOf(pid);
      this.#pss.set(pid, { at: now, bytes, privateBytes });
    } finally {
      this.#isReading = false;
    }
  }
}
