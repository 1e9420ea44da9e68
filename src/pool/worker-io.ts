/**
 * What comes from the process of a worker: its messages, and what it writes to its two outputs. Nothing of it is trusted: a message is the
 * kit's own and is parsed, or it is dropped; the app shares the channel and may send anything. Output is passed on in whole lines, so that
 * several workers can share an output, and nothing here parses a line.
 */
import type { ChildProcess, SendHandle } from 'node:child_process';
import type { Worker } from 'node:cluster';
import type { Readable } from 'node:stream';
import type { LineSink } from '../log/output.ts';
import { type ConnectionHandle, closeHandle, isConnection, messageWithoutHandle } from '../protocol/handles.ts';
import { parseToPrimary } from '../protocol/message-shapes.ts';
import type { ToPrimary, ToWorker } from '../protocol/messages.ts';
import { isEnvelope, isWatchReport, seal } from '../protocol/messages.ts';
import { type ProcessMemory, readProcessMemory } from '../resources/usage.ts';
import type { WorkerRecord } from './worker-state.ts';

export interface ChannelListener {
  /** A `move` comes with the handle of its connection. */
  onMessage(message: ToPrimary, handle: ConnectionHandle | undefined): void;
  /** A malformed message in the kit's envelope or node:cluster's: the app forged it, or the kit has a bug. */
  onMalformed(error: Error): void;
}

export class WorkerChannel {
  readonly #worker: Worker;

  constructor(worker: Worker, listener: ChannelListener) {
    this.#worker = worker;
    guardChannel(worker.process, listener);
  }

  get isOpen(): boolean {
    return this.#worker.isConnected();
  }

  /** Drops the message if the channel is closed. `onWritten` is called in any case. */
  send(message: ToWorker, onWritten: () => void = () => undefined, handle?: ConnectionHandle): void {
    if (!this.isOpen) onWritten();
    else if (handle === undefined) this.#worker.send(seal(message), onWritten);
    else this.#worker.send(seal(message), handle as SendHandle, undefined, onWritten);
  }
}

/**
 * Node.js emits every message on the child process. Overridden here because its own listeners throw when the app forges one of
 * their messages (an unexpected acknowledgement, an unknown handle type), and the exception would end the primary.
 */
export function guardChannel(child: ChildProcess, listener: ChannelListener): void {
  const emit = child.emit.bind(child);
  child.emit = (event: string | symbol, ...args: unknown[]) => {
    if (event !== 'message' && event !== 'internalMessage') return Reflect.apply(emit, child, [event, ...args]);
    const [message, handle] = args;
    let parsed: ToPrimary | undefined;
    try {
      if (isEnvelope(message)) parsed = parseToPrimary(message.message);
      else if (event === 'internalMessage') {
        const isHandled = emit(event, message, handle);
        const lost = messageWithoutHandle(message, handle);
        if (!isEnvelope(lost)) return isHandled;
        parsed = parseToPrimary(lost.message);
      } else if (process.env.WATCH_REPORT_DEPENDENCIES && isWatchReport(message)) process.send?.(message);
    } catch (error) {
      listener.onMalformed(error instanceof Error ? error : new Error(String(error)));
    }
    const connection = parsed?.type === 'move' && isConnection(handle) ? handle : undefined;
    if (connection === undefined) closeHandle(handle);
    if (parsed !== undefined) listener.onMessage(parsed, connection);
    return true;
  };
}

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

/**
 * What Node.js prints on a worker's standard error about its inspector. The address is a secret: anyone who has it can run code in the
 * worker. The primary reads it here and never logs it.
 */
const LISTENING = /Debugger listening on (ws:\/\/\S*)\n/g;
const ADDRESS = /^ws:\/\/127\.0\.0\.1:\d{1,5}\/[0-9a-f-]{36}$/;
const OTHERS =
  /(?:Debugger attached\.|Debugger ending on \S*|Waiting for the debugger to disconnect\.\.\.|For help, see: https:\/\/nodejs\.org\/\S*)\n/g;

export class InspectorLines implements LineSink {
  readonly #sink: LineSink;
  readonly #onOpen: (address: string) => void;
  #hasOpened = false;

  /** Passes on all other output. */
  constructor(sink: LineSink, onOpen: (address: string) => void) {
    this.#sink = sink;
    this.#onOpen = onOpen;
  }

  write(lines: Buffer): void {
    const rest = this.#hasOpened || lines.includes('Debugger listening on ') ? this.#take(lines) : lines;
    if (rest.length > 0) this.#sink.write(rest);
  }

  /** As latin1, which keeps every byte as it is. */
  #take(lines: Buffer): Buffer {
    const rest = lines.toString('latin1').replace(LISTENING, (_, address: string) => {
      this.#hasOpened = true;
      if (ADDRESS.test(address)) this.#onOpen(address);
      return '';
    });
    return Buffer.from(this.#hasOpened ? rest.replace(OTHERS, '') : rest, 'latin1');
  }
}

/** The memory of a worker is read this often; it costs 60 µs. */
const READ_EVERY_MS = 1000;

/** The memory of workers from /proc: a worker's own report is up to a second old, and a hung worker reports nothing. */
export class MemoryReader {
  readonly #readAt = new WeakMap<WorkerRecord, number>();

  /** Undefined where nothing is new. */
  read(worker: WorkerRecord, now: number): ProcessMemory | undefined {
    const { pid, readyAt, snapshot } = worker;
    if (readyAt === undefined || now - (this.#readAt.get(worker) ?? Number.NEGATIVE_INFINITY) < READ_EVERY_MS) return undefined;
    const rss = snapshot?.memory.rss;
    const memory = readProcessMemory(pid) ?? (rss === undefined ? undefined : { privateBytes: rss, sharedBytes: 0 });
    if (memory !== undefined) this.#readAt.set(worker, now);
    return memory;
  }
}
