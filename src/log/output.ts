/**
 * The primary's writer for standard output and standard error of the whole pool. Pipes keep only writes up to 4 KiB atomic (PIPE_BUF), so
 * one process must write the lines of all. It never blocks: it buffers unread output in bounded memory, and drops and counts
 * the rest. Lines to a terminal are formatted for people.
 */
import { constants, fstatSync, openSync, write } from 'node:fs';
import { Socket } from 'node:net';
import { setImmediate as loopTurn } from 'node:timers/promises';
import { isatty } from 'node:tty';
import { type LineSource, LogMemory } from './memory.ts';

/** The buffer of each descriptor while its reader does not read. */
const MAX_BUFFERED_BYTES = 8 << 20;
/** Extra room for the primary's own lines. */
const RESERVED_BYTES = 256 << 10;
const MAX_WRITE_BYTES = 64 << 10;
/** The pause before a stopped terminal (Ctrl-S) is tried again. */
const TERMINAL_RETRY_MS = 20;
const NEWLINE = 10;

/** Writes all of `bytes`, then calls back, with the error where it could not. Never blocks. */
type Write = (bytes: Buffer, done: (error?: Error | null) => void) => void;

/** Accepts whole lines. */
export interface LineSink {
  write(lines: Buffer): void;
}

export class LogOutput implements LineSink {
  readonly #write: Write;
  readonly #onDropped: (lines: number) => void;
  readonly #buffered: Buffer[] = [];
  /** Of the buffered lines and of those that are being written. */
  #bytes = 0;
  #isWriting = false;
  #completedWrites = 0;
  #unreportedDrops = 0;
  #droppedLines = 0;
  #emptied: PromiseWithResolvers<void> | undefined;

  /** Calls `onDropped` with the number of dropped lines once there is room again. */
  constructor(write: Write, onDropped: (lines: number) => void) {
    this.#write = write;
    this.#onDropped = onDropped;
  }

  /** Lines that were not written since the start. */
  get droppedLines(): number {
    return this.#droppedLines;
  }

  write(lines: Buffer): void {
    this.#add(lines, MAX_BUFFERED_BYTES);
  }

  /** Writes a line of the primary itself, for which there is extra room. */
  writeOwn(line: string): void {
    this.#add(Buffer.from(line), MAX_BUFFERED_BYTES + RESERVED_BYTES);
  }

  /** Resolves when everything is written, when the reader has read nothing for `stallMs`, or after five times that. */
  async flush(stallMs: number): Promise<void> {
    const deadline = performance.now() + 5 * stallMs;
    while (this.#bytes > 0 && performance.now() < deadline) {
      const before = this.#completedWrites;
      this.#emptied ??= Promise.withResolvers<void>();
      const timer = setTimeout(this.#emptied.resolve, stallMs);
      await this.#emptied.promise;
      clearTimeout(timer);
      this.#emptied = undefined;
      if (this.#completedWrites === before) return;
    }
  }

  #add(lines: Buffer, maxBytes: number): void {
    if (this.#bytes + lines.length > maxBytes) {
      this.#drop(lines);
      return;
    }
    this.#bytes += lines.length;
    this.#buffered.push(lines);
    if (!this.#isWriting) this.#writeNext();
  }

  /** One write at a time: lines that arrive meanwhile go into the next one. */
  #writeNext(): void {
    const batch = this.#takeBatch();
    if (batch === undefined) {
      this.#emptied?.resolve();
      return;
    }
    this.#isWriting = true;
    this.#write(batch, error => {
      this.#isWriting = false;
      this.#completedWrites++;
      this.#bytes -= batch.length;
      if (error) this.#drop(batch);
      else if (this.#unreportedDrops > 0 && this.#bytes < MAX_BUFFERED_BYTES / 2) this.#reportDropped();
      if (!this.#isWriting) this.#writeNext();
    });
  }

  #takeBatch(): Buffer | undefined {
    let count = 0;
    for (let bytes = 0; count < this.#buffered.length; count++) {
      bytes += this.#buffered[count]?.length ?? 0;
      if (count > 0 && bytes > MAX_WRITE_BYTES) break;
    }
    const batch = this.#buffered.splice(0, count);
    return batch.length > 1 ? Buffer.concat(batch) : batch[0];
  }

  #drop(lines: Buffer): void {
    let count = 0;
    for (let at = lines.indexOf(NEWLINE); at !== -1; at = lines.indexOf(NEWLINE, at + 1)) count++;
    this.#unreportedDrops += count;
    this.#droppedLines += count;
  }

  #reportDropped(): void {
    const lines = this.#unreportedDrops;
    this.#unreportedDrops = 0;
    this.#onDropped(lines);
  }
}

/** `terminal`: for people where the output is a terminal, else JSON. `developer`: for people everywhere, and short (`bosun dev`). */
export type LogFormat = 'terminal' | 'developer' | 'json';

/** In a line of the primary: quotes within text are escaped. */
const ABOUT_WORKER = /"worker":(\d+)[,}]/;

/** Where a worker's lines go. */
export interface Sinks {
  readonly stdout: LineSink;
  readonly stderr: LineSink;
}

export class LogOutputs {
  readonly stdout: LogOutput;
  readonly stderr: LogOutput;
  /** The last lines, also those that were dropped. */
  readonly memory = new LogMemory();

  /** For this process' descriptors 1 and 2, with one writer where both lead to the same file, pipe or terminal. */
  constructor(onDropped: (stream: 'stdout' | 'stderr', lines: number) => void, format: LogFormat = 'terminal') {
    this.stdout = new LogOutput(writeTo(1, format), lines => onDropped('stdout', lines));
    this.stderr = isSameFile(1, 2) ? this.stdout : new LogOutput(writeTo(2, format), lines => onDropped('stderr', lines));
  }

  /** For the lines of a process of the app; `worker` is its number, if it has one. */
  sinksOf(worker?: number): Sinks {
    const sink = (stream: LineSource['stream']): LineSink => ({
      write: lines => {
        this.memory.write({ stream, worker }, lines);
        this[stream].write(lines);
      },
    });
    return { stdout: sink('stdout'), stderr: sink('stderr') };
  }

  /** Writes a line of the primary itself. */
  writeOwn(line: string): void {
    const [, worker] = ABOUT_WORKER.exec(line) ?? [];
    this.memory.write({ stream: 'stdout', worker: worker === undefined ? undefined : Number(worker) }, Buffer.from(line));
    this.stdout.writeOwn(line);
  }

  get droppedLines(): number {
    return this.stdout.droppedLines + (this.stderr === this.stdout ? 0 : this.stderr.droppedLines);
  }

  /** As `LogOutput.flush`, before the exit: readers of the memory get the rest. */
  async flush(stallMs: number): Promise<void> {
    await Promise.all([this.memory.end(stallMs), this.stdout.flush(stallMs), this.stderr.flush(stallMs)]);
    await loopTurn(); // the answers of the readers end
  }
}

/**
 * A worker writes to pipes, even if the primary is on a terminal: this keeps its app's colours. Node.js and the usual libraries read
 * FORCE_COLOR; a value set by the user takes precedence.
 */
export function colourEnvironment(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const isDecided = ['FORCE_COLOR', 'NO_COLOR', 'NODE_DISABLE_COLORS'].some(name => environment[name] !== undefined);
  if (isDecided || !isatty(1) || !isatty(2)) return {};
  const levels = new Map([
    [4, '1'],
    [8, '2'],
    [24, '3'],
  ]);
  const level = levels.get(process.stdout.getColorDepth(environment));
  return level === undefined ? {} : { FORCE_COLOR: level };
}

function isSameFile(one: number, other: number): boolean {
  const [a, b] = [fstatSync(one), fstatSync(other)];
  return a.dev === b.dev && a.ino === b.ino;
}

function writeTo(fd: number, format: LogFormat): Write {
  const write = rawWriteTo(fd);
  if (format === 'json' || (format === 'terminal' && !isatty(fd))) return write;
  const isColoured = hasColours(fd);
  // Loaded only here: the lines of a container are JSON.
  const formatter = import('./format.ts');
  return (bytes, done) => {
    void formatter.then(({ developerLine, prettyLine }) => {
      const lineOf = format === 'developer' ? developerLine : prettyLine;
      const lines = bytes.toString().split(/(?<=\n)/);
      write(Buffer.from(lines.map(line => lineOf(line, isColoured)).join('')), done);
    });
  };
}

function rawWriteTo(fd: number): Write {
  if (isatty(fd)) return toFile(nonBlocking(fd));
  const stat = fstatSync(fd);
  return stat.isFIFO() || stat.isSocket() ? toPipe(fd) : toFile(fd);
}

/** Whether output to that descriptor has colours, as Node.js and the usual libraries decide it. */
export function hasColours(fd: number, { NO_COLOR, FORCE_COLOR }: NodeJS.ProcessEnv = process.env): boolean {
  return FORCE_COLOR === undefined ? isatty(fd) && !NO_COLOR : FORCE_COLOR !== '0';
}

function toPipe(fd: number): Write {
  const socket = new Socket({ fd, readable: false, writable: true });
  socket.on('error', () => undefined); // the reader has exited; each write reports it too
  return (bytes, done) => void socket.write(bytes, done);
}

/** `fs.write` uses a thread: a slow disk does not block the event loop. */
function toFile(fd: number): Write {
  const put: Write = (bytes, done) =>
    write(fd, bytes, (error, written) => {
      if (error?.code === 'EAGAIN') setTimeout(put, TERMINAL_RETRY_MS, bytes, done);
      else if (error !== null || written === bytes.length) done(error);
      else put(bytes.subarray(written), done);
    });
  return put;
}

/** A stopped terminal would block its writer, even in a thread, and an exiting process waits for its threads. */
function nonBlocking(fd: number): number {
  try {
    return openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch {
    return fd; // no /proc, or the terminal of another user
  }
}
