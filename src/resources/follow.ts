/**
 * Reports when the limits of this container have changed and are stable: inotify on the limit files, a poll for what inotify misses (a hidden
 * parent, a file system without events), and a settling time in which a burst of changes ends. It applies nothing by itself.
 */
import { closeSync, type FSWatcher, openSync, readSync, watch } from 'node:fs';
import { join } from 'node:path';
import type { Limits } from './cgroup.ts';

const TIMES = {
  /** How long a change must last. */
  settleMs: 2000,
  /** Longer for fewer CPUs: workers are drained for it. */
  settleFewerCpusMs: 10_000,
  pollMs: 10_000,
};
/** Every so many polls the limits are resolved anyway: some changes show in no limit file (CPUs that come or go, hidden parents). */
const RESOLVE_EVERY_POLLS = 6;
/** A flood of connections may leave no descriptor to read the limits with; they have not changed because of that. */
const OUT_OF_FILES = /\b(?:EMFILE|ENFILE)\b/;

export interface FollowOptions {
  resolve: () => Limits;
  /** The limits differ from the last reported ones, and have been stable for the settling time. */
  changed: (limits: Limits) => void;
  /** The folder with the limit files; `/` except for a replay. */
  root: string;
  times?: typeof TIMES;
}

export class LimitFollower {
  readonly #options: FollowOptions;
  readonly #times: typeof TIMES;
  #reported: Limits;
  #pending: { limits: Limits; timer: NodeJS.Timeout } | undefined;
  #files: readonly string[] = [];
  #watchers: FSWatcher[] = [];
  #poll = new Poll([]);
  #polls = 0;
  readonly #timer: NodeJS.Timeout;

  /** @param start the limits in force */
  constructor(start: Limits, options: FollowOptions) {
    this.#options = options;
    this.#times = options.times ?? TIMES;
    this.#reported = start;
    this.#timer = setInterval(() => this.#onPoll(), this.#times.pollMs).unref();
    this.#watch(start.files);
    this.#resolve(); // they may have changed before they were watched
  }

  close(): void {
    clearInterval(this.#timer);
    this.#dropPending();
    this.#closeFiles();
  }

  #onPoll(): void {
    this.#polls++;
    if (this.#poll.changed() || this.#polls % RESOLVE_EVERY_POLLS === 0) this.#resolve();
  }

  #resolve(): void {
    const limits = this.#options.resolve();
    if (limits.skipped.some(({ why }) => OUT_OF_FILES.test(why))) return; // a later poll reads them
    if (limits.files.join() !== this.#files.join()) this.#watch(limits.files);
    if (this.#pending !== undefined && areEqual(limits, this.#pending.limits)) return;
    this.#dropPending();
    if (areEqual(limits, this.#reported)) return;
    const { settleMs, settleFewerCpusMs } = this.#times;
    const ms = cpusOf(limits) < cpusOf(this.#reported) ? settleFewerCpusMs : settleMs;
    this.#pending = { limits, timer: setTimeout(() => this.#report(limits), ms).unref() };
  }

  #report(limits: Limits): void {
    this.#pending = undefined;
    this.#reported = limits;
    this.#options.changed(limits);
  }

  #dropPending(): void {
    clearTimeout(this.#pending?.timer);
    this.#pending = undefined;
  }

  #watch(files: readonly string[]): void {
    this.#closeFiles();
    this.#files = files;
    const paths = files.map(file => join(this.#options.root, file));
    this.#poll = new Poll(paths);
    this.#watchers = paths.flatMap(path => {
      try {
        const watcher = watch(path, { persistent: false }, () => this.#resolve());
        watcher.on('error', () => watcher.close()); // the poll goes on
        return [watcher];
      } catch {
        return []; // out of inotify watches, or removed: the poll sees it
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

function cpusOf({ quota, cpuset }: Limits): number {
  return Math.min(quota?.value ?? Number.POSITIVE_INFINITY, cpuset?.value ?? Number.POSITIVE_INFINITY);
}

/** Longer files are compared up to here. The kernel's limit files have a few bytes, CPU sets a few hundred. */
const COMPARED_BYTES = 4096;

interface OpenFile {
  descriptor: number;
  content: Buffer;
}

/** Compares limit files with what they were: 2 µs for each on a kept descriptor, 20 µs if it were opened each time. Close it before you open another. */
export class Poll {
  readonly #files: OpenFile[] = [];
  readonly #scratch = Buffer.alloc(COMPARED_BYTES);
  #isStale = false;

  /** @param files absolute paths (`Limits.files`). A file that cannot be opened any more counts as changed. */
  constructor(files: readonly string[]) {
    for (const file of files) {
      try {
        this.#files.push({ descriptor: openSync(file, 'r'), content: Buffer.alloc(0) });
      } catch {
        this.#isStale = true; // removed since it was resolved: only another resolve finds what replaced it
      }
    }
    for (const file of this.#files) this.#hasChanged(file);
  }

  /** Whether any file differs from the last call (or from its opening), or can no longer be read. */
  changed(): boolean {
    // Every file, even after the first difference: the next call compares with this one.
    const differing = this.#files.filter(file => this.#hasChanged(file));
    return this.#isStale || differing.length > 0;
  }

  close(): void {
    for (const { descriptor } of this.#files.splice(0)) closeSync(descriptor);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #hasChanged(file: OpenFile): boolean {
    try {
      const content = this.#scratch.subarray(0, readSync(file.descriptor, this.#scratch, 0, COMPARED_BYTES, 0));
      if (content.equals(file.content)) return false;
      file.content = Buffer.from(content);
      return true;
    } catch {
      this.#isStale = true; // ENODEV: the cgroup was removed or its controller moved away
      return true;
    }
  }
}
