/**
 * Events within one pod: each worker gets them once and in order, one that does not read costs nobody anything, and who comes late begins
 * with what is retained. Between pods: test/container/broadcast.test.ts.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { until } from '../until.ts';
import { everyWorker, RawClient, request, requestJson } from './clients.ts';
import { CLEAN, type Kit, startKit } from './kit.ts';
import { type Operated, startOperated } from './operator.ts';

const MIB = 2 ** 20;

interface Account {
  self: string;
  sent: number;
  received: Record<string, { count: number; outOfOrder: number; last: number }>;
}

describe('events within a pod', { concurrency: 3 }, () => {
  test('a broadcast that is too large is refused in its sender, with the limit, and no other one is lost', async () => {
    const { kit, port, bosun } = await startOperated({ app: 'broadcasts.ts' });
    assert.equal((await request(port, '/send?bytes=300000')).status, 500);
    const { code, stdout, stderr } = await bosun('broadcast', 'x'.repeat(300));
    assert.deepEqual([code, stdout], [1, '']);
    assert.match(stderr, /^bosun: the name of an event must have 1 to 256 characters, got "x+"\n$/);
    await request(port, '/send?bytes=200000');
    await until(
      async () => Object.values((await requestJson<Account>(port, '/')).received).some(({ count }) => count === 1) || undefined,
      () => kit.transcript(),
    );
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });

  test('broadcasts to a worker that does not read use bounded memory and are counted as dropped, and the other workers receive all', async () => {
    // However long it is frozen on a busy machine, nobody replaces it.
    const env = { NODE_CLUSTER_SCHED_POLICY: 'none', WORKER_HEARTBEAT_TIMEOUT_MS: '0' };
    const kit = await startKit({ app: 'broadcasts.ts', env });
    const { port } = await kit.ready();
    const { workers } = await kit.statusWhere(({ workers }) => workers.length === 2);
    // Each is queried over its own connection: the kernel may give any number of new ones to the same worker.
    await using reader = await RawClient.open(port);
    const { self: itself } = await reader.requestJson<Account>('/');
    const frozen = workers.find(({ id }) => itself.endsWith(`/${id}`))?.pid ?? 0;
    const before = rssOf(kit);
    process.kill(frozen, 'SIGSTOP');
    // With `none` the kernel gives a connection to one that waits for it: to the other.
    await using sender = await RawClient.open(port);
    try {
      // 100 MB, six times what may wait.
      const { self } = await sender.requestJson<Account>('/send?count=1000&bytes=100000');
      await until(
        async () => (await sender.requestJson<Account>('/')).received[self]?.count === 1000 || undefined,
        () => kit.transcript(),
        60_000,
      );
      const lost = Number(/bosun_broadcasts_lost_total\{reason="unread"\} (\d+)/.exec(await metrics(kit))?.[1]);
      assert.ok(lost >= 800 && lost < 1000, String(lost));
      const grown = (rssOf(kit) - before) / MIB;
      assert.ok(grown < 90, `${grown} MiB`);
      assert.match(await metrics(kit), /bosun_broadcasts_total\{direction="out"\} 1000/);
    } finally {
      process.kill(frozen, 'SIGCONT');
    }
    const { self } = await sender.requestJson<Account>('/send?count=1');
    await until(
      async () => (await reader.requestJson<Account>('/')).received[self]?.last === 1001 || undefined,
      () => kit.transcript(),
    );
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });

  test('configUpdate reaches every worker and those that start later, until null removes it', async () => {
    const operated = await startOperated();
    const { kit, bosun } = operated;
    await greet(operated, 'Hello');
    const { code, stdout } = await bosun('broadcast', 'configUpdate', '{"greeting":"Ahoy","logLevel":"debug"}');
    assert.deepEqual([code, stdout], [0, 'sent to 2 workers\n']);
    for (const worker of [1, 2])
      await kit.event('demo.configured', event => event.worker === worker && event.logLevel === 'debug');
    await greet(operated, 'Ahoy');

    assert.equal((await bosun('scale', '3')).code, 0);
    await kit.event('demo.configured', event => event.worker === 3 && event.greeting === 'Ahoy');
    const [killed = 0] = kit.workerPids;
    process.kill(killed, 'SIGKILL');
    await kit.event('worker.exit', ({ workerPid }) => workerPid === killed);
    await kit.statusWhere(({ workers }) => workers.length === 3 && workers.every(({ state }) => state === 'ready'));
    await greet(operated, 'Ahoy', 3);

    // What it does not name goes back to its default, everywhere: an old worker and a new one never differ.
    assert.equal((await bosun('broadcast', 'configUpdate', '{"logLevel":"warn"}')).code, 0);
    await greet(operated, 'Hello', 3);
    assert.equal((await bosun('broadcast', 'configUpdate')).code, 0);
    for (const worker of [1, 2, 3])
      await kit.event('demo.configured', event => event.worker === worker && event.greeting === 'Hello');
    const configured = kit.all('demo.configured').length;
    assert.equal((await bosun('restart')).code, 0); // to two again, as the environment says
    await greet(operated, 'Hello');
    assert.equal(kit.all('demo.configured').length, configured, 'nothing is retained');
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  });
});

/** Resolves when the page of each of so many workers greets with this word. */
async function greet({ kit, port }: Operated, word: string, count = 2): Promise<void> {
  await everyWorker(port, count, async client =>
    until(
      async () => {
        const { body } = await client.request('/');
        const [, greeting, worker] = /<h1>(\w+), stranger<.*worker <b>(\d+)/s.exec(body) ?? [];
        return greeting === word ? worker : undefined;
      },
      () => `${word} expected of every worker; ${kit.transcript()}`,
    ),
  );
}

async function metrics(kit: Kit): Promise<string> {
  return (await kit.probe('/metrics')).body;
}

function rssOf({ pid }: Kit): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024;
}
