/**
 * Under `node --watch`, and under nodemon, which sends SIGUSR2 to the whole process tree of a program on a save, and starts it again, at once where a shell was in between.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { freePort } from '../free-port.ts';
import { until } from '../until.ts';
import { RawClient, request } from './clients.ts';
import { CLEAN, ROOT, startKit } from './kit.ts';
import { temporaryFolder } from './operator.ts';

test('outside production SIGUSR2 ends the pool despite an open request, and its successor on the same ports can start meanwhile', async () => {
  const env = { PORT: String(await freePort()), ADMIN_PORT: String(await freePort()) };
  const first = await startKit({ app: 'koa.mjs', env, detached: true });
  const { port } = await first.ready();
  await using client = await RawClient.open(port);
  client.write('GET /slow?ms=60000&mark=open HTTP/1.1\r\nHost: x\r\n\r\n');
  await first.begun('open');
  process.kill(-first.pid, 'SIGUSR2');
  await first.event('shutdown.drain');
  const second = await startKit({ app: 'koa.mjs', env });
  const { code } = await first.exit();
  assert.equal(code, 1, 'the request was aborted');
  assert.equal((await first.event('request.cut')).path, '/slow');
  assert.deepEqual(first.all('worker.diagnosed'), []);
  await first.workersGone();
  await second.ready();
});

test('under node --watch a save of the app restarts the pool, and nothing is left at the end', async () => {
  const folder = temporaryFolder();
  const save = (text: string) => writeFileSync(join(folder, 'app.cjs'), `module.exports = (req, res) => res.end('${text}');`);
  save('one');
  const port = await freePort();
  const kit = await startKit({
    command: [process.execPath, '--watch', '--watch-preserve-output', join(ROOT, 'src', 'cli', 'bosun.ts'), 'start', 'app.cjs'],
    cwd: folder,
    env: { PORT: String(port), NODE_CLUSTER_WORKERS: '1' },
    detached: true,
  });
  await kit.ready();
  assert.equal((await request(port, '/')).body, 'one');
  save('two');
  const answer = () => request(port, '/').catch(() => undefined);
  await until(
    async () => (await answer())?.body === 'two' || undefined,
    () => kit.transcript(),
  );
  assert.deepEqual(kit.all('app.sends-message'), []);
  assert.equal((await kit.event('primary.exit')).code, 0);
  const { signal } = await kit.stop('SIGINT');
  assert.equal(signal, CLEAN.signal, kit.transcript());
  await kit.workersGone();
});
