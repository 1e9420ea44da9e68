/**
 * 500 clients of WebSockets and event streams over SOAK_ROLLS rolling restarts: whether all come back, how soon, and at which rate.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { readyPids } from '../process/capacity.ts';
import { CLEAN } from '../process/kit.ts';
import { startOperated } from '../process/operator.ts';
import { allServed, type Kind, mostWithin, ReconnectingClient } from '../process/reconnecting.ts';

const { SOAK_ROLLS: ROLLS = '20' } = process.env;
const WORKERS = 2;
/** The large ones get 2 MB of messages a second, compressed, which takes CPU time from all others. */
const KINDS: Record<Kind, number> = { ws: 203, large: 2, polite: 0, events: 150, graphql: 95, 'socket.io': 50 };
/** A worker closes 100 a second. Random hints, and a busy machine, move some of them together; all at once they come back at 250 and more. */
const MAX_RETURNS_PER_SECOND = 200;
const SOON_MS = 2000;

test(`500 clients come back over ${ROLLS} rolling restarts, most within 2 s, at a bounded rate`, async () => {
  const env = { NODE_CLUSTER_WORKERS: String(WORKERS) };
  const { kit, port, bosun } = await startOperated({ app: 'sockets.mjs', env });
  const clients = Object.entries(KINDS).flatMap(([kind, count]) =>
    Array.from({ length: count }, () => new ReconnectingClient(kind as Kind, port)),
  );
  after(() => {
    for (const client of clients) client.close();
  });
  await allServed(clients, () => true, 60_000);
  const rates: number[] = [];
  const rollMs: number[] = [];
  for (let roll = 0; roll < Number(ROLLS); roll++) {
    const startedAt = performance.now();
    const { code, stderr } = await bosun('restart');
    assert.equal(code, 0, stderr);
    rollMs.push(performance.now() - startedAt);
    const young = await readyPids(kit);
    await allServed(clients, pid => young.includes(pid), 60_000);
    const returns = clients.flatMap(client => client.returns.filter(({ at }) => at >= startedAt).map(({ at }) => at));
    rates.push(mostWithin(returns, 1000));
  }
  const { cutRequests, webSockets, eventStreams } = (await kit.status()).drains;
  const goneMs = clients.flatMap(({ returns }) => returns.map(each => each.goneMs)).sort((a, b) => a - b);
  const soon = goneMs.filter(ms => ms <= SOON_MS).length / goneMs.length;
  const at = (share: number) => Math.round(goneMs[Math.floor(share * (goneMs.length - 1))] ?? 0);
  const mean = rollMs.reduce((sum, ms) => sum + ms, 0) / rollMs.length;
  console.log(
    `${clients.length} clients, ${ROLLS} rolls of ${Math.round(mean)} ms: ${goneMs.length} returns, after ${at(0)}/${at(0.5)}/${at(0.99)}/${at(1)} ms`,
    `(min/median/p99/max), ${(soon * 100).toFixed(1)} % within ${SOON_MS} ms, at most ${Math.max(...rates)} in a second; closed by the kit:`,
    `${webSockets.byKit} WebSockets, ${eventStreams.byKit} event streams; by others: ${webSockets.byApp + eventStreams.byApp}; aborted: ${cutRequests}`,
  );
  const retries = clients.reduce((sum, client) => sum + client.retries, 0);
  assert.ok(retries < goneMs.length / 100, `${retries} attempts of ${goneMs.length} failed first`);
  const faults = clients.flatMap(({ kind, faults }) => faults.map(fault => `${kind}: ${fault}`));
  assert.deepEqual(faults, []);
  const ends = new Set(clients.flatMap(client => client.ends));
  assert.deepEqual([...ends].map(String).sort(), ['1012', 'end']);
  assert.deepEqual([cutRequests, webSockets.byApp, eventStreams.byApp], [0, 0, 0]);
  assert.ok(soon > 0.8, `${soon} within ${SOON_MS} ms`);
  assert.ok(Math.max(...rates) <= MAX_RETURNS_PER_SECOND, `${rates} returns in a second`);
  assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
});
