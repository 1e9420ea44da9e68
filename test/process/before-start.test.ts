/**
 * BEFORE_START: a module that runs once before the first worker.
 */
import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { until } from '../until.ts';
import { RawClient } from './clients.ts';
import { CLEAN, type Kit, type KitOptions, startKit } from './kit.ts';
import { temporaryFolder } from './operator.ts';
import { isAlive } from './processes.ts';

interface Started {
  kit: Kit;
  folder: string;
}

/** Starts the kit in a folder with that module. */
async function startWith(
  source: string,
  { name = 'migrate.mjs', env = {} }: { name?: string; env?: KitOptions['env'] } = {},
): Promise<Started> {
  const folder = temporaryFolder();
  writeFileSync(join(folder, name), source);
  writeFileSync(join(folder, 'dependency.mjs'), 'export const answer = 42;\n');
  const kit = await startKit({
    app: 'koa.mjs',
    cwd: folder,
    env: { BEFORE_START: `./${name}`, NODE_CLUSTER_WORKERS: '1', ...env },
  });
  return { kit, folder };
}

/** Longer than the exit of a worker waits for its output. */
const EXIT_WAIT_MS = 1200;

const reportsPid = "console.log(JSON.stringify({ event: 'test.runs', pid: process.pid }));";

describe('BEFORE_START', { concurrency: 2 }, () => {
  test('its output is complete, however late the primary reads it', async () => {
    const source = `
      import { existsSync, writeFileSync } from 'node:fs';
      import { setTimeout as sleep } from 'node:timers/promises';
      export default async () => {
        console.log(JSON.stringify({ event: 'test.runs' }));
        while (!existsSync('go')) await sleep(10);
        for (let line = 0; line < 50; line++) console.log('x'.repeat(20_000));
        console.log(JSON.stringify({ event: 'test.last' }));
        writeFileSync('printed', '');
      };`;
    const { kit, folder } = await startWith(source);
    await kit.event('test.runs');
    kit.signal('SIGSTOP');
    writeFileSync(join(folder, 'go'), '');
    await until(
      () => existsSync(join(folder, 'printed')) || undefined,
      () => kit.transcript(),
    );
    await sleep(EXIT_WAIT_MS);
    kit.signal('SIGCONT');
    await kit.event('before-start.ended');
    assert.equal(kit.all('test.last').length, 1);
    assert.deepEqual(await kit.stop(), CLEAN);
  });

  test('its TypeScript module runs once, in a process of its own, and no worker starts before', async () => {
    const source = `
      import { answer } from './dependency.mjs';
      import { existsSync } from 'node:fs';
      import { createServer } from 'node:net';
      interface Context { log: { info(line: object): void }; config: { workers: object; redisPassword?: string } }
      export default async function migrate({ log, config }: Context): Promise<void> {
        // As a worker passes a connection to another one.
        const server = createServer((socket: any) => process.send!({ cmd: 'NODE_BOSUN', message: { type: 'move', id: 1 } }, socket._handle));
        await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
        log.info({ ...server.address(), event: 'test.runs', pid: process.pid, cwd: process.cwd(), own: process.env.OWN, answer, workers: config.workers });
        while (!existsSync('done')) await new Promise(resolve => setTimeout(resolve, 20));
        setInterval(() => undefined, 1000); // a pool of connections, say
      }`;
    const { kit, folder } = await startWith(source, { name: 'migrate.mts', env: { OWN: 'yes' } });
    const runs = await kit.event('test.runs');
    assert.deepEqual([runs.cwd, runs.own, runs.answer, runs.workers], [folder, 'yes', 42, { kind: 'count', count: 1 }]);
    assert.notEqual(runs.pid, kit.pid);
    const client = await RawClient.open(Number(runs.port));
    await kit.event('admin.listening');
    const probe = await kit.probe('/readyz');
    assert.equal(probe.status, 503);
    assert.match(probe.body, /starting: BEFORE_START has been running for \d+ s/);
    assert.equal((await kit.probe('/livez')).status, 200);
    kit.signal('SIGHUP'); // a rolling restart waits as well
    assert.deepEqual((await kit.status()).workers, []);
    writeFileSync(join(folder, 'done'), '');
    await kit.event('before-start.ended');
    assert.match(await client.ended(), /^(FIN|ECONNRESET)$/, 'the primary has not kept it');
    await kit.ready();
    await kit.event('pool.restarted');
    assert.equal(isAlive(Number(runs.pid)), false);
    assert.equal(kit.all('test.runs').length, 1);
    assert.deepEqual(await kit.stop(), CLEAN);
  });

  const failures: [what: string, source: string, error: RegExp, env?: KitOptions['env']][] = [
    ['throws', "export default () => { throw new Error('no such table'); };", /BEFORE_START failed: no such table/],
    [
      'rejects later',
      "export default () => { setTimeout(() => { throw new Error('too late'); }); return new Promise(() => setInterval(() => {}, 1000)); };",
      /too late/,
    ],
    ['exits', 'export default () => process.exit(3);', /has ended with exit code 3/],
    ['is missing an import', "import './missing.mjs';\nexport default () => {};", /migrate\.mjs can't be loaded: .*missing\.mjs/],
    [
      'does not exist',
      '',
      /none\.mjs does not exist; expected the module of BEFORE_START, which exports a function as default$/,
      { BEFORE_START: './none.mjs' },
    ],
    ['exports no function', 'export default 1;', /must export a function as default, got number/],
    ['never settles', 'export default () => new Promise(() => {});', /never settles/],
    [
      'takes too long',
      'export default () => new Promise(() => setInterval(() => {}, 1000));',
      /not ended within 300 ms \(START_TIMEOUT_MS\)/,
      { START_TIMEOUT_MS: '300' },
    ],
  ];
  for (const [what, source, error, env = {}] of failures) {
    test(`a module that ${what} ends the start with exit code 1, and no worker starts`, async () => {
      const { kit } = await startWith(source, { env });
      assert.deepEqual(await kit.exit(), { code: 1, signal: null });
      const [failed, abort] = [await kit.event('before-start.failed'), await kit.event('primary.abort')];
      assert.match(String(failed.error), error);
      assert.equal(abort.error, failed.error);
      if (what === 'throws') assert.match(String(failed.stack), /migrate\.mjs:1/);
      assert.deepEqual(kit.all('worker.ready'), []);
    });
  }

  test('SIGTERM while it runs ends it and the pod, with exit code 0', async () => {
    const { kit } = await startWith(
      `export default () => { ${reportsPid} return new Promise(() => setInterval(() => {}, 1000)); };`,
    );
    const { pid } = await kit.event('test.runs');
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
    assert.equal(isAlive(Number(pid)), false);
    assert.deepEqual(kit.all('before-start.failed'), []);
  });
});
