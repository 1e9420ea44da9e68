/**
 * A resource that checks tokens, for the leaders of the fixture leads.mjs: it accepts a write with the highest token so far or a higher one,
 * and records what it gets.
 */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { until } from '../until.ts';

export interface Said {
  what: string;
  token: number;
  pid: number;
}

export class Fence {
  /** Accepted writes, by token, with the process that wrote. */
  readonly writers = new Map<number, number>();
  readonly said: Said[] = [];
  /** What breaks the rules: two processes with one token, or an order of tokens that is not that of the starts. */
  readonly violations: string[] = [];
  refused = 0;
  readonly #server = createServer(socket => this.#connected(socket));
  readonly #sockets = new Map<number, Socket>();
  #highest = 0;

  async open(): Promise<number> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return (this.#server.address() as AddressInfo).port;
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets.values()) socket.destroy();
  }

  /** The highest token that has written, and its process. */
  get leader(): { token: number; pid: number } {
    return { token: this.#highest, pid: this.writers.get(this.#highest) ?? 0 };
  }

  /** Sends a command to the leader. */
  command(text: string): void {
    this.#sockets.get(this.#highest)?.write(`${text}\n`);
  }

  /** Resolves when a leader with a higher token than this has written. */
  async after(token: number, otherwise: () => string = () => ''): Promise<{ token: number; pid: number }> {
    return until(
      () => (this.#highest > token ? this.leader : undefined),
      () => `no leader after ${token}; ${otherwise()}`,
    );
  }

  async received(what: string, token: number): Promise<void> {
    await until(
      () => this.said.some(said => said.what === what && said.token === token) || undefined,
      () => `${token} has not said ${what}`,
    );
  }

  #connected(socket: Socket): void {
    socket.on('error', () => undefined);
    createInterface({ input: socket }).on('line', line => {
      const said = JSON.parse(line) as Said;
      this.#sockets.set(said.token, socket);
      if (said.what === 'write') this.#write(said);
      else this.said.push(said);
    });
  }

  #write({ token, pid }: Said): void {
    if (token < this.#highest) {
      this.refused++;
      return;
    }
    const writer = this.writers.get(token);
    if (writer !== undefined && writer !== pid) this.violations.push(`${token} was given to ${writer} and to ${pid}`);
    this.writers.set(token, pid);
    this.#highest = token;
  }
}
