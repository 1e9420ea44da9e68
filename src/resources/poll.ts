// Says cheaply whether limit files changed: keeps them open and reads them again. It does not know what they mean; a change
// asks for a full resolve. Reading a kept descriptor costs about 2 µs, opening the file each time about 20 µs.

import { closeSync, openSync, readSync } from 'node:fs';

/** Longer files are compared up to here; a kernel's limit files are a few bytes, CPU sets a few hundred. */
const COMPARED_BYTES = 4096;

interface Kept {
  descriptor: number;
  before: Buffer;
}

/** Limit files held open. Close it before you open one for other files. */
export class Poll {
  readonly #kept: Kept[] = [];
  readonly #scratch = Buffer.alloc(COMPARED_BYTES);
  #stale = false;

  /** @param files absolute paths, `Limits.files`. One that cannot be opened any more counts as changed. */
  constructor(files: readonly string[]) {
    for (const file of files) {
      try {
        this.#kept.push({ descriptor: openSync(file, 'r'), before: Buffer.alloc(0) });
      } catch {
        this.#stale = true; // gone since it was resolved: only a new resolve can tell what is there now
      }
    }
    for (const kept of this.#kept) this.#readAgain(kept);
  }

  /** Whether any file differs from the last call (or from the opening), or can no longer be read. */
  changed(): boolean {
    // Every file, also after the first difference: the next call compares with this one.
    const differing = this.#kept.filter(kept => this.#readAgain(kept));
    return this.#stale || differing.length > 0;
  }

  close(): void {
    for (const { descriptor } of this.#kept.splice(0)) closeSync(descriptor);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #readAgain(kept: Kept): boolean {
    try {
      const now = this.#scratch.subarray(0, readSync(kept.descriptor, this.#scratch, 0, COMPARED_BYTES, 0));
      if (now.equals(kept.before)) return false;
      kept.before = Buffer.from(now);
      return true;
    } catch {
      this.#stale = true; // ENODEV: the cgroup was removed or its controller moved away
      return true;
    }
  }
}
