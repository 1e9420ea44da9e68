/**
 * The kit and its packages are reinstalled under a running pool (`npm ci` in place): for some time the files are missing.
 */
import assert from 'node:assert/strict';
import { cpSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { RawClient, request, requestText } from './clients.ts';
import { CLEAN, ROOT, startKit } from './kit.ts';
import { temporaryFolder } from './operator.ts';

const APP = `import { Counter } from 'prom-client';
export default kit => {
  const requested = new Counter({ name: 'requested_total', help: 'Requests.', registers: [kit.metrics] });
  return (req, res) => {
    requested.inc();
    if (req.url === '/block') for (;;);
    res.end(String(process.pid));
  };
};`;

test('a pool keeps serving while its own files are missing and workers exit, and recovers when they are back', async () => {
  const folder = temporaryFolder();
  for (const name of ['src', 'package.json']) cpSync(join(ROOT, name), join(folder, name), { recursive: true });
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  const move = (from: string, to: string) => {
    for (const name of ['src', 'node_modules']) renameSync(join(folder, `${name}${from}`), join(folder, `${name}${to}`));
  };
  const app = join(folder, 'app.mjs');
  writeFileSync(app, APP);
  const kit = await startKit({
    cwd: folder,
    command: [process.execPath, join(folder, 'src', 'main.ts')],
    env: { APP_MODULE: app, NODE_CLUSTER_WORKERS: '3', WORKER_HEARTBEAT_TIMEOUT_MS: '1000' },
  });
  const { port } = await kit.ready();
  for (let count = 0; count < 30; count++) await request(port, '/');
  // Their metrics are reported once a second: the primary keeps those of an ended worker.
  await kit.statusWhere(({ workers }) => workers.reduce((sum, { requests }) => sum + requests, 0) === 30);
  const [victim = 0] = (await kit.status()).workers.filter(({ requests }) => requests > 0).map(({ pid }) => pid);
  move('', '.away');

  process.kill(victim, 'SIGKILL');
  await using hanging = await RawClient.open(port);
  hanging.write(requestText('/block'));
  await kit.event('worker.replace', ({ reason }) => reason === 'hung');
  await kit.event('pool.backoff', ({ ms }) => Number(ms) >= 400);
  assert.equal((await request(port, '/')).status, 200);
  assert.equal((await kit.probe('/readyz')).status, 200);
  assert.ok([200, 500].includes((await kit.probe('/metrics')).status));

  move('.away', '');
  await kit.event('worker.exit', ({ reason }) => reason === 'hung');
  await kit.statusWhere(({ workers }) => workers.filter(({ state }) => state === 'ready').length === 3);
  const counted = Number(/^requested_total (\d+)$/m.exec((await kit.probe('/metrics')).body)?.[1]);
  assert.ok(counted >= 30, `${counted} requests are counted`);
  assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
});
