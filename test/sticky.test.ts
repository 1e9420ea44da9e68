/**
 * NODE_CLUSTER_STICKY between two workers of one process: what the app and the client see of a request that another worker has received.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, readdirSync, statSync } from 'node:fs';
import type { RequestListener } from 'node:http';
import { connect, createServer } from 'node:net';
import { describe, test } from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import { exchange, stickyPair, Wire } from './sticky-pair.ts';
import { until } from './until.ts';

const soon = (isTrue: () => boolean) =>
  until(
    () => isTrue() || undefined,
    () => `${isTrue} is still false`,
  );

/** Answers with all that an app can see of a request. */
const mirror: RequestListener = (request, response) => {
  const { method, url, httpVersion, rawHeaders, socket } = request;
  const { remoteAddress, remotePort, remoteFamily, localAddress } = socket;
  let body = '';
  request.setEncoding('latin1').on('data', chunk => {
    body += chunk;
  });
  request.on('end', () => {
    const addresses = { remoteAddress, remotePort, remoteFamily, localAddress, address: socket.address() };
    const seen = { method, url, httpVersion, rawHeaders, body, rawTrailers: request.rawTrailers };
    response.setHeader('Set-Cookie', ['a=1', 'b=2']);
    response.writeHead(201, 'Made', { 'X-Twice': ['1', '2'], ...(method !== 'HEAD' && { Trailer: 'X-End' }) });
    response.write(JSON.stringify({ seen, addresses }));
    response.addTrailers({ 'X-End': 'yes' });
    response.end();
  });
};

const head = (line: string, ...headers: string[]) => `${[line, 'Host: a', ...headers].join('\r\n')}\r\n\r\n`;
const close = 'Connection: close';

describe('a request that is passed on', () => {
  test('reaches the app byte for byte, and so does the answer the client', async () => {
    const { owner, receiver, cookie } = await stickyPair(mirror);
    const requests = [
      head('GET /a?b=%20c HTTP/1.1', `cookie: x=1; ${cookie}`, 'X-Twice: \xe9', 'X-Twice: 2', close),
      head('GET http://other/a HTTP/1.1', `Cookie: ${cookie}`, close),
      head('POST / HTTP/1.1', `Cookie: ${cookie}`, close),
      `${head('POST / HTTP/1.1', `Cookie: ${cookie}`, 'Content-Length: 5', close)}hello`,
      `${head('PUT / HTTP/1.1', `Cookie: ${cookie}`, 'Transfer-Encoding: chunked', 'Trailer: X-Sum', close)}5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n`,
      `${head('DELETE / HTTP/1.1', `Cookie: ${cookie}`, 'Content-Length: 2', close)}hi`,
      head('OPTIONS * HTTP/1.1', `Cookie: ${cookie}`, close),
      head('HEAD / HTTP/1.1', `Cookie: ${cookie}`, close),
      head('GET / HTTP/1.1', `Cookie: ${cookie}`, `X-Large: ${'x'.repeat(15_000)}`, close),
    ];
    const plain = (answer: string) => answer.replace(/Date: .*\r\n|,"(?:remotePort|port)":\d+/g, '');
    for (const request of requests) {
      const passed = await exchange(receiver.port, request);
      assert.equal(plain(passed), plain(await exchange(owner.port, request)));
      assert.match(passed, /^HTTP\/1.1 201 Made\r\n/);
    }
    assert.deepEqual(receiver.sticky.counters, { passed: requests.length, gone: 0, blocked: 0, lost: 0 });
  });

  test('may name trailers where none can follow, and so may its answer', async () => {
    const { receiver, cookie } = await stickyPair((_request, response) => {
      response.writeHead(200, { 'Transfer-Encoding': 'chunked', Trailer: 'X-End' }).end();
    });
    const cookies = `Cookie: ${cookie}`;
    const requests = [
      head('GET / HTTP/1.1', cookies, 'Trailer: X-Sum', close),
      head('GET / HTTP/1.1', cookies, 'Trailer: X-Sum', 'Connection: Upgrade', 'Upgrade: a'),
      `${head('POST / HTTP/1.1', cookies, 'trailer: X-Sum', 'Content-Length: 2', close)}hi`,
      head('HEAD / HTTP/1.1', cookies, close),
    ];
    for (const request of requests) {
      const client = new Wire(receiver.port);
      client.send(request);
      await client.gets(/^HTTP\/1.1 200 /);
    }
    assert.equal(receiver.sticky.counters.passed, requests.length);
  });

  test('may be of HTTP/1.0, without the header Host', async () => {
    const { receiver, cookie } = await stickyPair(({ headers }, response) => response.end(`host ${headers.host}.`));
    assert.match(
      await exchange(receiver.port, `GET / HTTP/1.0\r\nCookie: ${cookie}\r\n\r\n`),
      /^HTTP\/1.1 200 [\s\S]*\r\n\r\nhost \.$/,
    );
    assert.equal(receiver.sticky.counters.passed, 1);
  });

  test('has the address of its client, which no header can change', async () => {
    const { receiver, cookie } = await stickyPair(mirror);
    const client = new Wire(receiver.port);
    client.send(head('GET / HTTP/1.1', `Cookie: ${cookie}`, 'X-Forwarded-For: 9.9.9.9'));
    const answer = await client.gets(/remoteAddress/);
    assert.match(answer, new RegExp(`"remoteAddress":"127.0.0.1","remotePort":${client.socket.localPort},`));
    assert.match(answer, new RegExp(`"address":{"address":"127.0.0.1","family":"IPv4","port":${receiver.port}}`));
  });

  test('is counted once, by its owner, and a connection between workers not at all', async () => {
    const { owner, receiver, cookie } = await stickyPair((request, response) => {
      if (request.url !== '/open') response.end('ok');
    });
    const client = new Wire(receiver.port);
    client.send(head('GET /1 HTTP/1.1', `Cookie: ${cookie}`) + head('GET /open HTTP/1.1', `Cookie: ${cookie}`));
    await client.gets(/ok$/);
    await soon(() => owner.server.inFlight === 1);
    assert.deepEqual([owner.answered, receiver.answered], [['GET /1 200'], []]);
    assert.deepEqual([owner.server.inFlight, receiver.server.inFlight], [1, 0]);
    assert.deepEqual([owner.server.connections, receiver.server.connections], [0, 1]);
    assert.deepEqual([owner.server.waiting.open, receiver.server.waiting.open], [1, 1]);
  });

  test('is answered in order beside others of its connection', async () => {
    const { receiver, cookie } = await stickyPair(
      (request, response) => void setTimeout(() => response.end(request.url), request.url === '/1' ? 30 : 0),
    );
    const client = new Wire(receiver.port);
    const passed = (path: string) => head(`GET ${path} HTTP/1.1`, `Cookie: ${cookie}`);
    client.send(passed('/1') + head('GET /2 HTTP/1.1') + passed('/3') + head('GET /4 HTTP/1.1', close));
    await client.ended();
    assert.deepEqual(client.received.match(/\/\d$|\/\d(?=HTTP)/gm), ['/1', '/2', '/3', '/4']);
  });

  test('keeps informational responses, and Expect: 100-continue where the app decides', async () => {
    const { owner, receiver, cookie } = await stickyPair((_request, response) => {
      response.writeEarlyHints({ link: ['</a.css>; rel=preload', '</b.js>; rel=preload'] });
      response.writeProcessing();
      response.end('ok');
    });
    const hints = await exchange(receiver.port, head('GET / HTTP/1.1', `Cookie: ${cookie}`, close));
    assert.match(
      hints,
      /^HTTP\/1.1 103 Early Hints\r\nLink: <\/a.css>; rel=preload, <\/b.js>; rel=preload\r\n\r\nHTTP\/1.1 102 Processing\r\n\r\nHTTP\/1.1 200 OK/,
    );

    const client = new Wire(receiver.port);
    client.send(head('POST / HTTP/1.1', `Cookie: ${cookie}`, 'Expect: 100-continue', 'Content-Length: 2'));
    await client.gets(/^HTTP\/1.1 100 Continue\r\n\r\n/);
    client.send('hi');
    await client.gets(/ok$/);
    assert.equal(client.received.match(/100 Continue/g)?.length, 1);

    for (const { http } of [owner, receiver])
      http.on('checkContinue', (request, response) => {
        if (request.headers['x-let'] === undefined) return response.writeHead(413, { Connection: 'close' }).end('large');
        response.writeContinue();
        request.resume().on('end', () => response.end('taken'));
      });
    const refused = await exchange(
      receiver.port,
      head('POST / HTTP/1.1', `Cookie: ${cookie}`, 'Expect: 100-continue', 'Content-Length: 2', close),
    );
    assert.match(refused, /^HTTP\/1.1 413 /);
    const taken = new Wire(receiver.port);
    taken.send(head('POST / HTTP/1.1', `Cookie: ${cookie}`, 'X-Let: 1', 'Expect: 100-continue', 'Content-Length: 2'));
    await taken.gets(/^HTTP\/1.1 100 Continue\r\n\r\n$/);
    taken.send('hi');
    await taken.gets(/taken$/);
  });

  test('streams both ways, and waits for a client that reads slowly', async () => {
    let written = 0;
    const { owner, receiver, cookie } = await stickyPair((request, response) => {
      if (request.method === 'POST') return void request.on('data', chunk => response.write(chunk));
      if (request.url === '/events') return response.flushHeaders();
      const chunk = Buffer.alloc(65_536, 'x');
      const more = () => {
        while (written < 64 << 20) {
          written += chunk.length;
          if (!response.write(chunk)) return void response.once('drain', more);
        }
        response.end();
      };
      more();
    });
    const echo = new Wire(receiver.port);
    echo.send(head('POST / HTTP/1.1', `Cookie: ${cookie}`, 'Transfer-Encoding: chunked'));
    echo.send('3\r\none\r\n');
    await echo.gets(/one/);
    echo.send('3\r\ntwo\r\n0\r\n\r\n');
    await echo.gets(/two/);

    const events = new Wire(receiver.port);
    events.send(head('GET /events HTTP/1.1', `Cookie: ${cookie}`));
    await events.gets(/^HTTP\/1.1 200 OK\r\n/);

    const slow = new Wire(receiver.port);
    slow.socket.pause();
    slow.send(head('GET /large HTTP/1.1', `Cookie: ${cookie}`));
    await soon(() => written > 0);
    let before = -1;
    await until(
      () => {
        const isStill = before === written;
        before = written;
        return isStill || undefined;
      },
      () => 'the owner never stops',
    );
    assert.ok(written < 32 << 20, `the owner has written ${written} bytes to a client that reads nothing`);
    slow.socket.destroy();
    await soon(() => owner.server.inFlight === 2);
  });

  test('ends with its client, and the client with its owner', async () => {
    const closed: string[] = [];
    const { owner, receiver, cookie } = await stickyPair((request, response) => {
      response.on('close', () => closed.push(request.url ?? ''));
      if (request.url === '/begun') response.write('begun');
      if (request.url === '/reset') {
        response.write('begun');
        setTimeout(() => response.destroy(), 10);
      }
    });
    for (const path of ['/silent', '/begun']) {
      const client = new Wire(receiver.port);
      client.send(head(`GET ${path} HTTP/1.1`, `Cookie: ${cookie}`));
      await soon(() => owner.server.inFlight === 1);
      client.socket.destroy();
      await soon(() => closed.includes(path));
    }
    const reset = new Wire(receiver.port);
    reset.send(head('GET /reset HTTP/1.1', `Cookie: ${cookie}`));
    await reset.ended();
    assert.match(reset.received, /begun/);
    assert.doesNotMatch(reset.received, /\r\n0\r\n/);
  });
});

describe('an owner that does not answer', () => {
  const named: RequestListener = (request, response) =>
    void request.resume().on('end', () => response.end(`served ${request.url}`));

  test('that has ended: the request is served here, with a new cookie, and its body', async () => {
    const { owner, receiver, cookie } = await stickyPair(mirror);
    owner.kill();
    const answer = await exchange(
      receiver.port,
      `${head('POST / HTTP/1.1', `Cookie: ${cookie}`, 'Content-Length: 5', close)}hello`,
    );
    assert.match(answer, /"body":"hello"/);
    const [, value = ''] = /Set-Cookie: bosun-worker\.shop=(\S+);/.exec(answer) ?? [];
    assert.notEqual(value, '');
    assert.equal(cookie.includes(value), false);
    assert.deepEqual(receiver.answered, ['POST / 201']);
    assert.equal(receiver.sticky.counters.gone, 1);
  });

  test('that drains: open requests are answered, later ones served here, and none fails', async () => {
    let finish = () => undefined as unknown;
    const { owner, receiver, cookie } = await stickyPair((request, response) => {
      if (request.url === '/slow') finish = () => response.end('slow');
      else response.end('quick');
    });
    const client = new Wire(receiver.port);
    client.send(head('GET /slow HTTP/1.1', `Cookie: ${cookie}`));
    await soon(() => owner.server.inFlight === 1);
    owner.sticky.close();
    owner.http.close();
    const drained = owner.server.drain(
      { timeoutMs: 5000, quietMs: 0, appMs: 0, endStalled: false, moves: false },
      () => undefined,
    );
    const later = await exchange(receiver.port, head('GET /quick HTTP/1.1', `Cookie: ${cookie}`, close));
    assert.match(later, /Set-Cookie: bosun-worker.*quick$/s);
    finish();
    await client.gets(/slow$/);
    const { finished, cutRequests } = await drained;
    assert.deepEqual([finished, cutRequests], [1, 0]);
    client.received = '';
    client.send(head('GET /quick HTTP/1.1', `Cookie: ${cookie}`));
    await client.gets(/quick$/);
  });

  test('that closes an idle connection: the next request goes to it on a new one', async () => {
    const { owner, receiver, cookie } = await stickyPair(named);
    const client = new Wire(receiver.port);
    client.send(head('GET /1 HTTP/1.1', `Cookie: ${cookie}`));
    await client.gets(/served \/1$/);
    // It ends before the request is acknowledged, as if both had crossed.
    const passes = owner.sticky.passes.bind(owner.sticky);
    owner.sticky.passes = ({ request }) => {
      owner.sticky.passes = passes;
      request.socket.destroy();
      return true;
    };
    client.send(`${head('POST /2 HTTP/1.1', `Cookie: ${cookie}`, 'Content-Length: 1')}x`);
    await client.gets(/served \/2$/);
    assert.deepEqual(owner.answered, ['GET /1 200', 'POST /2 200']);
  });

  test('that ends while it serves: 502, and the connection stays usable', async () => {
    const { owner, receiver, cookie } = await stickyPair(request => request.resume());
    const client = new Wire(receiver.port);
    client.send(head('POST /1 HTTP/1.1', `Cookie: ${cookie}`, 'Content-Length: 20'));
    await soon(() => owner.server.inFlight === 1);
    for (const socket of owner.sockets) socket.destroy();
    await client.gets(/^HTTP\/1.1 502 Bad Gateway\r\n.*has ended/s);
    assert.deepEqual([receiver.answered, receiver.sticky.counters.lost], [['POST /1 502'], 1]);
    client.send(`${'x'.repeat(20)}${head('GET /2 HTTP/1.1', close)}`);
    await soon(() => receiver.server.inFlight === 1);
  });

  test('that is blocked: safe requests are served here after 5 s, and later ones at once; others wait', async context => {
    const { owner, receiver, cookie, folder } = await stickyPair(named);
    const path = await replaceWithSilence(owner.sticky, folder, cookie);
    context.mock.timers.enable({ apis: ['setTimeout'] });
    const get = new Wire(receiver.port);
    const post = new Wire(receiver.port);
    get.send(head('GET /1 HTTP/1.1', `Cookie: ${cookie}`));
    post.send(head('POST /2 HTTP/1.1', `Cookie: ${cookie}`, 'Content-Length: 0'));
    await soon(() => path.connections() === 2);
    context.mock.timers.tick(5000);
    await get.gets(/Set-Cookie: bosun-worker.*served \/1$/s);
    assert.match(await exchange(receiver.port, head('POST /3 HTTP/1.1', `Cookie: ${cookie}`, close)), /served \/3$/);
    assert.equal(post.received, '');
    path.end();
    await post.gets(/served \/2$/);
    assert.deepEqual(receiver.sticky.counters, { passed: 0, gone: 1, blocked: 2, lost: 0 });
  });
});

/** In place of the owner's socket: one that accepts and never answers. */
async function replaceWithSilence(sticky: { close(): void }, folder: string, cookie: string) {
  sticky.close();
  const name = cookie.slice(cookie.lastIndexOf('.') + 1);
  const sockets = new Set<import('node:net').Socket>();
  const server = createServer(socket => sockets.add(socket.on('error', () => undefined)));
  await new Promise<void>(resolve => server.listen(`${folder}/${name}`, resolve));
  return {
    connections: () => sockets.size,
    end: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

describe('the cookie', () => {
  const plain: RequestListener = (_request, response) => response.end('ok');
  const cookieOf = (answer: string) => /Set-Cookie: (bosun-worker.*)\r\n/i.exec(answer)?.[1];

  test('is given to a client that has none, or that of another pod, and lasts as long as the browser runs', async () => {
    const { owner, cookie } = await stickyPair(plain);
    const first = cookieOf(await exchange(owner.port, head('GET / HTTP/1.1', close)));
    assert.match(String(first), /^bosun-worker\.shop=\w{6}\.[\w-]{16}; Path=\/; HttpOnly; SameSite=Lax$/);
    assert.equal(cookieOf(await exchange(owner.port, head('GET / HTTP/1.1', `Cookie: ${cookie}`, close))), undefined);
    const foreign = `bosun-worker.shop=AAAAAA.${'x'.repeat(16)}`;
    assert.equal(cookieOf(await exchange(owner.port, head('GET / HTTP/1.1', `Cookie: ${foreign}`, close))), first);
    for (const value of ['', 'x', '../../../etc/passwd', `${/=(\w+)/.exec(cookie)?.[1]}.../../control`, '%00'.repeat(9)])
      assert.equal(
        cookieOf(await exchange(owner.port, head('GET / HTTP/1.1', `Cookie: bosun-worker.shop=${value}`, close))),
        first,
      );
  });

  test('over TLS may be sent from the pages of other sites', async () => {
    const { owner } = await stickyPair(plain, { trustProxy: true });
    const answer = await exchange(owner.port, head('GET / HTTP/1.1', 'X-Forwarded-Proto: https', close));
    assert.match(String(cookieOf(answer)), /; Path=\/; HttpOnly; SameSite=None; Secure; Partitioned$/);
    const untrusting = await stickyPair(plain);
    assert.match(
      String(cookieOf(await exchange(untrusting.owner.port, head('GET / HTTP/1.1', 'X-Forwarded-Proto: https', close)))),
      /Lax$/,
    );
  });

  test('joins the cookies of the app, however it sets them', async () => {
    const ways: RequestListener[] = [
      (_request, response) => response.setHeader('set-cookie', 'a=1').end(),
      (_request, response) => response.writeHead(200, { 'Set-Cookie': 'a=1' }).end(),
      (_request, response) => response.writeHead(200, 'OK', { 'set-cookie': ['a=1', 'b=2'], X: '1' }).end(),
      (_request, response) => response.writeHead(200, ['Set-Cookie', 'a=1', 'X', '1']).end(),
      (_request, response) => response.setHeader('Set-Cookie', 'c=3').writeHead(200, ['Set-Cookie', 'a=1']).end(),
    ];
    for (const way of ways) {
      const { owner } = await stickyPair(way);
      const answer = await exchange(owner.port, head('GET / HTTP/1.1', close));
      assert.match(answer, /Set-Cookie: a=1\r\n/i);
      assert.notEqual(cookieOf(answer), undefined, answer);
    }
  });

  test('is not given with an answer that shared caches may store', async () => {
    const { owner } = await stickyPair((request, response) => {
      response.writeHead(200, { 'Cache-Control': request.url === '/a' ? 'public, max-age=60' : 's-maxage=60' }).end();
    });
    for (const path of ['/a', '/b'])
      assert.equal(cookieOf(await exchange(owner.port, head(`GET ${path} HTTP/1.1`, close))), undefined);
  });
});

describe('a WebSocket', () => {
  const upgrade = (path: string, cookie: string) =>
    head(`GET ${path} HTTP/1.1`, `Cookie: ${cookie}`, 'Connection: Upgrade', 'Upgrade: websocket');

  async function upgradePair() {
    const pair = await stickyPair((_request, response) => response.end('plain'));
    const open = new Set<import('node:stream').Duplex>();
    for (const worker of [pair.owner, pair.receiver])
      worker.http.on('upgrade', (request, socket, early) => {
        if (request.url === '/no') return void socket.end('HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno');
        open.add(socket);
        socket.on('close', () => open.delete(socket));
        const name = worker === pair.owner ? 'owner' : 'receiver';
        socket.write(
          `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-By: ${name}\r\n\r\n${early}`,
        );
        socket.on('data', data => socket.write(`echo ${data}`));
        socket.on('end', () => socket.end('bye'));
      });
    return { ...pair, open };
  }

  test('is passed on as well, with what the client has sent early, both ways and to its end', async () => {
    const { receiver, cookie, open } = await upgradePair();
    const client = new Wire(receiver.port);
    client.send(`${upgrade('/', cookie)}early`);
    await client.gets(
      /^HTTP\/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-By: owner\r\n\r\n.*early/s,
    );
    client.send('one');
    await client.gets(/echo one$/);
    client.socket.end();
    await client.gets(/bye$/);
    await soon(() => open.size === 0);
    const rude = new Wire(receiver.port);
    rude.send(upgrade('/', cookie));
    await rude.gets(/101/);
    rude.socket.destroy();
    await soon(() => open.size === 0);
  });

  test('that only its owner takes is answered with 502', async () => {
    const { owner, receiver, cookie } = await stickyPair((_request, response) => response.end('plain'));
    owner.http.on('upgrade', (_request, socket) =>
      socket.write('HTTP/1.1 101 Yes\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n'),
    );
    const client = new Wire(receiver.port);
    client.send(upgrade('/', cookie));
    await client.gets(/^HTTP\/1.1 502 /);
  });

  test('that the app refuses is refused, and without its owner it is accepted here', async () => {
    const { owner, receiver, cookie } = await upgradePair();
    assert.match(await exchange(receiver.port, upgrade('/no', cookie)), /^HTTP\/1.1 401 Unauthorized\r\n.*no$/s);
    owner.kill();
    const client = new Wire(receiver.port);
    client.send(upgrade('/', cookie));
    await client.gets(/X-By: receiver/);
  });
});

describe('a WebSocket of ws that was passed on', () => {
  for (const drained of ['owner', 'receiver'] as const)
    test(`is closed with 1012 when its ${drained} drains`, async () => {
      const pair = await stickyPair((_request, response) => response.end());
      const sockets = new WebSocketServer({ noServer: true });
      for (const { http } of [pair.owner, pair.receiver])
        http.on('upgrade', (request, socket, early) =>
          sockets.handleUpgrade(request, socket, early, client => client.on('message', text => client.send(`echo ${text}`))),
        );
      const client = new WebSocket(`ws://127.0.0.1:${pair.receiver.port}`, { headers: { Cookie: pair.cookie } });
      await once(client, 'open');
      client.send('hello');
      const [text] = await once(client, 'message');
      assert.equal(String(text), 'echo hello');
      const closed = once(client, 'close');
      const drain = pair[drained].server.drain(
        { timeoutMs: 5000, quietMs: 0, appMs: 0, endStalled: false, moves: false },
        () => undefined,
      );
      assert.equal((await closed)[0], 1012);
      assert.deepEqual((await drain).cut, []);
    });
});

test('the socket of a worker refuses what is no worker', async () => {
  const { folder } = await stickyPair(mirror);
  const [name] = readdirSync(folder);
  for (const text of ['GET / HTTP/1.1\r\n', 'null\n', '5\n', 'x'.repeat(2000)]) {
    const client = connect(`${folder}/${name}`, () => client.write(text));
    await once(client.resume(), 'close');
  }
});

test('the socket of a worker is for its user alone, and disappears with it', async () => {
  const { owner, receiver, folder } = await stickyPair(mirror);
  const names = readdirSync(folder);
  assert.equal(names.length, 2);
  for (const name of names) assert.equal(statSync(`${folder}/${name}`).mode & 0o777, 0o600);
  assert.equal(statSync(folder).mode & 0o777, 0o700);
  owner.kill();
  receiver.kill();
  await soon(() => readdirSync(folder).length === 0);
  assert.ok(existsSync(folder));
});
