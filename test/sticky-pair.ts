/**
 * Two workers of one pod with NODE_CLUSTER_STICKY, in the test's own process: real http servers and real Unix sockets between them.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import type { RequestListener, Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { AppServer } from '../src/worker/server.ts';
import { Sticky } from '../src/worker/sticky/sticky.ts';
import { until } from './until.ts';

export interface StickySettings {
  trustProxy?: boolean;
  responseTimeHeader?: boolean;
  keepAliveTimeoutMs?: number;
}

export class StickyWorker {
  readonly sticky: Sticky;
  readonly server: AppServer;
  readonly http: Server;
  readonly sockets = new Set<Socket>();
  /** What it has counted as answered. */
  readonly answered: string[] = [];

  constructor(folder: string, listener: RequestListener, settings: StickySettings) {
    const { trustProxy = false, responseTimeHeader = false, keepAliveTimeoutMs = 75_000 } = settings;
    this.sticky = new Sticky({ folder, service: 'shop', trustProxy, responseTimeHeader });
    this.server = new AppServer(
      { keepAliveTimeoutMs, headersTimeoutMs: 60_000, requestTimeoutMs: 300_000, maxHeaderBytes: 16_384, responseTimeHeader },
      ({ request: { method, url } }, status) => this.answered.push(`${method} ${url} ${status}`),
      (exchange, pass) => this.sticky.passes(exchange, pass),
      (...upgrade) => this.sticky.passesUpgrade(...upgrade),
    );
    this.http = this.server.add({ listener });
    this.http.on('connection', socket => {
      this.sockets.add(socket);
      socket.once('close', () => this.sockets.delete(socket));
    });
  }

  async open(): Promise<this> {
    await this.sticky.open();
    this.sticky.serve(this.http);
    this.http.listen(0, '127.0.0.1');
    await once(this.http, 'listening');
    return this;
  }

  get port(): number {
    return (this.http.address() as AddressInfo).port;
  }

  /** As if its process had been killed. */
  kill(): void {
    this.http.close();
    this.sticky.close();
    for (const socket of this.sockets) socket.destroy();
  }
}

/** A client of one worker whose cookie names the other one: `owner` serves what it sends to `receiver`. */
export async function stickyPair(listener: RequestListener, settings: StickySettings = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'bosun-workers-'));
  const app: RequestListener = (request, response) => (request.url === '/cookie' ? response.end() : listener(request, response));
  const owner = await new StickyWorker(folder, app, settings).open();
  const receiver = await new StickyWorker(folder, app, settings).open();
  after(() => {
    owner.kill();
    receiver.kill();
    rmSync(folder, { recursive: true });
  });
  const [cookie = assert.fail()] = /bosun-worker[^;]*/.exec(await exchange(owner.port, 'GET /cookie HTTP/1.0\r\n\r\n')) ?? [];
  owner.answered.length = 0;
  return { owner, receiver, cookie, folder };
}

/** Sends `text` on a connection of its own; resolves with all that comes back until it ends. */
export async function exchange(port: number, text: string): Promise<string> {
  const client = new Wire(port);
  client.socket.write(text, 'latin1');
  await client.ended();
  return client.received;
}

/** A connection, byte by byte. */
export class Wire {
  readonly socket: Socket;
  received = '';
  hasEnded = false;

  constructor(port: number) {
    this.socket = connect({ port, host: '127.0.0.1', noDelay: true });
    this.socket.setEncoding('latin1').on('data', chunk => {
      this.received += chunk;
    });
    for (const event of ['end', 'error', 'close']) this.socket.on(event, () => this.#end());
    after(() => this.socket.destroy());
  }

  #end(): void {
    this.hasEnded = true;
  }

  send(text: string): void {
    this.socket.write(text, 'latin1');
  }

  async gets(pattern: RegExp): Promise<string> {
    await until(
      () => pattern.test(this.received) || undefined,
      () => `no ${pattern} in ${JSON.stringify(this.received)}`,
    );
    return this.received;
  }

  async ended(): Promise<void> {
    await until(
      () => this.hasEnded || undefined,
      () => `no end after ${JSON.stringify(this.received)}`,
    );
  }
}
