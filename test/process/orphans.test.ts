import assert from 'node:assert/strict';
import { fork, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { freePort } from '../free-port.ts';
import { until } from '../until.ts';
import { RawClient, requestJson, requestText } from './clients.ts';
import { type Kit, ROOT, startKit } from './kit.ts';
import { temporaryFolder } from './operator.ts';
import { isAlive } from './processes.ts';

const noProc = process.platform !== 'linux' && 'there is no /proc';
const noSetpriv =
  !spawnSync('setpriv', ['--help'], { encoding: 'utf8' }).stdout?.includes('--pdeathsig') &&
  'there is no setpriv(1) of util-linux';

/** A kit with a dead primary, and its workers' pids: one is permanently blocked, one is stopped. */
async function beheadedKit(env: Record<string, string>): Promise<{ kit: Kit; pids: number[] }> {
  const kit = await startKit({ app: 'koa.mjs', env });
  const { port } = await kit.ready();
  const client = await RawClient.open(port);
  client.write(requestText('/block?ms=600000&mark=blocked'));
  const { workerPid: blocked } = await kit.begun('blocked');
  const { pids, stopped } = { pids: kit.workerPids, stopped: kit.workerPids.find(pid => pid !== blocked) ?? 0 };
  process.kill(stopped, 'SIGSTOP');
  kit.signal('SIGKILL');
  await once(kit.process, 'exit');
  client.close();
  return { kit, pids };
}

const allGone = (pids: number[]) =>
  until(
    () => !pids.some(isAlive) || undefined,
    () => `still there: ${pids.filter(isAlive)}`,
  );

suite('workers end with their primary, blocked or stopped, and the next start has their port', {
  skip: noProc,
  concurrency: 2,
}, () => {
  test('the system ends workers with their primary, where it can', { skip: noSetpriv }, async () => {
    const env = { PORT: String(await freePort()) };
    const { pids } = await beheadedKit(env);
    await allGone(pids);
    const next = await startKit({ app: 'koa.mjs', env });
    await next.ready();
    assert.deepEqual(next.all('orphan.ended'), []);
  });

  test('the next start ends workers of a dead primary, but not those of a running pool', async () => {
    const env = { PORT: String(await freePort()), PATH: '' };
    const { kit, pids } = await beheadedKit(env);
    assert.deepEqual(pids.filter(isAlive), pids);
    const next = await startKit({ app: 'chatty.mjs', env });
    const { port } = await next.ready();
    const ended = next.all('orphan.ended').map(({ workerPid, primaryPid }) => ({ workerPid, primaryPid }));
    const byPid = (a: number, b: number) => a - b;
    assert.deepEqual(ended.map(({ workerPid }) => Number(workerPid)).sort(byPid), [...pids].sort(byPid));
    for (const { primaryPid } of ended) assert.equal(primaryPid, kit.pid);
    await allGone(pids);
    const { primary } = await requestJson<{ primary?: string }>(port, '/');
    assert.equal(primary, undefined); // a child process of the app is not a worker
    const third = await startKit({ app: 'koa.mjs', env });
    assert.deepEqual(await third.exit(), { code: 1, signal: null });
    assert.deepEqual(next.all('worker.exit'), []);
    assert.equal((await next.status()).state, 'ready');
  });

  test('a setpriv that does not work costs only one failed start', async () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'setpriv'), '#!/bin/sh\n# as one with --pdeathsig\nexit 127\n', { mode: 0o755 });
    const kit = await startKit({ app: 'koa.mjs', env: { PATH: folder, NODE_CLUSTER_WORKERS: '1' } });
    await kit.ready();
    assert.equal((await kit.event('worker.exit')).failure, 'exit code 127');
  });

  test('a worker whose primary dies during its start exits', async () => {
    const env = { ...process.env, NODE_UNIQUE_ID: '1', BOSUN_WORKER_ID: '1', BOSUN_PRIMARY: '1:3000' };
    const worker = fork(join(ROOT, 'src', 'main.ts'), { env, execArgv: [], stdio: 'ignore' });
    assert.deepEqual(await once(worker, 'exit'), [1, null]);
  });
});
