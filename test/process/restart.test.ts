/**
 * A rolling restart that fails leaves the old workers alone, and clients and operators see it in time.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import type { OpenRequest } from '../../src/protocol/messages.ts';
import { freePort } from '../free-port.ts';
import { until } from '../until.ts';
import { readyPids } from './capacity.ts';
import { type Answer, RawClient, request, requestText } from './clients.ts';
import type { Kit } from './kit.ts';
import { freshLoad } from './loads.ts';
import { startOperated, temporaryFolder } from './operator.ts';

/** Most of a test is waiting. */
const CONCURRENCY = 4;
const WORKERS = 2;
const CALM_CLIENTS = 8;

/** For drains that wait until the test has seen what it came for, however busy the machine. */
const PATIENT = { SHUTDOWN_TIMEOUT_MS: '60000' };

/** A request that stays open until `release`, which checks its answer. */
async function holdOn(kit: Kit, port: number) {
  const released = join(temporaryFolder(), 'released');
  const client = await RawClient.open(port);
  client.write(requestText(`/hold?mark=held&token=secret&until=${released}`));
  const { workerPid } = await kit.begun('held');
  const release = async () => {
    writeFileSync(released, '');
    assert.equal((await client.answer()).status, 200);
  };
  return { client, workerPid, release, [Symbol.asyncDispose]: () => client[Symbol.asyncDispose]() };
}

describe('a rolling restart', { concurrency: CONCURRENCY }, () => {
  test('a rolling restart whose new worker does not start leaves the old ones serving, and reports which one and why (case 38)', async () => {
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
      `bosun: worker 3, to replace worker 1, failed to start: ${file} can't be loaded: no database (${file}:1)\n`,
    );
    assert.deepEqual(await readyPids(kit), pids);
    assert.equal((await kit.status()).generation, 1);
    assert.equal((await request(port, '/')).body, 'first');

    kit.signal('SIGHUP');
    await until(
      () => kit.all('pool.restart-failed')[1],
      () => kit.transcript(),
    );
    assert.deepEqual(await readyPids(kit), pids);
    assert.match((await kit.probe('/metrics')).body, /^bosun_rolling_restarts_total\{result="failure"\} 2$/m);

    serve('second');
    assert.equal((await bosun('restart')).code, 0);
    assert.equal((await request(port, '/')).body, 'second');
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

  test('a rolling restart ends a keep-alive connection used once a second with a response, never between two (case 2)', async () => {
    const { port, bosun } = await startOperated({ app: 'koa.mjs', env: { MOVE_CONNECTIONS: 'false' } });
    const over = new AbortController();
    // Each has its answer before the restart begins: all are with a worker that will be replaced.
    const opened = await Promise.all(Array.from({ length: CALM_CLIENTS }, () => RawClient.open(port)));
    for (const client of opened) assert.equal((await client.request('/')).status, 200);
    const clients = opened.map((client, index) => requestSlowly(client, index, port, over.signal));
    assert.equal((await bosun('restart')).code, 0);
    over.abort();
    const answers = (await Promise.all(clients)).flat();
    assert.ok(
      answers.filter(({ headers }) => headers.connection === 'close').length >= CALM_CLIENTS,
      'every worker was replaced',
    );
  });

  test('a rolling restart requested while one runs follows it, once for all requests', async () => {
    const { kit, port, bosun, start } = await startOperated({ app: 'koa.mjs', env: { ...PATIENT, NODE_CLUSTER_WORKERS: '1' } });
    await using held = await holdOn(kit, port);
    const first = start('restart');
    await first.printed(/^starting worker 2 to replace worker 1$/m);
    const [second, third] = [start('restart'), start('restart')];
    await Promise.all(
      [second, third].map(command => command.printed(/^a rolling restart is running: this one starts after it$/m)),
    );
    assert.equal((await kit.status()).generation, 2, 'the first one is not over');
    await held.release();
    assert.equal((await first.ended).stdout.trimEnd().split('\n').at(-1), 'done: generation 2 serves');
    // A request while the second runs gets a third.
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
    // A request after the last one starts its own at once.
    const last = await bosun('restart');
    assert.match(last.stdout, /^starting worker/);
    assert.deepEqual((await kit.status()).restarts.byReason, { restart: 4 });
  });

  test('a rolling restart names a slow request that a drain waits for in the log and to the operator, without its query', async () => {
    const { kit, port, bosun, start } = await startOperated({ app: 'koa.mjs', env: PATIENT });
    await using held = await holdOn(kit, port);
    const restart = start('restart');
    const { worker, requests } = await kit.event('drain.waiting');
    const [waited, ...others] = requests as OpenRequest[];
    assert.deepEqual(others, []);
    assert.deepEqual([waited?.method, waited?.path, waited?.bytesSent], ['GET', '/hold', 0]);
    assert.ok(Number(waited?.ageMs) > 3000, `${waited?.ageMs} ms old`);
    const [text, json] = await Promise.all([bosun('status'), bosun('status', '--json')]);
    assert.match(text.stdout, new RegExp(`^worker ${worker} waits for GET /hold, \\d+ s old, 0 bytes sent$`, 'm'));
    const waiting = (JSON.parse(json.stdout) as { workers: { pid: number; waitingFor?: OpenRequest[] }[] }).workers.find(
      ({ pid }) => pid === held.workerPid,
    );
    const [shown] = waiting?.waitingFor ?? [];
    assert.deepEqual([shown?.method, shown?.path, shown?.bytesSent], ['GET', '/hold', 0]);
    await held.release();
    const { code, stdout } = await restart.ended;
    assert.equal(code, 0);
    assert.match(stdout, new RegExp(`^worker ${worker} is gone: 1 requests finished, 0 cut, \\d+ ms$`, 'm'));
    const { drains } = (await kit.status()) as unknown as { drains: { longestRequestMs: number } };
    assert.ok(drains.longestRequestMs >= Number(waited?.ageMs), `the longest request took ${drains.longestRequestMs} ms`);
    assert.ok(!kit.transcript().includes('secret'));
    assert.ok(!`${text.stdout}${json.stdout}`.includes('secret'));
  });

  test('a long drain in a rolling restart does not delay the replacement of a hung worker', async () => {
    const { kit, port, start } = await startOperated({
      app: 'koa.mjs',
      env: { ...PATIENT, WORKER_HEARTBEAT_TIMEOUT_MS: '1000' },
    });
    await using held = await holdOn(kit, port);
    const { workers } = await kit.status();
    // The one with the open request first, then the other.
    const [first, second] = workers[0]?.pid === held.workerPid ? workers : workers.toReversed();
    const restarts = [start('restart', '--worker', String(first?.id))];
    await restarts[0]?.printed(/^draining worker/m);
    restarts.push(start('restart', '--worker', String(second?.id)));
    const clients: RawClient[] = [];
    const blocking = await until(
      async () => {
        const client = await RawClient.open(port);
        clients.push(client);
        return JSON.parse((await client.request('/')).body).pid === second?.pid ? client : undefined;
      },
      () => `no connection to ${second?.pid}`,
    );
    blocking.write(requestText('/block?ms=60000&mark=blocked'));
    await kit.begun('blocked');
    const { reason } = await kit.event('worker.exit', ({ workerPid }) => workerPid === second?.pid);
    assert.equal(reason, 'hung');
    assert.equal(held.client.unread, '', 'the drain goes on');
    await held.release();
    for (const restart of restarts) assert.equal((await restart.ended).code, 0);
    const status = await kit.statusWhere(({ workers: now }) => now.length === WORKERS);
    assert.ok(status.workers.every(({ state }) => state === 'ready'));
    assert.deepEqual(status.restarts.byReason, { hung: 1, restart: 1 });
    for (const client of clients) client.close();
  });
});

/** Once a second, from its own part of the second on; over one more connection where one has ended. */
async function requestSlowly(opened: RawClient, index: number, port: number, over: AbortSignal): Promise<Answer[]> {
  const answers: Answer[] = [];
  await pause((index * 1000) / CALM_CLIENTS);
  for (let next: RawClient | undefined = opened; !over.aborted; next = undefined) {
    await using client = next ?? (await RawClient.open(port));
    let isLast = false;
    while (!isLast && !over.aborted) {
      const answer = await client.request('/');
      answers.push(answer);
      isLast = answer.headers.connection === 'close';
      if (isLast) assert.equal(await client.ended(), 'FIN');
      else await pause(1000);
      assert.ok(isLast || client.isOpen, 'ended between two requests');
    }
  }
  return answers;
}
