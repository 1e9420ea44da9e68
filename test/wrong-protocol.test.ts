/**
 * What is no HTTP/1.1 on the app port is named in the log, over real sockets.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import type { LogSource } from '../src/log/log.ts';
import { WrongProtocols } from '../src/worker/wrong-protocol.ts';
import { Fixture, get } from './app-server.ts';

test('a PROXY protocol, HTTP/2 or TLS in place of HTTP/1.1 gets 400, and is named once a minute', async () => {
  const fixture = await Fixture.start();
  const logged: { protocol?: string; warning?: string }[] = [];
  const log = (() => ({ warn: (line: object) => logged.push(line) })) as unknown as LogSource;
  const protocols = new WrongProtocols(log);
  let now = 0;
  fixture.server.onClientError = error => protocols.onClientError(error, now);
  const send = async (bytes: string) => {
    const client = await fixture.connect();
    client.socket.write(bytes, 'latin1');
    await once(client.socket, 'close');
    return client.received;
  };
  const preambles = {
    'PROXY protocol version 1': 'PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n',
    'PROXY protocol version 2': '\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\x04\xd2\0\x50',
    'HTTP/2': 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    TLS: '\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03',
  };
  for (const [protocol, bytes] of Object.entries(preambles)) {
    assert.match(await send(bytes + get('/now')), /^HTTP\/1\.1 400 /, protocol);
    await send(bytes + get('/now'));
  }
  assert.deepEqual(
    logged.map(({ protocol }) => protocol),
    Object.keys(preambles),
  );
  assert.match(String(logged[0]?.warning), /^the app port speaks HTTP\/1\.1 only: turn the PROXY protocol off/);
  await send('GET / HTTP/9.9\r\n\r\n');
  assert.equal(logged.length, 4);
  now = 60_000;
  await send(preambles['HTTP/2']);
  assert.equal(logged.length, 5);
});
