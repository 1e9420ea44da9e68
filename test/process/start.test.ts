/**
 * What `bosun start` serves, and how: the module of package.json, its arguments, a module that has to run as main.
 */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { request } from './clients.ts';
import { CLEAN, ROOT, startKit } from './kit.ts';
import { Running, startOperated, temporaryFolder } from './operator.ts';

const CLI = join(ROOT, 'src', 'cli', 'bosun.ts');
const ANSWERS =
  '(request, response) => response.end(JSON.stringify([process.argv.slice(2), globalThis.preloaded, require.main === module]))';

describe('bosun start', { concurrency: 3 }, () => {
  test('bosun start serves main of package.json, with the arguments after -- and what --import and --require load in workers only', async () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'package.json'), '{"main":"./server"}');
    writeFileSync(join(folder, 'server.js'), `module.exports = ${ANSWERS};`);
    writeFileSync(
      join(folder, 'one.mjs'),
      "globalThis.preloaded = [...(globalThis.preloaded ?? []), 'one']; console.log('preloads in', process.pid);",
    );
    writeFileSync(join(folder, 'and two.cjs'), "globalThis.preloaded = [...(globalThis.preloaded ?? []), 'two'];");
    const options = ['--import', './one.mjs', '--require', './and two.cjs', '--', '--flag', 'x'];
    const kit = await startKit({ command: [process.execPath, CLI, 'start', ...options], cwd: folder });
    const { port } = await kit.ready();
    const { body } = await request(port, '/');
    const [args, preloaded, isMain] = JSON.parse(body);
    assert.deepEqual(args, ['--flag', 'x']);
    assert.deepEqual(preloaded.sort(), ['one', 'two']);
    assert.equal(isMain, false);
    assert.ok(kit.stderr.includes('preloads in'));
    assert.ok(!kit.stderr.includes(`preloads in ${kit.pid}`));
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });

  test('a module that exports an app only as main is run as main, at the start and in a later release; no start counts as failed', async () => {
    const folder = temporaryFolder();
    const file = join(folder, 'server.cjs');
    writeFileSync(file, `module.exports = ${ANSWERS};`);
    const { kit, port, bosun } = await startOperated({ env: { APP_MODULE: file, NODE_CLUSTER_WORKERS: '1' } });
    writeFileSync(file, `if (require.main === module) module.exports = ${ANSWERS};`);
    const { code, stdout, stderr } = await bosun('restart');
    assert.deepEqual([code, stderr], [0, ''], stdout);
    assert.match(String((await kit.event('app.run-as-main')).why), /server\.cjs exports no app and does not listen/);
    assert.deepEqual(JSON.parse((await request(port, '/')).body), [[], null, true]);
    const { restarts, failedStarts } = await kit.status();
    assert.deepEqual(restarts.byReason, { restart: 1, 'load-again': 1 });
    assert.equal((failedStarts as { count: number }).count, 0);
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());

    const again = await startKit({ env: { APP_MODULE: file, NODE_CLUSTER_WORKERS: '1' } });
    await again.ready();
    assert.equal(again.all('worker.failed').length, 0);
    assert.equal(again.all('app.run-as-main').length, 1);
  });

  test('without a module, bosun start says what it has looked for, and exits with 78 before it forks', async () => {
    const folder = temporaryFolder();
    mkdirSync(join(folder, 'sub'));
    for (const [args, message] of [
      [['start'], /APP_MODULE, or bosun start, must name the app: found none by main or exports\["\."\] in \S+package\.json/],
      [['start', 'sub'], /\/sub must name the app: found none/],
      [['start', 'gone.js'], /start needs the file of a module, got "gone\.js"/],
    ] as const) {
      const { code, stdout, stderr } = await new Running([...args], { cwd: folder, env: { PORT: '0', ADMIN_PORT: '0' } }).ended;
      assert.deepEqual([code, stdout], [78, ''], stderr);
      assert.match(stderr, message);
    }
  });

  test('bosun demo serves the demo app wherever it is started, in production too', async () => {
    const env = { NODE_ENV: 'production', NODE_CLUSTER_WORKERS: '1', SHUTDOWN_DELAY_MS: '0' };
    const kit = await startKit({ command: [process.execPath, CLI, 'demo'], cwd: temporaryFolder(), env });
    const { port } = await kit.ready();
    assert.equal((await request(port, '/api/counter')).status, 200);
    assert.equal(kit.all('app.demo').length, 0, 'the operator named it');
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });
});
