/**
 * What becomes of a server of the app that listens: served in place of its own port, or left alone. Pure.
 */

/** `tcp` stands for every server that is not one of HTTP. */
export type Kind = 'http' | 'https' | 'http2' | 'tcp';

/** Why a server is served: it listens on PORT, it is the first http server on another port, or the module exports it or its listener. */
export type Role = 'port' | 'first' | 'export';

export interface Situation {
  /** PORT, or the port that the app has named. */
  port: number;
  /** It is set, or the app has named it; otherwise it is the default. */
  isPortKnown: boolean;
  /** The primary holds that port: without PORT, another process may have the default one. */
  isPortHeld: boolean;
  /** Of the kit; 0 if it is off. */
  adminPort: number;
  /** The role of the server that is served, or will be; undefined while there is none. */
  role: Role | undefined;
  /** The worker serves: only a server on PORT can still take over. */
  isDecided: boolean;
}

export type Decision =
  /** It gets the connections to PORT. */
  | 'serve'
  /** Likewise, unless a server listens on PORT soon. */
  | 'try'
  /** The primary is to take its port. */
  | 'name-port'
  /** The app cannot start: the kit cannot serve this server, and holds its port. */
  | 'refuse'
  /** It listens, and gets no connections: another server is served on that port, or it only probes whether the port is free. */
  | 'ignore'
  /** Likewise: the port is ADMIN_PORT. */
  | 'admin'
  /** It listens on its own port, outside the kit. */
  | 'own';

/** What becomes of a server that listens on `port`; 0 means any free port. */
export function decide({ kind, port }: { kind: Kind; port: number }, situation: Situation): Decision {
  const { isPortKnown, isPortHeld, adminPort, role, isDecided } = situation;
  const canServe = kind === 'http' || kind === 'https';
  // 0 is any free port: a server that cannot be served, or comes later, takes its own.
  const hasOwnPort = port === 0 && (!canServe || role === 'port' || isDecided);
  if (port === situation.port && !hasOwnPort) {
    if (kind === 'tcp') return 'ignore';
    if (!canServe) return 'refuse';
    if (role === 'port') return 'ignore';
    return isPortHeld ? 'serve' : 'name-port';
  }
  const isFirst = canServe && role === undefined && !isDecided;
  const isAdmin = port === adminPort && port !== 0;
  if (!isFirst) return isAdmin ? 'admin' : 'own';
  if (!isPortHeld) return 'name-port';
  return isPortKnown || isAdmin || port === 0 ? 'try' : 'name-port';
}

/** What happens to a server that the kit does not serve. */
export const OTHER_PORT = {
  own: 'every worker of the app listens on this port as well: the kit neither counts nor drains its connections, of which each reaches any worker. To serve this port instead, set PORT to it; metrics of the app belong in kit.metrics',
  admin:
    'the admin port of the kit has this number: the server of the app gets no connections. Set ADMIN_PORT to another port, or to 0',
  taken:
    'another process has this port: the server of the app gets no connections there. What the module exports is served on PORT',
} as const;
/** Follows the name of the module; a port follows. */
export const CANNOT_SERVE =
  'must listen with http.createServer or https.createServer, and leave HTTP/2 to the proxy in front: the kit can drain no other server on';
