/**
 * A worker of node:cluster without a process: what its primary does to it is noted, and a test says what it sends, prints and how it ends.
 */
import type { Worker } from 'node:cluster';
import { EventEmitter } from 'node:events';
import { PassThrough } from 'node:stream';
import { seal, type ToPrimary, type ToWorker } from '../src/protocol/messages.ts';

class SimulatedChild extends EventEmitter {
  /** Undefined where the system did not start it. */
  pid: number | undefined;
  exitCode: number | null = null;
  signalCode: NodeJS.Signals | null = null;
  readonly stdout = new PassThrough();
  readonly stderr = new PassThrough();
  readonly signals: string[] = [];

  constructor(pid: number) {
    super();
    this.pid = pid;
  }

  kill(signal: string): void {
    this.signals.push(signal);
  }
}

export class SimulatedWorker extends EventEmitter {
  readonly process: SimulatedChild;
  readonly sent: ToWorker[] = [];
  isOpen = true;
  /** Callbacks of the messages that it has not read. */
  readonly #written: (() => void)[] = [];

  constructor(pid = 2 ** 23) {
    super();
    this.process = new SimulatedChild(pid);
  }

  get asWorker(): Worker {
    return this as unknown as Worker;
  }

  isConnected(): boolean {
    return this.isOpen;
  }

  send({ message }: { message: ToWorker }, onWritten: () => void): void {
    this.sent.push(message);
    this.#written.push(onWritten);
  }

  /** It reads all messages that wait. */
  reads(): void {
    for (const onWritten of this.#written.splice(0)) onWritten();
  }

  reports(message: ToPrimary): void {
    this.process.emit('internalMessage', seal(message), undefined);
  }

  exits(code: number | null, signal: string | null = null): void {
    this.process.emit('exit', code, signal);
  }
}

/** A sink that keeps the text. */
export class Lines {
  text = '';
  readonly writes: string[] = [];

  write(lines: Buffer): void {
    this.text += lines.toString();
    this.writes.push(lines.toString());
  }
}

/** Lets what is queued in the event loop happen. */
export async function turns(count = 3): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise(resolve => setImmediate(resolve));
}
