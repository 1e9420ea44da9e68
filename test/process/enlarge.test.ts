/**
 * Enlarging a pool: a few workers start at a time, the first failure ends it, and more than memory holds is refused.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeRoot } from '../fake-root.ts';
import { type Kit, startKit } from './kit.ts';
import { bosun as runBosun, startOperated, temporaryFolder } from './operator.ts';
import { rewriteApp, writtenApp } from './written-app.ts';

const MIB = 2 ** 20;
/** Each worker reports its start, and starts slowly. */
const STARTS_SLOWLY = `console.log(JSON.stringify({ event: 'test.starting', worker: kit.workerId }));
  await sleep(300);`;
const SERVES = "return (req, res) => res.end('ok');";

/** The most workers that were starting at the same time. */
function mostStarts(kit: Kit): number {
  let now = 0;
  let most = 0;
  for (const { event } of kit.events) {
    if (event === 'test.starting') most = Math.max(most, ++now);
    if (event === 'worker.ready') now--;
  }
  return most;
}

const counts = async (kit: Kit) => {
  const { workers, sizing } = await kit.status();
  return { ready: workers.filter(({ state }) => state === 'ready').length, wanted: (sizing as { workers: number }).workers };
};

test('more workers than memory holds need --force; they start two at a time on one CPU, and the first failure ends the enlargement', async () => {
  const root = new FakeRoot({ cpuMax: '100000 100000', memoryMax: String(512 * MIB) });
  const app = writtenApp(`${STARTS_SLOWLY}\n${SERVES}`);
  const env = {
    APP_MODULE: app,
    SIZING_ROOT: root.path,
    NODE_CLUSTER_WORKERS: '3',
    NODE_OPTIONS: '--max-old-space-size=64',
    RESTART_INTENSITY: '0',
  };
  const { kit, bosun } = await startOperated({ env });
  const expected =
    /40 workers do not fit: 512 MiB \(\/sys\/fs\/cgroup\/memory\.max\) gives 3 a workable heap of 64 MiB each; use --force/;

  for (const command of [
    ['scale', '40'],
    ['scale', '40', '--json'],
  ]) {
    const { code, stdout, stderr } = await bosun(...command);
    assert.deepEqual([code, stdout], [1, '']);
    assert.match(stderr, expected);
  }
  kit.signal('SIGTTIN');
  assert.match(String((await kit.event('pool.scale-refused', ({ workers }) => workers === 4)).warning), /4 workers do not fit/);
  assert.deepEqual(await counts(kit), { ready: 3, wanted: 3 });

  const forced = await bosun('scale', '6', '--force');
  assert.deepEqual(
    [forced.code, forced.stdout],
    [0, '6 workers: as set; 1 CPU (/sys/fs/cgroup/cpu.max); heap as set in NODE_OPTIONS\n'],
  );
  assert.match(
    forced.stderr,
    /^bosun: warning: 6 workers on 1 CPU: they compete for CPU time\nbosun: warning: a heap of 64 MiB for each of 6 workers \(NODE_OPTIONS\) is too large for 512 MiB .*\n$/,
  );
  assert.deepEqual(await counts(kit), { ready: 6, wanted: 6 }, 'it answers when they serve');
  assert.equal(mostStarts(kit), 2);

  rewriteApp(app, `${STARTS_SLOWLY}\nif (kit.workerId >= 8) throw new Error('too many clients already');\n${SERVES}`);
  const failed = await bosun('scale', '12', '--force');
  assert.deepEqual([failed.code, failed.stdout], [1, '']);
  assert.match(
    failed.stderr,
    /^bosun: worker 8 failed to start: .*too many clients already; the pool returns from 12 to 6 workers\n$/,
  );
  await kit.statusWhere(({ workers }) => workers.length === 6);
  assert.deepEqual(await counts(kit), { ready: 6, wanted: 6 });
  assert.ok(
    !kit.events.some(({ event, worker }) => event === 'test.starting' && Number(worker) > 9),
    'nothing starts afterwards',
  );
  assert.deepEqual(kit.all('primary.abort'), []);
});

test('SIGTTIN leaves the pool unchanged if the new worker cannot start', async () => {
  const app = writtenApp(`if (kit.workerId > 2) throw new Error('no more');\n${SERVES}`);
  const kit = await startKit({ env: { APP_MODULE: app } });
  await kit.ready();
  kit.signal('SIGTTIN');
  assert.match(String((await kit.event('pool.scale-failed')).error), /worker 3 failed to start: .*no more/);
  assert.deepEqual(await counts(kit), { ready: 2, wanted: 2 });
});

test('workers that crash as soon as they serve end the enlargement and the command', async () => {
  const app = writtenApp(`if (kit.workerId > 2) setTimeout(() => { throw new Error('no more'); }, 50);\n${SERVES}`);
  const { kit, bosun } = await startOperated({ env: { APP_MODULE: app } });
  const { code, stderr } = await bosun('scale', '9');
  assert.equal(code, 1);
  assert.match(stderr, /worker \d crashed: no more; the pool returns from 9 to 2 workers/);
  await kit.statusWhere(({ workers }) => workers.length === 2);
});

test('a second enlargement waits for its own number and supersedes the first', async () => {
  const app = writtenApp(`if (kit.workerId > 2) await sleep(2000);\n${SERVES}`);
  const socket = `${temporaryFolder()}/control.sock`;
  const kit = await startKit({ env: { APP_MODULE: app, CONTROL_SOCKET: socket } });
  await kit.ready();
  await kit.event('control.listening');
  const first = runBosun(socket, ['scale', '3']);
  await kit.event('pool.scale', ({ to }) => to === 3);
  const second = runBosun(socket, ['scale', '4']);
  const refused = await first;
  assert.deepEqual([refused.code, refused.stderr], [1, 'bosun: superseded: the wanted number is now 4 workers\n']);
  assert.equal((await second).code, 0);
  assert.deepEqual(await counts(kit), { ready: 4, wanted: 4 });
});
