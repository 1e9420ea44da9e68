/**
 * A worker's http server: what it counts and reports, and how it ends connections.
 */
import assert from 'node:assert/strict';
import { type RequestListener, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { describe, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { Clock, eventually, Fixture, get } from './app-server.ts';

describe('requests', () => {
  test('each response is reported with its request, status and duration, and counted as in flight until then', async context => {
    const fixture = await Fixture.start();
    const clock = new Clock(context);
    const { client, response } = await fixture.open('/slow?x');
    assert.deepEqual([fixture.server.connections, fixture.server.inFlight, fixture.responses], [1, 1, []]);
    clock.now += 40;
    response.writeHead(418).end();
    await eventually(() => client.responses === 1);
    assert.deepEqual(fixture.responses, [{ url: '/slow?x', status: 418, milliseconds: 40 }]);
    assert.deepEqual([fixture.server.connections, fixture.server.inFlight], [1, 0]);
  });

  test('the status is that which the client was sent, whatever the app sets later', async () => {
    const fixture = await Fixture.start();
    const { client, response } = await fixture.open('/');
    response.end();
    response.statusCode = 99;
    await eventually(() => client.responses === 1);
    assert.deepEqual(
      fixture.responses.map(({ status }) => status),
      [200],
    );
  });

  test('pipelined requests are counted one by one, and the connection stays open after the last response', async () => {
    const fixture = await Fixture.start();
    const client = await fixture.connect();
    client.socket.write(get('/1') + get('/2'));
    await eventually(() => fixture.requests.length === 2);
    assert.equal(fixture.server.inFlight, 2);
    fixture.requests[0]?.response.end();
    await eventually(() => client.responses === 1);
    assert.equal(fixture.server.inFlight, 1);
    assert.deepEqual(
      fixture.server.waiting.oldest.map(({ path }) => path),
      ['/2'],
    );
    fixture.requests[1]?.response.end();
    await eventually(() => client.responses === 2);
    assert.equal(fixture.server.inFlight, 0);
    assert.match(await client.get('/now'), /keep-alive/);
    assert.equal(client.hasEnded, false);
  });

  test('requests whose connection closes are no longer in flight, and are not reported', async () => {
    const fixture = await Fixture.start();
    const client = await fixture.connect();
    client.socket.write(get('/1') + get('/2'));
    await eventually(() => fixture.server.inFlight === 2);
    client.socket.destroy();
    await eventually(() => fixture.server.connections === 0);
    for (const { response } of fixture.requests) response.end();
    await turn();
    assert.deepEqual([fixture.server.inFlight, fixture.responses, fixture.server.waiting], [0, [], { open: 0, oldest: [] }]);
  });

  test('a request whose connection has closed before it was parsed is not passed to the app', async () => {
    const fixture = await Fixture.start();
    const { client } = await fixture.open('/');
    client.socket.destroy();
    await eventually(() => fixture.server.connections === 0);
    const [{ request } = assert.fail()] = fixture.requests;
    fixture.http.emit('request', request, new ServerResponse(request));
    assert.deepEqual([fixture.requests.length, fixture.server.inFlight], [1, 0]);
  });

  test('responses of another server of the process are not reported', async () => {
    const [fixture, other] = [await Fixture.start(), await Fixture.start()];
    await (await other.connect()).get('/now');
    assert.deepEqual([fixture.responses.length, other.responses.length], [0, 1]);
    assert.equal(fixture.server.inFlight, 0);
  });

  test('open requests are listed oldest first, without their queries, at most 100 of them', async context => {
    const fixture = await Fixture.start();
    const clock = new Clock(context);
    const clients = [await fixture.connect(), await fixture.connect()];
    for (const [index, client] of clients.entries()) {
      clock.now += 10;
      const count = fixture.requests.length;
      client.socket.write(get(`/${index}?secret`).repeat(60));
      await eventually(() => fixture.requests.length === count + 60);
    }
    clock.now += 10.4;
    const { open, oldest } = fixture.server.waiting;
    assert.deepEqual([open, oldest.length], [120, 100]);
    assert.deepEqual(oldest[0], { method: 'GET', path: '/0', ageMs: 20, bytesSent: 0 });
    assert.deepEqual(oldest[99], { method: 'GET', path: '/1', ageMs: 10, bytesSent: 0 });
  });

  test('a younger request is listed after an older one of a later connection', async context => {
    const fixture = await Fixture.start();
    const clock = new Clock(context);
    const [first, second] = [await fixture.connect(), await fixture.connect()];
    await fixture.open('/old', second);
    clock.now += 5;
    await fixture.open('/young', first);
    assert.deepEqual(
      fixture.server.waiting.oldest.map(({ path, ageMs }) => [path, ageMs]),
      [
        ['/old', 5],
        ['/young', 0],
      ],
    );
  });

  test('a part of a request is listed as an incomplete request, and a connection without one is not', async context => {
    const fixture = await Fixture.start();
    const clock = new Clock(context);
    await fixture.connect();
    await fixture.idle();
    const client = await fixture.idle();
    const { length } = client.received;
    clock.now += 30;
    let bytesRead = 0;
    fixture.http.on('connection', socket => {
      bytesRead = socket.bytesRead;
    });
    client.socket.write('GET / HTT');
    await eventually(() => fixture.server.waiting.open === 1);
    assert.equal(bytesRead, 0);
    assert.deepEqual(fixture.server.waiting.oldest, [{ method: '', path: '(incomplete request)', ageMs: 30, bytesSent: length }]);
  });

  test('the http limits of the configuration apply', async () => {
    const fixture = await Fixture.start({
      keepAliveTimeoutMs: 7000,
      headersTimeoutMs: 8000,
      requestTimeoutMs: 9000,
      maxHeaderBytes: 2000,
    });
    const { keepAliveTimeout, headersTimeout, requestTimeout } = fixture.http;
    assert.deepEqual([keepAliveTimeout, headersTimeout, requestTimeout], [7000, 8000, 9000]);
    const client = await fixture.connect();
    assert.match(await client.get('/now'), /^Keep-Alive: timeout=7\r$/m);
    assert.match(await client.get('/now', `X: ${'x'.repeat(2000)}`), /^HTTP\/1.1 431 /);
  });

  test('each response has the time that it took in X-Response-Time, unless that is turned off', async context => {
    const [on, off] = [await Fixture.start({ responseTimeHeader: true }), await Fixture.start()];
    const clock = new Clock(context);
    const { client, response } = await on.open('/');
    clock.now += 12.34;
    response.end();
    await eventually(() => client.responses === 1);
    assert.match(client.received, /^X-Response-Time: 12\.3ms\r$/m);
    assert.doesNotMatch(await (await off.connect()).get('/now'), /X-Response-Time/);
  });

  test('a framework that exchanges the prototype of the response, or sends the headers early, is served as any other', async () => {
    const listener: RequestListener = (_, response) => {
      const writeHead = Object.getPrototypeOf(response).writeHead;
      const prototype = Object.assign(Object.create(Object.getPrototypeOf(response)), {
        writeHead(this: ServerResponse, ...args: unknown[]) {
          if (!this.headersSent) this.setHeader('X-Framework', 'yes');
          return Reflect.apply(writeHead, this, args);
        },
      });
      Object.setPrototypeOf(response, prototype);
      response.writeHead(201, 'Made', { 'X-Own': '1' });
      response.flushHeaders();
      assert.throws(() => response.writeHead(500), { message: /^Cannot write headers/ });
      response.end();
    };
    const fixture = await Fixture.start({ responseTimeHeader: true }, listener);
    const client = await fixture.connect();
    const text = await client.get('/');
    for (const line of ['HTTP/1.1 201 Made', 'X-Framework: yes', 'X-Own: 1']) assert.ok(text.includes(`${line}\r\n`), text);
    await eventually(() => fixture.responses.length === 1);
    assert.equal(fixture.responses[0]?.status, 201);
  });
});

describe('upgrades', () => {
  const upgrade = (protocol: string) => get('/socket?secret', 'Connection: Upgrade', `Upgrade: ${protocol}`);

  async function startWithUpgrades(): Promise<{ fixture: Fixture; sockets: Socket[] }> {
    const fixture = await Fixture.start();
    const sockets: Socket[] = [];
    fixture.http.on('upgrade', (_, socket) => sockets.push(socket as Socket));
    return { fixture, sockets };
  }

  test('a WebSocket goes to the upgrade listener, and is open work until it closes', async context => {
    const { fixture, sockets } = await startWithUpgrades();
    const clock = new Clock(context);
    const client = await fixture.connect();
    client.socket.write(upgrade('h2c, WebSocket'));
    await eventually(() => sockets.length === 1);
    clock.now += 15;
    assert.deepEqual(fixture.requests, []);
    assert.deepEqual(fixture.server.waiting, {
      open: 1,
      oldest: [{ method: 'UPGRADE', path: '/socket', ageMs: 15, bytesSent: 0 }],
    });
    assert.deepEqual([fixture.server.inFlight, fixture.server.connections], [0, 1]);
    sockets[0]?.destroy();
    await eventually(() => fixture.server.connections === 0);
    assert.equal(fixture.server.waiting.open, 0);
  });

  test('a reset of a WebSocket to which the app listens late does not end the process', async () => {
    const { fixture, sockets } = await startWithUpgrades();
    const client = await fixture.connect();
    client.socket.write(upgrade('websocket'));
    await eventually(() => sockets.length === 1);
    assert.equal(sockets[0]?.emit('error', new Error('reset')), true, 'it has a listener');
  });

  test('an upgrade to another protocol, or in an app without an upgrade listener, is answered over HTTP/1.1', async () => {
    const { fixture, sockets } = await startWithUpgrades();
    for (const each of [fixture, await Fixture.start()]) {
      const client = await each.connect();
      client.socket.write(upgrade(each === fixture ? 'h2c' : 'websocket').replace('/socket', '/now'));
      await eventually(() => client.responses === 1);
      assert.match(client.received, /^HTTP\/1.1 200 /);
    }
    assert.equal(sockets.length, 0);
  });
});

describe('ending connections', () => {
  test('with keep-alive disabled every response ends its connection, and new connections are accepted', async () => {
    const fixture = await Fixture.start();
    const idle = await fixture.idle();
    const { client, response } = await fixture.open('/');
    fixture.server.disableKeepAlive();
    response.end();
    for (const each of [client, idle, await fixture.connect()]) {
      const text = each === client ? '' : await each.get('/now');
      await each.end();
      assert.match(text || each.received, /^Connection: close\r$/m);
    }
    await eventually(() => fixture.server.connections === 0);
  });

  test("the app's own Connection: keep-alive does not keep a connection open, however it is set, and other headers stay", async () => {
    const writers: ((response: ServerResponse) => unknown)[] = [
      response => response.setHeader('Connection', 'Keep-Alive').setHeader('X-A', 'keep-alive').writeHead(200),
      response => response.writeHead(200, { connection: 'keep-alive', 'X-A': 'keep-alive' }),
      response => response.writeHead(200, 'Fine', { Connection: 'keep-alive', 'X-A': 'keep-alive' }),
      response => response.writeHead(200, ['X-A', 'keep-alive', 'Connection', 'keep-alive', 'Host', 'connection']),
      response => response.setHeader('X-A', 'keep-alive').setHeader('Connection', 'X-Connection').writeHead(200),
      response => response.setHeader('X-A', 'keep-alive').writeHead(200, 'Fine', null as never),
      response => response.writeHead(200, { 'X-A': 'keep-alive', 'X-Connection': 'keep-alive', 'Connection-X': 'keep-alive' }),
    ];
    for (const write of writers) {
      const fixture = await Fixture.start();
      fixture.server.disableKeepAlive();
      const { client, response } = await fixture.open('/');
      write(response);
      response.end();
      await client.end();
      assert.doesNotMatch(client.received, /^connection: keep-alive/im);
      assert.match(client.received, /^X-A: keep-alive\r$/m);
      if (write === writers.at(-1)) assert.match(client.received, /^X-Connection: keep-alive\r\nConnection-X: keep-alive\r$/m);
    }
  });

  test('a framework that strips all headers does not keep a connection open', async () => {
    const fixture = await Fixture.start();
    fixture.server.disableKeepAlive();
    const { client, response } = await fixture.open('/');
    response.setHeader('X-A', '1');
    for (const name of response.getHeaderNames()) response.removeHeader(name);
    response.statusCode = 500;
    response.end('error');
    await client.end();
    assert.match(client.received, /^HTTP\/1.1 500 .*^Connection: close\r$/ms);
  });

  test('of pipelined requests all are answered, and only the last response ends the connection', async () => {
    for (const isSlow of [false, true]) {
      const fixture = await Fixture.start();
      fixture.server.disableKeepAlive();
      const client = await fixture.connect();
      const path = isSlow ? '/' : '/now';
      client.socket.write(get(`${path}1`) + get(`${path}2`) + get(`${path}3`));
      await eventually(() => fixture.requests.length === 3);
      for (const { response } of fixture.requests) if (isSlow) response.end();
      await client.end();
      assert.deepEqual(client.received.match(/^Connection: [\w-]+/gm), [
        'Connection: keep-alive',
        'Connection: keep-alive',
        'Connection: close',
      ]);
    }
  });
});
