/**
 * Clients that say exactly what they send and exactly what they get: one connection byte by byte, or one request. Nothing is ever retried.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

/** No answer takes longer, on a slow machine either: more is a hang. */
const PATIENCE_MS = 30_000;

export interface Answer {
  status: number;
  /** Names in lower case. */
  headers: Record<string, string>;
  body: string;
}

export function requestText(path: string, { method = 'GET', headers = {}, body = '' }: RequestOptions = {}): string {
  const lines = [`${method} ${path} HTTP/1.1`, 'Host: 127.0.0.1'];
  for (const [name, value] of Object.entries(headers)) lines.push(`${name}: ${value}`);
  return `${lines.join('\r\n')}\r\n\r\n${body}`;
}

export interface RequestOptions {
  method?: string;
  headers?: Record<string, string>;
  body?: string;
}

/** A connection of its own for one request. */
export async function request(port: number, path: string, parts?: RequestOptions): Promise<Answer> {
  await using client = await RawClient.open(port);
  return await client.request(path, parts);
}

/** The JSON of a route, on a connection of its own. */
export async function requestJson<T>(port: number, path: string): Promise<T> {
  await using client = await RawClient.open(port);
  return await client.requestJson<T>(path);
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
      this.#notify();
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.#error = error.code ?? error.message;
    });
    // The FIN itself, and not the close that follows it.
    socket.on('end', () => {
      this.#end ??= 'FIN';
      this.#notify();
    });
    socket.on('close', () => {
      this.#end = this.#error ?? this.#end ?? 'closed by this client';
      this.#notify();
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

  async request(path: string, parts?: RequestOptions): Promise<Answer> {
    this.write(requestText(path, parts));
    return this.answer();
  }

  /** The JSON of a route. */
  async requestJson<T>(path: string): Promise<T> {
    const { status, body } = await this.request(path);
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
  async received(pattern: RegExp): Promise<void> {
    await this.#until(String(pattern), () => pattern.test(this.unread) || undefined);
  }

  /** Reads nothing from now on. */
  pause(): void {
    this.#socket.pause();
  }

  /** Ends the connection with an RST. */
  reset(): void {
    this.#socket.resetAndDestroy();
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
    const timer = setTimeout(() => this.#notify(), Math.max(0, deadline - performance.now()));
    await this.#news.promise;
    clearTimeout(timer);
  }

  #notify(): void {
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
