/**
 * The memory of all processes of the pod: the sum of their proportional set sizes, in which a shared page counts
 * once. The sum of their resident sizes is larger by the program itself, 55 MiB for each worker.
 */
import { type ProcessMemory, readProcessMemory, readPss } from '../resources/usage.ts';

/** A reading takes 5 to 30 ms of a thread and locks the process' memory map; between two readings, changes of the private pages are added. */
const READ_PSS_EVERY_MS = 10_000;

/** A process, with its last known resident size, used if /proc hides it. */
export interface Measured {
  pid: number;
  rssBytes: number;
}

/** What the system reports about a process; tests replace it. */
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

  /** In bytes, `now` by the monotonic clock. Without proportional sizes: all private pages, plus the shared pages of one process. */
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
