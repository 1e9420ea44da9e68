/**
 * More connections than a process may have files open.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { until } from '../until.ts';
import { request, requestText } from './clients.ts';
import { CLEAN, ROOT, startKit } from './kit.ts';
import { ALL_POLICIES, SOAKS } from './policies.ts';
import { writtenApp } from './written-app.ts';

/** Less than the flood leaves to each of two workers. */
const OPEN_FILES = 150;
const CONNECTIONS = 300;

/** Opens 40 connections to a database for each request to /database, and closes them. */
const APP = `
  const { connect } = await import('node:net');
  return async (request, response) => {
    if (!request.url.startsWith('/database')) return response.end('ok');
    const port = Number(request.url.split('=')[1]);
    const sockets = Array.from({ length: 40 }, () => connect(port, '127.0.0.1'));
    const results = await Promise.all(sockets.map(socket => new Promise(resolve => {
      socket.once('connect', () => resolve('connected')).once('error', ({ code }) => resolve(code));
    })));
    for (const socket of sockets) socket.destroy();
    response.end(String([...new Set(results)]));
  };`;

describe('a flood of connections', { concurrency: 2 }, () => {
  for (const policy of SOAKS ? ALL_POLICIES : ['least-connections', 'reuseport']) {
    test(`a flood of kept connections loses no request and leaves the app its descriptors, policy ${policy}`, async () => {
      const limited = `ulimit -n ${OPEN_FILES}; exec "${process.execPath}" "${join(ROOT, 'src', 'main.ts')}"`;
      const env = { NODE_CLUSTER_SCHED_POLICY: policy, APP_MODULE: writtenApp(APP) };
      const kit = await startKit({ command: ['/bin/sh', '-c', limited], env });
      const { port } = await kit.ready();
      const database = createServer().listen(0, '127.0.0.1');
      after(() => database.close());
      await once(database, 'listening');

      const answers = new Map<Socket, string>();
      for (let count = 0; count < CONNECTIONS; count++) {
        const socket = connect(port, '127.0.0.1').on('error', () => undefined);
        socket.setEncoding('latin1').on('data', text => answers.set(socket, (answers.get(socket) ?? '') + text));
        socket.write(requestText('/'));
        answers.set(socket, '');
      }
      await until(
        () => [...answers.values()].every(answer => /^HTTP\/1\.1 200 OK[\s\S]*ok$/.test(answer)) || undefined,
        () => `${[...answers.values()].filter(answer => answer === '').length} without an answer; ${kit.transcript()}`,
      );
      const full = kit.all('connections.full');
      assert.deepEqual([full[0]?.max, full.length <= 2], [78, true]);
      const { port: databasePort } = database.address() as AddressInfo;
      assert.equal((await request(port, `/database?port=${databasePort}`)).body, 'connected');

      await Promise.all([...answers.keys()].map(ended));
      await kit.statusWhere(({ workers }) => workers.every(({ connections }) => connections === 0));
      assert.match((await kit.probe('/metrics')).body, /^bosun_reclaimed_connections_total [1-9]/m);
      assert.deepEqual(kit.all('worker.exit'), []);
      assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
    });
  }
});

async function ended(socket: Socket): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  if (socket.closed) return;
  socket.once('close', () => resolve()).destroy();
  return promise;
}
