/**
 * What the primary does with the process of a worker, and what it reports of it to the pool; no process starts here.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import type { WorkerEvent } from '../src/pool/effects.ts';
import { Moves } from '../src/pool/moves.ts';
import { WorkerProcess } from '../src/pool/worker-process.ts';
import { exit, newWorker, receive, type WorkerRecord } from '../src/pool/worker-state.ts';
import type { LifecycleEvent } from '../src/protocol/events.ts';
import { monotonicMs, seal } from '../src/protocol/messages.ts';
import type { Snapshot } from '../src/protocol/snapshot.ts';
import { Lines, SimulatedWorker, turns } from './simulated-worker.ts';
import { LEDGER, REPORT } from './virtual-pool.ts';

const ADDRESS = 'ws://127.0.0.1:1/1aff7f5e-4df8-47cd-9841-b430fb448b14';

interface Options {
  worker?: SimulatedWorker;
  /** The system refuses the fork at once. */
  refusal?: Error;
  isInspected?: boolean;
}

function start({ worker = new SimulatedWorker(), refusal, isInspected = false }: Options = {}) {
  const record: WorkerRecord = newWorker({
    id: 3,
    generation: 2,
    heap: { heapPerWorkerMb: null, semiSpaceMb: null },
    maxRequests: 0,
    startedAt: performance.now(),
  });
  record.pid = worker.process.pid ?? 0;
  const events: WorkerEvent[] = [];
  const malformed: LifecycleEvent[] = [];
  /** What happened, in order. */
  const steps: string[] = [];
  const [stdout, stderr] = [new Lines(), new Lines()];
  const handle = new WorkerProcess(
    record,
    {
      fork: () => {
        steps.push('fork');
        if (refusal !== undefined) throw refusal;
        return worker.asWorker;
      },
      sessionKeys: () => {
        steps.push('keys');
        return ['key'];
      },
      retained: () => [{ event: 'news', json: '1' }],
      listeners: [0, 1],
      outputs: { stdout, stderr },
      moves: new Moves(() => []),
      isInspected,
    },
    {
      // As the pool does, which writes the record.
      onEvent: event => {
        events.push(event);
        if (event.type === 'message') receive(record, event.message, performance.now());
        if (event.type === 'exited') {
          exit(record, event.how);
          steps.push(`exited; output: ${stdout.text}${stderr.text}`);
        }
      },
      onMalformed: event => void malformed.push(event),
      whoKilled: () => {
        steps.push('who killed it');
        return 'oom';
      },
    },
  );
  return { handle, worker, record, events, malformed, steps, stdout, stderr };
}

/** Whether it has settled, after all that could settle it at once. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  promise.then(
    () => (settled = true),
    () => (settled = true),
  );
  await turns(2);
  return settled;
}

const snapshot = (values: Partial<Snapshot>) => ({ requests: 0, inFlight: 0, ...values }) as Snapshot;

test('the first message to a worker is its start, with session keys that are made after the fork', () => {
  const { worker, steps, handle } = start();
  assert.deepEqual(steps, ['fork', 'keys']);
  assert.deepEqual(worker.sent, [
    { type: 'start', sessionKeys: ['key'], retained: [{ event: 'news', json: '1' }], listeners: [0, 1] },
  ]);
  assert.equal(handle.pid, 2 ** 23);
  assert.equal(handle.isInspectedAtStart, false);
});

test('a fork that the system refuses at once is an exit in the next turn, with the error of the system', async () => {
  const { handle, events, worker, record } = start({ refusal: new Error('spawn ENOMEM') });
  let calls = 0;
  handle.onExit(() => calls++);
  assert.deepEqual([events, handle.pid], [[], 0]);
  await turns(1);
  assert.deepEqual(events, [{ type: 'exited', worker: record, how: { error: 'spawn ENOMEM' } }]);
  assert.equal(calls, 1);
  handle.send({ type: 'cordon' });
  handle.kill();
  assert.equal(handle.deliver({ event: 'a', json: '1' }), true);
  assert.deepEqual([worker.sent, worker.process.signals], [[], []]);
});

test('a fork whose error comes later is an exit, too, and it is reported once', () => {
  const unborn = new SimulatedWorker();
  unborn.process.pid = undefined;
  const { events, worker, record } = start({ worker: unborn });
  worker.emit('error', new Error('spawn EAGAIN'));
  worker.emit('error', new Error('write EPIPE'));
  assert.deepEqual(events, [{ type: 'exited', worker: record, how: { error: 'spawn EAGAIN' } }]);
});

test('an error of a running worker is no exit: its end is reported when it comes', () => {
  const { events, worker } = start();
  worker.emit('error', new Error('write EPIPE'));
  assert.deepEqual(events, []);
});

test('what a worker reports goes to the pool, and what is known of it can be read', () => {
  const { handle, worker, record, events } = start();
  worker.reports({ type: 'ready', port: 8080 });
  assert.deepEqual(events, [{ type: 'message', worker: record, message: { type: 'ready', port: 8080 } }]);
  assert.deepEqual(
    [handle.id, handle.generation, handle.state, handle.isServing, handle.isActive, handle.record],
    [3, 2, 'ready', true, true, record],
  );
  worker.reports({ type: 'redis', state: 'ready', message: 'ok' });
  worker.reports({ type: 'keys-read', change: 'c1' });
  worker.reports({ type: 'waiting', open: 4, oldest: [], tasks: 0 });
  worker.reports({ type: 'crashing', ...REPORT, message: 'secret' });
  assert.deepEqual(handle.redis, { state: 'ready', message: 'ok', evictionPolicy: undefined });
  assert.deepEqual([handle.keysRead, handle.waitingFor.open, handle.reason, handle.isServing], ['c1', 4, 'crash', false]);
  assert.deepEqual([handle.failure, handle.error?.message], ['secret', 'secret']);
  assert.match(handle.openFailure ?? '', /^Error, message #/);
  worker.reports({ type: 'drained', drain: LEDGER });
  assert.deepEqual([handle.drain, handle.waitingFor.open], [LEDGER, 0]);
  assert.deepEqual([handle.snapshot, handle.startedAt, handle.reportedAt], [undefined, record.startedAt, record.startedAt]);
});

test('the uptime is in seconds with three decimals', t => {
  const { handle, record } = start();
  t.mock.method(performance, 'now', () => record.startedAt + 2345.6);
  assert.equal(handle.uptimeSeconds, 2.346);
});

test('a malformed message is reported with the worker, and marked as the first one only once', () => {
  const { worker, malformed, events } = start();
  for (let count = 0; count < 2; count++) worker.process.emit('internalMessage', seal({ type: 'nonsense' }), undefined);
  assert.partialDeepStrictEqual(malformed, [
    { event: 'worker.malformed-message', worker: 3, workerPid: 2 ** 23, isFirst: true },
    { event: 'worker.malformed-message', worker: 3, workerPid: 2 ** 23, isFirst: false },
  ]);
  assert.deepEqual(events, []);
});

for (const acknowledgement of ['cordoned', 'uncordoned', 'took-all'] as const) {
  test(`requests to a worker resolve in order, each with one acknowledgement (${acknowledgement})`, async () => {
    const { handle, worker, events, record } = start();
    const first = handle.setCordoned(true);
    const second = handle.takeAll([4]);
    const third = handle.takeAll(undefined);
    assert.deepEqual(events, [{ type: 'cordon', worker: record, wantsCordon: true }]);
    assert.deepEqual(worker.sent.slice(1), [{ type: 'take-all', listeners: [4] }, { type: 'take-all' }]);
    worker.reports({ type: 'exiting' });
    assert.equal(await isSettled(first), false);
    worker.reports({ type: acknowledgement });
    assert.deepEqual([await isSettled(first), await isSettled(second)], [true, false]);
    worker.reports({ type: acknowledgement });
    assert.deepEqual([await isSettled(second), await isSettled(third)], [true, false]);
  });
}

for (const [what, ends] of [
  ['drains', ({ handle }) => handle.beginDrain('restart', 1000)],
  ['crashes', ({ worker }) => worker.reports({ type: 'crashing', ...REPORT })],
  ['exits', ({ worker }) => worker.exits(1)],
  ['is inspected because it hangs', ({ handle }) => void handle.readStack(1)],
] as [string, (started: ReturnType<typeof start>) => void][]) {
  test(`a request to a worker that ${what} is not waited for`, async () => {
    const started = start();
    const request = started.handle.takeAll(undefined);
    assert.equal(await isSettled(request), false);
    ends(started);
    await turns(10);
    assert.equal(await isSettled(request), true);
  });
}

test('nothing is requested of a worker that is ending', async () => {
  const { handle, worker, record, events } = start();
  record.state = 'draining';
  await handle.setCordoned(true);
  await handle.takeAll([1]);
  assert.deepEqual([worker.sent.length, events], [1, []]);
});

test('a diagnosis is reported to the pool when it begins and when it ends', () => {
  const { handle, events, record } = start();
  handle.setDiagnosed(true);
  handle.setDiagnosed(false);
  assert.deepEqual(events, [
    { type: 'diagnosis', worker: record, isRunning: true },
    { type: 'diagnosis', worker: record, isRunning: false },
  ]);
});

test('events for a worker that does not read are dropped above 16 MiB, until it reads', () => {
  const { handle, worker } = start();
  const MAX = 16 << 20;
  assert.equal(handle.deliver({ event: 'abcd', json: 'x'.repeat(MAX - 4) }), true, 'exactly as many');
  assert.equal(handle.deliver({ event: '', json: '1' }), false);
  assert.equal(worker.sent.length, 2);
  worker.reads();
  assert.equal(handle.deliver({ event: 'abcde', json: 'x'.repeat(MAX - 4) }), false, 'the name counts');
  assert.equal(handle.deliver({ event: 'a', json: '1' }), true);
  assert.deepEqual(worker.sent.at(-1), { type: 'broadcast', event: 'a', json: '1' });
  worker.isOpen = false;
  assert.equal(handle.deliver({ event: 'a', json: 'x'.repeat(MAX) }), true, 'nothing waits for one that has ended');
  assert.equal(worker.sent.length, 3);
});

test('a drain waits 3 s for quiet connections, and at a shutdown 0.3 s, where it also ends stalled clients', () => {
  const { handle, worker } = start();
  const before = monotonicMs();
  handle.beginDrain('restart', 5000);
  handle.beginDrain('shutdown', 6000);
  const [restart, shutdown] = worker.sent.slice(1);
  assert.partialDeepStrictEqual(restart, { type: 'drain', timeoutMs: 5000, quietMs: 3000, appMs: 300, endStalled: false });
  assert.partialDeepStrictEqual(shutdown, { type: 'drain', timeoutMs: 6000, quietMs: 300, appMs: 300, endStalled: true });
  const sentAt = restart?.type === 'drain' ? restart.sentAt : 0;
  assert.ok(sentAt >= before && sentAt <= monotonicMs());
});

test('the exit of a worker is reported once, after all that it printed, with its code and signal', async () => {
  const { handle, worker, record, events, steps } = start();
  const calls: string[] = [];
  handle.onExit(() => calls.push(`first ${record.state}`));
  handle.onExit(() => calls.push('second'))();
  worker.process.stdout.write('out\n');
  worker.process.stderr.write('err');
  worker.exits(7);
  worker.emit('error', new Error('EPIPE'));
  await turns(10);
  const how = { code: 7, signal: null, killer: undefined, lost: undefined };
  assert.deepEqual(events, [{ type: 'exited', worker: record, how }]);
  assert.deepEqual(steps, ['fork', 'keys', 'exited; output: out\nerr\n']);
  assert.deepEqual(calls, ['first exited'], 'the other has unsubscribed');
});

test('who sent a SIGKILL is looked up only if it was not the pool', async () => {
  const foreign = start();
  foreign.worker.exits(null, 'SIGKILL');
  await turns(10);
  assert.partialDeepStrictEqual(foreign.events, [{ how: { signal: 'SIGKILL', killer: 'oom' } }]);
  const ours = start();
  ours.record.isKilled = true;
  ours.worker.exits(null, 'SIGKILL');
  await turns(10);
  assert.partialDeepStrictEqual(ours.events, [{ how: { signal: 'SIGKILL', killer: undefined } }]);
  const other = start();
  other.worker.exits(null, 'SIGTERM');
  await turns(10);
  assert.partialDeepStrictEqual(other.events, [{ how: { signal: 'SIGTERM', killer: undefined } }]);
  assert.deepEqual([foreign.steps.length, ours.steps.length, other.steps.length], [4, 3, 3]);
});

test('a killed worker loses the requests that were open at the first kill', async () => {
  const { handle, worker, record, events } = start();
  const oldest = [{ method: 'GET', path: '/', ageMs: 5, bytesSent: 0 }];
  record.snapshot = snapshot({ inFlight: 2 });
  record.waitingFor = { open: 5, oldest };
  handle.kill();
  record.waitingFor = { open: 1, oldest: [] };
  handle.kill();
  assert.deepEqual(worker.process.signals, ['SIGKILL', 'SIGKILL']);
  worker.exits(null, 'SIGKILL');
  await turns(10);
  assert.partialDeepStrictEqual(events, [{ how: { lost: { open: 5, oldest } } }]);
});

test('a worker that has reported its drain loses no requests when it is killed', async () => {
  const { handle, worker, record, events } = start();
  record.drain = LEDGER;
  record.snapshot = snapshot({ inFlight: 2 });
  handle.kill();
  worker.exits(null, 'SIGKILL');
  await turns(10);
  assert.partialDeepStrictEqual(events, [{ how: { lost: undefined } }]);
});

test('the open requests of a worker are the more of its two reports', () => {
  const { handle, record } = start();
  assert.equal(handle.openRequests, 0);
  record.waitingFor = { open: 2, oldest: [] };
  assert.equal(handle.openRequests, 2);
  record.snapshot = snapshot({ inFlight: 3 });
  assert.equal(handle.openRequests, 3);
});

test('of a worker without reports its sockets are counted: what it has not read, and one request that blocks it', {
  skip: process.platform !== 'linux',
}, async t => {
  const sockets: Socket[] = [];
  const server = createServer({ pauseOnConnect: true }, socket => void sockets.push(socket));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const open = async () => {
    const accepted = once(server, 'connection');
    const socket = connect(port, '127.0.0.1');
    sockets.push(socket);
    await Promise.all([once(socket, 'connect'), accepted]);
    return socket;
  };
  const { handle, record, worker } = start({ worker: new SimulatedWorker(process.pid) });
  record.port = port;
  const client = await open();
  await open();
  assert.equal(handle.openRequests, 1, 'one of the two connections may block it');
  await new Promise(resolve => client.write('GET / HTTP/1.1\r\n', resolve));
  assert.equal(handle.openRequests, 2, 'one is unread, and the other may block it');
  record.snapshot = snapshot({ inFlight: 4 });
  assert.equal(handle.openRequests, 5);
  worker.process.pid = undefined;
});

test('the address of an inspector that opens is kept from the output, and the pool learns that it has opened', () => {
  const { worker, events, record, stderr } = start();
  worker.process.stderr.write(`before\nDebugger listening on ${ADDRESS}\nafter\n`);
  assert.deepEqual(events, [{ type: 'inspector-opened', worker: record }]);
  assert.equal(stderr.text, 'before\nafter\n');
});

test('a worker that the user inspects prints the address of its inspector', () => {
  const { worker, events, stderr, handle } = start({ isInspected: true });
  worker.process.stderr.write(`Debugger listening on ${ADDRESS}\n`);
  assert.deepEqual([events, handle.isInspectedAtStart], [[], true]);
  assert.equal(stderr.text, `Debugger listening on ${ADDRESS}\n`);
});

test('a worker whose inspector does not open in time has no stack', async t => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { handle, worker } = start();
  const stack = handle.readStack(3000);
  assert.deepEqual(worker.process.signals, ['SIGUSR1']);
  t.mock.timers.tick(2999);
  assert.equal(await isSettled(stack), false);
  t.mock.timers.tick(1);
  assert.equal(await stack, undefined);
});

test('a worker whose inspector is gone again has no stack', async () => {
  const { handle, worker } = start();
  const stack = handle.readStack(60_000);
  worker.process.stderr.write(`Debugger listening on ${ADDRESS}\n`);
  assert.equal(await stack, undefined);
});
