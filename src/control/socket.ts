/**
 * The control plane: HTTP on a Unix socket of mode 0600, for `bosun`. Operations that change state are reachable here and nowhere else.
 * A command is `POST /<name>` with a JSON object; the response has a JSON line per step, and one for the result or the error. What the
 * commands do is not known here (operations.ts).
 */
import { lstatSync, unlinkSync } from 'node:fs';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { resolve } from 'node:path';
import type { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { ConnectionLimit, SHORT_TIMEOUTS } from '../admin/connection-limit.ts';
import type { AnswerLine } from '../protocol/commands.ts';

const http = process.getBuiltinModule('node:http');

/** A command that cannot be carried out; `status` is HTTP's: 404 no such worker, 409 not now, 400 malformed. */
export class ControlError extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** Called with a description of each step of a long command. */
export type OnStep = (step: string) => void;

/** The unchecked body of a command. */
export type Parameters = Readonly<Record<string, unknown>>;

/** Carries out one command. The response has what it returns as `result`, or a Streamed as raw bytes. @throws ControlError */
export type Operation = (parameters: Parameters, onStep: OnStep) => Promise<unknown> | unknown;

/** A result that writes the answer itself: raw bytes, or answer lines. `write` resolves when all of it is in the sink. */
export class Streamed {
  readonly write: (sink: Writable) => Promise<void>;
  constructor(write: (sink: Writable) => Promise<void>) {
    this.write = write;
  }
}

const STREAM_TYPE = 'application/octet-stream';
/** Bodies are small JSON objects. */
const MAX_BODY_BYTES = 1 << 20;
const BODY_TIMEOUT_MS = 10_000;
/** Enough for an operator's terminals and a script's concurrent commands. */
const MAX_CONNECTIONS = 64;

export class ControlSocket {
  readonly #operations: Readonly<Record<string, Operation>>;
  readonly #uploads = new Map<string, (body: IncomingMessage) => Promise<void>>();
  readonly #server: Server;
  readonly path: string;

  constructor(path: string, operations: Readonly<Record<string, Operation>>) {
    this.path = resolve(path); // a deployment may change the working directory
    this.#operations = operations;
    // No limit: a profile of some minutes is uploaded by a request that began before it.
    this.#server = http.createServer({ ...SHORT_TIMEOUTS, requestTimeout: 0 }, (request, response) => {
      limit.pin(request.socket); // a new command must not end a running one
      // A broken connection must not end the primary.
      this.#handle(request, response).catch(() => response.destroy());
    });
    const limit = new ConnectionLimit(this.#server, () => MAX_CONNECTIONS);
  }

  /** @throws Error if the socket belongs to another running primary, the path is not a socket, or its folder is not writable */
  async open(): Promise<void> {
    const found = lstatSync(this.path, { throwIfNoEntry: false });
    if (found?.isSocket() === false) throw new Error(`${this.path} must be a socket, got another file (CONTROL_SOCKET)`);
    const own = process.geteuid?.() ?? found?.uid;
    if (found !== undefined && found.uid !== own && own !== 0)
      throw new Error(
        `${this.path} must belong to user ${own}, or not exist, got a socket of user ${found.uid} (CONTROL_SOCKET)`,
      );
    if (await isAlive(this.path)) throw new Error(`${this.path} belongs to another running primary (CONTROL_SOCKET)`);
    if (found !== undefined) unlinkSync(this.path); // a killed primary left it behind
    const listening = Promise.withResolvers<void>();
    this.#server.once('error', listening.reject);
    // Set before the socket exists: a later chmod would leave a gap, and could hit a file that another user has put there.
    const umask = process.umask(0o177);
    try {
      this.#server.listen(this.path, listening.resolve);
    } finally {
      process.umask(umask);
    }
    await listening.promise;
    this.#server.on('error', () => undefined); // a connection that could not be accepted (EMFILE): its client sees the error
  }

  /** Takes no new command; removes the socket's file. */
  close(): void {
    this.#server.close();
    this.#server.closeIdleConnections();
  }

  /** Streams to the operator what another process PUTs to a path of this socket; `upload` makes it do so. */
  streamUpload(upload: (path: string) => Promise<void>): Streamed {
    return new Streamed(async sink => {
      const path = `/uploads/${crypto.randomUUID()}`;
      this.#uploads.set(path, async body => {
        if (sink instanceof http.ServerResponse) sink.setHeader('Content-Type', STREAM_TYPE);
        await pipeline(body, sink);
      });
      try {
        await upload(path);
      } finally {
        this.#uploads.delete(path);
      }
    });
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const upload = this.#uploads.get(request.url ?? '');
    if (upload !== undefined) {
      const { socket } = request; // pipeline takes it from a request that it destroys, and leaves it open (Node.js 26.10)
      await upload(request).then(
        () => response.end(),
        () => socket.destroy(), // the operator has disconnected: the worker must not wait for a reader
      );
      return;
    }
    const name = (request.url ?? '').slice(1);
    const operation = Object.hasOwn(this.#operations, name) ? this.#operations[name] : undefined;
    if (request.method !== 'POST' || operation === undefined) {
      response.writeHead(404).end();
      return;
    }
    const line = (value: AnswerLine) => {
      if (!response.headersSent) response.setHeader('Content-Type', 'application/x-ndjson');
      response.write(`${JSON.stringify(value)}\n`);
    };
    try {
      const result = await operation(await parametersOf(request), step => line({ step }));
      if (result instanceof Streamed) await result.write(response);
      else line({ result: result ?? null });
      response.end();
    } catch (error) {
      if (response.getHeader('Content-Type') === STREAM_TYPE) response.destroy(error as Error);
      else line({ error: (error as Error).message, status: error instanceof ControlError ? error.status : 409 });
      response.end();
    }
  }
}

async function parametersOf(request: IncomingMessage): Promise<Parameters> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  const deadline = setTimeout(() => request.destroy(), BODY_TIMEOUT_MS);
  try {
    for await (const chunk of request as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > MAX_BODY_BYTES) throw new ControlError(400, `the request body exceeds ${MAX_BODY_BYTES} bytes`);
      chunks.push(chunk);
    }
  } finally {
    clearTimeout(deadline);
  }
  if (bytes === 0) return {};
  try {
    const parsed: unknown = JSON.parse(Buffer.concat(chunks).toString());
    if (typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed)) return parsed as Parameters;
  } catch {
    /* reported below */
  }
  throw new ControlError(400, 'the body must be a JSON object');
}

/** Whether a process accepts connections on that socket. */
function isAlive(path: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect(path, () => resolve(true));
  socket.once('error', () => resolve(false));
  return promise.finally(() => socket.destroy());
}
