import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { AcceptGate } from '../src/balancing/accept-gate.ts';
import type { GatedPolicy } from '../src/balancing/policy.ts';
import { type Entry, Scoreboard } from '../src/balancing/scoreboard.ts';
import { Suspects, wakeUpThread } from '../src/balancing/wake-up.ts';

/** Virtual time, in ms on the machine's clock. */
let now = 0;
let threadsWoken: number[] = [];

beforeEach(() => {
  now = 1000;
  threadsWoken = [];
  mock.timers.enable({ apis: ['setTimeout', 'setImmediate'] });
  mock.method(process, 'kill', (thread: number, signal: unknown) => {
    if (signal === 0) return true;
    assert.equal(signal, 'SIGURG');
    threadsWoken.push(thread);
    return true;
  });
});
afterEach(() => {
  mock.reset();
  mock.timers.reset();
  process.removeAllListeners('SIGURG');
});

function pass(ms: number): void {
  for (let passed = 0; passed < ms; passed++) {
    now++;
    mock.timers.tick(1);
  }
}

/** What was woken since the last call. */
const woken = () => threadsWoken.splice(0);
const wakeUp = () => process.emit('SIGURG', 'SIGURG');

/** Worker 1's accept gate, beside workers that exist only on the scoreboard. */
function gateUnder(policy: GatedPolicy, ids = [2]) {
  const scoreboard = Scoreboard.create();
  scoreboard.setPolicy(policy);
  for (const id of [1, ...ids]) scoreboard.clear(id);
  const rows = new Map<number, Entry>();
  const report = (id: number, change: Partial<Entry> = {}) => {
    const idle = { connections: 0, responseMs: 0, averagedAt: 0, takenAt: 0, turns: 0, sequence: 0 };
    const before: Entry = rows.get(id) ?? { id, thread: 100 + id, state: 'open', ...idle };
    const row = { ...before, sequence: before.sequence + 1, ...change };
    rows.set(id, row);
    scoreboard.report(row);
  };
  const calls: string[] = [];
  const many: boolean[] = [];
  const listeners = {
    hold: () => calls.push('hold'),
    release: () => calls.push('release'),
    acceptMany: (isMany: boolean) => many.push(isMany),
  };
  const gate = new AcceptGate(1, scoreboard, () => now);
  const sockets: EventEmitter[] = [];
  return {
    gate,
    scoreboard,
    report,
    acceptsMany: () => many.at(-1),
    start: () => gate.start(listeners),
    /** The calls of hold and release since the last time. */
    calls: () => calls.splice(0),
    own: () => scoreboard.read().entries.find(({ id }) => id === 1),
    connect: (count = 1) => {
      for (let made = 0; made < count; made++) {
        const socket = new EventEmitter();
        sockets.push(socket);
        gate.onConnection(socket as Socket);
      }
    },
    disconnect: () => sockets.shift()?.emit('close'),
  };
}

/** Its gate is closed: it has 3 connections and worker 2, whose gate is in that state, has none. */
function closedGate(state: Entry['state'] = 'open', policy: GatedPolicy = 'least-connections') {
  const setup = gateUnder(policy);
  setup.report(2, { state });
  setup.start();
  setup.connect(3);
  assert.equal(setup.gate.isClosed, true);
  setup.calls();
  woken();
  return setup;
}

test('a worker that starts to accept is open on the scoreboard, with its process id', () => {
  const { start, own, calls, gate } = gateUnder('least-connections', []);
  assert.equal(own(), undefined);
  start();
  assert.deepEqual(calls(), ['release']);
  assert.deepEqual([own()?.state, own()?.thread, own()?.connections, gate.isClosed], ['open', process.pid, 0, false]);
});

test('a new worker counts as slow as the slowest, and has the turns of the one that is furthest', () => {
  const { start, report, own, gate } = gateUnder('response-time', [2, 3]);
  report(2, { responseMs: 80, averagedAt: now, turns: 7 });
  report(3, { responseMs: 500, averagedAt: now - 2000, turns: 9 });
  start();
  assert.equal(own()?.responseMs, 500 / Math.E);
  assert.deepEqual([own()?.averagedAt, own()?.turns], [now, 9]);
  gate.stop();
  report(2, { responseMs: 5000, averagedAt: now, turns: 20 });
  start();
  assert.deepEqual([own()?.responseMs, own()?.turns], [500 / Math.E, 20], 'but only a new one');
});

test('a worker that stops is not on the scoreboard, and its gate neither closes nor opens any more', () => {
  const { gate, own, calls, connect, report } = closedGate();
  gate.stop();
  assert.equal(own(), undefined);
  assert.equal(gate.isClosed, false);
  report(2);
  connect(5);
  pass(500);
  wakeUp();
  assert.deepEqual([calls(), own()], [[], undefined]);
});

test('a worker that accepts again, with more connections than another, closes its gate at once', () => {
  const { gate, start, calls } = closedGate();
  gate.stop();
  start();
  assert.deepEqual([calls(), gate.isClosed], [['release', 'hold'], true]);
});

test('connections and turns are reported as they come and go', () => {
  const { start, connect, disconnect, own, report } = gateUnder('none');
  report(2, { turns: 10 });
  start();
  pass(5);
  connect();
  assert.deepEqual([own()?.connections, own()?.takenAt, own()?.turns], [1, 1005, 11]);
  const sequence = own()?.sequence ?? 0;
  connect(2);
  assert.deepEqual([own()?.connections, own()?.turns, own()?.sequence], [3, 13, sequence + 2]);
  disconnect();
  assert.deepEqual([own()?.connections, own()?.sequence], [2, sequence + 3]);
});

test('response times are averaged at once and reported every 10 ms', () => {
  const { start, gate, own } = gateUnder('response-time', []);
  start();
  const sequence = own()?.sequence ?? 0;
  pass(9);
  gate.onResponse(40);
  assert.deepEqual([own()?.responseMs, own()?.sequence], [0, sequence]);
  pass(1);
  gate.onResponse(60);
  assert.deepEqual([own()?.responseMs, own()?.averagedAt, own()?.sequence], [60, now, sequence + 1]);
  pass(2000);
  gate.onResponse(10);
  assert.ok(Math.abs((own()?.responseMs ?? 0) - (60 / Math.E + 10 * (1 - 1 / Math.E))) < 1e-9);
});

test('the gate closes while another worker is better off and accepts, and opens when its own load falls', () => {
  const { start, report, connect, disconnect, calls, gate, own } = gateUnder('least-connections');
  report(2, { connections: 1 });
  start();
  connect();
  assert.deepEqual([calls(), gate.isClosed], [['release'], false], 'as many as the other');
  connect();
  assert.deepEqual([calls(), gate.isClosed, own()?.state], [['hold'], true, 'closed']);
  connect();
  assert.deepEqual(calls(), [], 'it is closed already');
  disconnect();
  disconnect();
  assert.deepEqual([calls(), gate.isClosed, own()?.state], [['release'], false, 'open']);
});

test('from the first wake-up signal on, a worker is woken by way of a thread that does not wait for events', () => {
  const { start, own } = gateUnder('least-connections', []);
  start();
  assert.equal(own()?.thread, process.pid);
  wakeUp();
  assert.equal(own()?.thread, wakeUpThread());
});

test('a wake-up signal makes a worker report, and look at the scoreboard again', () => {
  const { gate, calls, report, own } = closedGate();
  const sequence = own()?.sequence ?? 0;
  wakeUp();
  assert.deepEqual([calls(), own()?.sequence], [[], sequence + 1]);
  report(2, { connections: 9 });
  assert.equal(gate.isClosed, true);
  wakeUp();
  assert.deepEqual([calls(), gate.isClosed], [['release'], false]);
});

test('a better worker whose gate is closed is woken, and the gate stays open until it reports unless the difference is large', () => {
  const { start, report, connect, calls, gate } = gateUnder('least-connections');
  report(2, { state: 'closed', connections: 1 });
  start();
  connect();
  assert.deepEqual(woken(), []);
  connect();
  assert.deepEqual([woken(), gate.isClosed], [[102], false], 'slightly better');
  connect(2);
  assert.deepEqual([calls(), gate.isClosed], [['release', 'hold'], true], 'by two margins');
});

test('a gate that is closed opens while a slightly better worker wakes up', () => {
  const { gate, report, calls } = closedGate();
  report(2, { state: 'closed', connections: 2 });
  wakeUp();
  assert.deepEqual([woken(), calls(), gate.isClosed], [[102], ['release'], false]);
});

test('a woken worker is woken again after 1 ms at the earliest, or once it has reported', () => {
  const { start, report, connect, disconnect } = gateUnder('least-connections');
  report(2, { state: 'closed', connections: 1 });
  start();
  connect(2);
  assert.deepEqual(woken(), [102]);
  wakeUp();
  assert.deepEqual(woken(), []);
  pass(1);
  wakeUp();
  assert.deepEqual(woken(), [102]);
  report(2);
  wakeUp();
  assert.deepEqual(woken(), [102]);
  disconnect();
});

test('the gate closes if any better worker accepts, though the best one has its gate closed', () => {
  const { start, report, connect, calls } = gateUnder('least-connections', [2, 3]);
  report(2, { state: 'closed', connections: 1 });
  report(3, { connections: 1 });
  start();
  connect(2);
  assert.deepEqual([calls(), woken()], [['release', 'hold'], []]);
});

test('of two better workers whose gates are closed only the best is woken', () => {
  const { start, report, connect } = gateUnder('least-connections', [2, 3]);
  report(2, { state: 'closed', connections: 2 });
  report(3, { state: 'closed', connections: 1 });
  start();
  connect(3);
  assert.deepEqual(woken(), [103]);
});

test('rr: a worker accepts what is queued, and then leaves connections to the one whose turn it is', () => {
  const { start, report, connect, calls, gate } = gateUnder('rr');
  report(2, { state: 'closed', turns: 1 });
  start();
  connect();
  assert.deepEqual([woken(), calls(), gate.isClosed], [[102], ['release'], false]);
  mock.timers.tick(0);
  assert.deepEqual([calls(), gate.isClosed], [['hold'], true]);
});

test('rr: a worker that has accepted one more connection by then closes only if it is another one’s turn still', () => {
  const { start, report, connect, calls, gate } = gateUnder('rr');
  report(2, { state: 'closed', turns: 1 });
  start();
  connect();
  report(2, { turns: 3, takenAt: now + 1 });
  connect();
  report(2, { state: 'closed', turns: 2 });
  mock.timers.tick(0);
  assert.deepEqual([calls(), gate.isClosed], [['release'], false], 'it was not checked again since it is its turn');
});

test('rr: a worker whose turn it is again by then stays open', () => {
  const { start, report, connect, calls, gate } = gateUnder('rr');
  report(2, { state: 'closed', turns: 1 });
  start();
  connect();
  report(2, { state: 'open', turns: 4 });
  mock.timers.tick(0);
  assert.deepEqual([calls(), gate.isClosed], [['release'], false]);
});

test('rr: a worker that stops in the meantime stays off the scoreboard', () => {
  const { start, report, connect, calls, gate, own } = gateUnder('rr');
  report(2, { state: 'closed', turns: 1 });
  start();
  connect();
  gate.stop();
  mock.timers.tick(0);
  assert.deepEqual([calls(), gate.isClosed, own()], [['release'], false, undefined]);
});

test('least-connections: a worker that wakes a slightly better one does not close by itself', () => {
  const { start, report, connect, calls } = gateUnder('least-connections');
  report(2, { state: 'closed', connections: 1 });
  start();
  connect(2);
  mock.timers.tick(0);
  assert.deepEqual(calls(), ['release']);
});

for (const state of ['open', 'closed'] as const) {
  test(`a better worker that is silent is woken after 10 ms, and suspected after 10 more, its own gate being ${state}`, () => {
    const { gate, calls } = closedGate(state);
    pass(9);
    assert.deepEqual(woken(), []);
    pass(1);
    assert.ok(woken().includes(102));
    pass(9);
    assert.equal(gate.isClosed, true);
    pass(1);
    assert.deepEqual([calls(), gate.isClosed], [['release'], false]);
  });
}

test('a gate stays closed while a better worker reports by itself, and nobody is woken', () => {
  const { gate, report, calls } = closedGate();
  for (let ms = 0; ms < 300; ms += 5) {
    pass(5);
    report(2);
  }
  assert.deepEqual([gate.isClosed, woken(), calls()], [true, [], []]);
});

test('a quiet worker that answers its wake-ups is woken less and less, every 100 ms in the end', () => {
  const { gate, report } = closedGate();
  const intervals: number[] = [];
  for (let at = now; intervals.length < 6 && now < 5000; ) {
    pass(1);
    if (woken().length === 0) continue;
    intervals.push(now - at);
    at = now;
    report(2);
  }
  // The wake-up, 10 ms for the answer, then the next check after twice the time.
  assert.deepEqual(intervals, [10, 10 + 20, 10 + 40, 10 + 80, 10 + 100, 10 + 100]);
  assert.equal(gate.isClosed, true);
  pass(5);
  report(2); // not because it was woken
  pass(200);
  woken();
  report(2);
  assert.equal(gate.isClosed, false, 'it fell silent');
});

test('after a report without a wake-up signal, a gate checks after 10 ms again', () => {
  const { report } = closedGate();
  pass(10);
  report(2);
  pass(10); // answered: the next check comes after 20 ms
  assert.deepEqual(woken(), [102]);
  pass(19);
  report(2);
  pass(1);
  assert.deepEqual(woken(), [], 'it has reported by itself');
  pass(9);
  assert.deepEqual(woken(), []);
  pass(1);
  assert.deepEqual(woken(), [102]);
});

test('at most four better workers are woken, and one that answers is enough', () => {
  const ids = [2, 3, 4, 5, 6, 7];
  const { start, report, connect, gate } = gateUnder('least-connections', ids);
  for (const id of ids) report(id, { takenAt: id });
  start();
  connect(3);
  woken();
  pass(10);
  assert.deepEqual(woken(), [102, 103, 104, 105]);
  report(5);
  pass(10);
  assert.equal(gate.isClosed, true);
});

test('where several better workers are silent, all of them are suspected, and the next ones are tried', () => {
  const ids = [2, 3, 4, 5, 6];
  const { start, report, connect, gate } = gateUnder('least-connections', ids);
  for (const id of ids) report(id, { takenAt: id });
  start();
  connect(3);
  pass(20);
  woken();
  assert.equal(gate.isClosed, true);
  pass(10);
  assert.deepEqual(woken(), [106]);
  pass(10);
  assert.equal(gate.isClosed, false);
});

test('a suspected worker is waited for again after 50 ms or once it reports', () => {
  const { gate, report, calls } = closedGate();
  pass(20);
  assert.equal(gate.isClosed, false);
  calls();
  pass(49);
  wakeUp();
  assert.equal(gate.isClosed, false);
  pass(1);
  wakeUp();
  assert.deepEqual([gate.isClosed, calls()], [true, ['hold']]);
  pass(20);
  assert.equal(gate.isClosed, false);
  report(2);
  wakeUp();
  assert.equal(gate.isClosed, true);
});

test('a worker is suspected twice as long each time that it stays silent, for 2 s at most', () => {
  const suspects = new Suspects();
  const { scoreboard, report } = gateUnder('none');
  report(2);
  const [silent] = scoreboard.read().entries;
  assert.ok(silent);
  assert.equal(suspects.has(silent, 0), false);
  for (const forMs of [50, 100, 200, 400, 800, 1600, 2000, 2000]) {
    suspects.add(silent, now);
    assert.deepEqual([suspects.has(silent, now + forMs - 1), suspects.has(silent, now + forMs)], [true, false]);
    assert.equal(suspects.has({ ...silent, sequence: 9 }, now), false, 'it has reported');
    assert.equal(suspects.has({ ...silent, id: 3 }, now), false);
    now += forMs;
  }
  const reported = { ...silent, sequence: 9 };
  suspects.add(reported, now);
  assert.deepEqual([suspects.has(reported, now + 49), suspects.has(reported, now + 50)], [true, false]);
});

test('workers that have not reported since the last check are silent, new ones are not', () => {
  const suspects = new Suspects();
  const { scoreboard, report } = gateUnder('none');
  report(2);
  const [entry] = scoreboard.read().entries;
  assert.ok(entry);
  assert.deepEqual(suspects.silentAmong([entry]), []);
  suspects.remember([entry]);
  assert.deepEqual(suspects.silentAmong([entry, { ...entry, id: 3 }]), [entry]);
  assert.deepEqual(suspects.silentAmong([{ ...entry, sequence: 2 }]), []);
});

test('a worker that loses a connection wakes those that should now leave the next one to it, every 5 ms at most', () => {
  const { start, report, connect, disconnect } = gateUnder('least-connections', [2, 3, 4]);
  report(2, { connections: 3 });
  report(3, { connections: 3, state: 'closed' });
  report(4, { connections: 2 });
  start();
  connect(2);
  woken();
  pass(5);
  disconnect();
  assert.deepEqual(woken(), [102, 104], 'open and more loaded');
  pass(4);
  disconnect();
  assert.deepEqual(woken(), []);
  connect();
  pass(1);
  disconnect();
  assert.deepEqual(woken(), [102, 104]);
});

test('a worker that loses a connection does not wake workers with as few as it has itself', () => {
  const { start, report, connect, disconnect } = gateUnder('least-connections', [2, 3]);
  report(2, { connections: 3 });
  report(3, { connections: 1, averagedAt: now });
  start();
  connect(2);
  woken();
  pass(5);
  disconnect();
  assert.deepEqual(woken(), [102]);
});

test('a closed gate opens at its next check if the others have become busier', () => {
  const { report, calls, gate } = closedGate();
  report(2, { connections: 9 });
  pass(9);
  assert.equal(gate.isClosed, true);
  pass(1);
  assert.deepEqual([calls(), woken(), gate.isClosed], [['release'], [], false]);
});

test('a worker whose gate is closed wakes nobody when it loses a connection', () => {
  const { start, report, connect, disconnect, gate } = gateUnder('least-connections', [2, 3]);
  report(2);
  report(3, { connections: 9 });
  start();
  connect(3);
  pass(6);
  disconnect();
  assert.deepEqual([gate.isClosed, woken()], [true, []]);
});

test('ids that mean groups of processes, init or nothing are never signalled, and a failing signal is ignored', () => {
  const { report, start, connect } = gateUnder('least-connections');
  start();
  for (const thread of [0, -1, 1, 2.5]) {
    report(2, { thread, state: 'closed' });
    connect();
  }
  assert.deepEqual(woken(), []);
  mock.method(process, 'kill', () => {
    throw new Error('ESRCH');
  });
  report(2, { thread: 2, state: 'closed' });
  connect();
});

test('with response-time, the load shows the connections of a slow worker several times', () => {
  const { start, report, connect, gate, scoreboard } = gateUnder('response-time', [2, 3]);
  for (const id of [2, 3]) report(id, { responseMs: 20, averagedAt: now });
  start();
  connect(4);
  gate.onResponse(100);
  pass(10);
  gate.onResponse(100);
  for (const id of [2, 3]) report(id, { averagedAt: now });
  assert.equal(gate.load, 20);
  scoreboard.setPolicy('least-connections');
  assert.equal(gate.load, 4);
});

test('all workers measure time on the machine’s monotonic clock', () => {
  const { scoreboard } = gateUnder('none');
  const gate = new AcceptGate(1, scoreboard);
  gate.start({ hold: () => {}, release: () => {}, acceptMany: () => {} });
  gate.onConnection(new EventEmitter() as Socket);
  const takenAt = scoreboard.read().entries[0]?.takenAt ?? 0;
  assert.ok(Math.abs(takenAt - Number(process.hrtime.bigint()) / 1e6) < 1000);
});

/** For 100 ms, worker 1 has `count` connections in all, each open for `ms`. */
function briefly({ connect, disconnect }: ReturnType<typeof gateUnder>, count = 30, ms = 1): void {
  while (now < 1100) {
    for (let made = 0; made < count / 10; made++) connect();
    pass(ms);
    for (let made = 0; made < count / 10; made++) disconnect();
    pass(10 - ms);
  }
}

test('only while connections are brief, a turn of the event loop accepts many; with rr never', () => {
  for (const policy of ['least-connections', 'none', 'rr'] as const) {
    now = 1000;
    const setup = gateUnder(policy);
    setup.start();
    assert.equal(setup.acceptsMany(), false);
    briefly(setup);
    setup.connect();
    pass(1);
    assert.equal(setup.acceptsMany(), policy !== 'rr', policy);
    pass(300);
    setup.connect();
    assert.equal(setup.acceptsMany(), false, policy);
    process.removeAllListeners('SIGURG');
  }
});

test('while connections are brief, a worker closes its gate for a lead of more than a few only', () => {
  const setup = gateUnder('least-connections');
  const { start, report, connect, calls, gate } = setup;
  start();
  report(2, { connections: 100 });
  briefly(setup);
  report(2, { connections: 0 });
  calls();
  connect(4);
  pass(1);
  assert.deepEqual([calls(), gate.isClosed], [[], false]);
  connect(1);
  pass(1);
  assert.deepEqual([calls(), gate.isClosed], [['hold'], true]);
});

test('while connections are brief, a worker reports at once and then once a millisecond, however many come and go', () => {
  const setup = gateUnder('least-connections');
  const { start, report, connect, disconnect, own } = setup;
  start();
  report(2, { connections: 100 });
  briefly(setup);
  const sequence = own()?.sequence ?? 0;
  woken();
  connect(2);
  disconnect();
  connect(3);
  assert.deepEqual([own()?.connections, own()?.sequence], [1, sequence + 1], 'the first one');
  pass(1);
  assert.deepEqual([own()?.connections, own()?.sequence], [4, sequence + 2], 'all of them');
  pass(5);
  assert.equal(own()?.sequence, sequence + 2, 'nothing has changed');
  assert.deepEqual(woken(), []);
});

for (const [what, policy, count, ms] of [
  ['connections that stay open for 5 ms', 'least-connections', 30, 5],
  ['connections of which few come', 'least-connections', 10, 1],
  ['the policy rr, which counts each', 'rr', 30, 1],
] as const) {
  test(`every connection is reported at once with ${what}`, () => {
    const setup = gateUnder(policy);
    const { start, report, connect, own } = setup;
    start();
    report(2, { connections: 100, turns: 1000 });
    briefly(setup, count, ms);
    const { sequence = 0 } = own() ?? {};
    connect(3);
    assert.deepEqual([own()?.connections, own()?.sequence], [3, sequence + 3]);
  });
}

test('a worker decides as usual once the brief connections have ended', () => {
  const setup = gateUnder('least-connections');
  const { start, report, connect, gate } = setup;
  start();
  report(2, { connections: 100 });
  briefly(setup);
  pass(200);
  report(2, { connections: 0 });
  connect(2);
  assert.equal(gate.isClosed, true);
});

test('a worker that stops while it is about to report stays off the scoreboard', () => {
  const setup = gateUnder('least-connections');
  const { start, report, connect, gate, own } = setup;
  start();
  report(2, { connections: 100 });
  briefly(setup);
  connect(2);
  gate.stop();
  pass(5);
  assert.equal(own(), undefined);
});
