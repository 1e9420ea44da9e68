/**
 * The admin server against clients that hold connections, send partial or malformed requests, or do not read.
 */
import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { adminConnections } from '../src/admin/connection-limit.ts';
import { openAdmin } from '../src/admin/server.ts';
import { fileLimit } from '../src/resources/usage.ts';
import { RawClient, request, requestText } from './process/clients.ts';
import { seededRandom } from './random.ts';
import { until } from './until.ts';

const MOST = 4;
const LONG_ANSWER = 'x'.repeat(32 << 20);

async function opened(t: { after: (end: () => void) => void }, token?: string, port = 0) {
  const refused: string[] = [];
  const failed: unknown[] = [];
  let counted = 0;
  const server = await openAdmin({
    host: '127.0.0.1',
    port,
    patienceMs: port === 0 ? 0 : 10_000,
    probes: { '/livez': () => ({ isReady: true }) },
    routes: {
      '/counted': () => ({ contentType: 'text/plain', text: String(++counted) }),
      '/failing': () => {
        throw new Error('postgres://u:p@h');
      },
      '/short': () => ({ contentType: 'text/plain', text: 'ok' }),
      '/long': () => ({ contentType: 'text/plain', text: LONG_ANSWER }),
    },
    streams: {
      '/events': response =>
        response.req.method === 'HEAD' ? response.writeHead(200).end() : response.writeHead(200).flushHeaders(),
    },
    token: () => token,
    allowedHosts: () => ['admin.example'],
    anyHost: ['/short'],
    maxConnections: () => MOST,
    onRefused: why => refused.push(why),
    onFailed: error => failed.push(error),
    beforeShutdown: async () => undefined,
    onShutdown: async () => undefined,
  });
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { server, refused, failed, port: (server.address() as AddressInfo).port };
}

test('the admin port answers a new client when idle connections fill it: the one idle for longest is closed', async t => {
  const { port, refused } = await opened(t);
  const first = await RawClient.open(port);
  const kept = await RawClient.open(port);
  assert.equal((await first.request('/livez')).status, 200); // since then it is idle for a shorter time than `kept`
  const others = [await RawClient.open(port), await RawClient.open(port)];
  assert.equal((await request(port, '/livez')).status, 200);
  assert.equal(await kept.ended(), 'FIN');
  assert.deepEqual([first.isOpen, ...others.map(({ isOpen }) => isOpen)], [true, true, true]);
  assert.deepEqual(refused, ['too many connections']);
});

test('the admin port keeps event streams when idle connections fill it', async t => {
  const { port } = await opened(t);
  const streams = await Promise.all(Array.from({ length: MOST - 1 }, () => RawClient.open(port)));
  for (const stream of streams) {
    stream.write(requestText('/events'));
    await stream.received(/^HTTP\/1.1 200 /);
  }
  for (let i = 0; i < 3 * MOST; i++) await RawClient.open(port);
  assert.equal((await request(port, '/livez')).status, 200);
  assert.ok(streams.every(({ isOpen }) => isOpen));
});

test('the admin port answers a new client when clients that do not read their answers fill it', async t => {
  const { port, server } = await opened(t);
  for (let i = 0; i < MOST; i++) {
    const silent = await RawClient.open(port);
    silent.pause();
    const requested = once(server, 'request');
    silent.write(requestText('/long'));
    await requested;
  }
  assert.equal((await request(port, '/livez')).status, 200);
});

test('the admin port ends silent connections, partial requests and partial bodies', async t => {
  const { port } = await opened(t);
  const halves = ['', 'GET /livez HTTP/1.1\r\nHost: x\r\n', 'POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf'];
  await Promise.all(
    halves.map(async half => {
      const client = await RawClient.open(port);
      client.write(half);
      await client.ended();
    }),
  );
});

test('with ADMIN_TOKEN everything on the admin port but the probes requires it', async t => {
  const token = 'a:token/of=characters';
  const { port } = await opened(t, token);
  const basic = (login: string) => `Basic ${Buffer.from(login).toString('base64')}`;
  for (const Authorization of [`Bearer ${token}`, `bearer ${token}`, basic(`:${token}`), basic(`somebody:${token}`)])
    assert.equal((await request(port, '/short', { headers: { Authorization } })).status, 200, Authorization);
  const wrong = [
    undefined,
    '',
    'Bearer',
    'Bearer ',
    `Bearer ${token}x`,
    `Bearer x ${token}`,
    `Token ${token}`,
    basic(token),
    basic('a:b'),
    'Basic %',
  ];
  for (const path of ['/short', '/events', '/nothing'])
    for (const Authorization of wrong) {
      const { status, headers, body } = await request(
        port,
        path,
        Authorization === undefined ? {} : { headers: { Authorization } },
      );
      assert.equal(status, 401, `${path} ${Authorization}`);
      assert.match(headers['www-authenticate'] ?? '', /^Basic realm=/);
      assert.doesNotMatch(body, /characters/);
    }
  assert.equal((await request(port, '/livez')).status, 200);
  assert.equal((await request(port, '/livez', { headers: { Authorization: 'Bearer wrong' } })).status, 200);
});

test('HEAD gets the headers of GET, without the body, on each path', async t => {
  const { port } = await opened(t);
  for (const path of ['/livez', '/short', '/events', '/nothing']) {
    const client = connect(port, '127.0.0.1');
    t.after(() => client.destroy());
    client.write(
      `HEAD ${path}?x HTTP/1.1\r\nHost: localhost\r\n\r\nGET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`,
    );
    const [head = '', next = ''] = (await text(client)).split('\r\n\r\n');
    assert.match(head, path === '/nothing' ? /^HTTP\/1.1 404 / : /^HTTP\/1.1 200 /);
    assert.match(next, /^HTTP\/1.1 200 /, `${path}: the next answer follows at once`);
    assert.equal(/^content-length: (\d+)/im.exec(head)?.[1], { '/short': '2', '/nothing': '81' }[path]);
  }
});

test('without a token a browser needs an address or a known name; probes and metrics take any', async t => {
  const token = 'a-token-of-24-characters';
  const [{ port }, guarded] = [await opened(t), await opened(t, token)];
  const statusFor = async (Host: string, path: string, at = port) => {
    const client = connect(at, '127.0.0.1');
    t.after(() => client.destroy());
    client.write(
      `GET ${path} HTTP/1.1\r\nHost: ${Host}\r\nOrigin: http://${Host}\r\nAuthorization: Bearer ${token}\r\nConnection: close\r\n\r\n`,
    );
    const answer = await text(client);
    assert.doesNotMatch(answer, /^access-control-/im);
    return Number(answer.split(' ')[1]);
  };
  for (const host of [
    '127.0.0.1',
    '127.0.0.1:9090',
    '10.1.2.3',
    '[::1]:9090',
    'localhost',
    'LocalHost:9090',
    'a.localhost',
    'Admin.Example:80',
    '',
  ])
    assert.equal(await statusFor(host, '/counted'), 200, host);
  for (const host of [
    'evil.example',
    'evil.example:9090',
    'localhost.evil.example',
    'notlocalhost',
    '127.0.0.1.evil.example',
    'x.admin.example',
    '[evil]',
    '[::1',
    '::1',
  ])
    assert.equal(await statusFor(host, '/counted'), 403, host);
  for (const path of ['/livez', '/short']) assert.equal(await statusFor('evil.example', path), 200, path);
  assert.equal(await statusFor('any.example', '/counted', guarded.port), 200);
});

test("an answer that fails is a 500 without the error's text, which is logged", async t => {
  const { port, failed } = await opened(t);
  const { status, body } = await request(port, '/failing');
  assert.deepEqual([status, body], [500, 'internal error; see the log\n']);
  assert.match(String(failed), /postgres/);
});

test('concurrent requests share one answer, and later ones get a new one', async t => {
  const { port } = await opened(t);
  const client = await RawClient.open(port);
  client.write(requestText('/counted').repeat(20));
  for (let i = 0; i < 20; i++) assert.equal((await client.answer()).body, '1');
  assert.equal((await client.request('/counted')).body, '2');
});

test('random bytes, malformed requests and resets do not harm the admin port', async t => {
  const { port, server } = await opened(t);
  const random = seededRandom(17);
  const pick = <T>(items: readonly [T, ...T[]]): T => items[Math.floor(random() * items.length)] ?? items[0];
  const bytes = (most: number) => Buffer.from(Array.from({ length: random() * most }, () => Math.floor(random() * 256)));
  const line = () =>
    `${pick(['GET', 'POST', 'CONNECT', 'OPTIONS', 'G\u0000T'])} ${pick(['/livez', '*', '/%', '//', 'x:80'])} HTTP/${pick(['1.1', '1.0', '2.0', '9'])}`;
  const header = () =>
    pick([
      'Host: x',
      'Content-Length: 5',
      'Content-Length: -1',
      'Transfer-Encoding: chunked',
      'Upgrade: h2c',
      'Expect: 100-continue',
      ': ',
    ]);
  const requests: (() => Buffer)[] = [
    () => bytes(300),
    () => Buffer.from(`${line()}\r\n${header()}\r\n${header()}\r\n\r\n${line()}`),
    () => Buffer.concat([Buffer.from(`${line()}\r\n`), bytes(40)]),
    () => Buffer.from(requestText('/livez').repeat(5)),
    () => Buffer.from(`GET /livez HTTP/1.1\r\nX: ${'y'.repeat(1 << 16)}\r\n\r\n`),
  ];
  for (let round = 0; round < 200; round++) {
    const client = await RawClient.open(port);
    client.write(requests[round % requests.length]?.() ?? '');
    if (random() < 0.5) client.close();
    if (random() < 0.5) client.reset();
  }
  assert.equal((await request(port, '/livez')).status, 200);
  await until(
    () => new Promise<true | undefined>(resolve => server.getConnections((_, open) => resolve(open <= MOST || undefined))),
    () => 'connections left',
  );
});

test('while another process has the port, it is tried again, which leaves no listeners behind', async t => {
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  const warned: string[] = [];
  const onWarning = (warning: Error & { type?: string }) => warned.push(String(warning.type));
  process.on('warning', onWarning);
  const { defaultMaxListeners } = EventEmitter;
  EventEmitter.defaultMaxListeners = 2; // one of Node.js itself, and ours
  t.after(() => {
    EventEmitter.defaultMaxListeners = defaultMaxListeners;
    process.off('warning', onWarning);
  });
  setTimeout(() => other.close(), 250);
  await opened(t, undefined, (other.address() as AddressInfo).port);
  assert.equal(warned.includes('listening'), false);
});

test('a connection that cannot be accepted is counted, and does not end the primary', async t => {
  const { server, refused } = await opened(t);
  for (let i = 0; i < 2; i++) server.emit('error', new Error('accept EMFILE'));
  assert.deepEqual(refused, ['accept EMFILE', 'accept EMFILE']);
});

test('the admin port leaves enough descriptors for the workers, and always has room for probes', () => {
  for (const [descriptors, workers, most] of [
    [1024, 2, 256],
    [256, 2, 88],
    [150, 2, 35],
    [256, 40, 16],
    [Number.POSITIVE_INFINITY, 64, 256],
  ] as const)
    assert.equal(adminConnections(descriptors, workers), most, `${descriptors} descriptors, ${workers} workers`);
  const limit = fileLimit();
  assert.ok(limit !== undefined && limit.soft > 0 && limit.soft <= limit.hard);
  assert.equal(fileLimit('/nothing'), undefined);
});
