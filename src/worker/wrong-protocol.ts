/**
 * What a proxy may be set to send that the kit does not accept. Node.js answers it with 400; the log says which setting of the proxy to change.
 */
import type { LogSource } from '../log/log.ts';

/** By the first bytes of a connection. */
const PREAMBLES = [
  {
    protocol: 'PROXY protocol version 1',
    begins: 'PROXY ',
    fix: 'turn the PROXY protocol off in the proxy; with TRUST_PROXY the app reads X-Forwarded-For',
  },
  {
    protocol: 'PROXY protocol version 2',
    begins: '\r\n\r\n\0\r\nQUIT\n',
    fix: 'turn the PROXY protocol off in the proxy; with TRUST_PROXY the app reads X-Forwarded-For',
  },
  { protocol: 'HTTP/2', begins: 'PRI * HTTP/2.0', fix: 'set the proxy to HTTP/1.1 for the app' },
  { protocol: 'TLS', begins: '\x16\x03', fix: 'terminate TLS in the proxy, and send plain HTTP to the app' },
] as const;

/** One line for each protocol in this time: a proxy sends it with every connection. */
const LOG_EVERY_MS = 60_000;

export class WrongProtocols {
  readonly #log: LogSource;
  readonly #loggedAt = new Map<string, number>();

  constructor(log: LogSource) {
    this.#log = log;
  }

  /** Logs the protocol of a connection that Node.js could not parse, if it is known; `now` is monotonic time in milliseconds. */
  onClientError(error: unknown, now = performance.now()): void {
    const packet: unknown = Reflect.get(Object(error), 'rawPacket');
    if (!Buffer.isBuffer(packet)) return;
    const found = PREAMBLES.find(({ begins }) => packet.subarray(0, begins.length).equals(Buffer.from(begins, 'latin1')));
    if (found === undefined || now - (this.#loggedAt.get(found.protocol) ?? Number.NEGATIVE_INFINITY) < LOG_EVERY_MS) return;
    this.#loggedAt.set(found.protocol, now);
    const { protocol, fix } = found;
    this.#log().warn({ event: 'connection.wrong-protocol', protocol, warning: `the app port speaks HTTP/1.1 only: ${fix}` });
  }
}
