/**
 * NODE_CLUSTER_STICKY with the real Socket.IO, whose clients poll through a proxy that keeps its connections to the app.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { after, test } from 'node:test';
import { io, type Socket } from 'socket.io-client';
import { until } from '../until.ts';
import { CLEAN, type Kit, startKit } from './kit.ts';
import { LocalRedis, withRedis } from './redis.ts';

/** Each request takes any free connection to the app, as a load balancer does. */
class KeepAliveProxy {
  readonly statuses: number[] = [];
  failures = 0;
  readonly #agent = new http.Agent({ keepAlive: true, scheduling: 'fifo' });
  readonly #server: http.Server;

  constructor(port: number) {
    this.#server = http.createServer((request, response) => {
      const { method, url: path, headers } = request;
      const upstream = http.request({ agent: this.#agent, port, method, path, headers }, incoming => {
        this.statuses.push(incoming.statusCode ?? 0);
        response.writeHead(incoming.statusCode ?? 0, incoming.headers);
        incoming.pipe(response);
      });
      upstream.on('error', () => {
        if (!response.destroyed) this.failures++;
        response.destroy();
      });
      response.on('close', () => upstream.destroy());
      request.pipe(upstream);
    });
  }

  async open(): Promise<string> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.#agent.destroy();
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

const echo = (client: Socket): Promise<string> => client.timeout(5000).emitWithAck('echo', 'hello');

async function totalOf(kit: Kit, pattern: RegExp): Promise<number> {
  const { body } = await kit.probe('/metrics');
  return body.split('\n').reduce((sum, line) => (pattern.test(line) ? sum + Number(line.split(' ').at(-1)) : sum), 0);
}

test('Socket.IO clients poll through kept connections, and those of a killed worker come back', async () => {
  const folders = () => readdirSync(tmpdir()).filter(name => name.startsWith('bosun-workers-'));
  const before = new Set(folders());
  const kit = await startKit({ app: 'socket-io.mjs', env: { NODE_CLUSTER_STICKY: 'cookie', NODE_CLUSTER_SCHED_POLICY: 'rr' } });
  const { port } = await kit.ready();
  const proxy = new KeepAliveProxy(port);
  const url = await proxy.open();
  const problems: string[] = [];
  const clients = Array.from({ length: 6 }, () => {
    const client = io(url, { transports: ['polling'], withCredentials: true, forceNew: true, reconnectionDelay: 20 });
    client.on('connect_error', error => problems.push(error.message));
    client.on('disconnect', reason => problems.push(reason));
    return client;
  });
  after(() => {
    for (const client of clients) client.disconnect();
    proxy.close();
  });

  const served = await Promise.all(
    clients.map(async client => [...new Set([await echo(client), await echo(client), await echo(client)])]),
  );
  assert.deepEqual(problems, []);
  assert.ok(served.every(({ length }) => length === 1));
  assert.deepEqual(new Set(proxy.statuses), new Set([200]));
  assert.equal(new Set(served.flat()).size, 2, 'both workers have clients');
  await until(
    async () => (await totalOf(kit, /^bosun_sticky_requests_total{result="passed"}/)) > 0 || undefined,
    () => 'no request was passed on',
  );
  await until(
    async () => (await totalOf(kit, /^http_request_duration_seconds_count/)) === proxy.statuses.length || undefined,
    () => `${proxy.statuses.length} answers`,
  );

  // Its own clients connect again, and so do those whose polls it had passed on.
  const [killed = 0] = kit.workerPids;
  const disconnected = clients.find((_, index) => served[index]?.[0]?.endsWith(` ${killed}`)) ?? assert.fail();
  const cut = new Promise(resolve => disconnected.once('disconnect', resolve));
  process.kill(killed, 'SIGKILL');
  await cut;
  for (const client of clients) assert.doesNotMatch(await echo(client), new RegExp(` ${killed}$`));
  proxy.close();
  for (const client of clients) client.off('disconnect').disconnect();
  assert.deepEqual(await kit.stop(), CLEAN);
  assert.deepEqual(
    folders().filter(name => !before.has(name)),
    [],
  );
});

test(
  'over WebSockets, with the Redis adapter on kit.redis, a message reaches the clients of every worker and pod',
  withRedis,
  async () => {
    const redis = await LocalRedis.start();
    after(() => redis.stop());
    const pods = await Promise.all([1, 2].map(() => startKit({ app: 'socket-io.mjs', env: { REDIS_URL: redis.url } })));
    const ports = await Promise.all(pods.map(async pod => (await pod.ready()).port));
    const clients = Array.from({ length: 8 }, (_, index) =>
      io(`http://127.0.0.1:${ports[index % 2]}`, { transports: ['websocket'], forceNew: true, reconnection: false }),
    );
    after(() => {
      for (const client of clients) client.disconnect();
    });
    assert.equal(new Set(await Promise.all(clients.map(echo))).size, 4, 'every worker has clients');
    const received = Promise.all(clients.map(client => new Promise(resolve => client.once('all', resolve))));
    clients[0]?.emit('all', 'hello');
    assert.deepEqual(new Set(await received), new Set(['hello']));

    const closed = Promise.all(clients.map(client => new Promise(resolve => client.once('disconnect', resolve))));
    assert.deepEqual(await Promise.all(pods.map(pod => pod.stop())), [CLEAN, CLEAN]);
    // Of this reason the client connects again by itself.
    assert.deepEqual(new Set(await closed), new Set(['transport close']));
  },
);
