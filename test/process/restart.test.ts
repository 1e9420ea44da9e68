/**
 * What replacing workers promises: nothing is lost, there are never fewer workers than wanted, and what fails leaves the old ones alone.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { WebSocket } from 'ws';
import type { OpenRequest } from '../../src/messages.ts';
import { Visitor } from '../visitor.ts';
import {
  type Answer,
  ask,
  askJson,
  freshLoad,
  keepAliveLoad,
  type Load,
  pipelineLoad,
  RawClient,
  requestText,
  uploadLoad,
} from './clients.ts';
import { freePort, type Kit, startKit, until } from './kit.ts';
import { startOperated, temporaryFolder } from './operator.ts';
import { POLICIES, SOAKS } from './policies.ts';

const CLEAN = { code: 0, signal: null };
/** Most of a test is waiting. */
const CONCURRENCY = 4;
const WORKERS = 2;
/** For what takes several starts of a worker, on a slow machine too. */
const PATIENCE_MS = 40_000;

const LEAST_REQUESTS = 20_000;
const LEAST_ROLLS = 3;
/** More rolls than that are not needed by any machine for so many requests. */
const MOST_ROLLS = 15;
const SAMPLE_EVERY_MS = 40;
const CALM_CLIENTS = 8;

describe('a rolling restart under mixed load', () => {
  for (const policy of SOAKS ? POLICIES : ['least-connections']) {
    test(`18 of ${LEAST_ROLLS} rolls and more loses none of ${LEAST_REQUESTS} requests, policy ${policy}`, async t => {
      const { kit, port, bosun } = await startOperated({ app: 'koa.mjs', env: { NODE_CLUSTER_SCHED_POLICY: policy } });
      const capacity = watchCapacity(kit);
      const bounds = { mostRequests: 1e6, longestMs: 180_000 };
      const loads = [
        keepAliveLoad(port, { clients: 4, pauseMs: 0, ...bounds }),
        keepAliveLoad(port, { clients: 8, pauseMs: 0, path: '/slow?ms=500', ...bounds }),
        freshLoad(port, { everyMs: 10, ...bounds }),
        uploadLoad(port, bounds),
        pipelineLoad(port, bounds),
      ];
      const answered = () => loads.reduce((sum, { result }) => sum + result.answered, 0);
      const startedAt = performance.now();
      let rolls = 0;
      while (rolls < LEAST_ROLLS || (answered() < LEAST_REQUESTS && rolls < MOST_ROLLS)) {
        const before = loads.map(({ result }) => result.answered);
        if (rolls++ % 2 === 0) {
          kit.signal('SIGHUP');
          await kit.event('pool.restarted', ({ generation }) => generation === rolls + 1);
        } else {
          const { code, stdout, stderr } = await bosun('restart');
          assert.equal(code, 0, stderr);
          assert.ok(stdout.endsWith(`done: generation ${rolls + 1} serves\n`), stdout);
        }
        for (const [index, load] of loads.entries())
          assert.ok(load.result.answered > Number(before[index]), `load ${index} goes on`);
      }
      const tookMs = performance.now() - startedAt;
      const results = await Promise.all(loads.map(load => load.stop()));
      const { least, samples } = await capacity.stop();
      t.diagnostic(
        `${answered()} requests in ${rolls} rolls, ${Math.round(tookMs)} ms; at least ${least} ready in ${samples} looks`,
      );

      for (const { failures, refused } of results) assert.deepEqual({ failures, refused }, { failures: [], refused: 0 });
      assert.ok(answered() >= LEAST_REQUESTS, `${answered()} answers`);
      assert.equal(least, WORKERS, 'never fewer workers than wanted');
      assert.ok(samples >= rolls * 20, `${samples} looks at the pool`);
      const { generation, workers, restarts, drains } = await kit.status();
      assert.equal(generation, rolls + 1);
      assert.deepEqual(
        workers.map(worker => [worker.generation, worker.state]),
        Array(WORKERS).fill([rolls + 1, 'ready']),
      );
      assert.deepEqual(restarts, { total: rolls * WORKERS, byReason: { restart: rolls * WORKERS } });
      assert.equal(drains.count, rolls * WORKERS);
      assert.equal(drains.cutRequests, 0);
      assert.ok(drains.finishedRequests >= rolls * WORKERS, `${drains.finishedRequests} requests were finished in drains`);
      assert.equal(new Set(kit.workerPids).size, (rolls + 1) * WORKERS, 'each worker is a new process');
      const answering = new Set(results.flatMap(({ byPid }) => [...byPid.keys()]));
      assert.ok(
        kit.workerPids.every(pid => answering.has(pid)),
        'each of them answered',
      );
      assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
    });
  }
});

describe('a rolling restart', { concurrency: CONCURRENCY }, () => {
  test('38 whose new worker does not come up leaves the old ones serving, and says which one and why', async () => {
    const file = join(temporaryFolder(), 'app.mjs');
    const serve = (word: string) => writeFileSync(file, `export default (req, res) => res.end('${word}');`);
    serve('first');
    const { kit, port, bosun } = await startOperated({ env: { APP_MODULE: file, PORT: String(await freePort()) } });
    const load = freshLoad(port, { everyMs: 50 });
    const pids = await readyPids(kit);
    writeFileSync(file, "throw new Error('no database');");

    const { code, stdout, stderr } = await bosun('restart');
    assert.equal(code, 1);
    assert.equal(stdout, 'starting worker 3 to replace worker 1\n');
    assert.equal(
      stderr,
      `bosun: worker 3, to replace worker 1, did not come up: ${file} can't be loaded: no database; expected a module that exports ` +
        'a Koa instance, a function (kit) that returns one, or a request listener (req, res) as default\n',
    );
    assert.deepEqual(await readyPids(kit), pids);
    assert.equal((await kit.status()).generation, 1);
    assert.equal((await ask(port, '/')).body, 'first');

    kit.signal('SIGHUP');
    await until(
      () => kit.all('pool.restart-failed')[1],
      () => kit.transcript(),
    );
    assert.deepEqual(await readyPids(kit), pids);
    assert.match((await kit.probe('/metrics')).body, /^bosun_rolling_restarts_total\{result="failure"\} 2$/m);

    serve('second');
    assert.equal((await bosun('restart')).code, 0);
    assert.equal((await ask(port, '/')).body, 'second');
    assert.equal((await kit.status()).generation, 2);
    const fresh = await readyPids(kit);
    assert.ok(fresh.length === WORKERS && fresh.every(pid => !pids.includes(pid)));
    load.openNoMore();
    const { refused, failures } = await load.stop();
    // The answers are no JSON: only these may be among them.
    assert.ok(
      failures.every(failure => failure.includes('JSON')),
      failures.join('\n'),
    );
    assert.equal(refused, 0);
  });

  test('2 ends a kept connection that is used once a second by an answer, never between two', async () => {
    const { port, bosun } = await startOperated({ app: 'koa.mjs' });
    const over = new AbortController();
    // Each has its answer before the restart begins: all are with a worker that will be replaced.
    const opened = await Promise.all(Array.from({ length: CALM_CLIENTS }, () => RawClient.open(port)));
    for (const client of opened) assert.equal((await client.ask('/')).status, 200);
    const clients = opened.map((client, index) => askCalmly(client, index, port, over.signal));
    assert.equal((await bosun('restart')).code, 0);
    over.abort();
    const answers = (await Promise.all(clients)).flat();
    assert.ok(
      answers.filter(({ headers }) => headers.connection === 'close').length >= CALM_CLIENTS,
      'every worker was replaced',
    );
  });

  test('asked for while one runs follows it, once for all that ask', async () => {
    const { kit, bosun, start } = await startOperated({ app: 'koa.mjs', env: { NODE_CLUSTER_WORKERS: '1' } });
    const first = start('restart');
    await first.printed(/^starting worker 2 to replace worker 1$/m);
    const [second, third] = [start('restart'), start('restart')];
    await Promise.all([second, third].map(command => command.printed(/^a rolling restart is under way: this one follows it$/m)));
    assert.equal((await kit.status()).generation, 2, 'the first one is not over');
    assert.equal((await first.ended).stdout.trimEnd().split('\n').at(-1), 'done: generation 2 serves');
    // One that asks while the second runs gets a third.
    await until(
      () => kit.all('pool.restart').find(({ generation }) => generation === 3),
      () => kit.transcript(),
    );
    const fourth = start('restart');
    for (const command of [second, third]) {
      const { code, stdout } = await command.ended;
      assert.equal(code, 0);
      assert.equal(stdout.trimEnd().split('\n').at(-1), 'done: generation 3 serves');
    }
    const { code, stdout } = await fourth.ended;
    assert.deepEqual([code, stdout.trimEnd().split('\n').at(-1)], [0, 'done: generation 4 serves']);
    assert.equal(kit.all('pool.restart').length, 3);
    // And one that asks when all is over gets its own at once.
    const last = await bosun('restart');
    assert.match(last.stdout, /^starting worker/);
    assert.deepEqual((await kit.status()).restarts.byReason, { restart: 4 });
  });

  test('reads .env again, refuses what is malformed or fixed before it touches a worker, and goes on with what is mended', async () => {
    const folder = temporaryFolder();
    const file = join(folder, 'app.mjs');
    writeFileSync(file, 'export default (req, res) => res.end(String(process.env.GREETING));');
    const port = await freePort();
    const dotenv = (...lines: string[]) => writeFileSync(join(folder, '.env'), [`PORT=${port}`, ...lines].join('\n'));
    dotenv('GREETING=hello');
    const { kit, bosun } = await startOperated({ env: { APP_MODULE: file, PORT: undefined }, cwd: folder });
    const greeting = async () => (await ask(port, '/')).body;
    assert.equal(await greeting(), 'hello');

    dotenv('GREETING=ahoy');
    assert.equal((await bosun('restart')).code, 0);
    assert.equal(await greeting(), 'ahoy');

    const pids = await readyPids(kit);
    const refuses = async (lines: string[], problem: RegExp) => {
      dotenv('GREETING=never', ...lines);
      const { code, stdout, stderr } = await bosun('restart');
      assert.deepEqual([code, stdout], [1, '']);
      assert.match(stderr, problem);
      kit.signal('SIGHUP');
      const refused = kit.all('reload.refused').length;
      await until(
        () => kit.all('reload.refused').length > refused || undefined,
        () => kit.transcript(),
      );
      assert.match(String(kit.all('reload.refused').at(-1)?.problems), problem);
      assert.deepEqual(await readyPids(kit), pids);
      assert.equal(await greeting(), 'ahoy');
    };
    await refuses(
      ['WORKER_MAX_AGE_MS=never'],
      /WORKER_MAX_AGE_MS must be a whole number of milliseconds .*got "never" \(\.env\)/,
    );
    await refuses([`PORT=${port + 1}`], /PORT can't change while the primary runs: start it anew/);
    await refuses(['NODE_CLUSTER_SCHED_POLICY=none'], /NODE_CLUSTER_SCHED_POLICY can't change while the primary runs/);
    assert.equal(kit.all('pool.restart').length, 1);

    dotenv();
    const { code, stdout } = await bosun('restart');
    assert.equal(code, 0);
    assert.match(stdout, /^starting worker \d/, 'none is under way, and none is said to be');
    assert.equal(await greeting(), 'undefined');
    rmSync(join(folder, '.env'));
    const { code: withoutPort, stderr } = await bosun('restart');
    assert.equal(withoutPort, 1);
    assert.match(stderr, /PORT can't change/);
  });

  test('reads secret files again: sessions go on with an older key that is kept, and end without', async () => {
    const file = join(temporaryFolder(), 'keys');
    const setKeys = (keys: string) => writeFileSync(file, `${keys}\n`);
    setKeys('first-key');
    const env = { SESSION_KEYS_FILE: file, NODE_CLUSTER_WORKERS: '1', PORT: String(await freePort()) };
    const { port, bosun } = await startOperated({ app: 'slow-session.mjs', env });
    const first = new Visitor();
    await first.ask(port, '/');
    // With what the first answer has set, each time.
    const count = async () => JSON.parse((await new Visitor(first.cookies).ask(port, '/')).body).count;
    assert.equal(await count(), 2);
    for (const [keys, expected] of [
      ['second-key,first-key', 2],
      ['second-key', 1],
    ] as const) {
      setKeys(keys);
      const { code, stderr } = await bosun('restart');
      assert.equal(code, 0, stderr);
      assert.equal(await count(), expected, `with the keys ${keys}`);
    }
  });

  test('takes limits for workers from .env that were not there before', async () => {
    const folder = temporaryFolder();
    const { kit, bosun } = await startOperated({ app: 'koa.mjs', cwd: folder });
    writeFileSync(join(folder, '.env'), 'WORKER_MAX_AGE_MS=1500');
    assert.equal((await bosun('restart')).code, 0);
    await kit.event('worker.exit', ({ reason }) => reason === 'recycled-age');
  });

  test('names a slow request that a drain waits for in the log and to the operator, without its query', async () => {
    const { kit, port, bosun, start } = await startOperated({ app: 'koa.mjs' });
    await using client = await RawClient.open(port);
    // Still open when `bosun status` asks, on a slow machine too.
    client.write(requestText('/slow?ms=12000&tell=slow&token=secret'));
    const { workerPid } = await kit.begun('slow');
    const restart = start('restart');
    const { worker, requests } = await kit.event('drain.waiting');
    const [waited, ...others] = requests as OpenRequest[];
    assert.deepEqual(others, []);
    assert.deepEqual([waited?.method, waited?.path, waited?.bytesSent], ['GET', '/slow', 0]);
    assert.ok(Number(waited?.ageMs) > 3000, `${waited?.ageMs} ms old`);
    const [text, json] = await Promise.all([bosun('status'), bosun('status', '--json')]);
    assert.match(text.stdout, new RegExp(`^worker ${worker} waits for GET /slow, \\d+ s old, 0 bytes sent$`, 'm'));
    const waiting = (JSON.parse(json.stdout) as { workers: { pid: number; waitingFor?: OpenRequest[] }[] }).workers.find(
      ({ pid }) => pid === workerPid,
    );
    const [shown] = waiting?.waitingFor ?? [];
    assert.deepEqual([shown?.method, shown?.path, shown?.bytesSent], ['GET', '/slow', 0]);
    assert.equal((await client.answer()).status, 200);
    const { code, stdout } = await restart.ended;
    assert.equal(code, 0);
    assert.match(stdout, new RegExp(`^worker ${worker} is gone: 1 requests finished, 0 cut, \\d+ ms$`, 'm'));
    const { drains } = (await kit.status()) as unknown as { drains: { longestRequestMs: number } };
    assert.ok(drains.longestRequestMs >= 12_000, `the longest request took ${drains.longestRequestMs} ms`);
    assert.ok(!kit.transcript().includes('secret'));
    assert.ok(!`${text.stdout}${json.stdout}`.includes('secret'));
  });

  test('in which one worker drains for long lets no other one hang: that is replaced within its time-out', async () => {
    const { kit, port, start } = await startOperated({ app: 'koa.mjs', env: { WORKER_HEARTBEAT_TIMEOUT_MS: '1000' } });
    await using slow = await RawClient.open(port);
    slow.write(requestText('/slow?ms=10000&tell=slow'));
    const { workerPid: draining } = await kit.begun('slow');
    const { workers } = await kit.status();
    // The one with the slow request first, then the other.
    const [first, second] = workers[0]?.pid === draining ? workers : workers.toReversed();
    const restarts = [start('restart', '--worker', String(first?.id))];
    await restarts[0]?.printed(/^draining worker/m);
    restarts.push(start('restart', '--worker', String(second?.id)));
    const clients: RawClient[] = [];
    const blocking = await until(
      async () => {
        const client = await RawClient.open(port);
        clients.push(client);
        return JSON.parse((await client.ask('/')).body).pid === second?.pid ? client : undefined;
      },
      () => `no connection to ${second?.pid}`,
    );
    blocking.write(requestText('/block?ms=60000&tell=blocked'));
    await kit.begun('blocked');
    const { reason } = await kit.event('worker.exit', ({ workerPid }) => workerPid === second?.pid);
    assert.equal(reason, 'hung');
    assert.equal(slow.unread, '', 'the drain goes on');
    assert.equal((await slow.answer()).status, 200);
    for (const restart of restarts) assert.equal((await restart.ended).code, 0);
    const status = await kit.statusWhere(({ workers: now }) => now.length === WORKERS);
    assert.ok(status.workers.every(({ state }) => state === 'ready'));
    assert.deepEqual(status.restarts.byReason, { hung: 1, restart: 1 });
    for (const client of clients) client.close();
  });

  for (const policy of ['rr', 'none']) {
    test(`12 closes a WebSocket with 1001, and cuts one that does not listen at the deadline, policy ${policy}`, async () => {
      const env = {
        NODE_CLUSTER_SCHED_POLICY: policy,
        NODE_CLUSTER_WORKERS: '1',
        PORT: String(await freePort()),
        SHUTDOWN_TIMEOUT_MS: '2500',
      };
      const { kit, port, bosun } = await startOperated({ app: 'websocket.mjs', env });
      const [polite, deaf] = [
        new WebSocket(`ws://127.0.0.1:${port}/`),
        new WebSocket(`ws://127.0.0.1:${port}/deaf?token=secret`),
      ];
      const [old] = await readyPids(kit);
      for (const client of [polite, deaf]) assert.deepEqual(await echo(client, 'hello'), { pid: old, heard: 'hello' });
      const ends = [polite, deaf].map(client => once(client, 'close'));
      const restart = bosun('restart');
      const [code, reason] = (await ends[0]) as [number, Buffer];
      assert.deepEqual([code, String(reason)], [1001, 'draining']);
      // The other one lives on until the deadline.
      assert.deepEqual(await echo(deaf, 'still here'), { pid: old, heard: 'still here' });
      const [cutCode] = (await ends[1]) as [number];
      assert.equal(cutCode, 1006, 'no close frame');
      assert.equal((await restart).code, 0);
      const { method, path } = await kit.event('request.cut');
      assert.deepEqual([method, path], ['UPGRADE', '/deaf']);
      assert.equal((await kit.status()).drains.cutRequests, 1);
      assert.equal(kit.all('request.cut').length, 1);
      const again = new WebSocket(`ws://127.0.0.1:${port}/`);
      const answer = await echo(again, 'hello again');
      assert.ok(answer.pid !== old);
      again.close();
      await once(again, 'close');
      assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
    });
  }
});

describe('a worker is recycled, the new one first and nothing lost', { concurrency: CONCURRENCY }, () => {
  test('after WORKER_MAX_REQUESTS', async () => {
    const kit = await startKit({ app: 'koa.mjs', env: { WORKER_MAX_REQUESTS: '100' } });
    await recycles(kit, 'recycled-requests', 3);
  });

  test('after a number of its own with WORKER_MAX_REQUESTS_JITTER', async () => {
    // Each draws from a million: none is through after some hundred, but in one run of some thousand.
    const kit = await startKit({ app: 'koa.mjs', env: { WORKER_MAX_REQUESTS: '1', WORKER_MAX_REQUESTS_JITTER: '1000000' } });
    const { port } = await kit.ready();
    const load = keepAliveLoad(port);
    await load.answered(300);
    await load.stop();
    await kit.statusWhere(({ workers }) => workers.reduce((sum, { requests }) => sum + requests, 0) >= 300);
    assert.deepEqual(kit.all('worker.replace'), []);
  });

  test('above WORKER_MAX_RSS_MB', async () => {
    const { kit, port } = await startOperated({ env: { WORKER_MAX_RSS_MB: '300' } });
    const load = keepAliveLoad(port, { path: '/slow?ms=5', clients: 8 });
    const capacity = watchCapacity(kit);
    const pids = await readyPids(kit);
    await using client = await RawClient.open(port);
    for (const mb of [100, 100, 100]) assert.equal((await client.ask(`/leak?mb=${mb}`)).status, 200);
    const { workerPid } = await kit.event('worker.exit', ({ reason }) => reason === 'recycled-rss');
    assert.ok(pids.includes(Number(workerPid)));
    await load.answered(load.result.answered + 100);
    const { failures, refused } = await load.stop();
    assert.deepEqual({ failures, refused }, { failures: [], refused: 0 });
    assert.equal((await capacity.stop()).least, WORKERS);
    assert.deepEqual((await kit.status()).restarts, { total: 1, byReason: { 'recycled-rss': 1 } });
  });

  test('by WORKER_MAX_AGE_MS', async () => {
    const kit = await startKit({ app: 'koa.mjs', env: { WORKER_MAX_AGE_MS: '1500' } });
    await recycles(kit, 'recycled-age', 3);
  });
});

describe('a worker whose event loop is blocked', () => {
  for (const { policy, stuck } of [
    // The one connection that was on its way to it: nobody can take it back (docs/draining.md, 15).
    { policy: 'rr', stuck: 1 },
    { policy: 'none', stuck: 0 },
  ]) {
    test(`is replaced within its time-out and 2 s while the other answers, policy ${policy}`, async t => {
      const timeoutMs = 1000;
      const env = { NODE_CLUSTER_SCHED_POLICY: policy, WORKER_HEARTBEAT_TIMEOUT_MS: String(timeoutMs) };
      const kit = await startKit({ app: 'koa.mjs', env });
      const { port } = await kit.ready();
      // Nobody is hung who is idle, busy as usual, or blocked for half the time.
      const usual = keepAliveLoad(port);
      for (let count = 0; count < 6; count++) assert.equal((await ask(port, `/block?ms=${timeoutMs / 2}`)).status, 200);
      assert.deepEqual(kit.all('worker.replace'), []);
      assert.deepEqual((await usual.stop()).failures, []);

      await using blocking = await RawClient.open(port);
      blocking.write(requestText('/block?ms=60000&tell=blocked'));
      const { workerPid: hung } = await kit.begun('blocked');
      const blockedAt = performance.now();
      const fresh = kit.event('worker.ready', ({ worker }) => worker === 3).then(() => performance.now() - blockedAt);
      const gone = kit.event('worker.exit', ({ workerPid }) => workerPid === hung).then(() => performance.now() - blockedAt);
      const asked: { answered: boolean }[] = [];
      let isGone = false;
      void gone.finally(() => {
        isGone = true;
      });
      while (!isGone) {
        const one = { answered: false };
        asked.push(one);
        void askJson<{ pid: number }>(port, '/').then(
          ({ pid }) => {
            one.answered = pid !== hung;
          },
          () => undefined,
        );
        await pause(50);
      }
      const [readyMs, goneMs] = [await fresh, await gone];
      t.diagnostic(`the new one served after ${Math.round(readyMs)} ms, the old one was gone after ${Math.round(goneMs)} ms`);
      // 1.6 s after the blocking on an idle machine, of the 3 s that are promised; other tests run beside this one.
      assert.ok(readyMs <= timeoutMs + 6000, `took ${readyMs} ms`);
      const unanswered = () => asked.filter(({ answered }) => !answered).length;
      await until(
        () => unanswered() <= stuck || undefined,
        () => `${unanswered()} of ${asked.length} unanswered`,
      );
      assert.ok(asked.length >= 20, `${asked.length} asked meanwhile`);

      assert.equal((await kit.event('worker.exit')).reason, 'hung');
      assert.deepEqual((await kit.status()).restarts, { total: 1, byReason: { hung: 1 } });
      const { stack, workerPid } = await kit.event('worker.hung');
      assert.equal(workerPid, hung);
      assert.match(String(stack), /koa\.mjs:\d+:\d+/);
      await until(
        async () => (await readyPids(kit)).length === WORKERS || undefined,
        () => kit.transcript(),
      );
    });
  }
});

/** Under load, until `count` workers were recycled: all for that reason, none lost a request, and never fewer than wanted served. */
async function recycles(kit: Kit, reason: string, count: number): Promise<void> {
  const { port } = await kit.ready();
  const capacity = watchCapacity(kit);
  const loads: Load[] = [keepAliveLoad(port), keepAliveLoad(port, { path: '/slow?ms=100' }), freshLoad(port)];
  await until(
    () => kit.all('worker.exit').length >= count || undefined,
    () => kit.transcript(),
    PATIENCE_MS,
  );
  for (const load of loads) {
    const { answered, failures, refused } = await load.stop();
    assert.ok(answered > 50, `${answered} answers`);
    assert.deepEqual({ failures, refused }, { failures: [], refused: 0 });
  }
  const { least, samples } = await capacity.stop();
  assert.equal(least, WORKERS);
  assert.ok(samples > 20, `${samples} looks`);
  const { restarts, drains } = await kit.status();
  assert.ok(restarts.total >= count);
  assert.deepEqual(restarts.byReason, { [reason]: restarts.total });
  assert.equal(drains.cutRequests, 0);
  assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
}

/** Looks all the time at how many workers serve. */
function watchCapacity(kit: Kit): { stop(): Promise<{ least: number; samples: number }> } {
  let goesOn = true;
  const seen = { least: Number.POSITIVE_INFINITY, samples: 0 };
  const looking = (async () => {
    while (goesOn) {
      seen.least = Math.min(seen.least, (await readyPids(kit)).length);
      seen.samples++;
      await pause(SAMPLE_EVERY_MS);
    }
  })();
  return {
    stop: async () => {
      goesOn = false;
      await looking;
      return seen;
    },
  };
}

/** Once a second, from its own part of the second on; over one more connection where one has ended. */
async function askCalmly(opened: RawClient, index: number, port: number, over: AbortSignal): Promise<Answer[]> {
  const answers: Answer[] = [];
  await pause((index * 1000) / CALM_CLIENTS);
  for (let next: RawClient | undefined = opened; !over.aborted; next = undefined) {
    await using client = next ?? (await RawClient.open(port));
    let isLast = false;
    while (!isLast && !over.aborted) {
      const answer = await client.ask('/');
      answers.push(answer);
      isLast = answer.headers.connection === 'close';
      if (isLast) assert.equal(await client.ended(), 'FIN');
      else await pause(1000);
      assert.ok(isLast || client.isOpen, 'ended between two requests');
    }
  }
  return answers;
}

async function readyPids(kit: Kit): Promise<number[]> {
  return (await kit.status()).workers.filter(({ state }) => state === 'ready').map(({ pid }) => pid);
}

async function echo(client: WebSocket, word: string): Promise<{ pid: number; heard: string }> {
  if (client.readyState === WebSocket.CONNECTING) await once(client, 'open');
  const answer = once(client, 'message');
  client.send(word);
  return JSON.parse(String((await answer)[0])) as { pid: number; heard: string };
}
