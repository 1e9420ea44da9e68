/**
 * The http.Server of an app that is exported before it listens. The kit accepts its connections; the app's own `listen` then succeeds at once,
 * so that what it does there happens: hooks, callbacks, log lines, `address()`.
 */
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { App } from './app.ts';

export interface FrameworkServer {
  server: Server;
  /** What the app does to listen; it calls `server.listen`. */
  listen: (port: number, host: string) => unknown;
  close?: () => Promise<void>;
}

/** Serves the server of an app; `listen` runs once this worker serves, `close` after its last answer. */
export function frameworkApp({ server, listen, close }: FrameworkServer, description: string): App {
  return {
    serve: { server },
    onListening: async address => {
      const restore = listenAt(server, address);
      try {
        await listen(address.port, address.address);
      } finally {
        restore();
      }
    },
    ...(close !== undefined && { close }),
    description,
  };
}

/** Until the returned function is called, `server.listen` opens no port: it reports that the server listens at `address`. */
function listenAt(server: Server, address: AddressInfo): () => void {
  if (!server.listening) {
    server.address = () => address;
    Object.defineProperty(server, 'listening', { value: true, configurable: true });
  }
  server.listen = (...args: unknown[]) => {
    const callback = args.findLast(arg => typeof arg === 'function');
    if (callback !== undefined) server.once('listening', callback as () => void);
    process.nextTick(() => server.emit('listening'));
    return server;
  };
  return () => Reflect.deleteProperty(server, 'listen');
}
