/**
 * Live connections move from a worker that ends to those that serve: their clients notice nothing. All of it in one pool, which loses a worker
 * in each step.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { connectionsHeldBy } from '../../src/balancing/tcp-table.ts';
import { until } from '../until.ts';
import { RawClient, requestText } from './clients.ts';
import { startKit } from './kit.ts';
import { temporaryFolder } from './operator.ts';

/** As many as may be under way at once. */
const UNDER_WAY = 8;
const IDLE = UNDER_WAY + 2;
const FEW = 4;
const WORKERS = 4;

async function pidOf(client: RawClient): Promise<number> {
  const { status, headers, body } = await client.request('/');
  assert.equal(status, 200);
  assert.equal(headers.connection, 'keep-alive');
  return JSON.parse(body).pid;
}

/** Connections to the worker `pid`, after one response each. */
async function openTo(port: number, pid: number, count: number): Promise<RawClient[]> {
  const found: RawClient[] = [];
  const others: RawClient[] = [];
  for (let tries = 0; found.length < count; tries++) {
    assert.ok(tries < 20 * count, `worker ${pid} gets no connections`);
    const client = await RawClient.open(port);
    if ((await pidOf(client)) === pid) found.push(client);
    else others.push(client);
  }
  for (const client of others) client.close();
  return found;
}

const softLimitOf = (pid: number) => /^Max open files +(\d+)/m.exec(readFileSync(`/proc/${pid}/limits`, 'utf8'))?.[1];
/** What is open stays open. */
const limitFiles = (pid: number, soft: string) => execFileSync('prlimit', ['--pid', String(pid), `--nofile=${soft}:`]);

const skip = process.platform === 'linux' ? false : 'needs /proc and prlimit';

test('connections of a worker that ends move to those that serve', { skip }, async t => {
  const kit = await startKit({ app: 'koa.mjs', env: { NODE_CLUSTER_WORKERS: String(WORKERS), REBALANCE_KEEPALIVE: 'false' } });
  const { port } = await kit.ready();
  const pids = (await kit.status()).workers.map(({ pid }) => pid);
  const [first = 0, second = 0, third = 0, fourth = 0] = pids;
  const leave = () => kit.signal('SIGTTOU');
  /** The primary holds only those. */
  const underWay = () => connectionsHeldBy(kit.pid, port).connections;
  const untilUnderWay = (count: number) =>
    until(
      () => underWay() === count || undefined,
      () => `${underWay()} connections under way`,
    );
  /** No report of it can arrive afterwards that counts connections which are closed by now. */
  const freezeIdle = (pid: number) =>
    until(
      async () => {
        process.kill(pid, 'SIGSTOP');
        await kit.status(); // what it sent before has arrived at the second one
        const { workers } = await kit.status();
        if (workers.some(worker => worker.pid === pid && worker.connections === 0)) return true;
        process.kill(pid, 'SIGCONT');
        return undefined;
      },
      () => `worker ${pid} keeps connections`,
    );
  const exitOf = (pid: number) => kit.event('worker.exit', ({ workerPid }) => workerPid === pid);

  await t.test('whatever their clients have begun, and not to one that may open no more files', async () => {
    const isOther = (pid: number) => pid === second || pid === third;
    const limit = softLimitOf(first) ?? '';
    const idle = await openTo(port, fourth, IDLE);
    const others = await openTo(port, fourth, 4);
    const [waiting, begun, uploading, ahead] = others;
    assert.ok(waiting && begun && uploading && ahead);
    // With an open request, with the beginning of one, with half a body, and with the beginning of the next request behind an open one.
    const released = join(temporaryFolder(), 'released');
    waiting.write(requestText(`/hold?mark=held&until=${released}`));
    begun.write('GET / HTT');
    uploading.write(requestText('/upload?mark=upload', { method: 'POST', headers: { 'Content-Length': '6' }, body: 'abc' }));
    ahead.write(`${requestText(`/hold?mark=ahead&until=${released}`)}GET / HT`);
    for (const mark of ['held', 'upload', 'ahead']) await kit.begun(mark);

    limitFiles(first, '0');
    leave();
    await kit.statusWhere(({ moved }) => moved === IDLE);
    const moved = await Promise.all(idle.map(pidOf));
    assert.ok(moved.every(isOther), moved.join());
    writeFileSync(released, '');
    for (const client of [waiting, ahead]) {
      const { headers, body } = await client.answer();
      assert.deepEqual([JSON.parse(body).pid, headers.connection], [fourth, 'keep-alive']);
    }
    begun.write('P/1.1\r\nHost: a\r\n\r\n');
    ahead.write('TP/1.1\r\nHost: a\r\n\r\n');
    uploading.write('def');
    assert.equal(JSON.parse((await uploading.answer()).body).bytes, 6);
    for (const client of [begun, ahead]) assert.equal((await client.answer()).status, 200);
    // On a busy machine the next request may arrive before its connection has left.
    for (const client of others)
      await until(
        async () => isOther(await pidOf(client)) || undefined,
        () => 'a connection stays',
      );

    const { drain } = await exitOf(fourth);
    assert.partialDeepStrictEqual(drain, { cutRequests: 0, moved: IDLE + 4, handedOver: 0 });
    assert.ok((drain as { finished: number }).finished >= 5);
    assert.equal((await kit.status()).moved, IDLE + 4);
    assert.match((await kit.probe('/metrics')).body, new RegExp(`^bosun_moved_connections_total ${IDLE + 4}$`, 'm'));
    limitFiles(first, limit);
    for (const client of [...idle, ...others]) client.close();
    await untilUnderWay(0);
  });

  await t.test('to the next one, if those that send and receive them are killed', async () => {
    const kept = await openTo(port, second, FEW);
    const clients = await openTo(port, third, FEW);
    await kit.statusWhere(({ workers: [, two] }) => two?.connections === FEW);
    process.kill(second, 'SIGSTOP'); // longer without a report than the first one
    await freezeIdle(first); // all are sent to it, as it has the fewest
    leave();
    await untilUnderWay(FEW);
    process.kill(second, 'SIGCONT');
    for (const client of clients) client.write(requestText('/'));
    process.kill(third, 'SIGKILL');
    await exitOf(third);
    process.kill(first, 'SIGKILL');
    for (const client of clients) assert.equal(JSON.parse((await client.answer()).body).pid, second);
    await exitOf(first);
    for (const client of [...clients, ...kept]) client.close();
  });

  const bothServe = async () => {
    const { workers } = await kit.statusWhere(({ workers }) => workers.map(({ state }) => state).join() === 'ready,ready');
    return workers.map(({ pid }) => pid);
  };

  await t.test('and if none can take them, they end with a response', async () => {
    const [only = 0, leaving = 0] = await bothServe();
    const clients = await openTo(port, leaving, 2);
    const limit = softLimitOf(only) ?? '';
    await kit.statusWhere(({ workers: [, two] }) => two?.connections === 2);
    limitFiles(only, '0');
    leave();
    const isLast = async (client: RawClient) => (await client.request('/')).headers.connection === 'close' || undefined;
    for (const client of clients)
      await until(
        () => isLast(client),
        () => 'it goes on',
      );
    const { drain } = await exitOf(leaving);
    assert.partialDeepStrictEqual(drain, { cutRequests: 0, moved: 0, handedOver: 2 });
    limitFiles(only, limit);
  });

  await t.test('and if the primary is killed meanwhile, they end, and so do the workers', async () => {
    kit.signal('SIGTTIN');
    const [frozen = 0, leaving = 0] = await bothServe();
    const clients = await openTo(port, leaving, FEW);
    await kit.statusWhere(({ workers: [one] }) => one?.connections === 0);
    process.kill(frozen, 'SIGSTOP');
    leave();
    await untilUnderWay(FEW);
    kit.signal('SIGKILL');
    process.kill(frozen, 'SIGCONT');
    for (const client of clients) assert.ok(await client.ended());
    await kit.workersGone();
  });
});
