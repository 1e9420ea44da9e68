/**
 * Restarts, replacements and recycling of a pool in virtual time.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ReplacementError, ReplacementRefusedError, RequestsLostError } from '../src/pool/requests.ts';
import { MIB, sizingOf, VirtualPool } from './virtual-pool.ts';

const count = (pool: VirtualPool, state: string) => pool.present.filter(worker => worker.state === state).length;

describe('a rolling restart with surge', () => {
  test('a new worker serves for 1 s before the old one drains', () => {
    const pool = new VirtualPool();
    pool.request({ type: 'roll' });
    assert.equal(pool.states(), 'ready ready starting');
    pool.pass(500);
    pool.ready(pool.worker(3));
    pool.passReporting(999);
    assert.equal(pool.states(), 'ready ready ready');
    pool.pass(1);
    assert.equal(pool.states(), 'draining ready ready');
  });

  test('the next worker starts 2 s after the last one began to take over', () => {
    const pool = new VirtualPool();
    pool.request({ type: 'roll' });
    pool.ready(pool.worker(3));
    pool.passReporting(1000);
    pool.drained(pool.worker(1));
    pool.passReporting(1999);
    assert.equal(pool.forked.length, 3);
    pool.pass(1);
    assert.equal(pool.forked.length, 4);
  });

  test('the next worker starts at once after one that served no request', () => {
    const pool = new VirtualPool();
    pool.request({ type: 'roll' });
    pool.ready(pool.worker(3));
    pool.passReporting(1000);
    pool.drained(pool.worker(1), { finished: 0, closedGracefully: 0 });
    pool.pass(1);
    assert.equal(pool.forked.length, 4);
  });

  for (const [moved, isAtOnce] of [
    [2, true],
    [1, false],
  ] as const)
    test(`the next worker ${isAtOnce ? 'starts at once' : 'waits'} after one of which ${moved} connections moved and 1 closed`, () => {
      const pool = new VirtualPool();
      pool.request({ type: 'roll' });
      pool.ready(pool.worker(3));
      pool.passReporting(1000);
      pool.drained(pool.worker(1), { finished: 5, closedGracefully: 1, moved });
      pool.pass(1);
      assert.equal(pool.forked.length, isAtOnce ? 4 : 3);
    });

  test('there is never more than one worker too many, and each step is reported', () => {
    const pool = new VirtualPool();
    const request = pool.request({ type: 'roll' });
    for (const [fresh, old] of [
      [3, 1],
      [4, 2],
    ] as const) {
      pool.pass(200);
      pool.ready(pool.worker(fresh));
      assert.ok(pool.present.length <= 3);
      pool.passReporting(1000);
      assert.equal(count(pool, 'ready'), 2);
      pool.drained(pool.worker(old));
      pool.passReporting(2000);
    }
    assert.equal(pool.answer(request), undefined);
    assert.deepEqual(pool.steps, [
      'starting worker 3 to replace worker 1',
      'worker 3 (process 103) serves after 200 ms',
      'draining worker 1',
      'worker 1 is gone: 1 requests finished, 0 cut, 5 ms',
      'starting worker 1 to replace worker 2',
      'worker 1 (process 104) serves after 200 ms',
      'draining worker 2',
      'worker 2 is gone: 1 requests finished, 0 cut, 5 ms',
    ]);
    assert.deepEqual(pool.events('pool.restart'), [{ event: 'pool.restart', generation: 2, workers: 2 }]);
    assert.deepEqual(pool.events('pool.restarted'), [{ event: 'pool.restarted', generation: 2 }]);
    assert.deepEqual(
      pool.present.map(({ generation, reason }) => [generation, reason]),
      [
        [2, undefined],
        [2, undefined],
      ],
    );
    assert.deepEqual(
      pool.exited.map(({ reason }) => reason),
      ['restart', 'restart'],
    );
  });

  test('a new worker that fails to start ends it, the old ones go on, and the generation is taken back', () => {
    const pool = new VirtualPool();
    const request = pool.request({ type: 'roll' });
    assert.equal(pool.state.requests.generation, 2);
    pool.fails(pool.worker(3));
    const error = pool.answer(request);
    assert.ok(error instanceof ReplacementError);
    assert.equal(error.message, 'worker 3, to replace worker 1, failed to start: no database');
    assert.deepEqual([pool.state.requests.generation, pool.states()], [1, 'ready ready exited']);
    assert.equal(pool.events('pool.restart-failed')[0]?.generation, 1);
    pool.passReporting(60_000);
    assert.equal(pool.forked.length, 3, 'nothing is missing');
  });

  test('a new worker that dies before it has served for 1 s ends it', () => {
    const pool = new VirtualPool();
    const request = pool.request({ type: 'roll' });
    pool.ready(pool.worker(3));
    pool.passReporting(999);
    pool.killed(pool.worker(3), 'oom');
    assert.match(String(pool.answer(request)), /worker 3, to replace worker 1, failed to start: oom: killed by the kernel/);
    assert.equal(pool.worker(1).state, 'ready');
  });

  test('start timeouts of replacements never end a pool that serves', () => {
    const pool = new VirtualPool({ restartIntensity: 0 });
    for (let attempt = 0; attempt < 20; attempt++) {
      const request = pool.request({ type: 'roll' });
      pool.passReporting(40_000, () => [pool.worker(1), pool.worker(2)]);
      assert.match(String(pool.answer(request)), /not ready within 30000 ms/);
    }
    assert.deepEqual([pool.givenUp, count(pool, 'ready')], [undefined, 2]);
  });

  test('a replacement waits for the back-off after failed starts', () => {
    const pool = new VirtualPool();
    for (let attempt = 0; attempt < 4; attempt++) {
      const request = pool.request({ type: 'roll' });
      pool.pass(1000);
      const fresh = pool.present.find(({ state }) => state === 'starting');
      assert.ok(fresh, String(attempt));
      pool.fails(fresh);
      assert.ok(pool.answer(request));
    }
    pool.request({ type: 'roll' });
    pool.pass(399);
    assert.equal(count(pool, 'starting'), 0);
    pool.pass(1);
    assert.equal(count(pool, 'starting'), 1);
  });

  test('old workers that the system kills meanwhile are reported, and it fails at its end', () => {
    const pool = new VirtualPool();
    pool.passReporting(1000);
    const request = pool.request({ type: 'roll' });
    pool.ready(pool.worker(3));
    pool.killed(pool.worker(1), 'oom');
    pool.passReporting(1000);
    pool.passReporting(2000);
    pool.ready(pool.worker(4));
    pool.passReporting(1000);
    pool.drained(pool.worker(2));
    pool.pass(1);
    const text = 'worker 1 was killed by the kernel for lack of memory (oom) and lost its open requests (3 in its last report)';
    assert.deepEqual(pool.answer(request), new RequestsLostError(text));
    assert.ok(pool.steps.includes(text));
    assert.equal(pool.state.requests.generation, 2, 'all workers were replaced');
  });

  test('old workers that end by themselves before their turn are left out', () => {
    const pool = new VirtualPool();
    const request = pool.request({ type: 'roll' });
    pool.killed(pool.worker(2));
    pool.ready(pool.worker(3));
    pool.ready(pool.worker(4));
    pool.passReporting(1000);
    pool.drained(pool.worker(1));
    pool.passReporting(3000);
    assert.equal(pool.answer(request), undefined);
    assert.equal(pool.forked.length, 4);
  });

  test('an old worker that crashes while its successor proves itself has been replaced', () => {
    const pool = new VirtualPool({ count: 1 });
    const request = pool.request({ type: 'roll' });
    pool.ready(pool.worker(2));
    pool.crashes(pool.worker(1));
    pool.drained(pool.worker(1));
    pool.passReporting(1000);
    assert.equal(pool.answer(request), undefined);
    assert.equal(pool.forked.length, 2);
  });

  test('the old worker stays while its successor is cordoned and no other one serves', () => {
    const pool = new VirtualPool({ count: 1 });
    pool.request({ type: 'roll' });
    pool.ready(pool.worker(2));
    pool.apply({ type: 'cordon', worker: pool.worker(2), wantsCordon: true });
    pool.passReporting(5000);
    assert.equal(pool.worker(1).state, 'ready');
    pool.apply({ type: 'cordon', worker: pool.worker(2), wantsCordon: false });
    pool.message(pool.worker(2), { type: 'uncordoned' });
    assert.equal(pool.worker(1).state, 'draining');
  });

  test('two restarts run one after the other, and the second replaces the new workers, too', () => {
    const pool = new VirtualPool({ count: 1 });
    const first = pool.request({ type: 'roll' });
    const second = pool.request({ type: 'roll' });
    assert.equal(count(pool, 'starting'), 1);
    pool.ready(pool.worker(2));
    pool.passReporting(1000);
    pool.drained(pool.worker(1));
    pool.passReporting(2000);
    assert.equal(pool.answer(first), undefined);
    assert.equal(pool.answers.has(second), false);
    pool.ready(pool.worker(3));
    pool.passReporting(1000);
    pool.drained(pool.worker(2));
    pool.passReporting(2000);
    assert.equal(pool.answer(second), undefined);
    assert.deepEqual(
      pool.present.map(({ generation }) => generation),
      [3],
    );
  });

  test('an old worker that exits by itself without a drain is reported and does not fail the restart', () => {
    const pool = new VirtualPool({ count: 1 });
    const request = pool.request({ type: 'roll' });
    pool.ready(pool.worker(2));
    pool.exits(pool.worker(1));
    pool.passReporting(1500);
    assert.equal(pool.answer(request), undefined);
    assert.ok(pool.steps.includes('worker 1 ended (crash: exit code 1) and lost its open requests (0 in its last report)'));
  });

  test('a hung worker that is being replaced gets no second successor from a restart', () => {
    const pool = new VirtualPool();
    const others = () => pool.present.filter(worker => worker !== pool.worker(1));
    pool.passReporting(12_000, others);
    assert.equal(pool.states(), 'ready ready starting');
    const request = pool.request({ type: 'restart', worker: pool.worker(1) });
    pool.passReporting(1000, others);
    assert.equal(pool.forked.length, 3);
    pool.ready(pool.worker(3));
    pool.passReporting(300, others);
    pool.apply({ type: 'inspected', worker: pool.worker(1), stack: undefined });
    pool.pass(1);
    assert.equal(pool.states(), 'exited ready ready');
    assert.equal(pool.answer(request), undefined);
  });

  test('a restart of workers with another heap leaves out the others', () => {
    const pool = new VirtualPool({ heapMb: 100 });
    const heap = { heapPerWorkerMb: 100, semiSpaceMb: 8 };
    pool.apply({ type: 'roll', exceptHeap: { ...heap } });
    assert.deepEqual([pool.forked.length, pool.events('pool.restart').length], [2, 0]);
    pool.apply({ type: 'roll', exceptHeap: { ...heap, heapPerWorkerMb: 200 } });
    assert.deepEqual([pool.forked.length, pool.events('pool.restart')[0]?.workers], [3, 2]);
  });

  test('a restart of workers with another heap counts the young generation, too', () => {
    const pool = new VirtualPool({ heapMb: 100 });
    pool.apply({ type: 'roll', exceptHeap: { heapPerWorkerMb: 100, semiSpaceMb: 4 } });
    assert.deepEqual([pool.forked.length, pool.events('pool.restart')[0]?.workers], [3, 2]);
  });

  test('a restart of a pool without workers fails with the reason, and its generation is taken back', () => {
    const pool = new VirtualPool({ count: 1 });
    pool.crashes(pool.worker(1));
    pool.fails(pool.worker(2));
    const request = pool.request({ type: 'roll' });
    assert.match(String(pool.answer(request)), /no worker is up; the next ones start with the new settings/);
    assert.equal(pool.state.requests.generation, 1);
  });

  test('a new worker that a smaller pool drains is replaced by another one', () => {
    const pool = new VirtualPool();
    pool.request({ type: 'restart', worker: pool.worker(1) });
    pool.ready(pool.worker(3));
    pool.killed(pool.worker(2));
    pool.passReporting(1000);
    assert.equal(pool.worker(1).state, 'draining');
    pool.apply({ type: 'scale', wanted: 1 });
    assert.ok(pool.worker(3).state === 'ready' || pool.worker(4).state === 'ready' || pool.worker(4).state === 'draining');
    pool.drained(pool.worker(1));
    pool.passReporting(60_000);
    assert.equal(count(pool, 'ready'), 1);
  });
});

test('rolling restarts are counted by their result, and the last refusal is kept', () => {
  const pool = new VirtualPool({ count: 1 });
  const counts = () => {
    const { success, failure, refused } = pool.state.requests.rolls;
    return [success, failure, refused];
  };
  assert.deepEqual(counts(), [0, 0, 0]);
  pool.request({ type: 'roll' });
  pool.fails(pool.worker(2));
  assert.deepEqual(counts(), [0, 1, 0]);
  pool.request({ type: 'roll' });
  pool.ready(pool.worker(3));
  pool.passReporting(1000);
  pool.drained(pool.worker(1));
  pool.passReporting(2000);
  assert.deepEqual(counts(), [1, 1, 0]);
  assert.equal(pool.state.requests.lastRefusal, undefined);
  const refusedAt = pool.now;
  pool.apply({ type: 'refused', why: 'no memory' });
  assert.deepEqual(counts(), [1, 1, 1]);
  assert.deepEqual(pool.state.requests.lastRefusal, { at: refusedAt, why: 'no memory' });
  assert.deepEqual(pool.events('pool.restart-refused'), [{ event: 'pool.restart-refused', why: 'no memory' }]);
});

test('a refusal is recorded while the pod is draining, too', () => {
  const pool = new VirtualPool();
  pool.apply({ type: 'stop' });
  pool.apply({ type: 'refused', why: 'no memory' });
  assert.equal(pool.state.requests.lastRefusal?.why, 'no memory');
});

test('a pool that is draining ignores another number of workers', () => {
  const pool = new VirtualPool();
  pool.apply({ type: 'stop' });
  pool.apply({ type: 'scale', wanted: 5 });
  assert.deepEqual([pool.state.wanted, pool.events('pool.scale'), pool.answers.size], [2, [], 0]);
});

test('steps are reported only to an operator who waits', () => {
  const pool = new VirtualPool({ count: 1 });
  pool.pass(12_000);
  assert.equal(pool.forked.length, 2, 'a hung worker is being replaced');
  pool.ready(pool.worker(2));
  pool.pass(1000);
  pool.apply({ type: 'inspected', worker: pool.worker(1), stack: undefined });
  pool.reports(pool.worker(2));
  pool.apply({ type: 'roll' });
  pool.passReporting(2000);
  assert.equal(pool.forked.length, 3, 'the pool restarts');
  assert.deepEqual([pool.steps, pool.answers.size], [[], 0]);
});

test('a restart that fails after a later one has begun leaves the generation of the later one', () => {
  const pool = new VirtualPool({ count: 1 });
  const first = pool.request({ type: 'roll' });
  pool.request({ type: 'roll' });
  pool.fails(pool.worker(2));
  assert.ok(pool.answer(first) instanceof ReplacementError);
  assert.equal(pool.state.requests.generation, 3);
});

describe('a new worker that has to leave itself', () => {
  /** Worker 1 drains, worker 3 has replaced it; then one worker is enough. */
  function withSmallerPool(): { pool: VirtualPool; request: number } {
    const pool = new VirtualPool();
    const request = pool.request({ type: 'restart', worker: pool.worker(1) });
    pool.ready(pool.worker(3));
    pool.passReporting(1000);
    assert.equal(pool.states(), 'draining ready ready');
    pool.apply({ type: 'scale', wanted: 1 });
    assert.equal(pool.states(), 'draining ready draining', 'it has the highest id');
    return { pool, request };
  }

  test('the restart succeeds though a smaller pool drains the new worker while the old one drains', () => {
    const { pool, request } = withSmallerPool();
    pool.passReporting(500);
    assert.equal(pool.answers.size, 0, 'the old one still drains');
    pool.drained(pool.worker(1));
    pool.drained(pool.worker(3));
    pool.passReporting(3000);
    assert.equal(pool.answer(request), undefined);
    assert.deepEqual([pool.forked.length, pool.states()], [3, 'exited ready exited']);
  });

  test('a hung worker whose new worker an operator restarts meanwhile is replaced nonetheless', () => {
    const pool = new VirtualPool();
    for (const worker of pool.present) pool.measured(worker, 100);
    pool.passReporting(12_000, () => [pool.worker(2)]);
    pool.ready(pool.worker(3));
    pool.headroom = { limitBytes: 512 * MIB, bytes: 110 * MIB, file: '/memory.max' };
    pool.request({ type: 'restart', worker: pool.worker(3) });
    assert.deepEqual([pool.worker(3).state, pool.worker(3).reason], ['draining', 'restart']);
    pool.reports(pool.worker(2));
    pool.pass(1);
    assert.deepEqual([pool.worker(1).state, pool.worker(1).reason], ['draining', 'hung']);
    assert.deepEqual(pool.events('worker.replace-failed'), []);
  });

  test('a new worker is not recycled while the old one still drains', () => {
    const pool = new VirtualPool({ workerMaxAgeMs: 5000, count: 1 });
    pool.passReporting(5000);
    pool.ready(pool.worker(2));
    pool.passReporting(9000);
    assert.equal(pool.worker(1).state, 'draining');
    assert.equal(pool.events('worker.replace').length, 1);
    pool.drained(pool.worker(1));
    pool.passReporting(1000);
    assert.equal(pool.events('worker.replace').length, 2);
  });

  test('the replacement of a hung worker that waits for the back-off is requested once', () => {
    const pool = new VirtualPool();
    pool.passReporting(12_000, () => [pool.worker(2)]);
    for (const [number, backOffMs] of [
      [3, 0],
      [4, 100],
      [5, 0],
    ] as const) {
      pool.fails(pool.worker(number));
      pool.reports(pool.worker(2));
      pool.pass(backOffMs);
    }
    assert.equal(pool.events('worker.replace').length, 4);
    for (let count = 0; count < 5; count++) pool.reports(pool.worker(2));
    assert.equal(pool.events('worker.replace').length, 4);
    assert.equal(pool.events('worker.replace-failed').length, 3);
  });
});

describe('requests that are lost or idle during a restart', () => {
  test('an old worker killed from outside during its drain has lost its requests', () => {
    const pool = new VirtualPool({ count: 1 });
    const request = pool.request({ type: 'roll' });
    pool.ready(pool.worker(2));
    pool.passReporting(1000);
    pool.killed(pool.worker(1));
    pool.passReporting(3000);
    const text = 'worker 1 was killed and lost its open requests (3 in its last report)';
    assert.deepEqual(pool.answer(request), new RequestsLostError(text));
    assert.ok(pool.steps.includes(text));
  });

  test('the next worker waits for the warm-up after one that only closed idle connections', () => {
    const pool = new VirtualPool();
    pool.request({ type: 'roll' });
    pool.ready(pool.worker(3));
    pool.passReporting(1000);
    pool.drained(pool.worker(1), { finished: 1, closedGracefully: 1 });
    pool.passReporting(1999);
    assert.equal(pool.forked.length, 3);
    pool.pass(1);
    assert.equal(pool.forked.length, 4);
  });

  test('without surge the next worker drains 2 s after the new one became ready', () => {
    const pool = new VirtualPool({ restartSurge: 'never' });
    pool.request({ type: 'roll' });
    pool.drained(pool.worker(1));
    pool.passReporting(700);
    pool.ready(pool.worker(3));
    pool.passReporting(1999);
    assert.equal(pool.worker(2).state, 'ready');
    pool.pass(1);
    assert.equal(pool.worker(2).state, 'draining');
  });

  test('a hung worker waits neither for the warm-up of a restart nor for its other workers', () => {
    const pool = new VirtualPool({ count: 3 });
    const others = () => pool.present.filter(worker => worker !== pool.worker(3));
    pool.request({ type: 'roll' });
    pool.passReporting(9000, others);
    pool.ready(pool.worker(4));
    pool.passReporting(1000, others);
    pool.drained(pool.worker(1));
    pool.passReporting(1000, others);
    assert.deepEqual([pool.forked.length, pool.hungPids], [5, new Set([103])]);
    assert.equal(pool.events('worker.replace').length, 1, 'requested once');
  });
});

describe('what a pool does not do', () => {
  test('a pool that runs bridges no worker, and one whose successor serves needs no bridge', () => {
    const pool = new VirtualPool({ count: 1 });
    pool.request({ type: 'roll' });
    assert.equal(pool.state.isBridged(pool.now), false, 'the old one serves');
    pool.ready(pool.worker(2));
    pool.passReporting(1000);
    assert.equal(pool.worker(1).state, 'draining');
    assert.equal(pool.state.isBridged(pool.now), false, 'the new one serves');
  });

  test('a worker that starts is not replaced because it is silent', () => {
    const pool = new VirtualPool({ count: 1, isReady: false, workerHeartbeatTimeoutMs: 2000 });
    pool.pass(20_000);
    assert.deepEqual([pool.events('worker.replace'), pool.forked.length], [[], 1]);
  });

  test('a pool without a worker says that a restart would start one at once', () => {
    const pool = new VirtualPool({ count: 1 });
    pool.measured(pool.worker(1), 100);
    for (const number of [1, 2]) pool.exits(pool.worker(number));
    pool.headroom = { limitBytes: 512 * MIB, bytes: -200 * MIB, file: '/memory.max' };
    assert.equal(pool.present.length, 0);
    assert.deepEqual(pool.state.memoryView.restart, { kind: 'surge' });
  });

  test('the memory of a worker that has exited says nothing about a new one', () => {
    const pool = new VirtualPool();
    pool.measured(pool.worker(1), 300);
    pool.measured(pool.worker(2), 100);
    assert.equal(pool.state.memoryView.freshWorkerBytes, 300 * MIB);
    pool.killed(pool.worker(1));
    assert.equal(pool.state.memoryView.freshWorkerBytes, 100 * MIB);
  });

  test('the reports of a worker that serves let no more failed workers start at the same time', () => {
    const pool = new VirtualPool({ count: 4 });
    for (const number of [2, 3, 4]) pool.killed(pool.worker(number));
    for (const worker of pool.forked.slice(4)) pool.fails(worker);
    pool.passReporting(10_000, () => [pool.worker(1)]);
    const starting = count(pool, 'starting');
    assert.ok(starting < 3, `${starting} start`);
    for (let reports = 0; reports < 5; reports++) pool.reports(pool.worker(1));
    assert.equal(count(pool, 'starting'), starting);
  });

  test('the reports of a worker that starts are passed on', () => {
    const pool = new VirtualPool({ count: 1, isReady: false });
    pool.message(pool.worker(1), { type: 'redis', state: 'ready', message: '' });
    const forwarded = pool.effects.flatMap(effect => (effect.type === 'forward' ? effect.message.type : []));
    assert.deepEqual(forwarded, ['redis']);
  });

  test('a pool that shuts down during a failing start does not give up', () => {
    const pool = new VirtualPool({ isReady: false });
    pool.killsAtOnce = false;
    pool.fails(pool.worker(1));
    pool.apply({ type: 'stop' });
    pool.pass(70_000);
    pool.reap(pool.worker(2));
    assert.equal(pool.givenUp, undefined);
  });

  test('an enlargement goes on when the replacement of an old worker fails', () => {
    const pool = new VirtualPool();
    const request = pool.request({ type: 'enlarge', wanted: 3 });
    pool.request({ type: 'restart', worker: pool.worker(1) });
    pool.fails(pool.worker(4));
    assert.equal(pool.answers.has(request), false);
    pool.ready(pool.worker(3));
    assert.equal(pool.answer(request), undefined);
  });

  test('a pool without failures is not failing', () => {
    const pool = new VirtualPool();
    assert.equal(pool.state.isFailing, false);
    pool.reports(pool.worker(1));
    assert.deepEqual([pool.state.isFailing, pool.events('pool.backoff')], [false, []]);
  });

  test('a pool that has given up neither starts nor replaces a worker, and gives up once', () => {
    const pool = new VirtualPool({ count: 2, isReady: false, startTimeoutMs: 20_000 });
    pool.killsAtOnce = false;
    pool.pass(300);
    pool.fails(pool.worker(1), { isPermanent: true });
    assert.equal(pool.givenUp, 'permanent');
    pool.fails(pool.worker(2), { isPermanent: true });
    pool.pass(60_000);
    assert.equal(pool.forked.length, 2);
  });

  test('a draining worker takes no memory from the successor of a smaller pool, unless it crashes', () => {
    const pool = new VirtualPool({ count: 3, restartSurge: 'never' });
    pool.apply({ type: 'scale', wanted: 2 });
    pool.killed(pool.worker(1));
    assert.equal(pool.forked.length, 4, 'the killed one is replaced while worker 3 drains');
    assert.equal(pool.worker(3).state, 'draining');
  });
});

describe('a rolling restart without surge', () => {
  test('each old worker ends before its new one starts, one after the other', () => {
    const pool = new VirtualPool({ restartSurge: 'never' });
    const request = pool.request({ type: 'roll' });
    assert.equal(pool.states(), 'draining ready');
    pool.passReporting(10_000);
    assert.equal(pool.forked.length, 2, 'none starts while the old one runs');
    pool.drained(pool.worker(1));
    assert.equal(pool.states(), 'exited ready starting');
    pool.passReporting(5000, () => [pool.worker(2)]);
    assert.equal(pool.worker(2).state, 'ready', 'the other one serves as long as the new one does not');
    pool.ready(pool.worker(3));
    pool.passReporting(999);
    assert.equal(pool.worker(2).state, 'ready', 'nor before it has proved itself');
    pool.passReporting(1001);
    assert.equal(pool.worker(2).state, 'draining');
    pool.drained(pool.worker(2));
    pool.ready(pool.worker(4));
    pool.passReporting(3000);
    assert.equal(pool.answer(request), undefined);
    assert.deepEqual(pool.steps, [
      'draining worker 1 before its successor starts (RESTART_SURGE=never); connections wait',
      'worker 1 is gone: 1 requests finished, 0 cut, 5 ms',
      'starting worker 1 in its place',
      'worker 1 (process 103) serves after 5000 ms',
      'draining worker 2 before its successor starts (RESTART_SURGE=never); connections wait',
      'worker 2 is gone: 1 requests finished, 0 cut, 5 ms',
      'starting worker 2 in its place',
      'worker 2 (process 104) serves after 0 ms',
    ]);
  });

  test('a worker that starts for another reason is no successor of the one that drains', () => {
    const pool = new VirtualPool({ count: 3, restartSurge: 'never' });
    pool.request({ type: 'restart', worker: pool.worker(1) });
    pool.killed(pool.worker(2));
    assert.equal(pool.worker(4).state, 'starting');
    assert.equal(pool.steps.length, 1);
    pool.drained(pool.worker(1));
    assert.equal(pool.steps.at(-1), 'starting worker 1 in its place');
    assert.equal(pool.forked.length, 5);
  });

  test('it waits for a successor that cannot start yet because others are starting', () => {
    const pool = new VirtualPool({ count: 3, cpus: 1, restartSurge: 'never' });
    const request = pool.request({ type: 'restart', worker: pool.worker(1) });
    for (const number of [2, 3]) pool.killed(pool.worker(number));
    pool.drained(pool.worker(1));
    pool.pass(1);
    assert.deepEqual([pool.forked.length, pool.answers.size], [5, 0]);
    pool.ready(pool.worker(4));
    assert.equal(pool.steps.at(-1), 'starting worker 1 in its place');
    pool.ready(pool.worker(6));
    pool.passReporting(3000);
    assert.equal(pool.answer(request), undefined);
  });

  test('the last worker that serves stays until another one does', () => {
    const pool = new VirtualPool({ restartSurge: 'never' });
    pool.killed(pool.worker(2));
    pool.request({ type: 'restart', worker: pool.worker(1) });
    pool.passReporting(5000, () => [pool.worker(1)]);
    assert.equal(pool.worker(1).state, 'ready');
    pool.ready(pool.worker(3));
    assert.equal(pool.worker(1).state, 'draining');
  });

  test('the only worker of a pool ends before its successor starts', () => {
    const pool = new VirtualPool({ count: 1, restartSurge: 'never' });
    pool.request({ type: 'roll' });
    assert.equal(pool.states(), 'draining');
    pool.drained(pool.worker(1));
    assert.equal(pool.states(), 'exited starting');
  });

  test('a new worker that fails to start ends it, and the pool starts another one', () => {
    const pool = new VirtualPool({ restartSurge: 'never' });
    const request = pool.request({ type: 'roll' });
    pool.drained(pool.worker(1));
    pool.fails(pool.worker(3));
    assert.match(String(pool.answer(request)), /worker 1, to replace worker 1, failed to start: no database/);
    assert.equal(pool.states(), 'exited ready exited starting');
  });

  test('it ends if fewer workers are wanted than have ended', () => {
    const pool = new VirtualPool({ restartSurge: 'never' });
    const request = pool.request({ type: 'restart', worker: pool.worker(1) });
    pool.apply({ type: 'scale', wanted: 1 });
    pool.drained(pool.worker(1));
    pool.pass(1);
    assert.equal(pool.answer(request), undefined);
    assert.equal(pool.states(), 'exited ready');
  });
});

describe('memory decides how a worker is replaced', () => {
  const LIMIT = { limitBytes: 512 * MIB, file: '/memory.max' };
  function withFree(mib: number, count = 2): VirtualPool {
    const pool = new VirtualPool({ count });
    for (const worker of pool.present) pool.measured(worker, 100);
    pool.headroom = { ...LIMIT, bytes: mib * MIB };
    return pool;
  }

  test('the old worker ends first if two do not fit', () => {
    const pool = withFree(110);
    pool.request({ type: 'roll' });
    assert.equal(pool.states(), 'draining ready');
    assert.match(pool.steps[0] ?? '', /a new worker needs 120 MiB beside the others, but only 110 MiB of 512 MiB are free/);
    const { restart, freshWorkerBytes, headroom } = pool.state.memoryView;
    assert.deepEqual([restart.kind, freshWorkerBytes, headroom?.bytes], ['old-first', 100 * MIB, 110 * MIB]);
  });

  test('a restart is refused if a new worker does not fit in place of the old one', () => {
    const pool = withFree(-1);
    const roll = pool.request({ type: 'roll' });
    const one = pool.request({ type: 'restart', worker: pool.worker(1) });
    const why = 'a new worker needs 100 MiB in place of the old one, but only 99 MiB of 512 MiB are free (/memory.max)';
    for (const request of [roll, one]) {
      assert.ok(pool.answer(request) instanceof ReplacementRefusedError);
      assert.equal(pool.answer(request)?.message, `worker 1 is not replaced: ${why}`);
    }
    assert.deepEqual([pool.forked.length, pool.steps, pool.state.requests.generation], [2, [], 1]);
    assert.deepEqual(
      pool.events('pool.restart-refused').map(event => event.why),
      [`worker 1 is not replaced: ${why}`, `worker 1 is not replaced: ${why}`],
    );
    assert.equal(pool.events('pool.restart-failed').length, 0);
  });

  test('a hung worker is replaced even if its successor may not fit', () => {
    const pool = withFree(-50);
    pool.passReporting(12_000, () => [pool.worker(2)]);
    assert.deepEqual([pool.worker(1).state, pool.worker(1).reason], ['draining', 'hung']);
  });

  test('the memory of a worker is known while another one replaces it, and that of the last one afterwards', () => {
    const pool = withFree(500, 1);
    pool.killed(pool.worker(1));
    assert.equal(pool.state.memoryView.freshWorkerBytes, 100 * MIB);
    const empty = new VirtualPool({ isReady: false });
    assert.deepEqual(empty.state.memoryView, {
      headroom: undefined,
      freshWorkerBytes: undefined,
      restart: { kind: 'surge' },
      pointlessRecycling: undefined,
    });
  });
});

describe('recycling', () => {
  test('workers are recycled one at a time, the new one first', () => {
    const pool = new VirtualPool({ workerMaxAgeMs: 10_000 });
    pool.passReporting(10_000);
    assert.deepEqual(
      pool.events('worker.replace').map(({ worker, reason }) => [worker, reason]),
      [
        [1, 'recycled-age'],
        [2, 'recycled-age'],
      ],
    );
    assert.equal(pool.states(), 'ready ready starting');
    pool.ready(pool.worker(3));
    pool.passReporting(1000);
    assert.equal(pool.states(), 'draining ready ready');
    pool.passReporting(1500);
    assert.equal(pool.forked.length, 3, 'the second one waits for the first');
    pool.drained(pool.worker(1));
    pool.passReporting(500);
    assert.equal(pool.forked.length, 4);
    assert.equal(pool.exited[0]?.reason, 'recycled-age');
  });

  test('each worker has its own limit of requests, by the jitter', () => {
    const pool = new VirtualPool({ workerMaxRequests: 100, workerMaxRequestsJitter: 10, isReady: false });
    pool.random = 0.95;
    pool.pass(300);
    assert.deepEqual(
      pool.forked.map(({ maxRequests }) => maxRequests),
      [100, 110],
    );
    for (const worker of pool.forked) pool.ready(worker);
    for (const worker of pool.forked) pool.reports(worker, { requests: 109 });
    assert.deepEqual(
      pool.events('worker.replace').map(({ worker, reason }) => [worker, reason]),
      [[1, 'recycled-requests']],
    );
  });

  test('a recycling that is refused is tried again after a minute', () => {
    const pool = new VirtualPool({ workerMaxAgeMs: 10_000, count: 1 });
    pool.measured(pool.worker(1), 100);
    pool.headroom = { limitBytes: 512 * MIB, bytes: -1 * MIB, file: '/memory.max' };
    pool.passReporting(10_000);
    assert.match(pool.events('worker.replace-failed')[0]?.error ?? '', /is not replaced/);
    pool.passReporting(58_000);
    assert.equal(pool.events('worker.replace').length, 1);
    pool.passReporting(3000);
    assert.equal(pool.events('worker.replace').length, 2);
  });

  test('a worker whose successor fails to start goes on and is tried again after the back-off', () => {
    const pool = new VirtualPool({ workerMaxAgeMs: 10_000, count: 1 });
    pool.passReporting(10_000);
    pool.fails(pool.worker(2));
    assert.deepEqual(pool.events('worker.replace-failed')[0], {
      event: 'worker.replace-failed',
      worker: 1,
      reason: 'recycled-age',
      error: 'worker 2, to replace worker 1, failed to start: no database',
    });
    pool.passReporting(500);
    assert.equal(pool.worker(3).state, 'starting');
    assert.equal(pool.worker(1).state, 'ready');
  });

  test('the reason why WORKER_MAX_RSS_MB cannot be met is reported once', () => {
    const pool = new VirtualPool({ workerMaxRssMb: 50, count: 1 });
    for (let second = 0; second < 10; second++) {
      pool.measured(pool.worker(1), 100);
      pool.passReporting(1000);
    }
    assert.equal(pool.events('recycling.pointless').length, 1);
    assert.match(pool.events('recycling.pointless')[0]?.why ?? '', /a new worker uses 100 MiB when it starts/);
    assert.equal(pool.events('worker.replace').length, 0);
  });

  test('memory is not judged while a worker drains', () => {
    const pool = new VirtualPool({ count: 3 });
    for (const worker of pool.present) pool.measured(worker, 100);
    pool.passReporting(61_000);
    for (const worker of pool.present) pool.measured(worker, 100);
    pool.measured(pool.worker(1), 300);
    pool.apply({ type: 'scale', wanted: 2 });
    pool.headroom = { limitBytes: 512 * MIB, bytes: 10 * MIB, file: '/memory.max' };
    pool.reports(pool.worker(1));
    assert.equal(pool.events('worker.replace').length, 0);
    pool.drained(pool.worker(3));
    assert.equal(pool.events('worker.replace')[0]?.reason, 'recycled-rss');
  });

  test('a new WORKER_MAX_AGE_MS applies to workers that run', () => {
    const pool = new VirtualPool({ count: 1 });
    pool.passReporting(10_000);
    pool.apply({ type: 'configure', config: { ...pool.config, workerMaxAgeMs: 5000 }, sizing: sizingOf(1) });
    assert.deepEqual(
      pool.events('worker.replace').map(({ reason }) => reason),
      ['recycled-age'],
    );
  });

  test('memory is not judged while workers start or end', () => {
    const pool = new VirtualPool({ count: 2 });
    for (const worker of pool.present) pool.measured(worker, 100);
    pool.passReporting(61_000);
    for (const worker of pool.present) pool.measured(worker, 100);
    pool.measured(pool.worker(1), 300);
    pool.killed(pool.worker(2));
    pool.headroom = { limitBytes: 512 * MIB, bytes: 10 * MIB, file: '/memory.max' };
    pool.reports(pool.worker(1));
    assert.equal(pool.events('worker.replace').length, 0);
    pool.ready(pool.worker(3));
    assert.deepEqual(
      pool.events('worker.replace').map(({ worker, reason }) => [worker, reason]),
      [[1, 'recycled-rss']],
    );
  });
});
