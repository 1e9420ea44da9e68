/**
 * A way to a port of this machine on which a single connection can be made to swallow everything, as a router does that has forgotten it.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { after } from 'node:test';

export class Wire {
  readonly #server: Server;
  readonly #calls: { client: Socket; said: string; swallow(): void }[] = [];

  /** Ends with the test file. */
  static async to(port: number): Promise<Wire> {
    const wire = new Wire(port);
    wire.#server.listen(0, '127.0.0.1');
    await once(wire.#server, 'listening');
    after(() => wire.#close());
    return wire;
  }

  private constructor(port: number) {
    this.#server = createServer(client => {
      const server = connect(port, '127.0.0.1');
      const call = { client, said: '', swallow: () => client.unpipe(server).resume() };
      this.#calls.push(call);
      client.on('data', chunk => {
        call.said += chunk;
      });
      client.pipe(server).pipe(client);
      for (const [end, other] of [
        [client, server],
        [server, client],
      ] as const) {
        end.on('error', () => undefined);
        end.on('close', () => other.destroy());
      }
    });
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** From now on, what comes over the open connections whose client has said `words` goes nowhere. Returns how many these are. */
  swallow(words: string): number {
    const calls = this.#calls.filter(({ client, said }) => !client.destroyed && said.includes(words));
    for (const call of calls) call.swallow();
    return calls.length;
  }

  #close(): void {
    this.#server.close();
    for (const { client } of this.#calls) client.destroy();
  }
}
