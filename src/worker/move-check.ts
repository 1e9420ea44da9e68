/**
 * Tries on a connection of this process to itself, in a few milliseconds, whether this Node.js does what move-socket.ts expects of it. No request
 * is emitted, so that no instrumentation sees one. Loaded at the first drain that may move connections.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import { bindSocket } from '../balancing/bound-socket.ts';
import { LOOPBACK_ADDRESS } from '../config/parse.ts';
import { betweenMessages, detach, reattach, startIdle } from './move-socket.ts';

// Not imported: see server-limits.ts.
const http = process.getBuiltinModule('node:http');

/** On a busy machine a turn of the event loop may take a tenth of a second. */
const TIMEOUT_MS = 5000;
/** The beginning of a request. */
const PART = 'GET';

/** @returns what does not work as expected; undefined if connections can be moved */
export async function whyNotMovable(): Promise<string | undefined> {
  const server = http.createServer();
  const sockets: Socket[] = [];
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  try {
    server.listen(bindSocket({ host: LOOPBACK_ADDRESS }));
    if (!server.listening) await once(server, 'listening', { signal });
    const accepted = once(server, 'connection', { signal });
    const client = connect((server.address() as AddressInfo).port, LOOPBACK_ADDRESS);
    sockets.push(client.on('error', () => undefined));
    const [socket]: Socket[] = await accepted;
    if (socket === undefined) return 'no connection was accepted';
    sockets.push(socket);
    startIdle(socket, server);
    if (!betweenMessages(server).has(socket)) return 'the parser cannot be set to the end of a message';
    if (socket.destroyed) return 'a connection between two messages was closed';
    if (detach(socket) === undefined) return 'the socket has another handle';
    await new Promise(resolve => client.write(PART, resolve));
    await turn();
    await turn();
    if (socket.bytesRead !== 0) return 'the handle reads on after readStop';
    reattach(socket, server);
    while (socket.bytesRead === 0 && !signal.aborted) await turn();
    if (socket.bytesRead === 0) return 'the handle does not read after readStart';
    return betweenMessages(server).has(socket) ? 'the parser does not report that a message has begun' : undefined;
  } catch (error) {
    return String(error);
  } finally {
    for (const socket of sockets) socket.destroy();
    server.close();
  }
}
