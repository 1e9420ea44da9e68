import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { ask } from './clients.ts';
import { startKit } from './kit.ts';

test('with LOG_REQUESTS every answered request is a line, without its query, and every line parses', async () => {
  const kit = await startKit({ app: 'koa.mjs', env: { LOG_REQUESTS: 'true' } });
  const { port } = await kit.ready();
  await ask(port, '/?token=secret');
  await ask(port, '/nothing-there');
  const found = await kit.event('request', ({ path }) => path === '/');
  assert.deepEqual({ method: found.method, status: found.status }, { method: 'GET', status: 200 });
  await kit.event('request', ({ path }) => path === '/nothing-there');
  assert.deepEqual(await kit.stop(), { code: 0, signal: null });
  assert.equal(kit.stderr, ''); // where the kit of these tests puts lines that are no JSON
  assert.doesNotMatch(kit.transcript(), /secret/);
});

test('when nobody reads its log any more the server goes on, with the same workers', async () => {
  const kit = await startKit({ app: 'koa.mjs', env: { LOG_REQUESTS: 'true' } });
  const { port } = await kit.ready();
  const before = (await kit.status()).workers.map(({ pid }) => pid);
  kit.process.stdout?.destroy();
  for (let asked = 0; asked < 50; asked++) assert.equal((await ask(port, '/')).status, 200);
  assert.deepEqual(
    (await kit.status()).workers.map(({ pid }) => pid),
    before,
  );
  kit.signal('SIGTERM');
  assert.deepEqual(await once(kit.process, 'exit'), [0, null]);
});

test('a reader that stands still holds up neither the requests nor the exit', async () => {
  const kit = await startKit({ app: 'koa.mjs', env: { LOG_REQUESTS: 'true' } });
  const { port } = await kit.ready();
  kit.process.stdout?.removeAllListeners('data');
  kit.process.stdout?.pause();
  // Above what a pipe and the reader's own buffer hold.
  const path = `/${'x'.repeat(4000)}`;
  for (let asked = 0; asked < 100; asked++) assert.equal((await ask(port, path)).status, 404);
  kit.signal('SIGTERM');
  const ended = once(kit.process, 'exit').then(([code]) => code);
  assert.equal(await Promise.race([ended, pause(20_000, 'still there', { ref: false })]), 0);
});
