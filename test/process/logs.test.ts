import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { until } from '../until.ts';
import { RawClient, request, requestText } from './clients.ts';
import { ROOT, startKit } from './kit.ts';

/** Gives a command a terminal of its own (util-linux). */
const noScript = spawnSync('script', ['--version']).error && 'there is no script(1) to make a terminal with';

test('with LOG_REQUESTS each response is a log line of valid JSON, without the query', async () => {
  const kit = await startKit({ app: 'koa.mjs', env: { LOG_REQUESTS: 'true' } });
  const { port } = await kit.ready();
  await request(port, '/?token=secret');
  await request(port, '/nothing-there');
  const found = await kit.event('request', ({ path }) => path === '/');
  assert.deepEqual({ method: found.method, status: found.status }, { method: 'GET', status: 200 });
  await kit.event('request', ({ path }) => path === '/nothing-there');

  // Two pipelined requests, and one whose client leaves.
  await using client = await RawClient.open(port);
  client.write(requestText('/users/17') + requestText('/users/1234567'));
  const bodies = await kit.event('request', ({ path }) => path === '/users/1234567');
  const first = await kit.event('request', ({ path }) => path === '/users/17');
  assert.deepEqual([first.status, first.route, bodies.route, first.aborted], [404, '/users/:id', '/users/:id', undefined]);
  await until(
    () => client.unread.length === Number(first.bytes) + Number(bodies.bytes) || undefined,
    () => `${first.bytes} and ${bodies.bytes} bytes logged, ${client.unread.length} received`,
  );
  const leaving = await RawClient.open(port);
  leaving.write(requestText('/slow?ms=60000&mark=leaves'));
  await kit.begun('leaves');
  leaving.close();
  const aborted = await kit.event('request', ({ path }) => path === '/slow');
  assert.deepEqual([aborted.aborted, aborted.status, aborted.bytes], [true, undefined, 0]);
  assert.deepEqual(await kit.stop(), { code: 0, signal: null });
  assert.equal(kit.stderr, ''); // where the kit of these tests puts lines that are no JSON
  assert.doesNotMatch(kit.transcript(), /secret/);
});

test('a pool whose log has no reader any more serves on, with the same workers', async () => {
  const kit = await startKit({ app: 'koa.mjs', env: { LOG_REQUESTS: 'true' } });
  const { port } = await kit.ready();
  const before = (await kit.status()).workers.map(({ pid }) => pid);
  kit.process.stdout?.destroy();
  for (let requested = 0; requested < 50; requested++) assert.equal((await request(port, '/')).status, 200);
  assert.deepEqual(
    (await kit.status()).workers.map(({ pid }) => pid),
    before,
  );
  kit.signal('SIGTERM');
  assert.deepEqual(await once(kit.process, 'exit'), [0, null]);
});

test('a log reader that does not read delays neither requests nor the exit', async () => {
  const kit = await startKit({ app: 'koa.mjs', env: { LOG_REQUESTS: 'true' } });
  const { port } = await kit.ready();
  kit.process.stdout?.removeAllListeners('data');
  kit.process.stdout?.pause();
  // Above what a pipe and the reader's own buffer hold.
  const path = `/${'x'.repeat(4000)}`;
  for (let requested = 0; requested < 100; requested++) assert.equal((await request(port, path)).status, 404);
  kit.signal('SIGTERM');
  const ended = once(kit.process, 'exit').then(([code]) => code);
  assert.equal(await Promise.race([ended, pause(20_000, 'still there', { ref: false })]), 0);
});

test('on a terminal log lines are text with time, level in colour, event and fields, not JSON', {
  skip: noScript ?? false,
}, async () => {
  const main = `"${process.execPath}" "${join(ROOT, 'src', 'main.ts')}"`;
  const env = { LOG_REQUESTS: 'true', TERM: 'xterm-256color' };
  const kit = await startKit({ app: 'chatty.mjs', command: ['script', '-qefc', main, '/dev/null'], env });
  const shown = (pattern: RegExp) =>
    until(
      () => pattern.exec(kit.stderr) ?? undefined, // where the kit of these tests puts lines that are no JSON
      () => `${pattern} expected: ${kit.transcript()}`,
      30_000,
    );
  await shown(/ pool\.ready /);
  const [, port] = await shown(/ app\.listening .*url=http:\/\/127\.0\.0\.1:(\d+)/);
  const { colours } = JSON.parse((await request(Number(port), '/?token=secret')).body);
  assert.equal(colours, '2'); // 256 colours, for an app that writes into a pipe now
  await shown(/ request .*path=\//);
  process.kill(Number((await kit.status()).pid), 'SIGTERM');
  assert.deepEqual(await kit.exit(), { code: 0, signal: null });
  assert.deepEqual(kit.events, []);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the colours of a terminal
  const line = /^\d\d:\d\d:\d\d\.\d{3} \u001b\[\d+m(?:info|warn) *\u001b\[\d+m [a-z.-]+(?: \S.*)?$/;
  for (const text of kit.stderr.trimEnd().split('\n')) assert.match(text.trimEnd(), line);
  assert.doesNotMatch(kit.stderr, /secret/);
});
