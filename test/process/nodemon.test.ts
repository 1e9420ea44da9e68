/**
 * Under nodemon, which sends SIGUSR2 to the whole process tree of a program on a save, and starts it again, at once where a shell was in between.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { freePort } from '../free-port.ts';
import { RawClient } from './clients.ts';
import { startKit } from './kit.ts';

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
