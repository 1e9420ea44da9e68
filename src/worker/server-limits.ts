/**
 * The time-outs and limits of a server that the app has created: a variable that is set wins, then what the app has set, then the kit's defaults.
 */
import type { Server } from 'node:http';
import type { ServerLimits } from './server.ts';

// Not imported: see server.ts.
const http = process.getBuiltinModule('node:http');

type Limit = 'keepAliveTimeoutMs' | 'headersTimeoutMs' | 'requestTimeoutMs' | 'maxHeaderBytes';

const PROPERTIES = {
  keepAliveTimeoutMs: 'keepAliveTimeout',
  headersTimeoutMs: 'headersTimeout',
  requestTimeoutMs: 'requestTimeout',
  // Not documented as a property; Node.js reads it for each connection.
  maxHeaderBytes: 'maxHeaderSize',
} as const satisfies Record<Limit, string>;

/** `isSet` is true for variables that are set. The app may change its own values later, but not those. */
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
