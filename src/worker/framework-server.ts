/**
 * The http.Server of an app that is exported before it listens. The kit accepts its connections; the app's own `listen` then succeeds at once,
 * so that what it does there happens: hooks, callbacks, log lines, `address()`.
 */
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { App } from './app.ts';

/** The app has begun to listen by itself. */
const ALREADY_LISTENING: ReadonlySet<unknown> = new Set(['ERR_SERVER_ALREADY_LISTEN', 'FST_ERR_REOPENED_SERVER']);

export interface FrameworkServer {
  server: Server;
  /** What the app does to listen; it calls `server.listen`. */
  listen: (port: number, host: string) => unknown;
  close?: () => Promise<void>;
}

/**
 * Serves the server of an app; `listen` runs once this worker serves, unless the app has called it already, and `close` after the last answer.
 */
export function frameworkApp({ server, listen, close }: FrameworkServer, description: string): App {
  return {
    serve: { server },
    ...(!server.listening && { onListening: address => listenOnce(server, address, listen) }),
    ...(close !== undefined && { close }),
    description,
  };
}

async function listenOnce(server: Server, address: AddressInfo, listen: FrameworkServer['listen']): Promise<void> {
  const restore = listenAt(server, address);
  try {
    await listen(address.port, address.address);
  } catch (error) {
    const isListening = error instanceof Error && 'code' in error && ALREADY_LISTENING.has(error.code);
    if (!isListening) throw error;
  } finally {
    restore();
  }
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
