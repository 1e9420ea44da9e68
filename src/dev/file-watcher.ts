/**
 * Watches files that are named one by one, whether they exist or not, and files that match globs. A save may write a file, rename another one over it,
 * or replace its whole folder: an event is only the reason to compare all versions.
 */
import { statSync } from 'node:fs';
import { dirname, join, matchesGlob, resolve, sep } from 'node:path';
import { type ChokidarOptions, type FSWatcher, watch } from 'chokidar';
import { versionOf } from '../protocol/file-version.ts';

/** A save of several files counts as one if its events follow each other this closely. Editors write within a few milliseconds. */
const QUIET_MS = 20;
/** A program that writes all the time delays a reload by no more than this. */
const MAX_DELAY_MS = 500;
/** `atomic` would delay a rename by 100 ms. */
const OPTIONS: ChokidarOptions = { ignoreInitial: true, atomic: false, ignorePermissionErrors: true };
const SKIPPED = /[/\\](?:node_modules|\.git)(?:[/\\]|$)/;

export class FileWatcher {
  readonly #onChange: (paths: string[], seenAt: number) => void;
  readonly #versions = new Map<string, string>();
  /** The watched folders, with what identifies each: another one of the same name may take its place. */
  readonly #folders = new Map<string, string>();
  readonly #watcher: FSWatcher;
  readonly #globWatcher: FSWatcher | undefined;
  readonly #matched = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #seenAt: number | undefined;

  /** `onChange` gets the files of a save, and when its first event came, by the monotonic clock. `globs` are relative to `directory`. */
  constructor(directory: string, globs: readonly string[], onChange: (paths: string[], seenAt: number) => void) {
    this.#onChange = onChange;
    this.#watcher = watch([], { ...OPTIONS, depth: 0, ignored: (path, stats) => this.#isIgnored(path, stats?.isFile()) });
    this.#watcher.on('all', () => this.#seen()).on('error', () => undefined);
    this.#globWatcher = globs.length === 0 ? undefined : this.#watchGlobs(globs.map(glob => resolve(directory, glob)));
  }

  /** The number of files that are watched and exist, those of the globs left out. */
  get count(): number {
    return [...this.#versions.values()].filter(version => version !== '').length;
  }

  /**
   * Watches a file of which somebody has read that version. It counts as saved if it is another one by now, also if others have read it before
   * and its event is still to come.
   */
  add(path: string, version = versionOf(path)): void {
    if (!this.#versions.has(path)) {
      this.#versions.set(path, version);
      this.#watchFolderOf(path);
      this.#watcher.add(path);
    }
    if (versionOf(path) !== this.#versions.get(path)) this.#seen();
  }

  async close(): Promise<void> {
    clearTimeout(this.#timer);
    await Promise.all([this.#watcher.close(), this.#globWatcher?.close()]);
  }

  #isIgnored(path: string, isFile: boolean | undefined): boolean {
    return isFile === true ? !this.#versions.has(path) : SKIPPED.test(path);
  }

  #watchGlobs(globs: readonly string[]): FSWatcher {
    const isMatch = (path: string) => globs.some(glob => matchesGlob(path, glob));
    const ignored: ChokidarOptions['ignored'] = (path, stats) =>
      SKIPPED.test(path) || (stats?.isFile() === true && !isMatch(path));
    const watcher = watch(
      globs.map(glob => existing(baseOf(glob))),
      { ...OPTIONS, ignored },
    );
    return watcher
      .on('error', () => undefined)
      .on('all', (_, path) => {
        if (!isMatch(path)) return;
        this.#matched.add(path);
        this.#seen();
      });
  }

  #watchFolderOf(path: string): void {
    const folder = existing(dirname(path));
    const identity = identityOf(folder);
    const before = this.#folders.get(folder);
    if (before === identity) return;
    if (before !== undefined) this.#watcher.unwatch(folder);
    this.#folders.set(folder, identity);
    this.#watcher.add(folder);
  }

  #seen(): void {
    const now = performance.now();
    this.#seenAt ??= now;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#compare(), Math.min(QUIET_MS, Math.max(0, this.#seenAt + MAX_DELAY_MS - now)));
  }

  #compare(): void {
    const seenAt = this.#seenAt ?? performance.now();
    this.#seenAt = undefined;
    const changed = [...this.#matched];
    this.#matched.clear();
    for (const [path, before] of this.#versions) {
      this.#watchFolderOf(path);
      const version = versionOf(path);
      if (version === before) continue;
      this.#versions.set(path, version);
      this.#watcher.add(path);
      changed.push(path);
    }
    if (changed.length > 0) this.#onChange([...new Set(changed)], seenAt);
  }
}

/** The folder, or the nearest one above it that exists. */
function existing(folder: string): string {
  const above = dirname(folder);
  return identityOf(folder) !== '' || above === folder ? folder : existing(above);
}

/** Empty where there is no folder. */
function identityOf(folder: string): string {
  const stat = statSync(folder, { throwIfNoEntry: false });
  return stat?.isDirectory() ? `${stat.dev}-${stat.ino}` : '';
}

/** The part of a glob that is a folder. */
function baseOf(glob: string): string {
  const parts = glob.split(sep);
  const first = parts.findIndex(part => /[*?[\]{}()!]/.test(part));
  return first === -1 ? dirname(glob) : join(sep, ...parts.slice(0, first));
}
