/**
 * WebSockets and server-sent events over a rolling restart and a shutdown, with the clients that people use.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { readyPids } from './capacity.ts';
import { CLEAN } from './kit.ts';
import { startOperated } from './operator.ts';
import { allServed, type Kind, ReconnectingClient } from './reconnecting.ts';

const KINDS: Record<Kind, number> = { ws: 4, large: 2, polite: 1, events: 3, graphql: 2, 'socket.io': 2 };

test('clients of WebSockets and event streams are closed one after the other with a hint, and all come back (case 12)', async () => {
  const { kit, port, bosun } = await startOperated({ app: 'sockets.mjs', env: { NODE_CLUSTER_WORKERS: '1' } });
  const [old] = await readyPids(kit);
  const clients = Object.entries(KINDS).flatMap(([kind, count]) =>
    Array.from({ length: count }, () => new ReconnectingClient(kind as Kind, port)),
  );
  after(() => {
    for (const client of clients) client.close();
  });
  await allServed(clients, pid => pid === old);
  const { code, stderr } = await bosun('restart');
  assert.equal(code, 0, stderr);
  const [young] = await readyPids(kit);
  await allServed(clients, pid => pid === young);
  for (const { kind, ends, faults } of clients) {
    assert.deepEqual([kind, faults], [kind, []]);
    assert.deepEqual([kind, ends], [kind, [kind === 'polite' ? 1001 : kind === 'events' ? 'end' : 1012]]);
  }
  const closedAt = clients.filter(({ kind }) => kind !== 'polite').flatMap(client => client.closedAt);
  assert.ok(Math.max(...closedAt) - Math.min(...closedAt) > 80, 'not all at once');
  const { drains } = await kit.status();
  assert.deepEqual(
    [drains.cutRequests, drains.webSockets, drains.eventStreams],
    [0, { byKit: 10, byApp: 1 }, { byKit: 3, byApp: 0 }],
  );
  const metrics = (await kit.probe('/metrics')).body;
  assert.match(metrics, /^bosun_drained_streams_total\{type="websocket",by="kit"\} 10$/m);
  assert.match(metrics, /^bosun_drained_streams_total\{type="event-stream",by="kit"\} 3$/m);
  assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
});
