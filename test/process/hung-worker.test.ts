import assert from 'node:assert/strict';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { test } from 'node:test';
import { freePort } from '../free-port.ts';
import { until } from '../until.ts';
import { RawClient, request, requestJson, requestText } from './clients.ts';
import { type Kit, startKit } from './kit.ts';
import { isAlive } from './processes.ts';

const noProc = process.platform !== 'linux' && 'there is no /proc';

/** TCP ports that a process listens on with descriptors of its own. */
function listeningPorts(pid: number): number[] {
  const links = readdirSync(`/proc/${pid}/fd`).flatMap(fd => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
    } catch {
      return []; // closed since
    }
  });
  const lines = readFileSync('/proc/net/tcp', 'utf8').trim().split('\n').slice(1);
  return lines.flatMap(line => {
    const [, local = '', , state, , , , , , inode] = line.trim().split(/\s+/);
    return state === '0A' && links.includes(`socket:[${inode}]`) ? [Number.parseInt(local.split(':')[1] ?? '', 16)] : [];
  });
}

const assertNoAddress = (kit: Kit) => assert.doesNotMatch(kit.transcript(), /ws:\/\/|Debugger|For help/);

test('the stack of a hung worker is in the log, and its inspector is private: no address in the log, no list over HTTP', {
  skip: noProc,
}, async () => {
  const kit = await startKit({ app: 'koa.mjs', env: { WORKER_HEARTBEAT_TIMEOUT_MS: '1000' } });
  const { port } = await kit.ready();
  const { pid: opened } = await requestJson<{ pid: number }>(port, '/');
  const before = new Set(listeningPorts(opened));
  process.kill(opened, 'SIGUSR1');
  const inspector = await until(
    () => listeningPorts(opened).find(each => !before.has(each)),
    () => kit.transcript(),
  );
  for (const path of ['/json/list', '/json', '/json/version', '/json/protocol', '/'])
    assert.equal((await request(inspector, path)).status, 404, path);
  const primaryBefore = listeningPorts(kit.pid);
  kit.signal('SIGUSR1');
  await kit.event('signal', ({ command }) => command === 'ignore');
  assert.deepEqual(listeningPorts(kit.pid), primaryBefore);

  // A debugger may pause the worker whose inspector is open: it blocks for longer than the other, and stays.
  const clients = await Promise.all([1, 2].map(() => RawClient.open(port)));
  const pids = (await kit.status()).workers.map(({ pid }) => pid);
  const hung = pids.find(pid => pid !== opened);
  for (const client of clients) client.write(requestText('/block?ms=15000'));
  const { stack, workerPid } = await kit.event('worker.hung');
  assert.equal(workerPid, hung);
  assert.match(String(stack), /koa\.mjs:\d+:\d+/);
  assert.equal((await kit.event('worker.exit')).reason, 'hung');
  assert.deepEqual(
    kit.all('worker.replace').map(({ workerPid }) => workerPid),
    [hung],
  );
  assert.ok(isAlive(opened));
  assert.equal((await kit.probe('/livez')).status, 200);
  assertNoAddress(kit);
  for (const client of clients) client.close();
});

test('with --inspect no worker is considered hung, and the primary goes on', async () => {
  const env = {
    WORKER_HEARTBEAT_TIMEOUT_MS: '300',
    NODE_OPTIONS: `--inspect=127.0.0.1:${await freePort()}`,
  };
  const kit = await startKit({ app: 'koa.mjs', env });
  const { port } = await kit.ready();
  const answer = request(port, '/block?ms=3000'); // ten timeouts
  assert.equal((await answer).status, 200);
  assert.equal((await kit.probe('/livez')).status, 200);
  assert.deepEqual(kit.all('worker.replace'), []);
  assert.match(kit.stderr, /Debugger listening on ws:/); // that is what the user wants
  assert.equal((await kit.stop()).code, 0);
});

test('a shutdown does not wait for a worker that does not answer, even with --inspect, and exits with 1', async () => {
  const env = { WORKER_HEARTBEAT_TIMEOUT_MS: '500', NODE_OPTIONS: `--inspect=127.0.0.1:${await freePort()}` };
  const kit = await startKit({ app: 'koa.mjs', env });
  const { port } = await kit.ready();
  await using client = await RawClient.open(port);
  client.write(requestText('/block?ms=120000'));
  const silentFor3s = /^bosun_worker_snapshot_age_seconds\{worker="\d"\} ([3-9]|\d\d)/m;
  await until(
    async () => silentFor3s.test((await kit.probe('/metrics')).body) || undefined,
    () => kit.transcript(),
    30_000,
  );
  assert.equal((await kit.stop()).code, 1);
  const exits = kit.all('worker.exit').map(({ reason, failure }) => [reason, failure]);
  assert.ok(
    exits.some(([reason, failure]) => reason === 'shutdown' && /did not answer at the shutdown/.test(String(failure))),
    JSON.stringify(exits),
  );
});
