/**
 * The first line of a connection between two workers: the addresses of the client whose requests follow, so that the app sees its address and
 * not that of a Unix socket. It is no header: a client cannot send one.
 */
import type { Socket } from 'node:net';

/** Of a socket; `encrypted` is that of TLS. */
const PROPERTIES = ['remoteAddress', 'remotePort', 'remoteFamily', 'localAddress', 'localPort', 'localFamily', 'encrypted'];

/** The line for the client of this connection. */
export function addressLineOf(client: Socket): string {
  return `${JSON.stringify(PROPERTIES.map(name => Reflect.get(client, name)))}\n`;
}

/** From now on `socket` has the addresses in this line. @throws SyntaxError */
export function giveAddresses(socket: Socket, line: string): void {
  const values = JSON.parse(line) as unknown[];
  for (const [index, name] of PROPERTIES.entries()) {
    const value = values[index] ?? undefined;
    if (name !== 'encrypted' || value !== undefined) Object.defineProperty(socket, name, { value, configurable: true });
  }
  const [, , , address, port, family] = values;
  socket.address = () => ({ address, family, port }) as ReturnType<Socket['address']>;
}
