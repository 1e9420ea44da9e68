/**
 * The output of one worker on one descriptor, passed on in whole lines, so that several workers can share an output. Nothing here
 * parses a line: a chunk is cut at its last line ending.
 */
import type { Readable } from 'node:stream';
import type { LineSink } from '../log/output.ts';

const NEWLINE = 10;
/** Longer input without a line ending is cut here, which bounds the memory that a worker uses in its primary. */
const MAX_LINE_BYTES = 1 << 20;
/** The most pieces in which a line that grows slowly is kept. */
const MAX_PIECES = 100;

/**
 * A worker that logs continuously wakes the primary at most this often. 20,000 lines a second of 170 bytes cost the primary
 * 1.2 µs each instead of 3. A full pipe is read at once: some programs sleep when theirs is full (pino's own destination for 100 ms).
 */
const REST_MS = 10;
const BUSY_CHUNK_BYTES = 32 << 10;

/** A pipe counts as empty after this many turns of the event loop without input: the pause has to end first. */
const QUIET_TURNS = 3;
/** The limit after the worker's exit, if a child process goes on writing. A few turns read all that a pipe holds, even on a slow machine. */
const MAX_TURNS = 100;

export class WorkerOutput {
  readonly #stream: Readable;
  readonly #sink: LineSink;
  /** An incomplete line. */
  #begun: Buffer[] = [];
  #begunBytes = 0;
  #chunks = 0;
  #hasEnded = false;
  #isSettling = false;

  constructor(stream: Readable, sink: LineSink) {
    this.#stream = stream;
    this.#sink = sink;
    stream.on('data', (chunk: Buffer) => this.#take(chunk));
    stream.on('error', () => undefined); // the end comes as well
    stream.once('close', () => {
      this.#hasEnded = true;
      this.#passBegun();
    });
  }

  /** Resolves when everything that the worker wrote before its exit is passed on. It does not wait for the pipe to close: child processes may hold it open. */
  async settle(): Promise<void> {
    this.#isSettling = true;
    this.#stream.resume();
    for (let turns = 0, quiet = 0; turns < MAX_TURNS && quiet < QUIET_TURNS && !this.#hasEnded; turns++) {
      const before = this.#chunks;
      await new Promise(resolve => setImmediate(resolve));
      quiet = this.#chunks === before ? quiet + 1 : 0;
    }
    this.#isSettling = false;
    this.#passBegun();
  }

  #take(chunk: Buffer): void {
    this.#chunks++;
    const end = chunk.lastIndexOf(NEWLINE) + 1;
    if (end > 0) {
      this.#sink.write(this.#begunBytes === 0 ? chunk.subarray(0, end) : Buffer.concat([...this.#begun, chunk.subarray(0, end)]));
      this.#begun = [];
      this.#begunBytes = 0;
    }
    if (end < chunk.length) {
      this.#begun.push(chunk.subarray(end));
      this.#begunBytes += chunk.length - end;
      if (this.#begun.length > MAX_PIECES) this.#begun = [Buffer.concat(this.#begun)];
    }
    if (this.#begunBytes > MAX_LINE_BYTES) this.#passBegun();
    if (chunk.length < BUSY_CHUNK_BYTES && !this.#isSettling) this.#rest();
  }

  /** Completes a partial line. */
  #passBegun(): void {
    if (this.#begunBytes === 0) return;
    this.#sink.write(Buffer.concat([...this.#begun, Buffer.of(NEWLINE)]));
    this.#begun = [];
    this.#begunBytes = 0;
  }

  #rest(): void {
    this.#stream.pause();
    setTimeout(() => this.#stream.resume(), REST_MS);
  }
}
