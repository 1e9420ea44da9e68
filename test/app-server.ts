/**
 * A worker's http server over real sockets, in the test's own process. The clock of a drain is virtual, so that each deadline is exact.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { after, type TestContext } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import type { Drain, DrainTimes, OpenRequest } from '../src/protocol/messages.ts';
import { AppServer, type OnResponse, type Refuse } from '../src/worker/server.ts';
import type { ServerLimits } from '../src/worker/server-limits.ts';

const TIMEOUT_MS = 2000;
const TICK_MS = 25;
export const LIMITS: ServerLimits = {
  keepAliveTimeoutMs: 75_000,
  headersTimeoutMs: 60_000,
  requestTimeoutMs: 300_000,
  maxHeaderBytes: 16_384,
  responseTimeHeader: false,
};

/** Waits for something that takes a few milliseconds. `performance` may be replaced. */
export async function eventually(isTrue: () => boolean): Promise<void> {
  const deadline = Date.now() + TIMEOUT_MS;
  while (!isTrue()) {
    assert.ok(Date.now() < deadline, `${isTrue} is still false`);
    await turn();
  }
}

export const get = (path: string, ...headers: string[]) => [`GET ${path} HTTP/1.1`, 'Host: a', ...headers, '', ''].join('\r\n');

export class Client {
  readonly socket: Socket;
  received = '';
  hasEnded = false;

  constructor(port: number) {
    this.socket = connect({ port, host: '127.0.0.1', noDelay: true });
    this.socket.on('data', chunk => {
      this.received += chunk;
    });
    this.socket.on('end', () => {
      this.hasEnded = true;
    });
    this.socket.on('error', () => {
      this.hasEnded = true;
    });
  }

  /** How many responses have arrived. */
  get responses(): number {
    return this.received.split('HTTP/1.1 ').length - 1;
  }

  async get(path: string, ...headers: string[]): Promise<string> {
    const [count, at] = [this.responses, this.received.length];
    this.socket.write(get(path, ...headers));
    await eventually(() => this.responses > count && /\r\n\r\n/.test(this.received.slice(at)));
    return this.received.slice(at);
  }

  async end(): Promise<void> {
    await eventually(() => this.hasEnded);
  }
}

/** A server whose requests stay open until the test answers them; those below /now are answered at once. */
export class Fixture {
  readonly server: AppServer;
  readonly http: Server;
  readonly requests: { request: IncomingMessage; response: ServerResponse }[] = [];
  readonly responses: { url: string | undefined; status: number; milliseconds: number }[] = [];
  port = 0;

  static async start(limits: Partial<ServerLimits> = {}, listener?: RequestListener, refuse?: Refuse): Promise<Fixture> {
    const fixture = new Fixture({ ...LIMITS, ...limits }, listener, refuse);
    fixture.http.listen(0, '127.0.0.1');
    await once(fixture.http, 'listening');
    fixture.port = (fixture.http.address() as AddressInfo).port;
    return fixture;
  }

  private constructor(
    limits: ServerLimits,
    listener: RequestListener = (request, response) => this.#keep(request, response),
    refuse?: Refuse,
  ) {
    const onResponse: OnResponse = ({ request: { url } }, status, milliseconds) =>
      this.responses.push({ url, status, milliseconds });
    this.server = new AppServer(limits, onResponse, refuse);
    this.http = this.server.add({ listener });
    const sockets: Socket[] = [];
    this.http.on('connection', socket => sockets.push(socket));
    after(() => {
      this.http.close();
      for (const socket of sockets) socket.destroy();
    });
  }

  #keep(request: IncomingMessage, response: ServerResponse): void {
    this.requests.push({ request, response });
    if (request.url?.startsWith('/now')) response.end('ok');
  }

  async connect(): Promise<Client> {
    const count = this.server.connections + 1;
    const client = new Client(this.port);
    await eventually(() => this.server.connections === count);
    return client;
  }

  /** An idle connection, over which one request was answered. */
  async idle(): Promise<Client> {
    const client = await this.connect();
    await client.get('/now');
    return client;
  }

  /** Sends a request and waits for it to arrive. */
  async open(path: string, from?: Client): Promise<{ client: Client; response: ServerResponse }> {
    const client = from ?? (await this.connect());
    const count = this.requests.length;
    client.socket.write(get(path));
    await eventually(() => this.requests.length > count);
    return { client, response: (this.requests[count] ?? assert.fail()).response };
  }
}

/** A drain whose clock moves when the test lets it. */
export class VirtualDrain {
  readonly progress: { open: number; oldest: OpenRequest[] }[] = [];
  readonly result: Promise<Drain>;
  isOver = false;
  readonly #context: TestContext;
  readonly #clock: Clock;

  constructor(context: TestContext, { server }: Fixture, times: Partial<DrainTimes> = {}, clock = new Clock(context)) {
    this.#context = context;
    this.#clock = clock;
    context.mock.timers.enable({ apis: ['setInterval'] });
    this.result = server.drain(
      { timeoutMs: 60_000, quietMs: 100, appMs: 100, endStalled: false, moves: false, ...times },
      (open, oldest) => this.progress.push({ open, oldest }),
    );
    void this.result.then(() => {
      this.isOver = true;
    });
  }

  async pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= TICK_MS) {
      const step = Math.min(TICK_MS, left);
      this.#clock.now += step;
      this.#context.mock.timers.tick(step);
      await turn();
      await turn();
    }
  }
}

export class Clock {
  /** Whole milliseconds: sums of them are exact. */
  now = Math.round(performance.now());

  constructor(context: TestContext) {
    context.mock.method(performance, 'now', () => this.now);
  }
}
