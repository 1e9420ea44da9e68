/**
 * What Node.js prints on a worker's standard error about its inspector. The address is a secret: anyone who has it can run code in the worker. The
 * primary reads it here and never logs it.
 */
import type { LineSink } from '../log/output.ts';

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
