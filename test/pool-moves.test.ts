/**
 * The primary's part of moving a connection: who gets it, and what happens if a worker refuses it or dies with it.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Moves } from '../src/pool/moves.ts';
import type { ToWorker } from '../src/protocol/messages.ts';
import type { Snapshot } from '../src/protocol/snapshot.ts';

class Handle {
  isOpen = true;

  close(): void {
    this.isOpen = false;
  }
}
/** Named as libuv's class. */
const TCP = { TCP: class extends Handle {} }.TCP;
const newHandle = () => new TCP() as Handle & { constructor: { name: 'TCP' } };

class Worker {
  snapshot: Snapshot;
  reportedAt = 0;
  readonly sent: ToWorker[] = [];
  readonly handles: Handle[] = [];

  constructor(connections: number) {
    this.snapshot = { connections } as Snapshot;
  }

  send(message: ToWorker, handle?: object): void {
    this.sent.push(message);
    if (handle !== undefined) this.handles.push(handle as Handle);
  }

  /** The number of the last `take`. */
  get lastTake(): number {
    const message = this.sent.findLast(({ type }) => type === 'take');
    return message?.type === 'take' ? message.id : assert.fail('no take');
  }
}

const movedMessage = (id: number, isTaken: boolean): ToWorker => ({ type: 'moved', id, isTaken });

const movesAt = (takers: () => Worker[], now: () => number) => new Moves(takers, undefined, now);

test('a connection goes to the worker with the fewest connections, and the primary keeps its copy until that one has it', () => {
  const [from, busy, idle] = [new Worker(0), new Worker(5), new Worker(1)];
  const moves = new Moves(() => [from, busy, idle]);
  const handle = newHandle();
  moves.request(from, 7, handle);
  assert.deepEqual(idle.handles, [handle]);
  assert.deepEqual([from.sent, busy.sent, handle.isOpen], [[], [], true]);
  moves.answered(idle, idle.lastTake, true);
  assert.deepEqual(from.sent, [movedMessage(7, true)]);
  assert.deepEqual([handle.isOpen, moves.moved, moves.underWay], [false, 1, 0]);
});

test('connections that were sent since the last report count', () => {
  const [from, first, second] = [new Worker(0), new Worker(1), new Worker(3)];
  const moves = movesAt(
    () => [first, second],
    () => 0,
  );
  for (let id = 1; id <= 5; id++) {
    moves.request(from, id, newHandle());
    for (const worker of [first, second]) if (worker.handles.length > 0) moves.answered(worker, worker.lastTake, true);
  }
  assert.deepEqual([first.handles.length, second.handles.length], [4, 1]);
  first.snapshot.connections = 5; // four of them are among these
  first.reportedAt = 1;
  moves.request(from, 6, newHandle());
  assert.deepEqual([first.handles.length, second.handles.length], [4, 2]);
});

test('a worker that refuses a connection or dies with it is followed by the next, and none gets it twice', () => {
  const [from, a, b, c] = [new Worker(0), new Worker(1), new Worker(2), new Worker(3)];
  const moves = new Moves(() => [a, b, c]);
  const handle = newHandle();
  moves.request(from, 1, handle);
  moves.answered(a, a.lastTake, false);
  assert.deepEqual(b.handles, [handle]);
  moves.answered(a, a.lastTake, true); // it no longer has it
  assert.equal(moves.moved, 0);
  moves.left(b);
  assert.deepEqual(c.handles, [handle]);
  assert.equal(handle.isOpen, true);
  moves.answered(c, c.lastTake, false);
  assert.deepEqual(from.sent, [movedMessage(1, false)], 'the sender goes on with it');
  assert.deepEqual([handle.isOpen, moves.moved, moves.underWay, a.handles.length], [false, 0, 0, 1]);
});

test('a worker that has many connections to read gets others only where all do', () => {
  const [from, few, many] = [new Worker(0), new Worker(0), new Worker(100)];
  const moves = movesAt(
    () => [few, many],
    () => 0,
  );
  for (let id = 1; id <= 5; id++) moves.request(from, id, newHandle());
  assert.deepEqual([few.handles.length, many.handles.length], [4, 1]);
  moves.answered(few, few.lastTake, true);
  for (let id = 6; id <= 9; id++) moves.request(from, id, newHandle());
  assert.deepEqual([few.handles.length, many.handles.length], [5, 4]);
  moves.request(from, 10, newHandle());
  assert.deepEqual([few.handles.length, many.handles.length], [6, 4], 'all have many');
});

test('a worker that has not reported for 2 s gets connections only where no other one serves', () => {
  const [from, blocked, busy] = [new Worker(0), new Worker(0), new Worker(5)];
  let serving = [blocked, busy];
  busy.reportedAt = 1;
  const moves = movesAt(
    () => serving,
    () => 2001,
  );
  for (let id = 1; id <= 6; id++) moves.request(from, id, newHandle());
  assert.deepEqual([blocked.handles.length, busy.handles.length], [0, 6]);
  serving = [blocked];
  moves.request(from, 7, newHandle());
  assert.equal(blocked.handles.length, 1);
});

test('what a dead worker has sent waits for the next worker, for 10 s', () => {
  let now = 0;
  const serving: Worker[] = [];
  const from = new Worker(0);
  const moves = movesAt(
    () => serving,
    () => now,
  );
  const receiver = new Worker(0);
  serving.push(receiver);
  const [first, second] = [newHandle(), newHandle()];
  moves.request(from, 1, first);
  moves.left(from);
  serving.pop();
  moves.left(receiver);
  assert.deepEqual([first.isOpen, moves.underWay], [true, 1]);
  now = 9999;
  moves.reported();
  assert.equal(moves.underWay, 1);
  const next = new Worker(0);
  serving.push(next);
  moves.reported();
  moves.reported();
  assert.deepEqual(next.handles, [first]);
  moves.answered(next, next.lastTake, true);
  assert.deepEqual([first.isOpen, moves.moved, moves.underWay], [false, 1, 0]);

  serving.pop();
  const dead = new Worker(0);
  serving.push(dead);
  moves.request(from, 2, second);
  moves.answered(dead, dead.lastTake, false);
  now += 9999;
  moves.reported();
  assert.equal(second.isOpen, true);
  now++;
  moves.reported();
  assert.deepEqual([second.isOpen, moves.underWay], [false, 0]);
});

test('a worker with as many connections as it may have gets no more', () => {
  const [from, full, nearlyFull] = [new Worker(0), new Worker(3), new Worker(4)];
  full.snapshot.maxConnections = 3;
  nearlyFull.snapshot.maxConnections = 5;
  const moves = new Moves(() => [full, nearlyFull]);
  moves.request(from, 1, newHandle());
  moves.request(from, 2, newHandle());
  assert.deepEqual([full.handles.length, nearlyFull.handles.length], [0, 1]);
  assert.deepEqual(from.sent, [movedMessage(2, false)]);
});

test('without another worker, or without its handle, a connection goes back at once', () => {
  const from = new Worker(0);
  const moves = new Moves(() => [from]);
  const handle = newHandle();
  moves.request(from, 1, handle);
  moves.request(from, 2, undefined);
  assert.deepEqual(from.sent, [movedMessage(1, false), movedMessage(2, false)]);
  assert.deepEqual([handle.isOpen, moves.underWay], [false, 0]);
});

test('what a dead worker has sent still reaches another one', () => {
  const [from, to] = [new Worker(0), new Worker(0)];
  const moves = new Moves(() => [to]);
  moves.request(from, 1, newHandle());
  moves.left(from);
  moves.answered(to, to.lastTake, true);
  assert.deepEqual([to.handles.length, moves.moved], [1, 1]);
});

test('an app that sends connections itself cannot fill the primary', () => {
  const [from, to] = [new Worker(0), new Worker(0)];
  const moves = new Moves(() => [to]);
  const handles = Array.from({ length: 70 }, newHandle);
  for (const [id, handle] of handles.entries()) moves.request(from, id, handle);
  assert.deepEqual([moves.underWay, handles.filter(({ isOpen }) => isOpen).length, from.sent.length], [64, 64, 6]);
});
