/**
 * An app's own signal listeners close databases and exit. The kit calls them when their worker has no open requests, whichever process the
 * signal was sent to: the primary alone, or the whole process group (Ctrl-C, dumb-init, systemd).
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { RawClient } from './clients.ts';
import { CLEAN, type Kit, type KitOptions, startKit } from './kit.ts';
import { temporaryFolder } from './operator.ts';
import { writtenApp } from './written-app.ts';

/** An app whose requests take 1 s, after `body`, which has `note(name)` for the log; each note has how many requests were open. */
const app = (body: string) =>
  writtenApp(`
  let open = 0;
  const note = (name, more) => kit.log.info({ event: 'test.note', name, open, ...more });
  ${body}
  return async (req, res) => {
    open++;
    note('begun');
    await sleep(req.url === '/never' ? 1e6 : 1000);
    open--;
    res.end('{}');
  };`);

const start = (body: string, options: KitOptions = {}) =>
  startKit({ detached: true, ...options, env: { APP_MODULE: app(body), ...options.env } });

const signalGroup = (kit: Kit, signal: NodeJS.Signals) => process.kill(-kit.pid, signal);

/** The notes of each worker, except those of its requests. */
const notes = (kit: Kit) => kit.all('test.note').flatMap(({ name, open }) => (name === 'begun' ? [] : [`${name} ${open}`]));

/** An open request. */
async function openRequest(kit: Kit, path = '/'): Promise<RawClient> {
  const { port } = await kit.listening();
  const client = await RawClient.open(port);
  const before = kit.all('test.note').length;
  client.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`);
  await kit.event('test.note', () => kit.all('test.note').length > before);
  return client;
}

/** As in many apps. */
const EXITS = (signal: string) =>
  `process.on('${signal}', async () => { await sleep(50); note('${signal}'); await sleep(50); process.exit(0); });`;

describe("an app's own signal listener", { concurrency: 3 }, () => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    test(`an app's signal listener that exits runs after the last answer when the whole process group gets ${signal}`, async () => {
      const kit = await start(EXITS(signal), { env: { SHUTDOWN_DELAY_MS: '300' } });
      await kit.ready();
      await using one = await openRequest(kit);
      await using two = await openRequest(kit);
      signalGroup(kit, signal);
      signalGroup(kit, signal); // npm and a terminal send it twice
      assert.deepEqual([(await one.answer()).status, (await two.answer()).status], [200, 200]);
      assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
      assert.deepEqual(notes(kit), [`${signal} 0`, `${signal} 0`], 'once in each worker, with nothing open');
      for (const { reason, drain } of kit.all('worker.exit')) assert.ok(reason === 'shutdown' && drain !== undefined);
    });
  }

  test('a signal listener of the app runs once if only the primary gets the signal, in a rolling restart too, and may take time to close a database', async () => {
    const kit = await start(
      "process.once('SIGTERM', async () => { await sleep(1200); note('closed'); await sleep(50); process.exit(0); });",
      {
        env: { NODE_CLUSTER_WORKERS: '1' },
      },
    );
    await kit.ready();
    await using client = await openRequest(kit);
    kit.signal('SIGHUP');
    assert.equal((await client.answer()).status, 200);
    await kit.event('worker.exit');
    assert.deepEqual(notes(kit), ['closed 0']);
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
    assert.deepEqual(notes(kit), ['closed 0', 'closed 0']);
  });

  test('a signal listener of the app runs at the drain deadline if a request never ends, and the request is counted', async () => {
    const kit = await start(EXITS('SIGTERM'), { env: { SHUTDOWN_TIMEOUT_MS: '300', NODE_CLUSTER_WORKERS: '1' } });
    await kit.ready();
    await using client = await openRequest(kit, '/never');
    signalGroup(kit, 'SIGTERM');
    await client.ended();
    assert.deepEqual(await kit.exit(), { code: 1, signal: null });
    assert.deepEqual(notes(kit), ['SIGTERM 1']);
    assert.equal((await kit.event('request.cut')).path, '/never');
  });

  for (const [how, body, expected] of [
    ['is set by a module that was loaded before the kit', '', []],
    ['throws', "process.on('SIGTERM', () => { note('SIGTERM'); throw null; });", ['SIGTERM 0']],
    ['rejects', "process.on('SIGTERM', async () => { note('SIGTERM'); throw new Error('no'); });", ['SIGTERM 0']],
    ['never ends', "process.on('SIGTERM', () => { note('SIGTERM'); return new Promise(() => {}); });", ['SIGTERM 0']],
    [
      'exits by a callback',
      "process.on('SIGTERM', () => { setTimeout(() => { note('SIGTERM'); setTimeout(() => process.exit(0), 50); }, 100); });",
      ['SIGTERM 0'],
    ],
    [
      'signals its process again',
      "process.once('SIGTERM', async () => { note('SIGTERM'); await sleep(50); process.kill(process.pid, 'SIGTERM'); });",
      ['SIGTERM 0'],
    ],
    ['was taken off', "const off = () => note('off'); process.on('SIGTERM', off); process.off('SIGTERM', off);", []],
    [
      'was taken off with all others',
      "process.on('SIGTERM', () => note('off')); process.removeAllListeners('SIGTERM'); process.removeAllListeners();",
      [],
    ],
    ['is for SIGHUP', "process.on('SIGHUP', () => note('SIGHUP'));", []],
    ['emits it', "process.on('SIGTERM', () => note('SIGTERM')); process.emit('SIGTERM', 'SIGTERM');", ['SIGTERM 0']],
  ] as const) {
    test(`a signal listener of the app that ${how} neither aborts a request nor delays the exit`, async () => {
      const preload = join(temporaryFolder(), 'preload.mjs');
      writeFileSync(
        preload,
        "import cluster from 'node:cluster'; if (cluster.isWorker) process.on('SIGTERM', () => { console.log('preloaded'); process.exit(0); });",
      );
      const isPreloaded = how.startsWith('is set by');
      const kit = await start(body, {
        env: { NODE_CLUSTER_WORKERS: '1', ...(isPreloaded && { NODE_OPTIONS: `--import=${preload}` }) },
      });
      await kit.ready();
      await using client = await openRequest(kit);
      signalGroup(kit, 'SIGTERM');
      assert.equal((await client.answer()).status, 200, kit.transcript());
      assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
      if (!isPreloaded) assert.deepEqual(notes(kit), expected);
      assert.equal((kit.all('worker.exit')[0]?.drain as { finished: number } | undefined)?.finished, 1);
    });
  }

  test('no timer of the kit keeps a worker alive once a signal listener of the app has returned', async () => {
    const file = join(temporaryFolder(), 'alive');
    const kit = await start(
      `process.on('SIGTERM', () => note('SIGTERM'));
      process.on('exit', () => createRequire('/')('fs').writeFileSync('${file}', process.getActiveResourcesInfo().join()));`,
      { env: { NODE_CLUSTER_WORKERS: '1' } },
    );
    await kit.ready();
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
    assert.deepEqual(notes(kit), ['SIGTERM 0']);
    assert.doesNotMatch(readFileSync(file, 'utf8'), /Timeout/);
  });
});
