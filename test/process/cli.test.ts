/**
 * `bosun` as an operator uses it: what each command prints, changes and refuses. Numbers are `#` in what is compared.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import { FakeRoot } from '../fake-root.ts';
import { ask, askJson, freshLoad, RawClient, requestText } from './clients.ts';
import { assertHeard, freePort, startKit, until } from './kit.ts';
import { bosun, type Operated, type Ran, Running, startOperated, temporaryFolder } from './operator.ts';

const MIB = 2 ** 20;
/** Most of a test is waiting. */
const CONCURRENCY = 4;
const EX_USAGE = 64;

describe('bosun status', { concurrency: CONCURRENCY }, () => {
  test('shows the pool', async () => {
    const { kit, port, bosun } = await startOperated({
      app: 'koa.mjs',
      env: { SIZING_ROOT: smallContainer().path, NODE_CLUSTER_SCHED_POLICY: 'rr' },
    });
    for (let count = 0; count < 6; count++) await ask(port, '/');
    await kit.statusWhere(({ workers }) => workers.every(({ requests }) => requests === 3));
    await bosun('restart', '--worker', '2');
    assert.deepEqual(normalised(await bosun('status')), {
      code: 0,
      stderr: '',
      stdout: [
        'koa-bosun #, process #, ready for # s, generation #, policy rr',
        '# workers: as set; # CPUs (/sys/fs/cgroup/cpu.max)',
        '',
        'worker pid state gen up conns open requests p# p# loop late rss',
        '# # ready # # s # # # # ms # ms # % # ms # MiB',
        '# # ready # # s # # # # ms # ms # % # ms # MiB',
        '',
        'ended workers: # (# restart); drains: #, # requests finished in them, # cut, # connections handed over, longest # ms',
        '',
      ].join('\n'),
    });
  });

  test('gives with --json what /status gives, in the shape of the contract', async () => {
    const { kit, bosun } = await startOperated({ app: 'koa.mjs' });
    const { code, stdout } = await bosun('status', '--json');
    assert.equal(code, 0);
    const status = JSON.parse(stdout) as Record<string, unknown>;
    assert.deepEqual(shapeOf(status), shapeOf(await kit.status()));
    assert.deepEqual(Object.keys(status), [
      'version',
      'pid',
      'state',
      'generation',
      'uptimeSeconds',
      'policy',
      'sizing',
      'workers',
      'restarts',
      'drains',
    ]);
    const { sizing, workers, restarts } = status as {
      sizing: { cpus: object; memory: object };
      workers: { responseTimeMs: object; memory: object }[];
      restarts: object;
    };
    assert.deepEqual(keysOf(sizing), ['cpus', 'memory', 'reason', 'wanted', 'warnings', 'workers']);
    assert.deepEqual(keysOf(sizing.cpus), ['cpuset', 'effective', 'quota', 'source']);
    assert.deepEqual(keysOf(sizing.memory), ['heapPerWorkerMb', 'limitBytes', 'source']);
    assert.deepEqual(keysOf(restarts), ['byReason', 'total']);
    assert.equal(workers.length, 2);
    for (const worker of workers) {
      assert.deepEqual(keysOf(worker), [
        'connections',
        'eventLoopDelayMs',
        'eventLoopUtilization',
        'generation',
        'id',
        'inFlight',
        'load',
        'memory',
        'pid',
        'requests',
        'responseTimeMs',
        'state',
        'uptimeSeconds',
      ]);
      assert.deepEqual(keysOf(worker.responseTimeMs), ['mean', 'p50', 'p99']);
      assert.deepEqual(keysOf(worker.memory), ['heapTotal', 'heapUsed', 'rss']);
    }
  });

  test('--watch shows it again every second until Ctrl-C', async () => {
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

  test('--watch shows load, CPU, memory and what happens to the pool, without an admin port too, as long as it is read', async () => {
    const { kit, port, start, bosun } = await startOperated({
      app: 'koa.mjs',
      env: { ADMIN_PORT: '0', SIZING_ROOT: smallContainer().path },
    });
    const watching = start('status', '--watch');
    const screen = () => stripVTControlCharacters(watching.stdout.split('\u001b[H').at(-1) ?? '');
    await watching.printed(/requests\/s .*\n?.*CPU .* of [\d.]+ CPUs.*\n?.*memory .* of \d+ MiB, \d+ %/);
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

  test('finds the primary by PORT, by CONTROL_SOCKET and by .env', async () => {
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
  test('prints each step, the new worker always first', async () => {
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

  test('--worker N replaces that one only', async () => {
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

describe('bosun scale, policy, broadcast, doctor and sizing', { concurrency: CONCURRENCY }, () => {
  test('scale takes a number, auto, max and a share, and says why', async () => {
    const env = { SIZING_ROOT: new FakeRoot({ cpuMax: '220000 100000' }).path, NODE_CLUSTER_WORKERS: 'auto' };
    const { kit, bosun } = await startOperated({ app: 'koa.mjs', env });
    const from = '2.2 CPUs';
    for (const [asked, count, reason] of [
      ['4', 4, `4 workers: as set; ${from} (/sys/fs/cgroup/cpu.max)`],
      ['auto', 2, `2 workers: ${from}, rounded half up (/sys/fs/cgroup/cpu.max)`],
      ['max', 3, `3 workers: ${from}, rounded up (/sys/fs/cgroup/cpu.max)`],
      ['50%', 1, `1 worker: 50% of ${from}, rounded half up (/sys/fs/cgroup/cpu.max)`],
    ] as const) {
      const { code, stdout, stderr } = await bosun('scale', asked);
      assert.deepEqual([code, stdout, stderr], [0, `${reason}\n`, '']);
      await kit.statusWhere(({ workers }) => workers.length === count && workers.every(({ state }) => state === 'ready'));
    }
    const json = await bosun('scale', '2', '--json');
    assert.deepEqual(JSON.parse(json.stdout), { workers: 2, reason: `2 workers: as set; ${from} (/sys/fs/cgroup/cpu.max)` });
    for (const asked of ['0', 'two', '1.5', '200%', '5000']) {
      const { code, stdout, stderr } = await bosun('scale', asked);
      assert.deepEqual([code, stdout], [1, ''], asked);
      assert.match(stderr, new RegExp(`^bosun: the number of workers must be .+, got "${asked}"\n$`));
    }
    assert.equal((await kit.statusWhere(({ workers }) => workers.length === 2)).workers.length, 2);
  });

  test('policy says which one it is, changes it where no connection is lost by it, and says where it needs a new start', async () => {
    const { kit, bosun } = await startOperated({ app: 'koa.mjs', env: { NODE_CLUSTER_SCHED_POLICY: 'none' } });
    assert.deepEqual(normalised(await bosun('policy', 'none')), { code: 0, stdout: 'the policy is none\n', stderr: '' });
    assert.equal((await bosun('policy', 'response-time', '--json')).stdout, '{"policy":"response-time"}\n');
    assert.equal((await bosun('policy', 'least-connections')).stdout, 'the policy is least-connections\n');
    assert.equal((await kit.status()).policy, 'least-connections');
    assert.equal(
      (await bosun('policy', 'fastest')).stderr,
      'bosun: there is no policy fastest: expected one of rr, none, reuseport, least-connections, response-time\n',
    );
    for (const name of ['rr', 'reuseport']) {
      const { code, stdout, stderr } = await bosun('policy', name);
      assert.deepEqual([code, stdout], [1, '']);
      assert.equal(
        stderr,
        "bosun: the policy is least-connections, and another one than none, least-connections, response-time can't be taken while the primary runs: set NODE_CLUSTER_SCHED_POLICY and start it anew\n",
      );
    }
  });

  test('broadcast reaches the app in each worker', async () => {
    const { kit, port, bosun } = await startOperated({ app: 'factory.ts' });
    assert.deepEqual(normalised(await bosun('broadcast', 'news', '{"text":"land ahoy"}')).stdout, 'sent to # workers\n');
    assert.equal((await bosun('broadcast', 'news', '--json')).stdout, '{"workers":2}\n');
    await bosun('broadcast', 'other', '1');
    const pids = await assertHeard(kit, port, 2, [{ text: 'land ahoy' }, null]);
    assert.deepEqual([...pids].sort(), kit.workerPids.sort());
  });

  test('doctor finds nothing to complain of in a good deployment', async () => {
    const env = {
      SIZING_ROOT: smallContainer().path,
      DIAGNOSTICS_DIR: '/tmp',
      TERMINATION_GRACE_PERIOD_SECONDS: '60',
      SESSION_KEYS: 'a key of more than sixteen characters',
    };
    const { bosun } = await startOperated({ app: 'koa.mjs', env });
    const { code, stdout, stderr } = normalised(await bosun('doctor'));
    assert.deepEqual([code, stderr], [0, '']);
    assert.deepEqual(stdout.split('\n'), [
      'ok grace period # s, needed SHUTDOWN_DELAY_MS + SHUTDOWN_TIMEOUT_MS + # s = # s',
      'ok file limit # descriptors for each process (hard limit)',
      'ok workers # workers: as set; # CPUs (/sys/fs/cgroup/cpu.max)',
      'ok memory a heap of # MiB for each worker',
      'ok Redis not configured: sessions are cookies, and other pods get no broadcasts',
      'ok session keys given',
      'ok diagnostics folder /tmp',
      'ok init an init, or another parent, reaps orphans',
      '',
    ]);
  });

  test('28 doctor names the problems of a bad one, and exits with 1', async () => {
    const env = {
      NODE_ENV: 'production',
      SHUTDOWN_DELAY_MS: '5000',
      SHUTDOWN_TIMEOUT_MS: '25000',
      TERMINATION_GRACE_PERIOD_SECONDS: '30',
      NODE_CLUSTER_WORKERS: '3',
      SIZING_ROOT: new FakeRoot({ cpuMax: '100000 100000' }).path,
      DIAGNOSTICS_DIR: '/nowhere',
    };
    const { bosun } = await startOperated({ app: 'koa.mjs', env });
    const [text, json] = [await bosun('doctor'), await bosun('doctor', '--json')];
    assert.deepEqual([text.code, json.code, text.stderr, json.stderr], [1, 1, '', '']);
    const findings = JSON.parse(json.stdout) as { check: string; verdict: string; detail: string }[];
    const verdicts = Object.fromEntries(findings.map(({ check, verdict }) => [check, verdict]));
    const { 'file limit': _, init: __, ...ours } = verdicts;
    assert.deepEqual(ours, {
      'grace period': 'problem',
      workers: 'warning',
      memory: 'warning',
      Redis: 'warning',
      'session keys': 'problem',
      'diagnostics folder': 'warning',
    });
    assert.match(
      text.stdout,
      /^problem +grace period +30 s is below SHUTDOWN_DELAY_MS \+ SHUTDOWN_TIMEOUT_MS \+ 3 s = 33 s: the platform kills before the drain ends$/m,
    );
    assert.match(text.stdout, /^warning +diagnostics folder +\/nowhere is not writable: use --output - to stream$/m);
    assert.equal(text.stdout.trimEnd().split('\n').length, findings.length);
  });

  test('sizing explains the number of workers without a primary, and as a primary shows it', async () => {
    const root = smallContainer();
    const env = { NODE_CLUSTER_WORKERS: '2' };
    const { code, stdout } = normalised(await new Running(['sizing', '--root', root.path], { env }).ended);
    assert.equal(code, 0);
    for (const line of [
      'cpu /sys/fs/cgroup/cpu.max # # #',
      'CPU quota # cores',
      'memory limit # MiB (/sys/fs/cgroup/memory.max)',
      'heap per worker # MiB (--max-old-space-size)',
      'workers #',
      '# workers: as set; # CPUs (/sys/fs/cgroup/cpu.max)',
    ])
      assert.ok(stdout.split('\n').includes(line), `${line} expected in:\n${stdout}`);
    const { kit } = await startOperated({ app: 'koa.mjs', env: { SIZING_ROOT: root.path, ...env } });
    const json = await new Running(['sizing', '--json', '--root', root.path], { env }).ended;
    assert.deepEqual(JSON.parse(json.stdout), (await kit.status()).sizing);
  });
});

describe('bosun cordon', { concurrency: CONCURRENCY }, () => {
  for (const [policy, portOf] of [
    ['rr', freePort],
    ['rr', async () => 0],
    ['reuseport', freePort],
    ['least-connections', async () => 0],
  ] as const) {
    test(`takes a worker out for new connections only, and uncordon brings it back, policy ${policy}, ${portOf === freePort ? 'a port' : 'any port'}`, async () => {
      const env = { NODE_CLUSTER_SCHED_POLICY: policy, PORT: String(await portOf()) };
      const operated = await startOperated({ app: 'koa.mjs', env });
      const { kit, port, bosun } = operated;
      const [first, second] = (await kit.status()).workers.map(({ pid }) => pid);
      await using open = await connectionTo(Number(first), operated);
      assert.deepEqual(normalised(await bosun('cordon', '1')).stdout, 'worker # takes no new connections\n');
      assert.equal((await kit.status()).workers[0]?.state, 'cordoned');
      for (let count = 0; count < 20; count++) {
        assert.equal((await askJson<{ pid: number }>(port, '/')).pid, second);
        assert.equal(JSON.parse((await open.ask('/')).body).pid, first, 'the open connection goes on');
      }
      await refused(bosun('cordon', '1'), 'worker 1 is cordoned, expected ready');
      await refused(bosun('cordon', '2'), 'worker 2 is the only one that serves');
      await refused(bosun('uncordon', '2'), 'worker 2 is ready, expected cordoned');
      const { code, stdout } = await bosun('uncordon', '1', '--json');
      assert.deepEqual([code, JSON.parse(stdout)], [0, { worker: 1, state: 'ready' }]);
      await using again = await connectionTo(Number(first), operated);
      assert.equal(JSON.parse((await again.ask('/')).body).pid, first);
      assert.equal(JSON.parse((await open.ask('/')).body).pid, first);
      assert.deepEqual(kit.all('worker.exit'), []);
    });
  }
});

describe('bosun', { concurrency: CONCURRENCY }, () => {
  test('refuses what it does not understand with a clear message, and changes nothing', async () => {
    const { kit, socket, bosun } = await startOperated({ app: 'koa.mjs' });
    for (const [args, code, message] of [
      ['nonsense', EX_USAGE, /^bosun: there is no command "nonsense"\n\nusage: bosun <command>/],
      ['constructor', EX_USAGE, /^bosun: there is no command "constructor"/],
      ['status --nonsense', EX_USAGE, /^bosun: Unknown option '--nonsense'.*\n\nusage: bosun/],
      ['status extra', EX_USAGE, /^bosun: status does not take "extra"/],
      ['restart 2', EX_USAGE, /^bosun: restart does not take "2"/],
      ['scale', EX_USAGE, /^bosun: N\|auto\|max\|P% is missing/],
      ['scale 3 4', EX_USAGE, /^bosun: scale does not take "4"/],
      ['cordon', EX_USAGE, /^bosun: N is missing/],
      ['cordon x', EX_USAGE, /^bosun: a worker is a whole number of at least 1, got "x"\n$/],
      ['cordon 9', 1, /^bosun: there is no worker 9; there is 1, 2\n$/],
      ['uncordon 0', EX_USAGE, /^bosun: a worker is a whole number of at least 1, got "0"\n$/],
      ['restart --worker 7', 1, /^bosun: there is no worker 7; there is 1, 2\n$/],
      ['restart --worker 1.5', EX_USAGE, /^bosun: a worker is a whole number of at least 1, got "1.5"\n$/],
      ['restart --worker', EX_USAGE, /^bosun: Option '--worker.*' argument /],
      ['heap-snapshot --worker 3', 1, /^bosun: there is no worker 3; there is 1, 2\n$/],
      ['cpu-profile --seconds soon', EX_USAGE, /^bosun: --seconds must be a number above 0, got "soon"\n$/],
      ['cpu-profile --seconds 301', 1, /^bosun: seconds must be above 0 and at most 300, got 301\n$/],
      ['policy', EX_USAGE, /^bosun: NAME is missing/],
      ['broadcast', EX_USAGE, /^bosun: EVENT is missing/],
      ['broadcast bosun:keys', 1, /^bosun: the name of an event must not begin with "bosun:", got "bosun:keys"\n$/],
      ['keys', EX_USAGE, /^bosun: rotate is missing/],
      ['keys rotate', 1, /^bosun: the session keys are of this start only: with Redis they are shared, and can be rotated\n$/],
      ['fleet 3', EX_USAGE, /^bosun: fleet does not take "3"/],
      ['broadcast news {text', EX_USAGE, /^bosun: the data of an event must be JSON: /],
      ['sizing --root /nowhere', EX_USAGE, /^bosun: --root must be a folder that holds proc and sys, got "\/nowhere"\n$/],
    ] as const) {
      // The option first: behind a missing argument it would be taken for it.
      const [name = '', ...rest] = args.split(' ');
      const ran = await new Running([name, '--socket', socket, ...rest]).ended;
      assert.deepEqual([ran.code, ran.stdout], [code, ''], args);
      assert.match(ran.stderr, message);
    }
    const { restarts, workers, generation } = await kit.status();
    assert.deepEqual(restarts, { total: 0, byReason: {} });
    assert.deepEqual(
      workers.map(({ state }) => state),
      ['ready', 'ready'],
    );
    assert.equal(generation, 1);
    assert.equal((await bosun('status')).code, 0);
  });

  test('explains itself: with help on request, without a command as an error', async () => {
    const help = await new Running(['help']).ended;
    const option = await new Running(['--help']).ended;
    const nothing = await new Running([]).ended;
    assert.deepEqual([help.code, help.stderr], [0, '']);
    assert.deepEqual(option, help);
    assert.deepEqual([nothing.code, nothing.stdout], [EX_USAGE, '']);
    assert.ok(nothing.stderr.includes(help.stdout.trimEnd()));
    for (const command of [
      'status [--watch]',
      'restart [--worker N]',
      'scale N|auto',
      'cordon N',
      'uncordon N',
      'policy NAME',
      'broadcast EVENT [JSON]',
      'fleet',
      'keys rotate',
      'heap-snapshot [--worker N] [--output FILE|-]',
      'cpu-profile [--worker N] [--seconds S] [--output FILE|-]',
      'doctor',
      'sizing [--root DIR]',
    ])
      assert.ok(help.stdout.includes(`${command}`), `${command} expected in ${help.stdout}`);
  });

  test('says that no primary runs, exit code 69', async () => {
    const socket = join(temporaryFolder(), 'nobody.sock');
    for (const command of ['status', 'restart', 'doctor', 'heap-snapshot']) {
      const { code, stdout, stderr } = await bosun(socket, [command]);
      assert.deepEqual([code, stdout], [69, '']);
      assert.equal(
        stderr,
        `bosun: no primary is running at ${socket}; set PORT or CONTROL_SOCKET as it has them, or use --socket\n`,
      );
    }
  });

  test('says so when the primary ends in the middle of a command', async () => {
    const { kit, start } = await startOperated({ app: 'koa.mjs' });
    const restart = start('restart');
    await restart.printed(/^starting worker/);
    kit.signal('SIGKILL');
    const { code, stderr } = await restart.ended;
    assert.deepEqual([code, stderr], [1, 'bosun: the primary ended before it answered\n']);
  });
});

/** Two CPUs and enough memory for two workers. */
function smallContainer(): FakeRoot {
  return new FakeRoot({ cpuMax: '200000 100000', memoryMax: String(1024 * MIB) });
}

/** Without the figures and the padding that they cause. */
function normalised({ code, stdout, stderr }: Ran): { code: number | null; stdout: string; stderr: string } {
  const text = stdout
    .replaceAll(/\d+(\.\d+)*/g, '#')
    .replaceAll(/ +/g, ' ')
    .replaceAll(/^ /gm, '');
  return { code, stdout: text, stderr };
}

/** The names and types of an answer. */
function shapeOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(shapeOf);
  if (typeof value !== 'object' || value === null) return value === null ? 'null' : typeof value;
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, shapeOf(field)]));
}

function keysOf(value: object): string[] {
  return Object.keys(value).sort();
}

async function refused(command: Promise<Ran>, why: string): Promise<void> {
  const { code, stdout, stderr } = await command;
  assert.deepEqual([code, stdout, stderr], [1, '', `bosun: ${why}\n`]);
}

/** A new connection to the worker with that process id: the others are kept busy meanwhile. */
async function connectionTo(pid: number, { kit, port }: Pick<Operated, 'kit' | 'port'>): Promise<RawClient> {
  const others: RawClient[] = [];
  try {
    return await until(
      async () => {
        const client = await RawClient.open(port);
        if (JSON.parse((await client.ask('/')).body).pid === pid) return client;
        others.push(client);
        const word = crypto.randomUUID();
        client.write(requestText(`/block?ms=300&tell=${word}`));
        await kit.begun(word);
        return undefined;
      },
      () => `no connection to ${pid}; ${kit.transcript()}`,
    );
  } finally {
    for (const client of others) {
      await client.answer();
      client.close();
    }
  }
}
