/**
 * The last log lines of the whole pool, for `bosun logs`: of the primary, and of what its workers write. One buffer of a fixed size, so that no
 * app and no reader can make the primary grow: a reader has only a position in it, and a slow one gets the number of lines that it has missed.
 */

import type { LogPart, WrittenLines } from '../protocol/commands.ts';

/** What is kept: at most so many bytes, and at most so many lines. */
export const KEPT_BYTES = 1 << 20;
export const KEPT_LINES = 10_000;
/** Of one write; of a longer one, the last whole lines. */
const MAX_ENTRY_BYTES = KEPT_BYTES / 4;
const NEWLINE = 10;

/** Where lines come from. */
export type LineSource = Pick<WrittenLines, 'stream' | 'worker'>;

/** Some lines in the buffer. Positions count all bytes and lines since the start. */
interface Entry {
  source: LineSource;
  at: number;
  start: number;
  bytes: number;
  lines: number;
  firstLine: number;
  /** The same among the lines of its worker. */
  firstOfWorker: number;
}

export class LogMemory {
  /** Allocated with the first line. */
  #buffer: Buffer | undefined;
  /** By number, the oldest first. */
  readonly #entries = new Map<number, Entry>();
  #oldest = 0;
  #next = 0;
  #writtenBytes = 0;
  #writtenLines = 0;
  #keptBytes = 0;
  #keptLines = 0;
  readonly #linesOfWorkers = new Map<number, number>();
  readonly #listeners = new Set<() => void>();
  #hasEnded = false;
  readonly #allRead = Promise.withResolvers<void>();

  /** No more lines will come. */
  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** Callers of `onWrite`. */
  get readers(): number {
    return this.#listeners.size;
  }

  /** Keeps these whole lines, and forgets the oldest. */
  write(source: LineSource, lines: Buffer): void {
    const kept = lastLines(lines);
    const [all, count] = [countLines(lines), countLines(kept)];
    const ofWorker = source.worker === undefined ? 0 : (this.#linesOfWorkers.get(source.worker) ?? 0);
    this.#writtenLines += all;
    if (source.worker !== undefined) this.#linesOfWorkers.set(source.worker, ofWorker + all);
    if (count > 0) {
      const start = this.#writtenBytes;
      this.#makeRoom(kept.length, count);
      this.#copy(kept);
      this.#entries.set(this.#next++, {
        source,
        at: Date.now(),
        start,
        bytes: kept.length,
        lines: count,
        firstLine: this.#writtenLines - count,
        firstOfWorker: ofWorker + all - count,
      });
    }
    for (const listener of this.#listeners) listener();
  }

  /** Calls `listener` after each write, and at the end. The returned function unsubscribes. */
  onWrite(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
      if (this.#hasEnded && this.#listeners.size === 0) this.#allRead.resolve();
    };
  }

  /** Readers get what they have not read yet, and then the end. Resolves when they have unsubscribed, or after `timeoutMs`. */
  async end(timeoutMs: number): Promise<void> {
    this.#hasEnded = true;
    if (this.#listeners.size === 0) return;
    for (const listener of this.#listeners) listener();
    const timer = setTimeout(this.#allRead.resolve, timeoutMs);
    await this.#allRead.promise;
    clearTimeout(timer);
  }

  /** The numbers of those that have written, or about which lines were written, since the start. */
  get workers(): number[] {
    return [...this.#linesOfWorkers.keys()].sort((a, b) => a - b);
  }

  /** The number of the next entry. */
  get next(): number {
    return this.#next;
  }

  /**
   * Reads what is kept, and then what is written: by or about `worker`, or by all. Begins with the last `lines` lines, by default with all that
   * are kept.
   */
  read(worker?: number, lines = KEPT_LINES): LogReader {
    let [number, wanted] = [this.#next, lines];
    let line = worker === undefined ? this.#writtenLines : (this.#linesOfWorkers.get(worker) ?? 0);
    for (let at = this.#next - 1; at >= this.#oldest && wanted > 0; at--) {
      const entry = this.#entries.get(at);
      if (entry === undefined || !isOf(entry, worker)) continue;
      number = at;
      line = firstLineOf(entry, worker) + Math.max(0, entry.lines - wanted);
      wanted -= entry.lines;
    }
    return new LogReader(this, worker, number, line);
  }

  /** The first entry from `number` on of this worker, or of all; for readers. */
  from(number: number, worker: number | undefined): { number: number; entry: Entry; text: () => string } | undefined {
    for (let at = Math.max(number, this.#oldest); at < this.#next; at++) {
      const entry = this.#entries.get(at);
      if (entry !== undefined && isOf(entry, worker)) return { number: at, entry, text: () => this.#textOf(entry) };
    }
    return undefined;
  }

  #makeRoom(bytes: number, lines: number): void {
    this.#keptBytes += bytes;
    this.#keptLines += lines;
    while (this.#oldest < this.#next && (this.#keptBytes > KEPT_BYTES || this.#keptLines > KEPT_LINES)) {
      const entry = this.#entries.get(this.#oldest);
      this.#entries.delete(this.#oldest++);
      this.#keptBytes -= entry?.bytes ?? 0;
      this.#keptLines -= entry?.lines ?? 0;
    }
  }

  #copy(lines: Buffer): void {
    this.#buffer ??= Buffer.allocUnsafeSlow(KEPT_BYTES);
    const at = this.#writtenBytes % KEPT_BYTES;
    const fitting = lines.copy(this.#buffer, at);
    lines.copy(this.#buffer, 0, fitting);
    this.#writtenBytes += lines.length;
  }

  #textOf({ start, bytes }: Entry): string {
    const at = start % KEPT_BYTES;
    const end = this.#buffer?.subarray(at, at + bytes) ?? Buffer.alloc(0);
    const rest = this.#buffer?.subarray(0, bytes - end.length) ?? Buffer.alloc(0);
    return Buffer.concat([end, rest]).toString();
  }
}

/** A position in the memory. */
export class LogReader {
  readonly #memory: LogMemory;
  readonly #worker: number | undefined;
  /** Of the next entry. */
  #number: number;
  /** Of the next line, if none is missed. */
  #line: number;

  constructor(memory: LogMemory, worker: number | undefined, number: number, line: number) {
    this.#memory = memory;
    this.#worker = worker;
    this.#number = number;
    this.#line = line;
  }

  /** Everything before the entry with this number is read. */
  hasReached(number: number): boolean {
    return this.#number >= number;
  }

  /** What comes next; undefined where everything is read. */
  next(): LogPart | undefined {
    const found = this.#memory.from(this.#number, this.#worker);
    this.#number = found?.number ?? this.#memory.next;
    if (found === undefined) return undefined;
    const { entry, text } = found;
    const dropped = firstLineOf(entry, this.#worker) - this.#line;
    if (dropped > 0) {
      this.#line += dropped;
      return { dropped };
    }
    this.#number++;
    this.#line += entry.lines + dropped;
    return { at: entry.at, ...entry.source, text: withoutLines(text(), -dropped) };
  }
}

const isOf = ({ source }: Entry, worker: number | undefined) => worker === undefined || source.worker === worker;

const firstLineOf = (entry: Entry, worker: number | undefined) => (worker === undefined ? entry.firstLine : entry.firstOfWorker);

function countLines(lines: Buffer): number {
  let count = 0;
  for (let at = lines.indexOf(NEWLINE); at !== -1; at = lines.indexOf(NEWLINE, at + 1)) count++;
  return count;
}

/** As many whole lines at the end as one entry may have. */
function lastLines(lines: Buffer): Buffer {
  const beyond = lines.length - MAX_ENTRY_BYTES;
  return beyond <= 0 ? lines : lines.subarray(lines.indexOf(NEWLINE, beyond - 1) + 1);
}

function withoutLines(text: string, count: number): string {
  let at = 0;
  for (let skipped = 0; skipped < count; skipped++) at = text.indexOf('\n', at) + 1;
  return text.slice(at);
}
