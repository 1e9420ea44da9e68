/**
 * What one worker writes to one descriptor, passed on in whole lines, so that those of several workers can share an output. Nothing here
 * looks at a line: a chunk is cut at its last line end.
 */
import type { Readable } from 'node:stream';
import type { LineSink } from '../../log-output.ts';

const NEWLINE = 10;
/** What has no end by then is one: a worker takes no more memory than this from its primary. */
const MAX_LINE_BYTES = 1 << 20;
/** A line that grows by a byte at a time is kept in no more pieces. */
const MAX_PIECES = 100;

/**
 * A worker that logs one line after the other wakes the primary this often at most. 20,000 lines a second of 170 bytes cost the primary
 * 1.2 µs each and not 3. A full pipe is not waited for: some programs sleep where theirs is (pino's own destination for 100 ms).
 */
const REST_MS = 10;
const BUSY_CHUNK_BYTES = 32 << 10;

/** Turns of the event loop without anything to read, after which a pipe is empty: the pause has to end first. */
const QUIET_TURNS = 3;
/** After the worker's exit, where a child of it goes on writing. A pipe holds no more than a few turns read, however slow the machine. */
const MAX_TURNS = 100;

export class WorkerOutput {
  readonly #stream: Readable;
  readonly #sink: LineSink;
  /** A line whose end has not come yet. */
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

  /** Resolves when all that the worker wrote before its exit is passed on. Its children may hold the pipe open: its end is not waited for. */
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

  /** Ends the line that has begun. */
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
