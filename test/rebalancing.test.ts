/**
 * The primary's part of a rebalancing: which worker has to move connections, who may take them, and when it does not happen.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Policy } from '../src/config/variables.ts';
import { Rebalancing, type RebalancingContext } from '../src/pool/rebalancing.ts';
import type { WorkerRecord } from '../src/pool/worker-state.ts';
import type { LifecycleEvent } from '../src/protocol/events.ts';
import type { ToWorker } from '../src/protocol/messages.ts';
import type { Snapshot } from '../src/protocol/snapshot.ts';

class Worker {
  readonly id: number;
  state: 'ready' | 'draining' = 'ready';
  snapshot: Snapshot;
  reportedAt = 0;
  readonly sent: ToWorker[] = [];

  constructor(id: number, connections: number) {
    this.id = id;
    this.snapshot = { connections, load: connections } as Snapshot;
  }

  get isServing(): boolean {
    return this.state === 'ready';
  }

  send(message: ToWorker): void {
    this.sent.push(message);
  }
}

class Pool {
  now = 0;
  readonly emitted: LifecycleEvent[] = [];
  readonly workers = [new Worker(1, 0), new Worker(2, 0)];
  wanted = 2;
  policy: Policy = 'least-connections';
  readonly config: ReturnType<RebalancingContext<Worker>['config']> = {
    rebalanceKeepalive: true,
    moveConnections: true,
    sticky: undefined,
  };
  readonly rebalancing = new Rebalancing<Worker>({
    workers: () => this.workers,
    wanted: () => this.wanted,
    policy: () => this.policy,
    config: () => this.config,
    emit: event => this.emitted.push(event),
    now: () => this.now,
  });

  constructor(...connections: number[]) {
    this.report();
    for (const [index, count] of connections.entries()) this.set(index, count);
  }

  set(index: number, connections: number): void {
    const worker = this.workers[index];
    if (worker !== undefined) worker.snapshot = { connections, load: connections } as Snapshot;
  }

  /** All have reported, `seconds` times. */
  report(seconds = 1): void {
    for (; seconds > 0; seconds--) {
      this.now += 1000;
      for (const worker of this.workers) worker.reportedAt = this.now;
      this.rebalancing.onEvent({ type: 'message', worker: {} as WorkerRecord, message: { type: 'stats' } as never });
    }
  }

  fail(reason: WorkerRecord['reason']): void {
    this.rebalancing.onEvent({ type: 'exited', worker: { reason } as WorkerRecord, how: { code: 1, signal: null } as never });
  }

  get requests(): ToWorker[] {
    return this.workers.flatMap(({ sent }) => sent.splice(0));
  }
}

test('a worker with more has to move its excess, the others may take that many and no more, and it is one event', () => {
  const pool = new Pool(20, 4);
  const [busy, idle] = pool.workers;
  assert.ok(busy && idle);
  assert.deepEqual(pool.rebalancing.takersFor(busy), []);
  pool.report(4);
  assert.deepEqual(pool.requests, [{ type: 'rebalance', count: 8 }]);
  for (let left = 8; left > 0; left--) {
    assert.deepEqual(pool.rebalancing.takersFor(busy), [idle]);
    pool.rebalancing.onMoved(busy, idle);
  }
  assert.deepEqual([pool.rebalancing.takersFor(busy), pool.rebalancing.takersFor(idle)], [[], []]);
  for (const index of [0, 1]) pool.set(index, 12);
  pool.report(10);
  assert.deepEqual(pool.requests, []);
  assert.deepEqual(pool.emitted, [{ event: 'pool.rebalanced', connections: 8, from: [1], to: [2], ms: 0 }]);
});

test('connections of a worker that drains may go to each that serves', () => {
  const pool = new Pool(20, 4);
  const [draining, serving] = pool.workers;
  assert.ok(draining && serving);
  draining.state = 'draining';
  assert.deepEqual(pool.rebalancing.takersFor(draining), [serving]);
});

test('nothing moves where it is off, where connections do not move, with sticky requests, and under bosun dev', () => {
  for (const off of [{ rebalanceKeepalive: false }, { moveConnections: false }, { sticky: 'cookie' }, { dev: {} }]) {
    const pool = new Pool(20, 4);
    Object.assign(pool.config, off);
    pool.report(10);
    assert.deepEqual(pool.requests, [], JSON.stringify(off));
  }
});

test('nothing moves between serving workers while others are replaced or leave', () => {
  const pool = new Pool(20, 4);
  pool.wanted = 1;
  pool.report(10);
  assert.deepEqual(pool.requests, [], 'one serves beside the one that it replaces');
  pool.wanted = 2;
  const leaving = new Worker(3, 0);
  leaving.state = 'draining';
  pool.workers.push(leaving);
  pool.report(10);
  assert.deepEqual(pool.requests, []);
  pool.workers.pop();
  pool.report(4);
  assert.equal(pool.requests.length, 1);
});

test('for ten seconds after a failure nothing moves to those that may fail, too; an exit as planned is none', () => {
  const pool = new Pool(20, 4);
  pool.fail('crash');
  pool.report(9);
  assert.deepEqual(pool.requests, []);
  pool.report(5);
  assert.equal(pool.requests.length, 1);
  const planned = new Pool(20, 4);
  planned.fail('scale-down');
  planned.report(4);
  assert.equal(planned.requests.length, 1);
});

test('under rr, none and reuseport connections move only to a worker that has joined', () => {
  for (const policy of ['rr', 'none', 'reuseport'] as const) {
    const pool = new Pool(20, 4);
    pool.policy = policy;
    pool.report(10);
    assert.deepEqual(pool.requests, []);
    pool.workers.push(new Worker(3, 0));
    pool.wanted = 3;
    pool.report();
    assert.deepEqual(pool.requests, [{ type: 'rebalance', count: 10 }], policy);
  }
});
