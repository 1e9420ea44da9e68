/**
 * Apps that do what the kit would rather not see: it costs them what it must, and nobody else anything.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { RawClient, requestText } from './clients.ts';
import { CLEAN, type Kit, startKit } from './kit.ts';
import { postControl, startOperated } from './operator.ts';
import { writtenApp } from './written-app.ts';

const CONCURRENCY = 3;
const UPGRADE = { Connection: 'Upgrade', Upgrade: 'websocket' };

describe('an app', { concurrency: CONCURRENCY }, () => {
  for (const [how, collect] of [
    ['fails', "throw new Error('no database')"],
    ['never ends', 'await new Promise(() => {})'],
  ] as const) {
    test(`a worker whose app has a metric that ${how} reports and drains like any other`, async () => {
      const kit = await startKit({
        env: {
          WORKER_HEARTBEAT_TIMEOUT_MS: '2000',
          APP_MODULE: writtenApp(`
          const { Gauge } = createRequire('${import.meta.dirname}/')('prom-client');
          new Gauge({ name: 'queue_length', help: 'Of nobody.', registers: [kit.metrics], async collect() { ${collect}; } });
          return (req, res) => res.end('{}');`),
        },
      });
      const { port } = await kit.ready();
      await using client = await RawClient.open(port);
      assert.equal((await client.request('/')).status, 200);
      await kit.statusWhere(({ workers }) => workers.some(({ requests }) => requests === 1));
      await pause(3000); // reports, and the timeout of the heartbeat
      assert.deepEqual([...kit.all('worker.exit'), ...kit.all('worker.replace')], []);
      if (how === 'fails') assert.equal(kit.all('metrics.collect-failed').length, 2, 'logged once by each');
      assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
    });
  }

  for (const [how, answer] of [
    ['setHeader', "res.setHeader('Connection', 'keep-alive'); res.end('{}')"],
    ['writeHead', "res.writeHead(200, { connection: 'Keep-Alive' }); res.end('{}')"],
    ['writeHead, as a list', "res.writeHead(200, 'OK', ['X-Any', 'x', 'Connection', 'keep-alive']); res.end('{}')"],
  ] as const) {
    test(`an app that sets Connection: keep-alive by ${how} does not keep a connection open in a drain`, async () => {
      const app = writtenApp(`return (req, res) => { ${answer}; };`);
      const kit = await startKit({ env: { APP_MODULE: app, SHUTDOWN_DELAY_MS: '1000' } });
      const { port } = await kit.ready();
      await using client = await RawClient.open(port);
      assert.equal((await client.request('/')).headers.connection?.toLowerCase(), 'keep-alive');
      kit.signal('SIGTERM');
      await kit.event('shutdown.delay');
      let { headers } = await client.request('/');
      // A worker may receive it a moment after the log.
      for (; headers.connection !== 'close'; { headers } = await client.request('/')) await pause(50);
      assert.equal(await client.ended(), 'FIN');
      assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
    });
  }

  test('an app that responds before it has read the body, and stops reading, does not delay a drain', async () => {
    const app = writtenApp(
      "return (req, res) => { req.once('data', () => req.pause()); setTimeout(() => res.writeHead(413).end('{}'), 100); };",
    );
    const kit = await startKit({ env: { APP_MODULE: app } });
    const { port } = await kit.ready();
    await using client = await RawClient.open(port);
    client.write(requestText('/', { method: 'POST', headers: { 'Content-Length': '1000' }, body: 'x'.repeat(10) }));
    assert.equal((await client.answer()).status, 413);
    client.write('x'.repeat(990));
    await pause(100); // until the server could have read it
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
    assert.deepEqual(kit.all('request.cut'), []);
  });

  test('a client that resets while the app decides on an upgrade does not end the worker', async () => {
    const app = writtenApp(`kit.onUpgrade(async (req, socket) => {
        kit.log.info({ event: 'test.requested' });
        await sleep(1000);
        if (req.url === '/throws') throw new Error('not allowed');
        socket.end();
      });
      return (req, res) => res.end('{}');`);
    const kit = await startKit({ env: { APP_MODULE: app } });
    const { port } = await kit.ready();
    const socket = connect(port, '127.0.0.1');
    await once(socket, 'connect');
    socket.write(requestText('/', { headers: UPGRADE }));
    await kit.event('test.requested');
    socket.resetAndDestroy();
    await using refused = await RawClient.open(port);
    refused.write(requestText('/throws', { headers: UPGRADE }));
    await refused.ended();
    await kit.event('upgrade.handler-failed');
    assert.deepEqual([...kit.all('worker.exit'), ...kit.all('worker.uncaught-exception')], []);
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });

  test('an upgrade to another protocol than WebSocket is answered over HTTP/1.1', async () => {
    const app =
      writtenApp(`kit.onUpgrade((req, socket) => socket.end('HTTP/1.1 200 OK\\r\\nContent-Length: 7\\r\\n\\r\\nupgrade'));
      return (req, res) => res.end('request');`);
    const kit = await startKit({ env: { APP_MODULE: app, NODE_CLUSTER_WORKERS: '1' } });
    const { port } = await kit.ready();
    for (const [protocol, expected] of [
      ['h2c', 'request'],
      ['TLS/1.0, h2c', 'request'],
      ['WebSocket', 'upgrade'],
      ['h2c, websocket', 'upgrade'],
    ] as const) {
      await using client = await RawClient.open(port);
      const headers = { Connection: 'Upgrade, HTTP2-Settings', Upgrade: protocol, 'HTTP2-Settings': 'AAMAAABkAAQCAAAAAAIAAAAA' };
      assert.equal((await client.request('/', { headers })).body, expected, protocol);
    }
  });

  test('a worker that is drained while its app loads does not begin to serve', async () => {
    const app = writtenApp(`if (kit.workerId === 1) return (req, res) => res.end('{}');
      kit.onClose(() => sleep(950));
      kit.log.info({ event: 'test.loading' });
      const drains = new Promise(resolve => kit.draining.addEventListener('abort', resolve));
      await drains;
      return (req, res) => res.end('{}');`);
    const kit = await startKit({ env: { APP_MODULE: app } });
    await kit.event('test.loading');
    kit.signal('SIGTTOU');
    await kit.event('worker.exit', ({ worker }) => worker === 2);
    assert.deepEqual(served(kit), [1]);
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });
});

test('a worker that an operator uncordons before its snapshot is written serves on, policy rr', async () => {
  const { kit, socket } = await startOperated({ env: { NODE_CLUSTER_SCHED_POLICY: 'rr' } });
  const about = (more: object) => JSON.stringify({ worker: 1, ...more });
  const snapshot = postControl(socket, '/heap-snapshot', about({ stream: true }));
  await kit.statusWhere(({ workers }) => workers.some(({ state }) => state === 'cordoned'));
  assert.equal((await postControl(socket, '/uncordon', about({}))).status, 200);
  assert.equal((await snapshot).status, 200);
  await kit.statusWhere(({ workers }) => workers.every(({ state }) => state === 'ready'));
  await pause(500);
  assert.deepEqual(kit.all('worker.uncaught-exception'), []);
  assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
});

function served(kit: Kit): unknown[] {
  return kit.all('worker.ready').map(({ worker }) => worker);
}
