/**
 * Says when the limits of this container have changed and have stayed so: inotify on the limit files, a poll for what it misses
 * (a hidden parent, a file system without events), and a pause in which a burst of changes ends. It changes nothing by itself.
 */
import { type FSWatcher, watch } from 'node:fs';
import { join } from 'node:path';
import type { Limits } from './cgroup.ts';
import { Poll } from './poll.ts';

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
