/**
 * What is going on, while it goes on: a bar that is written over on a terminal, a plain line now and then elsewhere.
 */
import type { WriteStream } from 'node:tty';
import type { Recorder } from './recorder.ts';

const BAR_EVERY_MS = 250;
const LINE_EVERY_MS = 2_000;
const BAR_WIDTH = 24;

export class Progress {
  readonly #out: Pick<WriteStream, 'write'>;
  readonly #terminal: boolean;
  #timer: NodeJS.Timeout | undefined;

  constructor(out: Pick<WriteStream, 'write'>, terminal: boolean) {
    this.#out = out;
    this.#terminal = terminal;
  }

  watch(label: string, recorder: Recorder, seconds: number): void {
    this.end();
    const show = () => this.#show(progressLine(label, recorder, seconds));
    this.#timer = setInterval(show, this.#terminal ? BAR_EVERY_MS : LINE_EVERY_MS);
    if (!this.#terminal) this.#out.write(`${label}: ${seconds} s\n`);
  }

  end(): void {
    clearInterval(this.#timer);
    if (this.#terminal && this.#timer !== undefined) this.#out.write('\r\u001b[K');
    this.#timer = undefined;
  }

  #show(line: string): void {
    this.#out.write(this.#terminal ? `\r\u001b[K${line}` : `${line}\n`);
  }
}

function progressLine(label: string, recorder: Recorder, seconds: number): string {
  const { latest } = recorder;
  const done = Math.min(1, recorder.seconds / seconds);
  const bar = '█'.repeat(Math.round(done * BAR_WIDTH)).padEnd(BAR_WIDTH, '░');
  const failed = Object.values(recorder.failures).reduce((sum, count) => sum + count, 0);
  const p99 = latest?.p99Ms == null ? '–' : `${latest.p99Ms.toFixed(1)} ms`;
  return `${label} ${bar} ${recorder.seconds.toFixed(0)}/${seconds.toFixed(0)} s  ${latest?.rate ?? 0} per second  p99 ${p99}  failed ${failed}`;
}
