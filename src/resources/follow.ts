/**
 * Says when the limits of this container have changed and have stayed so: inotify on the limit files, a poll for what it misses
 * (a hidden parent, a file system without events), and a pause in which a burst of changes ends. It changes nothing by itself.
 */
import { closeSync, type FSWatcher, openSync, readSync, watch } from 'node:fs';
import { join } from 'node:path';
import type { Limits } from './cgroup.ts';

const TIMES = {
  /** How long a change must last before it is told. */
  settleMs: 2000,
  /** Longer for fewer CPUs: workers are drained for it. */
  settleFewerCpusMs: 10_000,
  pollMs: 10_000,
};
/** Every so many polls everything is resolved anew: some changes show in no limit file (CPUs that come or go, hidden parents). */
const FULL_LOOK_EVERY = 6;
/** A flood of connections may leave no descriptor to read the limits with: they are what they were. */
const OUT_OF_FILES = /\b(?:EMFILE|ENFILE)\b/;

export interface FollowOptions {
  resolve: () => Limits;
  /** The limits are not those last told any more, and have been the same for the settling time. */
  changed: (limits: Limits) => void;
  /** Folder that the limit files are below; `/` but for a replay. */
  root: string;
  times?: typeof TIMES;
}

export class LimitFollower {
  readonly #options: FollowOptions;
  readonly #times: typeof TIMES;
  #told: Limits;
  #pending: { limits: Limits; timer: NodeJS.Timeout } | undefined;
  #files: readonly string[] = [];
  #watchers: FSWatcher[] = [];
  #poll = new Poll([]);
  #polls = 0;
  readonly #timer: NodeJS.Timeout;

  /** Follows the limits from `start` on, those in force. */
  constructor(start: Limits, options: FollowOptions) {
    this.#options = options;
    this.#times = options.times ?? TIMES;
    this.#told = start;
    this.#timer = setInterval(() => this.#onPoll(), this.#times.pollMs).unref();
    this.#observe(start.files);
    this.#look(); // something may have happened between the start and the watching
  }

  close(): void {
    clearInterval(this.#timer);
    this.#forget();
    this.#closeFiles();
  }

  #onPoll(): void {
    this.#polls++;
    if (this.#poll.changed() || this.#polls % FULL_LOOK_EVERY === 0) this.#look();
  }

  #look(): void {
    const limits = this.#options.resolve();
    if (limits.skipped.some(({ why }) => OUT_OF_FILES.test(why))) return; // the next look tells
    if (limits.files.join() !== this.#files.join()) this.#observe(limits.files);
    if (this.#pending !== undefined && areEqual(limits, this.#pending.limits)) return;
    this.#forget();
    if (areEqual(limits, this.#told)) return;
    const { settleMs, settleFewerCpusMs } = this.#times;
    const ms = hasFewerCpus(limits, this.#told) ? settleFewerCpusMs : settleMs;
    this.#pending = { limits, timer: setTimeout(() => this.#tell(limits), ms).unref() };
  }

  #tell(limits: Limits): void {
    this.#pending = undefined;
    this.#told = limits;
    this.#options.changed(limits);
  }

  #forget(): void {
    clearTimeout(this.#pending?.timer);
    this.#pending = undefined;
  }

  #observe(files: readonly string[]): void {
    this.#closeFiles();
    this.#files = files;
    const paths = files.map(file => join(this.#options.root, file));
    this.#poll = new Poll(paths);
    this.#watchers = paths.flatMap(path => {
      try {
        const watcher = watch(path, { persistent: false }, () => this.#look());
        watcher.on('error', () => watcher.close()); // the poll goes on
        return [watcher];
      } catch {
        return []; // out of inotify watches, or gone already: the poll sees it
      }
    });
  }

  #closeFiles(): void {
    for (const watcher of this.#watchers) watcher.close();
    this.#poll.close();
  }
}

function areEqual(a: Limits, b: Limits): boolean {
  return (['quota', 'cpuset', 'memory', 'memoryHigh'] as const).every(limit => a[limit]?.value === b[limit]?.value);
}

function hasFewerCpus(now: Limits, before: Limits): boolean {
  const cpus = ({ quota, cpuset }: Limits) =>
    Math.min(quota?.value ?? Number.POSITIVE_INFINITY, cpuset?.value ?? Number.POSITIVE_INFINITY);
  return cpus(now) < cpus(before);
}

// Says cheaply whether limit files changed: keeps them open and reads them again. It does not know what they mean; a change
// asks for a full resolve. Reading a kept descriptor costs about 2 µs, opening the file each time about 20 µs.

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
