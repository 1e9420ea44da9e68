import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from '../until.ts';
import { RawClient, request, requestJson, requestText } from './clients.ts';
import { scrape, sum } from './exposition.ts';
import { CLEAN, startKit } from './kit.ts';
import { isAlive } from './processes.ts';
import { writtenApp } from './written-app.ts';

test('lines of every length and source, from two workers at once, are written whole', async () => {
  const kit = await startKit({ app: 'chatty.mjs' });
  const { port } = await kit.ready();
  const [lengths, lines, together] = [[10, 150, 6000, 30_000], 8, 4];
  const pids = new Set<number>();
  for (const bytes of lengths) {
    const chats = Array.from({ length: together }, () =>
      requestJson<{ pid: number }>(port, `/chat?lines=${lines}&bytes=${bytes}`),
    );
    for (const { pid } of await Promise.all(chats)) pids.add(pid);
  }
  assert.equal(pids.size, 2);
  assert.deepEqual(await kit.stop(), { code: 0, signal: null });
  assert.equal(kit.stderr, ''); // where the kit of these tests puts lines that are no JSON
  const written = lengths.length * lines * together;
  for (const name of ['test.logged', 'test.console', 'test.pieces']) assert.equal(kit.all(name).length, written, name);
  assert.ok(kit.all('test.native').length > 0);
});

test('20,000 unread log lines a second block no process; dropped ones are counted, and the reader gets the number', async () => {
  const kit = await startKit({ app: 'chatty.mjs' });
  const { port } = await kit.ready();
  const before = (await kit.status()).workers.map(({ pid }) => pid);
  kit.process.stdout?.pause();
  await request(port, '/flood');
  const dropped = await until(
    async () => sum(await scrape(kit), 'bosun_dropped_log_lines_total') || undefined,
    () => 'no line was dropped',
    30_000,
  );
  for (let requested = 0; requested < 20; requested++) {
    assert.equal((await kit.probe('/livez')).status, 200);
    assert.equal((await request(port, '/')).status, 200);
  }
  assert.deepEqual(
    (await kit.status()).workers.map(({ pid }) => pid),
    before,
  );
  kit.process.stdout?.resume();
  const { lines, stream } = await kit.event('log.dropped');
  assert.equal(stream, 'stdout');
  assert.ok(Number(lines) >= dropped);
  for (const _ of [1, 2, 3, 4]) await request(port, '/calm');
  await request(port, '/chat?lines=1&bytes=10');
  await kit.event('test.logged'); // all before it has been read
  assert.deepEqual(await kit.stop(), { code: 0, signal: null });
  assert.equal(kit.stderr, '');
});

for (const how of ['abort', 'kill', 'exit', 'memory']) {
  test(`the last output of a worker that ends by ${how} is written before its exit is logged`, async () => {
    const env = { NODE_CLUSTER_WORKERS: '1', NODE_OPTIONS: '--max-old-space-size=64' };
    const kit = await startKit({ app: 'chatty.mjs', env });
    const { port } = await kit.ready();
    await using client = await RawClient.open(port);
    client.write(requestText(`/end?how=${how}&child`));
    const gone = await kit.event('worker.exit');
    const names = kit.events.map(({ event }) => event);
    assert.ok(names.indexOf('test.last') !== -1 && names.indexOf('test.last') < names.indexOf('worker.exit'), kit.transcript());
    assert.match(kit.stderr, /^no end$/m);
    const last =
      how === 'memory' ? /FATAL ERROR: .*heap out of memory/ : /final output\n(?: {4}at there\n){1000} {4}at the end\n/;
    await until(
      () => last.test(kit.stderr) || undefined, // another stream, which is read in its own time
      () => kit.transcript(),
    );
    assert.ok(!isAlive(Number(gone.workerPid)));
    await kit.event('worker.ready', ({ workerPid }) => workerPid !== gone.workerPid);
  });
}

test("an app's own writes to descriptor 2 wait while the pipe is full, and do not fail", async () => {
  const app = writtenApp(`const fs = await import('node:fs');
    return (req, res) => {
      for (let count = 0; count < 200; count++) fs.writeSync(2, \`${'x'.repeat(9000)}\\n\`);
      res.end();
    };`);
  const kit = await startKit({ env: { APP_MODULE: app, NODE_CLUSTER_WORKERS: '1' } });
  const { port } = await kit.ready();
  assert.equal((await request(port, '/')).status, 200);
  assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  assert.equal(kit.stderr.split('\n').filter(line => line.startsWith('xxx')).length, 200);
});
