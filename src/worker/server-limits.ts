/**
 * The timeouts and limits of http servers: the kit's own, and those that the app has created.
 */
import type { IncomingMessage, RequestListener, Server } from 'node:http';
import type { Config } from '../config/config.ts';

// An ESM import of node:http evaluates its getters, which load undici: 37 ms at each start.
const http = process.getBuiltinModule('node:http');

export type ServerLimits = Pick<
  Config,
  'keepAliveTimeoutMs' | 'headersTimeoutMs' | 'requestTimeoutMs' | 'maxHeaderBytes' | 'responseTimeHeader'
>;

type Limit = 'keepAliveTimeoutMs' | 'headersTimeoutMs' | 'requestTimeoutMs' | 'maxHeaderBytes';

const PROPERTIES = {
  keepAliveTimeoutMs: 'keepAliveTimeout',
  headersTimeoutMs: 'headersTimeout',
  requestTimeoutMs: 'requestTimeout',
  // Not documented as a property; Node.js reads it for each connection.
  maxHeaderBytes: 'maxHeaderSize',
} as const satisfies Record<Limit, string>;

/** Node.js looks for headers and requests that are overdue this often. */
const CHECK_EVERY_MS = { min: 1000, max: 30_000 };

/** Creates a server around the listener of an app. */
export function createServer(limits: ServerLimits, listener: RequestListener): Server {
  const server: Server = http.createServer(
    {
      keepAliveTimeout: limits.keepAliveTimeoutMs,
      headersTimeout: limits.headersTimeoutMs,
      requestTimeout: limits.requestTimeoutMs,
      connectionsCheckingInterval: Math.min(CHECK_EVERY_MS.max, Math.max(CHECK_EVERY_MS.min, limits.headersTimeoutMs)),
      maxHeaderSize: limits.maxHeaderBytes,
      // A request for another protocol (h2c) is answered over HTTP/1.1, which HTTP allows.
      shouldUpgradeCallback: request => server.listenerCount('upgrade') > 0 && isWebSocket(request),
    },
    listener,
  );
  return server;
}

/** Whether a request is to become a WebSocket, or one of several protocols. */
export const isWebSocket = ({ headers }: IncomingMessage): boolean =>
  (headers.upgrade ?? '').split(',').some(protocol => protocol.trim().toLowerCase() === 'websocket');

/**
 * For a server of the app: a variable that is set wins, then what the app has set, then the kit's defaults. `isSet` is true for variables that are set.
 * The app may change its own values later, but not those.
 */
export function applyLimits(server: Server, limits: ServerLimits, isSet: (limit: Limit) => boolean): void {
  const fresh = http.createServer();
  for (const [limit, property] of Object.entries(PROPERTIES) as [Limit, string][]) {
    const value = limits[limit];
    // Whatever differs from a new server was set by the app.
    const isNodes = Reflect.get(server, property) === Reflect.get(fresh, property);
    if (isSet(limit)) Object.defineProperty(server, property, { get: () => value, set: () => undefined });
    else if (isNodes) Reflect.set(server, property, value);
  }
}
