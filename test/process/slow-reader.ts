/**
 * A client on a slow line: it sends a request and reads nothing of the answer until the test says so. The server's kernel holds the rest.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { requestText } from './clients.ts';

/** More than the client's kernel buffers, less than the server's: the answer ends before it has arrived. */
export const ANSWER_BYTES = 512 * 1024;
/** An app of `writtenApp` that answers so. */
export const LARGE_ANSWER = `return (req, res) => res.end(Buffer.alloc(${ANSWER_BYTES}, 'x'));`;

const SILENCE_MS = 10_000;

export class SlowReader {
  readonly #socket: Socket;

  static async request(port: number, host = '127.0.0.1', request = requestText('/')): Promise<SlowReader> {
    const socket = connect({ port, host }).pause();
    await once(socket, 'connect');
    socket.write(request);
    return new SlowReader(socket);
  }

  private constructor(socket: Socket) {
    this.#socket = socket.on('error', () => undefined);
  }

  /** All that comes until the server ends the connection, or its network is gone: how many bytes. */
  async readAll(): Promise<number> {
    let bytes = 0;
    this.#socket.on('data', chunk => {
      bytes += chunk.length;
    });
    this.#socket.setTimeout(SILENCE_MS, () => this.#socket.destroy()).resume();
    await Promise.race([once(this.#socket, 'close'), once(this.#socket, 'end')]);
    return bytes;
  }

  close(): void {
    this.#socket.destroy();
  }
}
