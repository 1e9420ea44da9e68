/**
 * Clients that say exactly what they send and exactly what they lost: one connection byte by byte, one request, and two kinds of load.
 * Nothing is ever retried. A reset, a hang or half an answer is a failure; a refused connection is counted apart.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

/** No answer takes longer, on a slow machine either: more is a hang. */
const PATIENCE_MS = 30_000;

export interface Answer {
  status: number;
  /** Names in lower case. */
  headers: Record<string, string>;
  body: string;
}

export function requestText(path: string, { method = 'GET', headers = {}, body = '' }: RequestParts = {}): string {
  const lines = [`${method} ${path} HTTP/1.1`, 'Host: 127.0.0.1'];
  for (const [name, value] of Object.entries(headers)) lines.push(`${name}: ${value}`);
  return `${lines.join('\r\n')}\r\n\r\n${body}`;
}

export interface RequestParts {
  method?: string;
  headers?: Record<string, string>;
  body?: string;
}

/** A connection of its own for one request. */
export async function ask(port: number, path: string, parts?: RequestParts): Promise<Answer> {
  await using client = await RawClient.open(port);
  return await client.ask(path, parts);
}

/** The JSON of a route, on a connection of its own. */
export async function askJson<T>(port: number, path: string): Promise<T> {
  await using client = await RawClient.open(port);
  return await client.askJson<T>(path);
}

/** One TCP connection: what is written goes out as it is, what comes back is kept. */
export class RawClient {
  readonly #socket: Socket;
  readonly #closed: Promise<void>;
  #unread: Buffer = Buffer.alloc(0);
  #end: string | undefined;
  #error: string | undefined;
  #news = Promise.withResolvers<void>();

  static async open(port: number): Promise<RawClient> {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true });
    const client = new RawClient(socket);
    await once(socket, 'connect', { signal: AbortSignal.timeout(PATIENCE_MS) });
    return client;
  }

  constructor(socket: Socket) {
    this.#socket = socket;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#closed = promise;
    socket.on('data', (chunk: Buffer) => {
      this.#unread = Buffer.concat([this.#unread, chunk]);
      this.#tell();
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.#error = error.code ?? error.message;
    });
    // The FIN itself, and not the close that follows it.
    socket.on('end', () => {
      this.#end ??= 'FIN';
      this.#tell();
    });
    socket.on('close', () => {
      this.#end = this.#error ?? this.#end ?? 'closed by this client';
      this.#tell();
      resolve();
    });
  }

  /** False from the moment that the server's FIN or RST has arrived. */
  get isOpen(): boolean {
    return this.#end === undefined && this.#error === undefined;
  }

  /** What has arrived and is no answer yet. */
  get unread(): string {
    return this.#unread.toString();
  }

  /** Goes to the kernel before it returns, where its buffer is empty. */
  write(bytes: string | Buffer): void {
    this.#socket.write(bytes);
  }

  async ask(path: string, parts?: RequestParts): Promise<Answer> {
    this.write(requestText(path, parts));
    return this.answer();
  }

  /** The JSON of a route. */
  async askJson<T>(path: string): Promise<T> {
    const { status, body } = await this.ask(path);
    if (status !== 200) throw new Error(`${path} must answer 200, got ${status}: ${body}`);
    return JSON.parse(body) as T;
  }

  /** The next answer in full. */
  async answer(): Promise<Answer> {
    return this.#until('an answer', () => {
      const taken = takeAnswer(this.#unread, this.#end !== undefined);
      if (taken === undefined) return undefined;
      this.#unread = taken.rest;
      return taken.answer;
    });
  }

  /** How the server ended the connection: `FIN`, or the code of the error. */
  async ended(): Promise<string> {
    const timer = setTimeout(() => this.#socket.destroy(new Error(`still open after ${PATIENCE_MS} ms`)), PATIENCE_MS);
    await this.#closed;
    clearTimeout(timer);
    return this.#end ?? '';
  }

  /** Resolves when `pattern` has arrived. */
  async heard(pattern: RegExp): Promise<void> {
    await this.#until(String(pattern), () => pattern.test(this.unread) || undefined);
  }

  /** Closes this side at once. */
  close(): void {
    this.#socket.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
    await this.#closed;
  }

  async #until<T>(what: string, look: () => T | undefined): Promise<T> {
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      const found = look();
      if (found !== undefined) return found;
      const so = `got ${JSON.stringify(this.unread.slice(0, 200))}`;
      if (!this.isOpen) throw new Error(`${what} expected, but the connection ended (${this.#error ?? this.#end}); ${so}`);
      if (performance.now() >= deadline) throw new Error(`${what} expected within ${PATIENCE_MS} ms; ${so}`);
      await this.#newsBefore(deadline);
    }
  }

  async #newsBefore(deadline: number): Promise<void> {
    const timer = setTimeout(() => this.#tell(), Math.max(0, deadline - performance.now()));
    await this.#news.promise;
    clearTimeout(timer);
  }

  #tell(): void {
    this.#news.resolve();
    this.#news = Promise.withResolvers<void>();
  }
}

/** The first answer of `bytes`, if it is complete. */
function takeAnswer(bytes: Buffer, isAll: boolean): { answer: Answer; rest: Buffer } | undefined {
  const headEnd = bytes.indexOf('\r\n\r\n');
  if (headEnd < 0) return undefined;
  const [statusLine = '', ...lines] = bytes.toString('latin1', 0, headEnd).split('\r\n');
  const status = Number(statusLine.split(' ')[1]);
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const name = line.slice(0, line.indexOf(':')).toLowerCase();
    const value = line.slice(line.indexOf(':') + 1).trim();
    headers[name] = name in headers ? `${headers[name]}\n${value}` : value; // several Set-Cookie
  }
  const rest = bytes.subarray(headEnd + 4);
  if (headers['transfer-encoding'] === 'chunked') {
    const body = takeChunks(rest);
    return body && { answer: { status, headers, body: body.text }, rest: body.rest };
  }
  if (headers['content-length'] === undefined && status !== 204 && status !== 304) {
    return isAll ? { answer: { status, headers, body: rest.toString() }, rest: Buffer.alloc(0) } : undefined;
  }
  const length = Number(headers['content-length'] ?? 0);
  if (rest.length < length) return undefined;
  return { answer: { status, headers, body: rest.toString('utf8', 0, length) }, rest: rest.subarray(length) };
}

function takeChunks(bytes: Buffer): { text: string; rest: Buffer } | undefined {
  const chunks: Buffer[] = [];
  for (let at = 0; ; ) {
    const sizeEnd = bytes.indexOf('\r\n', at);
    if (sizeEnd < 0) return undefined;
    const size = Number.parseInt(bytes.toString('latin1', at, sizeEnd), 16);
    const end = sizeEnd + 2 + size;
    if (bytes.length < end + 2) return undefined;
    if (size === 0) return { text: Buffer.concat(chunks).toString(), rest: bytes.subarray(end + 2) };
    chunks.push(bytes.subarray(sizeEnd + 2, end));
    at = end + 2;
  }
}

export interface LoadResult {
  answered: number;
  /** A line for each request that got no answer 200, or whose connection broke. */
  failures: string[];
  /** Connections that nobody listened to any more. */
  refused: number;
  /** Answers that announced the end of their connection. */
  lastOnConnection: number;
  /** By the `pid` in the answers' JSON. */
  byPid: Map<number, number>;
}

/** Requests on their way until it is stopped, `MOST_REQUESTS` at most. */
export interface Load {
  readonly result: LoadResult;
  /** No new connection from then on, as behind a load balancer that has taken this server out; open ones go on. */
  openNoMore(inMs?: number): void;
  /** No new request from now on. */
  stop(): Promise<LoadResult>;
  /** Resolves when that many requests are answered. */
  answered(count: number): Promise<void>;
}

const MOST_REQUESTS = 20_000;
const LONGEST_MS = 30_000;

/** How long a load goes on at most, where it is not stopped. */
export interface LoadBounds {
  mostRequests?: number;
  longestMs?: number;
}

/** `clients` connections, each used again and again with `pauseMs` between; a connection that ends is replaced. */
export function keepAliveLoad(port: number, { path = '/', clients = 4, pauseMs = 3, ...bounds }: KeepAliveOptions = {}): Load {
  return reusingLoad(port, clients, pauseMs, bounds, (client, result) => exchange(client, path, result));
}

export interface KeepAliveOptions extends LoadBounds {
  path?: string;
  clients?: number;
  pauseMs?: number;
}

/** Bodies of `bytes` to a route that answers with their size (`/upload` of koa.mjs), in three parts with `pauseMs` between. */
export function uploadLoad(port: number, { clients = 2, bytes = 200_000, pauseMs = 20, ...bounds }: UploadOptions = {}): Load {
  const head = requestText('/upload', { method: 'POST', headers: { 'Content-Length': String(bytes) } });
  const thirds = [0, 1, 2].map(part => 'x'.repeat(part < 2 ? Math.floor(bytes / 3) : bytes - 2 * Math.floor(bytes / 3)));
  return reusingLoad(port, clients, 0, bounds, async (client, result) => {
    await counted(
      client,
      result,
      1,
      async () => {
        client.write(head);
        for (const third of thirds) {
          client.write(third);
          await pause(pauseMs);
        }
      },
      bytes,
    );
  });
}

export interface UploadOptions extends LoadBounds {
  clients?: number;
  bytes?: number;
  pauseMs?: number;
}

/** `depth` requests in one write, then all their answers, again and again. */
export function pipelineLoad(
  port: number,
  { path = '/', clients = 2, depth = 5, pauseMs = 3, ...bounds }: PipelineOptions = {},
): Load {
  const batch = requestText(path).repeat(depth);
  return reusingLoad(port, clients, pauseMs, bounds, (client, result) =>
    counted(client, result, depth, () => client.write(batch)),
  );
}

export interface PipelineOptions extends KeepAliveOptions {
  depth?: number;
}

function reusingLoad(
  port: number,
  clients: number,
  pauseMs: number,
  bounds: LoadBounds,
  use: (client: RawClient, result: LoadResult) => Promise<void>,
): Load {
  return startLoad(clients, bounds, async (state, result) => {
    let client: RawClient | undefined;
    while (goesOn(state, result)) {
      if (client?.isOpen !== true) {
        client = mayOpen(state) ? await openCounted(port, result) : undefined;
        if (client === undefined) break;
      }
      await use(client, result);
      if (pauseMs > 0) await pause(pauseMs);
    }
    client?.close();
  });
}

/** A new connection every `everyMs`, for one request each. */
export function freshLoad(port: number, { path = '/', everyMs = 20, ...bounds }: FreshOptions = {}): Load {
  return startLoad(1, bounds, async (state, result) => {
    const exchanges: Promise<void>[] = [];
    const startedAt = performance.now();
    while (goesOn(state, result) && mayOpen(state)) {
      exchanges.push(
        openCounted(port, result).then(async client => {
          if (client !== undefined) await exchange(client, path, result);
          client?.close();
        }),
      );
      // By the clock: a late timer does not thin out the load.
      await pause(Math.max(1, startedAt + exchanges.length * everyMs - performance.now()));
    }
    await Promise.all(exchanges);
  });
}

export interface FreshOptions extends LoadBounds {
  path?: string;
  everyMs?: number;
}

interface LoadState {
  goesOn: boolean;
  opensUntil: number;
  until: number;
  mostRequests: number;
}

function startLoad(
  clients: number,
  { mostRequests = MOST_REQUESTS, longestMs = LONGEST_MS }: LoadBounds,
  run: (state: LoadState, result: LoadResult) => Promise<void>,
): Load {
  const state = { goesOn: true, opensUntil: Number.POSITIVE_INFINITY, until: performance.now() + longestMs, mostRequests };
  const result: LoadResult = { answered: 0, failures: [], refused: 0, lastOnConnection: 0, byPid: new Map() };
  const running = Promise.all(Array.from({ length: clients }, () => run(state, result)));
  return {
    result,
    openNoMore: (inMs = 0) => {
      state.opensUntil = performance.now() + inMs;
    },
    stop: async () => {
      state.goesOn = false;
      await running;
      return result;
    },
    answered: async count => {
      while (result.answered < count) {
        if (result.failures.length > 0 || !goesOn(state, result)) {
          throw new Error(`${count} answers expected, got ${result.answered}; failures: ${result.failures.join('; ') || 'none'}`);
        }
        await pause(5);
      }
    },
  };
}

function goesOn(state: LoadState, { answered, failures }: LoadResult): boolean {
  return state.goesOn && answered + failures.length < state.mostRequests && performance.now() < state.until;
}

function mayOpen({ opensUntil }: LoadState): boolean {
  return performance.now() < opensUntil;
}

async function openCounted(port: number, result: LoadResult): Promise<RawClient | undefined> {
  try {
    return await RawClient.open(port);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ECONNREFUSED') result.refused++;
    else result.failures.push(`connect: ${(error as Error).message}`);
    return undefined;
  }
}

async function exchange(client: RawClient, path: string, result: LoadResult): Promise<void> {
  await counted(client, result, 1, () => client.write(requestText(path)));
}

/** Sends what `send` sends, and counts `answers` answers to it; `bytes` is what each must say that it received, where it is given. */
async function counted(
  client: RawClient,
  result: LoadResult,
  answers: number,
  send: () => Promise<void> | void,
  bytes?: number,
): Promise<void> {
  try {
    await send();
    for (let left = answers; left > 0; left--) {
      const { status, headers, body } = await client.answer();
      if (status !== 200) throw new Error(`status ${status}: ${body}`);
      const answer = JSON.parse(body) as { pid: number; bytes?: number };
      if (bytes !== undefined && answer.bytes !== bytes) throw new Error(`${answer.bytes} bytes arrived of ${bytes}`);
      result.answered++;
      result.byPid.set(answer.pid, (result.byPid.get(answer.pid) ?? 0) + 1);
      if (headers.connection !== 'close') continue;
      result.lastOnConnection++;
      if (left > 1) throw new Error(`${left - 1} pipelined request(s) go unanswered: the connection ends before`);
      const end = await client.ended();
      if (end !== 'FIN') throw new Error(`the connection ended with ${end} after its last answer`);
    }
  } catch (error) {
    result.failures.push((error as Error).message);
    client.close();
  }
}

/**
 * Opens connections and visits over each, until each of so many workers has answered. They stay open until then: a policy that counts
 * connections sends the next one to a worker that has fewer, while one visit after the other might all go to the same, idle worker.
 * `visit` resolves with who has answered.
 * @returns all of them
 */
export async function everyWorker<Worker extends string | number>(
  port: number,
  count: number,
  visit: (client: RawClient) => Promise<Worker>,
): Promise<Set<Worker>> {
  await using clients = new AsyncDisposableStack();
  const seen = new Set<Worker>();
  for (let visits = 0; seen.size < count; visits++) {
    if (visits >= 20 * count) throw new Error(`${seen.size} of ${count} workers answered ${visits} visits`);
    seen.add(await visit(clients.use(await RawClient.open(port))));
  }
  return seen;
}
