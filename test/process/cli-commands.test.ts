/**
 * What the commands of `bosun` print, change and refuse. Numbers are `#` in what is compared.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FakeRoot } from '../fake-root.ts';
import { freePort } from '../free-port.ts';
import { until } from '../until.ts';
import { RawClient, requestJson, requestText } from './clients.ts';
import { type Operated, type Ran, Running, startOperated } from './operator.ts';
import { normalised, smallContainer } from './printed.ts';
import { assertReceived } from './received.ts';

/** Most of a test is waiting. */
const CONCURRENCY = 4;

describe('bosun scale, policy, broadcast, doctor and sizing', { concurrency: CONCURRENCY }, () => {
  test('bosun scale accepts a number, auto, max and a share, and prints the reason', async () => {
    const env = { SIZING_ROOT: new FakeRoot({ cpuMax: '220000 100000' }).path, NODE_CLUSTER_WORKERS: 'auto' };
    const { kit, bosun } = await startOperated({ app: 'koa.mjs', env });
    const from = '2.2 CPUs';
    for (const [requested, count, reason] of [
      ['4', 4, `4 workers: as set; ${from} (/sys/fs/cgroup/cpu.max)`],
      ['auto', 2, `2 workers: ${from}, rounded half up (/sys/fs/cgroup/cpu.max)`],
      ['max', 3, `3 workers: ${from}, rounded up (/sys/fs/cgroup/cpu.max)`],
      ['50%', 1, `1 worker: 50% of ${from}, rounded half up (/sys/fs/cgroup/cpu.max)`],
    ] as const) {
      const { code, stdout, stderr } = await bosun('scale', requested);
      const warning =
        count > 2.2 && requested !== 'max' ? `bosun: warning: ${count} workers on ${from}: they compete for CPU time\n` : '';
      assert.deepEqual([code, stdout, stderr], [0, `${reason}\n`, warning]);
      await kit.statusWhere(({ workers }) => workers.length === count && workers.every(({ state }) => state === 'ready'));
    }
    const json = await bosun('scale', '2', '--json');
    assert.deepEqual(JSON.parse(json.stdout), { workers: 2, reason: `2 workers: as set; ${from} (/sys/fs/cgroup/cpu.max)` });
    for (const requested of ['0', 'two', '1.5', '200%', '5000']) {
      const { code, stdout, stderr } = await bosun('scale', requested);
      assert.deepEqual([code, stdout], [1, ''], requested);
      assert.match(stderr, new RegExp(`^bosun: the number of workers must be .+, got "${requested}"\n$`));
    }
    assert.equal((await kit.statusWhere(({ workers }) => workers.length === 2)).workers.length, 2);
  });

  test('bosun policy changes the policy if that loses no connection, and otherwise says that a restart is needed', async () => {
    const { kit, bosun } = await startOperated({ app: 'koa.mjs', env: { NODE_CLUSTER_SCHED_POLICY: 'none' } });
    assert.deepEqual(normalised(await bosun('policy', 'none')), { code: 0, stdout: 'the policy is none\n', stderr: '' });
    assert.equal((await bosun('policy', 'response-time', '--json')).stdout, '{"policy":"response-time"}\n');
    assert.equal((await bosun('policy', 'least-connections')).stdout, 'the policy is least-connections\n');
    assert.equal((await kit.status()).policy, 'least-connections');
    assert.equal(
      (await bosun('policy', 'fastest')).stderr,
      'bosun: unknown policy fastest: expected one of rr, none, reuseport, least-connections, response-time\n',
    );
    const { code, stdout, stderr } = await bosun('policy', 'reuseport');
    assert.deepEqual([code, stdout], [1, '']);
    assert.equal(stderr, 'bosun: cannot switch to reuseport at run time; set NODE_CLUSTER_SCHED_POLICY and restart\n');
    assert.equal((await bosun('policy', 'rr')).stdout, 'the policy is rr\n');
    assert.equal((await kit.status()).policy, 'rr');
  });

  test('bosun broadcast reaches the app in each worker', async () => {
    const { kit, port, bosun } = await startOperated({ app: 'factory.ts' });
    assert.deepEqual(normalised(await bosun('broadcast', 'news', '{"text":"land ahoy"}')).stdout, 'sent to # workers\n');
    assert.equal((await bosun('broadcast', 'news', '--json')).stdout, '{"workers":2}\n');
    await bosun('broadcast', 'other', '1');
    const pids = await assertReceived(kit, port, 2, [{ text: 'land ahoy' }, null]);
    assert.deepEqual([...pids].sort(), kit.workerPids.sort());
  });

  test('bosun doctor finds no problem in a good deployment', async () => {
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
      'ok file limit # descriptors for each process (hard limit), # connections for each worker',
      'ok workers # workers: as set; # CPUs (/sys/fs/cgroup/cpu.max)',
      'ok memory a heap of # MiB for each worker',
      'ok restart the new worker starts first',
      'ok recycling as set',
      'ok health checks the app has none',
      'ok Redis not configured: sessions are cookies, and other pods get no broadcasts',
      'ok service koa-bosun',
      'ok session keys given',
      'ok admin port open to anyone who can reach it, without the text of errors',
      'ok diagnostics folder /tmp',
      'ok init an init or another parent reaps orphans',
      '',
    ]);
  });

  test('bosun doctor names the problems of a bad deployment and exits with 1 (case 28)', async () => {
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
      restart: 'ok',
      recycling: 'ok',
      'health checks': 'ok',
      Redis: 'warning',
      service: 'ok',
      'session keys': 'problem',
      'admin port': 'ok',
      'diagnostics folder': 'warning',
    });
    assert.match(
      text.stdout,
      /^problem +grace period +30 s is below SHUTDOWN_DELAY_MS \+ SHUTDOWN_TIMEOUT_MS \+ 5 s = 35 s: the platform kills the pod before the drain ends$/m,
    );
    assert.match(text.stdout, /^warning +diagnostics folder +\/nowhere is not writable: use --output - to stream$/m);
    assert.equal(text.stdout.trimEnd().split('\n').length, findings.length);
  });

  test('bosun sizing explains the number of workers without a primary, in the same words as a primary', async () => {
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
    ['reuseport', freePort],
    ['least-connections', async () => 0],
  ] as const) {
    test(`bosun cordon stops new connections to a worker and keeps open ones, and uncordon resumes them, policy ${policy}, ${portOf === freePort ? 'fixed port' : 'PORT=0'}`, async () => {
      const env = { NODE_CLUSTER_SCHED_POLICY: policy, PORT: String(await portOf()) };
      const operated = await startOperated({ app: 'koa.mjs', env });
      const { kit, port, bosun } = operated;
      const [first, second] = (await kit.status()).workers.map(({ pid }) => pid);
      await using open = await connectionTo(Number(first), operated);
      assert.deepEqual(normalised(await bosun('cordon', '1')).stdout, 'worker # takes no new connections\n');
      assert.equal((await kit.status()).workers[0]?.state, 'cordoned');
      for (let count = 0; count < 20; count++) {
        assert.equal((await requestJson<{ pid: number }>(port, '/')).pid, second);
        assert.equal(JSON.parse((await open.request('/')).body).pid, first, 'the open connection goes on');
      }
      await refused(bosun('cordon', '1'), 'worker 1 is cordoned, expected ready');
      await refused(bosun('cordon', '2'), 'worker 2 is the only one that serves');
      await refused(bosun('uncordon', '2'), 'worker 2 is ready, expected cordoned');
      const { code, stdout } = await bosun('uncordon', '1', '--json');
      assert.deepEqual([code, JSON.parse(stdout)], [0, { worker: 1, state: 'ready' }]);
      await using again = await connectionTo(Number(first), operated);
      assert.equal(JSON.parse((await again.request('/')).body).pid, first);
      assert.equal(JSON.parse((await open.request('/')).body).pid, first);
      assert.deepEqual(kit.all('worker.exit'), []);
    });
  }
});

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
        if (JSON.parse((await client.request('/')).body).pid === pid) return client;
        others.push(client);
        const word = crypto.randomUUID();
        client.write(requestText(`/block?ms=300&mark=${word}`));
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
