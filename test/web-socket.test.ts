/**
 * WebSockets at a drain, with servers and clients of real libraries: every message arrives whole, then comes the close frame.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { createRequire } from 'node:module';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { Transform } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { after, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { WebSocket, WebSocketServer } from 'ws';
import type { Drain } from '../src/protocol/messages.ts';
import { AppServer } from '../src/worker/server.ts';
import { get, LIMITS } from './app-server.ts';

const TIMES = { timeoutMs: 10_000, quietMs: 100, appMs: 100, endStalled: false, moves: false };
/** Larger than what the kernel and the stream take at once. */
const LARGE = 3_000_000;

/** What a server of the app does with a WebSocket: it sends messages as fast as its client takes them. */
type Upgrade = (server: Server) => void;

const textOf = (index: number) => `${index} `.padEnd(index % 3 === 0 ? LARGE : 200, 'x');

function sendForever(send: (text: string) => void, hasRoom: () => boolean): NodeJS.Timeout {
  let index = 0;
  return setInterval(() => {
    for (let sent = 0; sent < 5 && hasRoom(); sent++) send(textOf(index++));
  }, 1);
}

const withWs =
  (perMessageDeflate: boolean): Upgrade =>
  server =>
    new WebSocketServer({ server, perMessageDeflate }).on('connection', socket => {
      const sending = sendForever(
        text => socket.send(text),
        () => socket.bufferedAmount < LARGE * 2,
      );
      socket.on('close', () => clearInterval(sending));
    });

interface FayeSocket {
  send(text: string): void;
  on(event: 'close', listener: () => void): void;
}

/** Another implementation, below SockJS for one. */
const withFaye: Upgrade = server => {
  const Faye = createRequire(import.meta.url)('faye-websocket') as new (
    request: unknown,
    socket: unknown,
    head: unknown,
  ) => FayeSocket;
  server.on('upgrade', (request, socket: Socket, head) => {
    const webSocket = new Faye(request, socket, head);
    const sending = sendForever(
      text => webSocket.send(text),
      () => socket.writableLength < LARGE * 2,
    );
    webSocket.on('close', () => clearInterval(sending));
  });
};

/** Bytes are passed on in pieces, so that a message is half sent most of the time. */
const withProxy: Upgrade = server => {
  const upstream = createServer();
  withWs(false)(upstream);
  upstream.listen(0, '127.0.0.1');
  after(() => upstream.close());
  server.on('upgrade', (request, socket: Socket) => {
    const { port } = upstream.address() as AddressInfo;
    const to = connect(port, '127.0.0.1', () => {
      const headers = request.rawHeaders.map((text, index) => (index % 2 === 0 ? `${text}: ` : `${text}\r\n`)).join('');
      to.write(`GET / HTTP/1.1\r\n${headers}\r\n`);
      socket.pipe(to).pipe(new Pieces()).pipe(socket);
    });
    to.on('error', () => socket.destroy());
    socket.on('close', () => to.destroy());
  });
};

class Pieces extends Transform {
  override async _transform(chunk: Buffer, _encoding: string, done: () => void): Promise<void> {
    for (let at = 0; at < chunk.length; at += 10_000) {
      this.push(chunk.subarray(at, at + 10_000));
      await turn();
    }
    done();
  }
}

async function serve(upgrade: Upgrade, http?: Server): Promise<{ server: AppServer; port: number }> {
  const server = new AppServer(LIMITS, () => undefined);
  const listening = server.add(http === undefined ? { listener: () => undefined } : { server: http });
  upgrade(listening);
  listening.listen(0, '127.0.0.1');
  await once(listening, 'listening');
  after(() => listening.close());
  return { server, port: (listening.address() as AddressInfo).port };
}

/** Drains while `client` receives messages; resolves with how it was closed. */
async function drainUnder(server: AppServer, client: WebSocket): Promise<{ code: number; reason: string; drain: Drain }> {
  let received = 0;
  client.on('message', data => assert.equal(String(data), textOf(received++), `message ${received}`));
  const closed = once(client, 'close');
  while (received < 8) await once(client, 'message');
  const drain = await server.drain(TIMES, () => undefined);
  const [code, reason] = (await closed) as [number, Buffer];
  return { code, reason: String(reason), drain };
}

const tls = (extension: string) => readFileSync(join(import.meta.dirname, 'fixtures', 'tls', `redis.${extension}`));
const overTls = () => createTlsServer({ key: tls('key'), cert: tls('crt') });

const SERVERS: [string, Upgrade, (() => Server)?][] = [
  ['ws', withWs(false)],
  ['ws with compression', withWs(true)],
  ['faye-websocket', withFaye],
  ['faye-websocket over TLS', withFaye, overTls],
  ['a proxy', withProxy],
];

for (const [name, upgrade, create] of SERVERS) {
  test(`a drain closes a WebSocket of ${name} with 1012 between two messages`, async () => {
    const { server, port } = await serve(upgrade, create?.());
    const scheme = create === undefined ? 'ws' : 'wss';
    const client = new WebSocket(`${scheme}://127.0.0.1:${port}/`, { rejectUnauthorized: false });
    const { code, reason, drain } = await drainUnder(server, client);
    assert.deepEqual([code, drain.cutRequests, drain.webSockets], [1012, 0, { byKit: 1, byApp: 0 }]);
    assert.match(reason, /^service restart, retry in \d+ ms$/);
    assert.ok(drain.durationMs < 2000, 'it ends with the answer of the client');
  });
}

const HEAD = Buffer.from('HTTP/1.1 101 Switching Protocols\r\n\r\n');
const MESSAGE = Buffer.from([0x81, 1, 0x61]);

/** A server that writes this to a WebSocket that it accepts, and a client that only reads. */
async function accepted(...written: Buffer[]): Promise<{ server: AppServer; socket: Socket; received: Promise<Buffer> }> {
  const upgraded = Promise.withResolvers<Socket>();
  const { server, port } = await serve(http => http.on('upgrade', (_request, socket: Socket) => upgraded.resolve(socket)));
  const client = connect(port, '127.0.0.1');
  const received = buffer(client);
  received.catch(() => undefined);
  client.write(get('/socket', 'Connection: Upgrade', 'Upgrade: websocket'));
  const socket = await upgraded.promise;
  for (const bytes of written) socket.write(bytes);
  return { server, socket, received };
}

test('a client that does not answer the close frame is disconnected 2 s later; what the app still sends is dropped', async () => {
  const { server, socket, received } = await accepted(HEAD);
  let calledBack = 0;
  const sending = setInterval(() => socket.write(MESSAGE, () => calledBack++), 10);
  const drain = await server.drain(TIMES, () => undefined);
  clearInterval(sending);
  const frames = (await received).subarray(HEAD.length);
  const close = frames.indexOf(0x88);
  assert.ok(close > 0 && close % MESSAGE.length === 0, frames.toString('latin1'));
  assert.deepEqual(frames.subarray(0, close), Buffer.alloc(close, MESSAGE));
  assert.deepEqual([...frames.subarray(close + 2, close + 4)], [1012 >> 8, 1012 & 0xff]);
  assert.match(frames.toString('latin1', close + 4), /^service restart, retry in \d+ ms$/);
  assert.ok(calledBack > close / MESSAGE.length, 'writes call back');
  assert.deepEqual([drain.cutRequests, drain.closedGracefully, drain.webSockets], [0, 1, { byKit: 1, byApp: 0 }]);
  assert.ok(drain.durationMs >= 2000, `${drain.durationMs} ms`);
});

const CUT: [string, Buffer[]][] = [
  ['whose message is half sent', [HEAD, MESSAGE.subarray(0, 2)]],
  ['whose message of two frames is half sent', [HEAD, Buffer.from([0x01, 1, 0x61])]],
  ['that the app has not accepted', []],
  ['whose bytes are no frames', [HEAD, Buffer.from('hello')]],
];
for (const [name, written] of CUT) {
  test(`a drain sends nothing to a WebSocket ${name}, and aborts it at the deadline`, async () => {
    const { server, received } = await accepted(...written);
    const drain = await server.drain({ ...TIMES, quietMs: 0, appMs: 0, timeoutMs: 200 }, () => undefined);
    assert.deepEqual([drain.cutRequests, drain.webSockets], [1, { byKit: 0, byApp: 0 }]);
    assert.deepEqual(await received, Buffer.concat(written));
  });
}

test('a drain closes a WebSocket once its message is sent in full', async () => {
  const { server, socket, received } = await accepted(HEAD, Buffer.from([0x81, 2, 0x61]));
  const drain = server.drain({ ...TIMES, quietMs: 0, appMs: 0, timeoutMs: 1000 }, () => undefined);
  setTimeout(() => socket.write('b'), 200);
  assert.equal((await drain).cutRequests, 0);
  assert.match((await received).toString('latin1'), /ab\x88/);
});

test('a drain leaves a WebSocket to the app for 0.3 s, and counts it as closed by the app', async () => {
  const { server, port } = await serve(withWs(false));
  const client = new WebSocket(`ws://127.0.0.1:${port}/`);
  await once(client, 'message');
  const drain = server.drain({ ...TIMES, quietMs: 3000, appMs: 300 }, () => undefined);
  setTimeout(() => client.close(), 200);
  assert.deepEqual((await drain).webSockets, { byKit: 0, byApp: 1 });
});
