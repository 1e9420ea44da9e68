/**
 * The Unix socket of a worker, on which the others of its pod pass requests on to it. Their connections go to the http server of the app, which
 * serves, counts and drains them like those of clients.
 */
import type { Server as HttpServer, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { listenAsNode } from '../adopt.ts';
import { FROM_WORKER } from '../connections.ts';
import { giveAddresses } from './client-address.ts';

/** Only this user may connect; its folder lets nobody else in either. */
const UMASK = 0o177;
const NEWLINE = 10;
/** Of the first line of a connection. */
const MAX_LINE_BYTES = 1024;

/** The worker that passed the request on learns that the app gets it now: nobody else may serve it. */
export function acknowledge(response: ServerResponse): void {
  response.writeProcessing();
}

/** As `acknowledge`, for a request that has no response. */
export function acknowledgeUpgrade(socket: Duplex): void {
  socket.write('HTTP/1.1 102 Processing\r\n\r\n');
}

/** The name of the pod in cookies: the random end of that folder's name. */
export const podOf = (folder: string): string => folder.slice(folder.lastIndexOf('-') + 1);

/** Where the worker with that id listens. */
export const socketPath = (folder: string, worker: string): string => join(folder, worker);

export class OwnerSocket {
  readonly #server: Server;

  constructor(httpServer: () => HttpServer | undefined) {
    this.#server = createServer({ allowHalfOpen: true }, socket => {
      const onEarlyError = () => socket.destroy();
      socket.on('error', onEarlyError);
      let head = Buffer.alloc(0);
      const onData = (chunk: Buffer) => {
        head = Buffer.concat([head, chunk]);
        const end = head.indexOf(NEWLINE);
        if (end === -1 && head.length <= MAX_LINE_BYTES) return;
        socket.pause();
        try {
          giveAddresses(socket, head.toString('utf8', 0, end));
        } catch {
          socket.destroy(); // another program of this user has connected
          return;
        }
        socket.off('data', onData).off('error', onEarlyError);
        if (head.length > end + 1) socket.unshift(head.subarray(end + 1));
        Reflect.set(socket, FROM_WORKER, true);
        const server = httpServer();
        if (server === undefined) socket.destroy();
        else server.emit('setSecureContext' in server ? 'secureConnection' : 'connection', socket);
        socket.resume();
      };
      socket.on('data', onData);
    });
  }

  /** Resolves once it listens. @throws the system's error */
  async open(path: string): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#server.once('error', reject);
    this.#server.once('listening', resolve);
    // Set before the socket exists: a later chmod would leave a gap.
    const umask = process.umask(UMASK);
    try {
      // In this process: without `exclusive` the primary would listen, and all workers would share one socket.
      Reflect.apply(listenAsNode, this.#server, [{ path, exclusive: true }]);
    } finally {
      process.umask(umask);
    }
    await promise;
    this.#server.on('error', () => undefined); // a connection that could not be accepted: the other worker sees it
  }

  /** Takes no new connection. Those that are open end with the drain. */
  close(): void {
    this.#server.close();
  }
}
