import assert from 'node:assert/strict';
import { once } from 'node:events';
import fs, { closeSync, fstatSync, readdirSync, readlinkSync, writeFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { type AddressInfo, createServer } from 'node:net';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { afterEach, test } from 'node:test';
import fc from 'fast-check';
import { Balancing, type BalancingOptions, ListenerAssignment, type System } from '../src/balancing/balancing.ts';
import { addressOf, ListeningSockets, PortError } from '../src/balancing/listener.ts';
import { type Entry, Scoreboard } from '../src/balancing/scoreboard.ts';
import { ConfigError, type Policy } from '../src/config/config.ts';
import { temporaryFolder } from './process/operator.ts';

const opened: Balancing[] = [];
const balance = (policy: Policy, system?: Partial<System>, more?: Partial<BalancingOptions>) => {
  const balancing = new Balancing({ policy, address: '127.0.0.1', port: 0, workers: 2, ...more }, system);
  opened.push(balancing);
  return balancing;
};
afterEach(() => {
  for (const balancing of opened.splice(0)) balancing.close();
});

const entry = (id: number, state: Entry['state'], more: Partial<Entry> = {}): Entry => ({
  id,
  thread: 70 + id,
  state,
  sequence: 1,
  connections: 3,
  responseMs: 12.5,
  averagedAt: 99,
  takenAt: 98,
  turns: 97,
  ...more,
});

test('the scoreboard is a file without a name, which no other user can create first', () => {
  const folder = temporaryFolder();
  writeFileSync(join(folder, `bosun-scoreboard-${process.pid}`), '');
  closeSync(Scoreboard.create(folder).fd);
  assert.equal(readdirSync(folder).length, 1, 'nothing is left in the folder');
});

test('the scoreboard shows each worker the policy and the rows of the others, but not those that have stopped or exited', () => {
  const primary = Scoreboard.create();
  const [first, last] = [new Scoreboard(primary.fd), new Scoreboard(primary.fd)];
  assert.deepEqual(first.read(), { policy: 'none', entries: [] }, 'before the primary has set a policy');
  primary.setPolicy('least-connections');
  for (const id of [1, 1025]) primary.clear(id);
  const open = entry(1, 'open');
  const closed = entry(1025, 'closed', { connections: 7 });
  first.report(open);
  last.report(closed);
  assert.deepEqual(first.read(), { policy: 'least-connections', entries: [open, closed] });
  primary.setPolicy('response-time');
  primary.clear(1025);
  assert.deepEqual(last.read(), { policy: 'response-time', entries: [open] });
  primary.clear(1);
  assert.deepEqual(last.read().entries, []);
  first.report(open);
  first.report({ ...open, state: 'stopped' });
  assert.deepEqual(last.read().entries, []);
  last.report(closed);
  assert.deepEqual(first.read().entries, [closed], 'the highest id stays, though a lower one was cleared later');
  closeSync(primary.fd);
});

test('a scoreboard that cannot be created makes the policy none, with a warning', () => {
  for (const folder of ['/proc/no-such-folder', '/dev/full']) {
    const balancing = balance('least-connections', { createScoreboard: () => Scoreboard.create(folder) });
    assert.equal(balancing.policy, 'none');
    assert.match(
      String(balancing.warning),
      /^the policy is none instead of least-connections: cannot create the scoreboard in memory: .*(ENOENT|ENOTDIR)/,
    );
    const objection = 'cannot switch from none at run time; set NODE_CLUSTER_SCHED_POLICY and restart';
    assert.equal(balancing.change('least-connections'), objection);
    assert.equal(balancing.inherited.environment.BOSUN_SCOREBOARD, '');
  }
});

test('a file system without room for the scoreboard makes the policy none, and nothing of the scoreboard stays open', {
  skip: process.platform !== 'linux' && 'needs /proc',
}, t => {
  const openScoreboards = () =>
    readdirSync('/proc/self/fd').filter(fd => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`).includes('bosun-scoreboard');
      } catch {
        return false;
      }
    }).length;
  const before = openScoreboards();
  t.mock.method(fs, 'writeSync', () => 4096);
  syncBuiltinESMExports();
  const { policy, warning } = balance('rr');
  t.mock.restoreAll();
  syncBuiltinESMExports();
  assert.equal(policy, 'none');
  assert.match(String(warning), /: ENOSPC: \/\S+ has room for 4096 bytes, 131136 needed$/);
  assert.equal(openScoreboards(), before);
});

test('if Node.js cannot pause a listener the policy is none, with a warning unless none was configured', () => {
  const balancing = balance('rr', { canPause: () => false });
  assert.equal(balancing.policy, 'none');
  assert.equal(balancing.warning, `the policy is none instead of rr: Node.js ${process.version} cannot pause a listening socket`);
  assert.equal(balance('none', { canPause: () => false }).warning, undefined);
});

test('reuseport on a platform without SO_REUSEPORT is bad configuration, a taken port is not', () => {
  const failWith = (error: Error) => () => {
    throw error;
  };
  assert.throws(() => balance('reuseport', { bindMany: failWith(new Error('bind ENOTSUP')) }), {
    name: 'ConfigError',
    message:
      /NODE_CLUSTER_SCHED_POLICY must be one of rr, none, least-connections, response-time, got "reuseport", which is not supported on this platform \(bind ENOTSUP\)/,
  });
  const taken = new PortError('127.0.0.1', 80, new Error('bind EADDRINUSE'));
  assert.throws(
    () => balance('reuseport', { bindMany: failWith(taken) }),
    error => error === taken && !(error instanceof ConfigError),
  );
});

test('a port that another server uses is a PortError that names host, port and variables', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  for (const policy of ['least-connections', 'reuseport'] as const) {
    assert.throws(
      () => balance(policy, {}, { port }),
      (error: PortError) => {
        assert.match(error.message, new RegExp(`^127\\.0\\.0\\.1:${port}: cannot listen: .*EADDRINUSE.* \\(HOST, PORT\\)$`));
        return error.isTaken && error.name === 'PortError';
      },
    );
  }
  server.close();
});

test('a host name that does not resolve is a PortError, an address is used unchanged', async () => {
  assert.equal(await addressOf('::1', 80), '::1');
  await assert.rejects(addressOf('no-such-host.invalid', 80), (error: PortError) => error instanceof PortError && !error.isTaken);
});

test('workers inherit the scoreboard and one listener, with reuseport a listener each and no scoreboard', () => {
  const shared = balance('least-connections');
  assert.deepEqual(shared.inherited.environment, { BOSUN_SCOREBOARD: '4', BOSUN_SOCKETS: '5,6,7,8', BOSUN_PORT: '' });
  assert.equal(shared.inherited.fds.length, 5);
  assert.equal(new Set(shared.inherited.fds).size, 2, 'a scoreboard, and one socket four times');
  assert.deepEqual(shared.enter(1, 2), [0]);
  assert.deepEqual(shared.listeners, [0]);
  const count = Math.max(3, availableParallelism());
  const own = balance('reuseport', {}, { workers: 3 });
  const sockets = Array.from({ length: count }, (_, index) => 4 + index);
  assert.deepEqual(own.inherited.environment, { BOSUN_SCOREBOARD: '', BOSUN_SOCKETS: sockets.join(), BOSUN_PORT: '' });
  assert.equal(own.inherited.fds.length, count);
  assert.deepEqual(own.enter(1, 3), [0, 1, 2]);
});

test('reuseport opens at most 64 listeners', () => {
  let bound = 0;
  const bindMany: System['bindMany'] = (host, port, count) => {
    bound = count;
    return ListeningSockets.many(host, port, 2);
  };
  balance('reuseport', { bindMany }, { workers: 1000 });
  assert.equal(bound, 64);
});

test('the primary closes its sockets before the last drain, and nothing waits in them', {
  skip: process.platform !== 'linux',
}, () => {
  const fds: number[] = [];
  const bindMany: System['bindMany'] = (host, port, count) => {
    const sockets = ListeningSockets.many(host, port, count);
    fds.push(...sockets.fds);
    return sockets;
  };
  const balancing = balance('reuseport', { bindMany });
  opened.pop(); // it is closed here
  assert.equal(balancing.waiting, 0);
  for (const fd of fds) assert.ok(fstatSync(fd).isSocket());
  balancing.close();
  for (const fd of fds) assert.throws(() => fstatSync(fd), /EBADF/);
});

test('the policy changes at run time between the gated ones, and workers see it on the scoreboard', () => {
  const primary = Scoreboard.create();
  const balancing = balance('rr', { createScoreboard: () => primary });
  const worker = new Scoreboard(primary.fd);
  assert.equal(worker.read().policy, 'rr');
  assert.equal(balancing.change('rr'), undefined);
  assert.equal(balancing.change('response-time'), undefined);
  assert.deepEqual([balancing.policy, worker.read().policy], ['response-time', 'response-time']);
  const objection = 'cannot switch to reuseport at run time; set NODE_CLUSTER_SCHED_POLICY and restart';
  assert.equal(balancing.change('reuseport'), objection);
  const unknown = 'unknown policy fastest: expected one of rr, none, reuseport, least-connections, response-time';
  assert.equal(balancing.change('fastest'), unknown);
  assert.equal(balancing.policy, 'response-time');
  balancing.balanceByConnections();
  assert.equal(worker.read().policy, 'least-connections', 'for the shutdown');
  const own = balance('reuseport');
  own.balanceByConnections();
  assert.match(String(own.change('rr')), /^cannot switch from reuseport/);
  assert.equal(own.change('reuseport'), undefined, 'it is the policy already');
  closeSync(primary.fd);
});

test('a worker that has exited is cleared from the scoreboard, and so is the id of a worker that starts', () => {
  const primary = Scoreboard.create();
  const balancing = balance('rr', { createScoreboard: () => primary });
  const worker = new Scoreboard(primary.fd);
  balancing.enter(1, 1);
  worker.report(entry(1, 'open'));
  assert.equal(worker.read().entries.length, 1);
  balancing.clear(1);
  assert.equal(worker.read().entries.length, 0);
  worker.report(entry(1, 'open'));
  balancing.enter(1, 1);
  assert.equal(worker.read().entries.length, 0);
  closeSync(primary.fd);
});

test('serving workers are sent their listeners when these change, and again after a restart under the same id', () => {
  const balancing = balance('reuseport', { bindMany: (host, port) => ListeningSockets.many(host, port, 2) });
  const sent: string[] = [];
  const worker = (id: number, isServing = true) => ({
    id,
    isServing,
    send: ({ type, listeners }: { type: string; listeners: number[] }) => sent.push(`${id} ${type} ${listeners}`),
  });
  const follow = (workers: ReturnType<typeof worker>[], wanted = 2) => {
    sent.length = 0;
    balancing.follow(workers, wanted);
    return sent.toSorted();
  };
  assert.deepEqual(follow([worker(1, false)]), []);
  assert.deepEqual(follow([worker(1)]), ['1 serve 0,1']);
  assert.deepEqual(follow([worker(1)]), [], 'nothing has changed');
  assert.deepEqual(follow([worker(1), worker(2)]), ['1 serve 0', '2 serve 1']);
  assert.deepEqual(follow([worker(1), worker(2, false)]), ['1 serve 0,1'], 'a draining worker gets none');
  assert.deepEqual(follow([worker(1), worker(2)]), ['1 serve 0']);
  balancing.clear(2);
  assert.deepEqual(follow([worker(1), worker(2)]), ['2 serve 1'], 'it may be another process');
});

/** Each step: the ids of the serving workers, and the size of the pool. */
function assignAll(max: number, ...steps: [number[], number][]) {
  const assignment = new ListenerAssignment(max);
  return steps.map(([serving, wanted]) => Object.fromEntries(assignment.assign(serving, wanted)));
}
const allOf = (assigned: Record<string, number[]> | undefined) =>
  Object.values(assigned ?? {})
    .flat()
    .toSorted();

test('each worker gets a listener of its own, in whatever order the workers start', () => {
  const assignment = new ListenerAssignment(4);
  assert.deepEqual(assignment.forNewcomer(3), [0, 1, 2], 'the first one serves all');
  assert.deepEqual(assignment.all, [0, 1, 2]);
  assert.deepEqual(assignAll(4, [[2], 3], [[2, 1], 3], [[1, 2, 3], 3]), [
    { 2: [0, 1, 2] },
    { 1: [2], 2: [0, 1] },
    { 1: [2], 2: [0], 3: [1] },
  ]);
});

test('a worker that starts beside a full pool shares the listener with the fewest workers', () => {
  const assignment = new ListenerAssignment(2);
  assignment.assign([1, 2, 3], 2);
  assert.deepEqual(assignment.forNewcomer(2), [1]);
  assignment.assign([1, 2, 3, 4], 2);
  assert.deepEqual(assignment.forNewcomer(2), [0]);
});

test('a replacement shares a listener until the worker that it replaces leaves, then takes it over', () => {
  const [, surge, after] = assignAll(4, [[1, 2], 2], [[1, 2, 3], 2], [[2, 3], 2]);
  assert.deepEqual(surge, { 1: [0], 2: [1], 3: [0] });
  assert.deepEqual(after, { 2: [1], 3: [0] });
  const [, , moved] = assignAll(4, [[1, 2], 2], [[1, 2, 3], 2], [[1, 3], 2]);
  assert.deepEqual(allOf(moved), [0, 1], 'a worker that shared one moves to the listener without a worker');
});

test('other workers serve the listener of a dead worker until there is a new one', () => {
  const [, without, again] = assignAll(2, [[1, 2], 2], [[2], 2], [[2, 1], 2]);
  assert.deepEqual(without, { 2: [0, 1] });
  assert.deepEqual(allOf(again), [0, 1]);
  const [, three] = assignAll(3, [[1, 2, 3], 3], [[1, 2], 3]);
  assert.deepEqual(three, { 1: [0, 2], 2: [1] });
  assert.deepEqual(assignAll(3, [[1, 2, 3, 4], 4], [[], 3]), [{ 1: [0], 2: [1], 3: [2], 4: [0] }, {}]);
});

test('a listener without a worker goes to the worker with the fewest listeners', () => {
  const [, , , last] = assignAll(4, [[1], 3], [[1, 2], 3], [[1, 2], 4], [[1, 2], 4]);
  assert.deepEqual(last, { 1: [0, 1], 2: [2, 3] });
});

test('a new worker gets the listener without a worker, and none is taken from another worker', () => {
  assert.deepEqual(assignAll(4, [[1], 2], [[1, 2], 3]).at(-1), { 1: [0, 1], 2: [2] });
});

test('once no worker serves, the next one that starts gets every listener', () => {
  const assignment = new ListenerAssignment(3);
  assignment.assign([1, 2, 3], 3);
  assignment.assign([], 3);
  assert.deepEqual(assignment.forNewcomer(3), [0, 1, 2]);
});

test('every listener has a worker and every worker a listener, whatever workers come and go', () => {
  const steps = fc.array(fc.tuple(fc.uniqueArray(fc.integer({ min: 1, max: 10 })), fc.integer({ min: 1, max: 8 })), {
    maxLength: 30,
  });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 5 }), steps, (max, history) => {
      const assignment = new ListenerAssignment(max);
      let inUse = 0;
      for (const [serving, wanted] of history) {
        inUse = Math.max(inUse, Math.min(max, wanted));
        const assigned = assignment.assign(serving, wanted);
        assert.deepEqual([...assigned.keys()], serving);
        if (serving.length === 0) continue;
        assert.equal(new Set([...assigned.values()].flat()).size, inUse);
        const sizes = [...assigned.values()].map(({ length }) => length);
        assert.ok(Math.min(...sizes) > 0);
        // As even as it can be without moving more than it must: no worker has several while another shares.
        if (serving.length >= inUse) assert.equal(Math.max(...sizes), 1, JSON.stringify([...assigned]));
      }
    }),
  );
});
