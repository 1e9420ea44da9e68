/**
 * Concurrent operations that take workers out of the rotation: one worker always serves.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { requestJson } from './clients.ts';
import { postControl, startOperated } from './operator.ts';
import { writtenApp } from './written-app.ts';

test('of two concurrent cordons one is refused, and one worker always serves', async () => {
  const { kit, port, socket, bosun } = await startOperated({ app: 'koa.mjs', env: { NODE_CLUSTER_WORKERS: '3' } });
  const cordon = async (worker: number, verb = 'cordon') =>
    (await postControl(socket, `/${verb}`, JSON.stringify({ worker }))).body;
  for (let round = 0; round < 5; round++) {
    const answers = await Promise.all([1, 2, 3].map(worker => cordon(worker)));
    assert.equal(answers.filter(answer => answer.includes('"result"')).length, 2, answers.join());
    assert.equal(answers.filter(answer => answer.includes('is the only one that serves')).length, 1, answers.join());
    assert.equal((await kit.status()).workers.filter(({ state }) => state === 'ready').length, 1);
    assert.ok((await requestJson<{ pid: number }>(port, '/')).pid > 0);
    // Out and in again before the worker has acknowledged the first: the last request counts.
    const cordoned = (await kit.status()).workers.filter(({ state }) => state === 'cordoned').map(({ id }) => id);
    await Promise.all(cordoned.map(worker => cordon(worker, 'uncordon')));
    await kit.statusWhere(({ workers }) => workers.every(({ state }) => state === 'ready'));
  }
  const twice = await Promise.all([cordon(1), cordon(1)]);
  assert.equal(twice.filter(answer => answer.includes('is cordoned, expected ready')).length, 1, twice.join());
  assert.equal((await bosun('uncordon', '1')).code, 0);
});

test('a worker does not drain while its replacement is cordoned', async () => {
  const app = writtenApp('return (req, res) => res.end(JSON.stringify({ pid: process.pid }));');
  const { kit, port, socket, bosun, start } = await startOperated({ env: { APP_MODULE: app, NODE_CLUSTER_WORKERS: '1' } });
  const [old] = kit.workerPids;
  const restart = start('restart');
  await kit.event('worker.ready', ({ worker }) => worker === 2);
  // Without `bosun`, whose start takes longer than a new worker's trial time.
  assert.match((await postControl(socket, '/cordon', '{"worker":2}')).body, /"result"/);
  const refused = await bosun('cordon', '1');
  assert.match(refused.stderr, /worker 1 is the only one that serves/);
  // It keeps serving, however long the other one has been ready.
  await kit.statusWhere(({ workers }) => workers.some(({ id, uptimeSeconds }) => id === 2 && uptimeSeconds > 3));
  assert.equal((await requestJson<{ pid: number }>(port, '/')).pid, old);
  assert.equal((await bosun('uncordon', '2')).code, 0);
  assert.equal((await restart.ended).code, 0);
  assert.notEqual((await requestJson<{ pid: number }>(port, '/')).pid, old);
});
