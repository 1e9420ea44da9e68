/**
 * The app shares the channel between its worker and the primary: no message of it ends a process or costs the primary memory.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { until } from '../until.ts';
import { RawClient } from './clients.ts';
import { scrape, sum } from './exposition.ts';
import { CLEAN, startKit } from './kit.ts';
import { writtenApp } from './written-app.ts';

/** By their path: what an app sends. `process._send` goes past what the kit does in the worker. */
const APP = `
  const { createServer, connect } = await import('node:net');
  const { default: cluster } = await import('node:cluster');
  const { once } = await import('node:events');
  const { fork } = await import('node:child_process');
  const { writeFileSync } = await import('node:fs');
  const received = [];
  process.on('message', message => received.push(message));
  cluster.worker.on('message', message => received.push(message));
  const cyclic = {};
  cyclic.itself = cyclic;
  const forged = message => process._send({ cmd: 'NODE_BOSUN', message }, null, {});
  const raw = message => process._send(message, null, {});
  const listening = () => new Promise(resolve => { const server = createServer().listen({ port: 0, exclusive: true }, () => resolve(server)); });
  const acts = {
    plain: () => { for (const odd of [null, 'text', 7, true, [], { type: 'broadcast' }, { type: 'stats', snapshot: null }]) { process.send(odd); cluster.worker.send(odd); raw(odd); } },
    throws: () => { for (const odd of [undefined, cyclic, 7n, () => 0]) try { process.send(odd); } catch {} },
    forged: () => { for (const odd of [null, undefined, 'stats', { type: 'stats', snapshot: null }, { type: 'broadcast' }, { type: '__proto__' }]) forged(odd); },
    node: () => {
      for (const cmd of ['NODE_HANDLE', 'NODE_HANDLE_ACK', 'NODE_HANDLE_NACK', 'NODE_CLUSTER', 'NODE_', 'NODE_SOCKET_ALL_CLOSED']) raw({ cmd });
      for (const ack of [0, 1, 2, null, 'x']) raw({ cmd: 'NODE_CLUSTER', ack });
      for (const act of ['listening', 'close', 'newconn', 'toString']) raw({ cmd: 'NODE_CLUSTER', act });
      for (const port of [-1, 1e9, 'x', null]) raw({ cmd: 'NODE_CLUSTER', act: 'queryServer', seq: 1, port, address: '256.1.1.1', addressType: 4 });
    },
    handles: async () => {
      for (let i = 0; i < 5; i++) {
        const server = await listening();
        const socket = connect(server.address().port, '127.0.0.1');
        await once(socket, 'connect');
        const other = connect(server.address().port, '127.0.0.1');
        await once(other, 'connect');
        process.send({ with: 'a socket' }, socket);
        process.send({ cmd: 'NODE_BOSUN', message: { type: 'exiting' } }, server);
        for (const each of [other._handle, other]) process.send({ cmd: 'NODE_BOSUN', message: { type: 'move', id: i } }, each);
        server.close();
      }
    },
    large: () => { for (let i = 0; i < 100; i++) process.send({ text: 'x'.repeat(1 << 20) }); },
    child: () => new Promise(resolve => {
      const file = process.env.APP_MODULE + '.child.mjs';
      writeFileSync(file, "process.send({ type: 'stats', snapshot: null }); process.on('message', () => process.exit())");
      const child = fork(file);
      child.once('message', () => child.send('go'));
      child.once('exit', resolve);
    }),
  };
  return async (req, res) => {
    await acts[req.url.slice(1)]?.();
    res.end(JSON.stringify({ pid: process.pid, received: received.length }));
  };`;

test('messages that an app sends to its parent end no process, and leave nothing open in the primary', async () => {
  const kit = await startKit({ env: { APP_MODULE: writtenApp(APP), NODE_CLUSTER_WORKERS: '1' } });
  const { port } = await kit.ready();
  await using client = await RawClient.open(port);
  const fds = () => readdirSync(`/proc/${kit.pid}/fd`).length;
  await kit.event('control.listening');
  await kit.status();
  const before = { fds: fds(), pid: (await client.requestJson<{ pid: number }>('/')).pid };
  for (const act of ['plain', 'throws', 'forged', 'handles', 'large', 'child']) {
    assert.equal((await client.request(`/${act}`)).status, 200, act);
  }
  // Messages sent earlier have arrived once the next report has.
  await kit.statusWhere(({ workers }) => workers[0]?.requests === 7);
  await until(
    () => fds() <= before.fds || undefined,
    () => `${before.fds} descriptors before, ${fds()} after`,
  );
  assert.deepEqual(await client.requestJson('/'), { pid: before.pid, received: 0 }, 'and no message of the kit comes to the app');
  // The worker itself may die of what Node.js makes of these; it is replaced.
  await client.request('/node');
  await kit.statusWhere(({ workers }) => workers.some(({ state, requests }) => state === 'ready' && requests >= 0));
  assert.equal(kit.all('worker.malformed-message').length, 1, 'reported once');
  assert.ok(sum(await scrape(kit), 'bosun_malformed_messages_total') >= 6);
  assert.equal(kit.all('app.sends-message').length, 1, 'reported once');
  const rssKb = Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${kit.pid}/status`, 'utf8'))?.[1]);
  assert.ok(rssKb < 300_000, `the primary has ${rssKb} KiB`);
  assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
});
