import assert from 'node:assert/strict';
import { test } from 'node:test';
import { everyWorker, RawClient } from '../process/clients.ts';
import type { LogEvent } from '../process/kit.ts';
import type { Count } from '../visitor.ts';
import { type App, startApp } from './app.ts';
import { withEngine } from './engine.ts';
import { DELAY_MS, stopUnderLoad } from './load.ts';

/** On a machine that is busy with other tests. */
const REPLACED_MS = 20_000;

for (const init of [false, true]) {
  test(
    `docker stop under load loses no request, primary ${init ? 'behind an init' : 'as PID 1'} (case 24)`,
    withEngine,
    async () => {
      const app = await startApp({ init, env: { SHUTDOWN_DELAY_MS: String(DELAY_MS), NODE_CLUSTER_WORKERS: '2' } });
      await app.ready();
      const stop = Promise.withResolvers<{ code: number; ms: number }>();
      const { kept, fresh } = await stopUnderLoad(app, async () => stop.resolve(await app.stop()));
      const { code, ms } = await stop.promise;
      assert.equal(code, 0, app.transcript());
      assert.ok(ms >= DELAY_MS && ms < DELAY_MS + 2000, `${ms} ms`);
      assert.equal(new Set([...kept.byPid.keys(), ...fresh.byPid.keys()]).size, 2, 'both workers were at work');
    },
  );
}

test('a killed worker is replaced while the other one serves', withEngine, async () => {
  const app = await startApp({ env: { NODE_CLUSTER_WORKERS: '2' } });
  await app.ready();
  const [victim, survivor] = (await app.status()).workers.map(({ pid }) => pid);
  assert.ok(victim && survivor);
  const clients: RawClient[] = [];
  const pids: number[] = [];
  const clientsOf = (pid: number) => clients.filter((_, i) => pids[i] === pid);
  // Which worker accepts depends on the load of the machine.
  while (clients.length < 40 && (clientsOf(victim).length < 2 || clientsOf(survivor).length < 2)) {
    const client = await RawClient.open(app.port);
    clients.push(client);
    pids.push(await pidOf(client));
  }
  assert.ok(clientsOf(victim).length >= 2 && clientsOf(survivor).length >= 2, String(pids));

  await app.output('node', '-e', `process.kill(${victim}, 'SIGKILL')`);
  const exit = await app.event('worker.exit');
  assert.equal(exit.workerPid, victim);
  assert.equal(exit.reason, 'killed');
  for (const client of clientsOf(victim)) await client.ended();

  const isReplacement = ({ event, workerPid }: LogEvent) =>
    event === 'worker.ready' && ![victim, survivor].includes(Number(workerPid));
  const seen = new Set<number>();
  const deadline = performance.now() + REPLACED_MS;
  do {
    for (const client of clientsOf(survivor)) assert.equal(await pidOf(client), survivor);
    seen.add(await pidOf(app));
    assert.ok(performance.now() < deadline, `no replacement; ${app.transcript()}`);
  } while (!app.events.some(isReplacement));
  const replacement = Number((await app.event('worker.ready', isReplacement)).workerPid);
  for (const pid of await everyWorker(app.port, 2, pidOf)) seen.add(pid);
  assert.deepEqual(seen, new Set([survivor, replacement]));
  assert.equal((await app.probe('/readyz')).status, 200);
  const { workers, restarts } = await app.status();
  assert.deepEqual(
    workers.map(({ state }) => state),
    ['ready', 'ready'],
  );
  assert.deepEqual(restarts.byReason, { killed: 1 });
});

/** Of the worker that answers on a connection, or on a new one. */
async function pidOf(client: RawClient | App): Promise<number> {
  const { status, body } = await client.request('/api/counter');
  assert.equal(status, 200, body);
  return (JSON.parse(body) as Count).pid;
}
