/**
 * `bosun status` and `bosun restart` as an operator reads them. Numbers are `#` in what is compared.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import { freePort } from '../free-port.ts';
import { until } from '../until.ts';
import { everyWorker } from './clients.ts';
import { startKit } from './kit.ts';
import { freshLoad } from './loads.ts';
import { Running, startOperated, temporaryFolder } from './operator.ts';
import { normalised, smallContainer } from './printed.ts';
import { shapeOf } from './shape.ts';

/** Most of a test is waiting. */
const CONCURRENCY = 4;

describe('bosun status', { concurrency: CONCURRENCY }, () => {
  test('bosun status shows the pool', async () => {
    const { kit, port, bosun } = await startOperated({
      app: 'koa.mjs',
      env: { SIZING_ROOT: smallContainer().path, NODE_CLUSTER_SCHED_POLICY: 'rr' },
    });
    await everyWorker(port, 2, async client => (await client.requestJson<{ pid: number }>('/')).pid);
    await kit.statusWhere(({ workers }) => workers.every(({ requests }) => requests > 0));
    await bosun('restart', '--worker', '2');
    assert.deepEqual(normalised(await bosun('status')), {
      code: 0,
      stderr: '',
      stdout: [
        'koa-bosun #, process #, ready for # s, generation #, policy rr',
        '# workers: as set; # CPUs (/sys/fs/cgroup/cpu.max)',
        'utilization # %',
        '',
        'worker pid state gen up conns open requests #xx/s #xx/s errors p# p# loop late rss',
        '# # ready # # s # # # # # # % # ms # ms # % # ms # MiB',
        '# # ready # # s # # # # # # % # ms # ms # % # ms # MiB',
        '',
        'ended workers: # (# restart); drains: #, # requests finished in them, # cut, # connections closed gracefully, # moved, longest # ms',
        '',
      ].join('\n'),
    });
  });

  test('bosun status --json prints what /status returns, in the shape of the contract', async () => {
    const { kit, bosun } = await startOperated({ app: 'koa.mjs', env: { SIZING_ROOT: smallContainer().path } });
    const { code, stdout } = await bosun('status', '--json');
    assert.equal(code, 0);
    const status = JSON.parse(stdout) as Record<string, unknown>;
    assert.deepEqual(shapeOf(status), shapeOf(await kit.status()));
    assert.deepEqual(Object.keys(status), [
      'version',
      'pod',
      'pid',
      'state',
      'generation',
      'uptimeSeconds',
      'service',
      'policy',
      'sizing',
      'utilization',
      'errors',
      'recentErrors',
      'workers',
      'restarts',
      'drains',
      'moved',
      'failedStarts',
      'rollingRestarts',
      'memory',
    ]);
    const { sizing, workers, restarts } = status as {
      sizing: { cpus: object; memory: object };
      workers: { responseTimeMs: object; memory: object }[];
      restarts: object;
    };
    assert.deepEqual(keysOf(sizing), ['cpus', 'memory', 'reason', 'wanted', 'warnings', 'workers']);
    assert.deepEqual(keysOf(sizing.cpus), ['cpuset', 'effective', 'quota', 'source']);
    assert.deepEqual(keysOf(sizing.memory), ['heapPerWorkerMb', 'limitBytes', 'semiSpaceMb', 'source']);
    assert.deepEqual(keysOf(restarts), ['byReason', 'total']);
    assert.equal(workers.length, 2);
    for (const worker of workers) {
      assert.deepEqual(keysOf(worker), [
        'connections',
        'errors',
        'eventLoopDelayMs',
        'eventLoopUtilization',
        'generation',
        'id',
        'inFlight',
        'load',
        'maxConnections',
        'memory',
        'pid',
        'requests',
        'responseTimeMs',
        'silentSeconds',
        'state',
        'uptimeSeconds',
      ]);
      assert.deepEqual(keysOf(worker.responseTimeMs), ['mean', 'p50', 'p99']);
      assert.deepEqual(keysOf(worker.memory), ['heapTotal', 'heapUsed', 'rss']);
    }
  });

  test('bosun status --watch prints the pool every second until Ctrl-C', async () => {
    const { kit, start } = await startOperated({ app: 'koa.mjs' });
    const [text, json] = [start('status', '--watch'), start('status', '--watch', '--json')];
    // biome-ignore lint/suspicious/noControlCharactersInRegex: what clears a terminal
    await text.printed(/^\u001b\[2J(\u001b\[Hkoa-bosun [\s\S]+?\u001b\[J){3}/);
    await json.printed(/^(\{.*\}\n){3}/);
    for (const command of [text, json]) {
      assert.equal(command.process.exitCode, null, 'it goes on by itself');
      command.process.kill('SIGINT');
      const { code, signal, stderr } = await command.ended;
      assert.deepEqual([code, signal, stderr], [null, 'SIGINT', '']);
    }
    const shown = json.stdout
      .trimEnd()
      .split('\n')
      .map(line => (JSON.parse(line) as { uptimeSeconds: number }).uptimeSeconds);
    assert.ok(Number(shown[2]) - Number(shown[0]) > 1.5, `shown at ${shown}`);
    assert.equal((await kit.status()).state, 'ready');
  });

  test('bosun status --watch shows load, CPU, memory and events of the pool, without an admin port too, until its output closes', async () => {
    const { kit, port, start, bosun } = await startOperated({
      app: 'koa.mjs',
      env: { ADMIN_PORT: '0', SIZING_ROOT: smallContainer().path },
    });
    const watching = start('status', '--watch');
    const screen = () => stripVTControlCharacters(watching.stdout.split('\u001b[H').at(-1) ?? '');
    await watching.printed(
      /requests\/s .*\n?.*errors\/s .* are 5xx.*\n?.*CPU .* of [\d.]+ CPUs.*\n?.*memory .* of \d+ MiB, \d+ %/,
    );
    const load = freshLoad(port, { everyMs: 10 });
    await watching.printed(/requests\/s .* [1-9]\d*\.\d, p50 /);
    assert.deepEqual((await load.stop()).failures, []);
    const { workerPid } = await kit.event('worker.ready');
    process.kill(Number(workerPid), 'SIGKILL');
    await watching.printed(/worker \d is gone \(killed/);
    await until(
      () => kit.all('worker.ready').length === 3 || undefined,
      () => kit.transcript(),
    );
    assert.equal((await bosun('restart')).code, 0);
    await watching.printed(/worker \d is gone \(restart\): \d+ requests finished while draining, 0 cut/);
    await watching.printed(/generation 2 serves/);
    const lines = screen().trimEnd().split('\n');
    assert.ok(lines.length < 24 && lines.every(line => line.length <= 80), screen());
    watching.process.stdout?.destroy(); // as `| head` does
    assert.deepEqual([(await watching.ended).code, watching.stderr], [0, '']);
  });

  test('bosun finds the primary by PORT, by CONTROL_SOCKET and by .env', async () => {
    const [folder, port] = [temporaryFolder(), await freePort()];
    const env = { PORT: String(port), TMPDIR: folder };
    const kit = await startKit({ app: 'koa.mjs', env });
    const { path } = await kit.event('control.listening');
    assert.equal(path, join(folder, `bosun-${port}.sock`));
    writeFileSync(join(folder, '.env'), `PORT=${port}`);
    for (const options of [{ env }, { env: { CONTROL_SOCKET: String(path) } }, { env: { TMPDIR: folder }, cwd: folder }]) {
      const { code, stdout, stderr } = await new Running(['status', '--json'], options).ended;
      assert.equal(code, 0, stderr);
      assert.equal(JSON.parse(stdout).pid, kit.pid);
    }
    const { code, stderr } = await new Running(['status'], { env: { PORT: 'http' } }).ended;
    assert.equal(code, 78);
    assert.match(stderr, /PORT must be a port from 0 to 65535, got "http" \(environment\)/);
  });
});

describe('bosun restart', { concurrency: CONCURRENCY }, () => {
  test('bosun restart prints each step, and always starts the new worker first', async () => {
    const { kit, bosun } = await startOperated({ app: 'koa.mjs' });
    const before = kit.workerPids;
    const { code, stderr, stdout } = await bosun('restart');
    assert.deepEqual([code, stderr], [0, '']);
    const steps = (fresh: number, old: number) => [
      `starting worker ${fresh} to replace worker ${old}`,
      `worker ${fresh} (process #) serves after # ms`,
      `draining worker ${old}`,
      `worker ${old} is gone: 0 requests finished, 0 cut, # ms`,
    ];
    const text = stdout.replaceAll(/process \d+/g, 'process #').replaceAll(/\d+ ms/g, '# ms');
    assert.deepEqual(text.split('\n'), [...steps(3, 1), ...steps(1, 2), 'done: generation 2 serves', '']);
    const pids = kit.workerPids.filter(pid => !before.includes(pid));
    assert.deepEqual(
      [...stdout.matchAll(/process (\d+)/g)].map(([, pid]) => Number(pid)),
      pids,
    );
    const json = await bosun('restart', '--json');
    assert.deepEqual([json.code, json.stderr, json.stdout], [0, '', '{"generation":3}\n']);
  });

  test('bosun restart --worker N replaces only that worker', async () => {
    const { kit, bosun } = await startOperated({ app: 'koa.mjs' });
    const [first, second] = (await kit.status()).workers;
    const { code, stdout } = await bosun('restart', '--worker', '2');
    assert.equal(code, 0);
    assert.match(stdout, /^starting worker 3 to replace worker 2\n/);
    const { workers, generation } = await kit.status();
    assert.deepEqual(
      workers.map(({ id }) => id),
      [1, 3],
    );
    assert.equal(workers[0]?.pid, first?.pid);
    assert.ok(workers[1]?.pid !== second?.pid);
    assert.equal(generation, 1, 'the same settings and the same app');
  });
});

function keysOf(value: object): string[] {
  return Object.keys(value).sort();
}
