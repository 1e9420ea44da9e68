/**
 * Node.js options, as they reach the workers.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { request, requestJson } from './clients.ts';
import { CLEAN, ROOT, startKit } from './kit.ts';
import { temporaryFolder } from './operator.ts';
import { writtenApp } from './written-app.ts';

const MIB = 2 ** 20;
const APP = `
  const v8 = await import('node:v8');
  let evaluates = true;
  try { new Function('return 1')(); } catch { evaluates = false; }
  const { title, execArgv, env } = process;
  return (req, res) => res.end(JSON.stringify({ title, execArgv, nodeOptions: env.NODE_OPTIONS, evaluates, heap: v8.getHeapStatistics().heap_size_limit }));`;

interface Said {
  title: string;
  execArgv: string[];
  nodeOptions: string;
  evaluates: boolean;
  heap: number;
}

const MAIN = join(ROOT, 'src', 'main.ts');
const READ_ALL = ['--permission', '--allow-fs-read=*'];

describe('Node.js options', { concurrency: 3 }, () => {
  test('Node.js options on the command line and in NODE_OPTIONS apply to the workers', async () => {
    const kit = await startKit({
      command: [process.execPath, '--max_heap_size=210', '--disallow-code-generation-from-strings', MAIN],
      env: {
        NODE_OPTIONS: '--title="an app" --enable-source-maps --max-http-header-size=32768',
        NODE_CLUSTER_WORKERS: '1',
        APP_MODULE: writtenApp(APP),
      },
    });
    const { port } = await kit.ready();
    const { title, execArgv, nodeOptions, evaluates, heap } = await requestJson<Said>(port, '/');
    assert.deepEqual([title, evaluates, heap], ['an app', false, 210 * MIB]);
    assert.equal(nodeOptions, '"--title=an app" --enable-source-maps --max-http-header-size=32768');
    assert.deepEqual(execArgv.slice(0, 2), ['--disallow-code-generation-from-strings', '--max-heap-size=210']);
    assert.equal((await request(port, '/', { headers: { 'X-Large': 'x'.repeat(20_000) } })).status, 200);
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });

  test('Node.js options in WORKER_NODE_OPTIONS apply to the workers only, and take precedence there', async () => {
    const kit = await startKit({
      command: [process.execPath, '--max-old-space-size=100', '--title=primary', MAIN],
      env: {
        WORKER_NODE_OPTIONS: '--max-heap-size=220 --title="a worker"',
        NODE_CLUSTER_WORKERS: '1',
        APP_MODULE: writtenApp(APP),
      },
    });
    const { port } = await kit.ready();
    const { title, heap, nodeOptions } = await requestJson<Said>(port, '/');
    assert.deepEqual([title, heap, nodeOptions], ['a worker', 220 * MIB, '']);
  });

  test('Node.js options that cannot apply end the start with code 78 and the reason', async () => {
    const refused = await startKit({
      command: [process.execPath, ...READ_ALL, '--report-on-signal', MAIN],
      env: {
        NODE_OPTIONS: '--max-http-header-size=20000',
        MAX_HEADER_BYTES: '16384',
        PORT: 'none',
        NODE_COMPILE_CACHE: undefined,
      },
    });
    assert.equal((await refused.exit()).code, 78);
    for (const reason of [
      /--permission \(command line\) is refused: the kit needs --allow-child-process, --allow-net, --allow-fs-write=/,
      /--report-on-signal needs a --report-signal other than SIGUSR2/,
      /PORT must be a port from 0 to 65535, got "none"/,
      /--max-http-header-size and MAX_HEADER_BYTES must be the same, got 20000 and 16384/,
    ])
      assert.match(refused.stderr, reason);
  });

  test('unknown Node.js options in .env end the start with code 78 and the reason', async () => {
    const cwd = temporaryFolder();
    writeFileSync(join(cwd, '.env'), 'NODE_OPTIONS=--no-such-option');
    const kit = await startKit({ cwd, env: { APP_MODULE: writtenApp(APP) } });
    assert.equal((await kit.exit()).code, 78, kit.transcript());
    assert.match(kit.stderr, /NODE_OPTIONS must be options that Node\.js accepts in NODE_OPTIONS, but has --no-such-option/);
  });

  test('a Node.js option with an invalid value ends the first start at once, with code 1 and the reason', async () => {
    const kit = await startKit({ env: { WORKER_NODE_OPTIONS: '--secure-heap=3', APP_MODULE: writtenApp(APP) } });
    assert.equal((await kit.exit()).code, 1, kit.transcript());
    assert.match(String((await kit.event('primary.abort')).error), /^exit code 9: Node\.js rejects its options, see the log/);
    assert.match(kit.stderr, /--secure-heap must be a power of 2/);
  });

  test('options of the permission model apply if they allow what the kit needs', async () => {
    const permissions = [
      ...READ_ALL,
      '--allow-fs-write=/tmp/*',
      '--allow-fs-write=/dev/*',
      '--allow-child-process',
      '--allow-net',
    ];
    const app = writtenApp(
      "process.chdir('/'); const fs = await import('node:fs'); let denied = ''; try { fs.writeFileSync('/var/koa-bosun', '') } catch (error) { denied = error.code } return (req, res) => res.end(denied);",
    );
    const kit = await startKit({
      command: [process.execPath, ...permissions, MAIN],
      env: { APP_MODULE: app, NODE_CLUSTER_WORKERS: '1' },
    });
    const { port } = await kit.ready();
    assert.equal((await request(port, '/')).body, 'ERR_ACCESS_DENIED');
    assert.ok(kit.all('node-options.warning').length > 0);
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });
});
