/**
 * Apps that listen by themselves: the kit serves their server, which does not notice.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import https, { Agent } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { WebSocket } from 'ws';
import { freePort } from '../free-port.ts';
import { RawClient, request, requestText } from './clients.ts';
import { CLEAN, ROOT, startKit } from './kit.ts';
import { freshLoad, keepAliveLoad, pipelineLoad } from './loads.ts';
import { temporaryFolder } from './operator.ts';
import { POLICIES, SOAKS } from './policies.ts';

const CONCURRENCY = 3;
const WORKERS = 2;

describe('a server of the app that listens on PORT', { concurrency: CONCURRENCY }, () => {
  for (const policy of POLICIES) {
    const isRolled = SOAKS || policy === 'least-connections';
    test(`it is served with all that it has of its own${isRolled ? ', rolls under load' : ''} and drains, policy ${policy}`, async () => {
      const PORT = String(await freePort());
      const env = { PORT, NODE_CLUSTER_SCHED_POLICY: policy, HEADERS_TIMEOUT_MS: '20000' };
      const kit = await startKit({ app: 'adopted.mjs', env });
      const { port } = await kit.ready();
      assert.equal(port, Number(PORT));
      const { level, kind, url } = await kit.event('app.adopted');
      assert.deepEqual({ level, kind, url }, { level: 'info', kind: 'http', url: `http://127.0.0.1:${port}` });
      const { address } = await kit.event('test.listening');
      assert.deepEqual(address, { address: '127.0.0.1', family: 'IPv4', port });
      assert.equal(kit.all('test.listening').length, WORKERS, 'once in each worker');
      assert.equal((await kit.event('test.called')).isListening, true);
      assert.equal((await kit.event('test.refused')).code, 'ERR_SERVER_ALREADY_LISTEN');
      await kit.event('test.listens-again');

      await using client = await RawClient.open(port);
      const { headers } = await client.request('/');
      assert.equal(headers['x-own'], 'response class');
      assert.match(headers['x-response-time'] ?? '', /^\d+\.\dms$/);
      assert.equal(headers['keep-alive'], 'timeout=12', 'the timeout of the app');
      client.write(requestText('/upload', { method: 'POST', headers: { Expect: '100-continue', 'Content-Length': '3' } }));
      await client.received(/^HTTP\/1.1 100 Continue\r\n\r\n$/);
      client.write('abc');
      await client.received(/"bytes":3/);
      await using refused = await RawClient.open(port);
      assert.equal((await refused.request('/refused', { headers: { Expect: '100-continue' } })).status, 417);
      await using malformed = await RawClient.open(port);
      malformed.write('no request\r\n\r\n');
      await malformed.received(/^HTTP\/1.1 400 Of the app/);
      const socket = new WebSocket(`ws://127.0.0.1:${port}/socket`);
      await once(socket, 'open');
      socket.send('hello');
      const [data] = (await once(socket, 'message')) as [Buffer];
      assert.equal(String(data), 'echo hello');
      socket.close();

      if (isRolled) {
        const bounds = { mostRequests: 1e6, longestMs: 60_000 };
        const loads = [
          keepAliveLoad(port, { clients: 4, pauseMs: 10, ...bounds }),
          freshLoad(port, { everyMs: 10, ...bounds }),
          pipelineLoad(port, bounds),
        ];
        kit.signal('SIGHUP');
        await kit.event('pool.restarted');
        for (const { failures, refused, answered } of await Promise.all(loads.map(load => load.stop()))) {
          assert.deepEqual({ failures, refused }, { failures: [], refused: 0 });
          assert.ok(answered > 0);
        }
      }

      await using slow = await RawClient.open(port);
      const until = join(temporaryFolder(), 'answer');
      slow.write(requestText(`/hold?mark=first&until=${until}`) + requestText(`/hold?mark=second&until=${until}`));
      await kit.begun('second');
      kit.signal('SIGTERM');
      await kit.event('shutdown.drain');
      writeFileSync(until, '');
      const answers = [await slow.answer(), await slow.answer()];
      assert.deepEqual(
        answers.map(({ status, headers: { connection } }) => [status, connection]),
        [
          [200, 'keep-alive'],
          [200, 'close'],
        ],
      );
      assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
      assert.equal(
        kit.all('test.closed').length,
        (isRolled ? 2 : 1) * WORKERS,
        'the callback of server.close(), once in each worker',
      );
      assert.deepEqual(kit.all('request.cut'), []);
    });
  }

  test('a server that the app closes ends its worker, which is replaced, and the log names the call', async () => {
    const kit = await startKit({ app: 'adopted.mjs', env: { PORT: String(await freePort()), ALSO_ON: '0' } });
    const { port } = await kit.ready();
    await request(port, '/close');
    assert.equal((await kit.event('worker.leaves')).call, 'server.close()');
    assert.equal((await kit.event('worker.exit')).reason, 'crash');
    await kit.event('worker.ready', ({ worker }) => Number(worker) > WORKERS);
    assert.equal((await request(port, '/')).status, 200);
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });
});

const EXPORTED = `module.exports = (request, response) => response.end('exported');
require('node:http').createServer(module.exports).listen(process.env.TAKEN);`;

// An export serves at once, where the source of its module does not call .listen.
// It listens once it has answered a request as an export.
const LATE = `let isOwn = false;
const app = (_request, response) => response.end(isOwn ? 'own' : 'exported', isOwn ? undefined : listen);
const listen = () => {
  isOwn = true;
  require('node:http').createServer(app)['listen'](process.env.PORT, () => console.log(JSON.stringify({ event: 'test.listening' })));
};
module.exports = (request, response) => app(request, response);`;

// It is ready once its database has answered; before, it tests the port.
const WITH_DATABASE = `const listen = callback => {
  const server = require('node:http').createServer(app).listen(process.env.PORT, () => callback(server));
};
let isReady = false;
const app = (_request, response) => response.end(isReady ? 'ready' : 'too early');
setTimeout(() => listen(server => server.close(() => listen(() => { isReady = true; }))), 300);
module.exports = app;`;

const EXPORTED_AND_LATE = `const server = require('node:http').createServer((_request, response) => response.end('exported'));
const options = { get port() { return process.env.PORT; }, get host() { return '127.0.0.1'; } };
const port = () => server.address().port;
setTimeout(() => server['listen'](Object.create(options), () => console.log(JSON.stringify({ event: 'test.called', port: port() }))), 300);
module.exports = server;`;

const HTTPS = `const { readFileSync } = require('node:fs');
const file = name => readFileSync('${join(ROOT, 'test', 'fixtures', 'tls')}/redis.' + name);
require('node:https').createServer({ key: file('key'), cert: file('crt') }, async (request, response) => {
  if (request.url === '/slow') {
    console.log(JSON.stringify({ event: 'test.begun', mark: 'slow' }));
    await new Promise(resolve => setTimeout(resolve, 700));
  }
  response.end(request.url);
}).listen(process.env.PORT);`;
const HTTP2 = "require('node:http2').createServer().listen(process.env.PORT);";

describe('the port of an app that listens by itself', { concurrency: CONCURRENCY }, () => {
  test('an app that listens on another port is served on PORT, and the log warns', async () => {
    const [PORT, LISTEN_ON] = [String(await freePort()), String(await freePort())];
    const kit = await startKit({ app: 'adopted.mjs', env: { PORT, LISTEN_ON, NODE_CLUSTER_WORKERS: '1' } });
    const { port } = await kit.ready();
    assert.equal(port, Number(PORT));
    assert.equal((await request(port, '/')).headers['x-own'], 'response class');
    await assert.rejects(request(Number(LISTEN_ON), '/'), { code: 'ECONNREFUSED' });
    const { level, warning } = await kit.event('app.adopted');
    assert.equal(level, 'warn');
    assert.match(
      String(warning),
      new RegExp(`listens on ${LISTEN_ON}, and is served on ${PORT} \\(PORT\\): .*PORT=${LISTEN_ON}`),
    );
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });

  test('the server on PORT is served, also if the app listens elsewhere before, and the workers share that port', async () => {
    const [PORT, ALSO_ON] = [String(await freePort()), String(await freePort())];
    const kit = await startKit({ app: 'adopted.mjs', env: { PORT, ALSO_ON } });
    const { port } = await kit.ready();
    assert.equal((await request(port, '/')).headers['x-own'], 'response class');
    assert.equal((await request(Number(ALSO_ON), '/')).body, 'also');
    const { port: other, warning } = await kit.event('app.listens');
    assert.equal(other, Number(ALSO_ON));
    assert.match(String(warning), /neither counts nor drains/);
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });

  test('without PORT the pool takes the port of the app, even if the default port is taken', async () => {
    const blocker = createServer().listen(3000, '127.0.0.1');
    await Promise.race([once(blocker, 'listening'), once(blocker, 'error')]); // either way it is taken
    try {
      const LISTEN_ON = String(await freePort());
      const kit = await startKit({ app: 'adopted.mjs', env: { PORT: undefined, LISTEN_ON, LISTEN_HOST: 'localhost' } });
      const { port } = await kit.ready();
      assert.equal(port, Number(LISTEN_ON));
      assert.equal((await request(port, '/')).status, 200);
      assert.equal((await kit.event('worker.exit')).reason, 'named-port');
      assert.ok(String((await kit.event('control.listening', ({ path }) => String(path).includes(LISTEN_ON))).path));
      assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
    } finally {
      blocker.close();
    }
  });

  test('a server on ADMIN_PORT gets no connections, and the log warns', async () => {
    const [PORT, ADMIN_PORT] = [String(await freePort()), String(await freePort())];
    const kit = await startKit({ app: 'adopted.mjs', env: { PORT, ADMIN_PORT, ALSO_ON: ADMIN_PORT } });
    await kit.ready();
    assert.equal((await kit.probe('/readyz')).status, 200);
    assert.match(String((await kit.event('app.listens')).warning), /Set ADMIN_PORT to another port/);
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });
});

describe('a server on PORT', { concurrency: CONCURRENCY }, () => {
  test('it takes over from the listener that the module exports, even if it listens later', async () => {
    const kit = await startKit({ env: { APP_MODULE: written(LATE), PORT: String(await freePort()), NODE_CLUSTER_WORKERS: '1' } });
    const { port } = await kit.listening();
    await using kept = await RawClient.open(port);
    assert.equal((await kept.request('/')).body, 'exported');
    await kit.event('test.listening');
    assert.equal((await request(port, '/')).body, 'own');
    assert.equal((await kept.request('/')).body, 'own');
    assert.equal(
      (await kit.statusWhere(({ workers }) => workers[0]?.requests === 3)).workers[0]?.connections,
      1,
      'both are counted',
    );
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });

  test('an export is served where the module also listens on another port, even if that is taken', async () => {
    await using blocker = createServer().listen(0);
    await once(blocker, 'listening');
    const TAKEN = String((blocker.address() as AddressInfo).port);
    const kit = await startKit({ env: { APP_MODULE: written(EXPORTED), PORT: String(await freePort()), TAKEN } });
    const { port } = await kit.ready();
    assert.equal((await request(port, '/')).body, 'exported');
    await kit.event('app.listens', ({ warning }) => /^another process has this port/.test(String(warning)));
    if (process.platform === 'linux') {
      const names = [kit.pid, ...kit.workerPids].map(pid => readFileSync(`/proc/${pid}/comm`, 'utf8').trim());
      assert.deepEqual(names.toSorted(), ['bosun primary', 'bosun worker 1', 'bosun worker 2']);
    }
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });

  test('an app that the module exports, and listens with later, is not ready before', async () => {
    const PORT = String(await freePort());
    const kit = await startKit({ env: { APP_MODULE: written(WITH_DATABASE), PORT, NODE_CLUSTER_WORKERS: '1' } });
    const { port } = await kit.listening();
    assert.equal((await request(port, '/')).body, 'ready');
    await kit.event('app.adopted');
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });

  test('one that the module exports, and listens with later, is served at once, and its callback fires', async () => {
    const PORT = String(await freePort());
    const kit = await startKit({ env: { APP_MODULE: written(EXPORTED_AND_LATE), PORT, NODE_CLUSTER_WORKERS: '1' } });
    const { port } = await kit.listening();
    assert.equal((await kit.event('test.called')).port, port);
    assert.equal((await request(port, '/')).body, 'exported');
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
    assert.deepEqual(kit.all('worker.failed'), []);
  });

  test('one of https is served, counted and drained', async () => {
    const kit = await startKit({
      env: { APP_MODULE: written(HTTPS), PORT: String(await freePort()), NODE_CLUSTER_WORKERS: '1' },
    });
    const { port } = await kit.ready();
    assert.equal((await kit.event('app.adopted')).url, `https://127.0.0.1:${port}`);
    const agent = new Agent({ keepAlive: true, rejectUnauthorized: false });
    const get = async (path: string) => {
      const [response] = (await once(https.get({ port, path, agent }), 'response')) as [IncomingMessage];
      return { body: String((await response.toArray()).join('')), connection: response.headers.connection };
    };
    assert.deepEqual(await get('/'), { body: '/', connection: 'keep-alive' });
    assert.deepEqual(await get('/again'), { body: '/again', connection: 'keep-alive' });
    const { workers } = await kit.statusWhere(({ workers }) => workers[0]?.requests === 2);
    assert.deepEqual([workers[0]?.connections, workers[0]?.inFlight], [1, 0]);
    const slow = get('/slow');
    await kit.begun('slow');
    kit.signal('SIGTERM');
    assert.deepEqual(await slow, { body: '/slow', connection: 'close' });
    assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
    assert.equal((await kit.event('worker.exit')).reason, 'shutdown');
    assert.deepEqual(kit.all('request.cut'), []);
  });

  test('one that speaks HTTP/2 is refused by name', async () => {
    const kit = await startKit({ env: { APP_MODULE: written(HTTP2), PORT: String(await freePort()) } });
    assert.equal((await kit.exit()).code, 1);
    assert.match(String((await kit.event('worker.failed')).error), /server.cjs must listen with http.createServer .* got http2/);
  });
});

const FRAMEWORKS = {
  express: `const app = require('express')();
    app.get('/', (_req, res) => res.json({ framework: 'express' }));
    module.exports = app; // for its tests
    app.listen(process.env.PORT);`,
  koa: `const app = new (require('koa'))();
    app.use(ctx => { ctx.body = { framework: 'koa' }; });
    if (require('node:cluster').isPrimary) for (let i = 0; i < 4; i++) require('node:cluster').fork();
    else app.listen(Number(process.env.PORT), '127.0.0.1', 128);`,
  fastify: `const app = require('fastify')();
    app.get('/', async () => ({ framework: 'fastify' }));
    app.listen({ port: Number(process.env.PORT) }).then(address => console.log(JSON.stringify({ event: 'test.listening', address })));
    require('node:cluster').fork();`,
};

describe('frameworks', { concurrency: CONCURRENCY }, () => {
  for (const [framework, code] of Object.entries(FRAMEWORKS)) {
    test(`an app of ${framework} that listens by itself is served as it is`, async () => {
      const PORT = String(await freePort());
      const kit = await startKit({ env: { APP_MODULE: written(code), PORT, NODE_CLUSTER_WORKERS: '1' } });
      const { port } = await kit.ready();
      assert.deepEqual(JSON.parse((await request(port, '/')).body), { framework });
      await kit.event('app.adopted');
      if (framework === 'fastify') assert.equal((await kit.event('app.forks')).call, 'cluster.fork()');
      assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
    });
  }
});

/** A CommonJS module that finds the packages of the kit. */
function written(code: string): string {
  const folder = temporaryFolder();
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  writeFileSync(join(folder, 'server.cjs'), code);
  return join(folder, 'server.cjs');
}
