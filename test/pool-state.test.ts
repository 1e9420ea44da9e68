/**
 * The rules of the pool in virtual time: starts, timeouts, failures, silence, scale, shutdown. No process runs.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ScaleError, SupersededError } from '../src/pool/requests.ts';
import { LEDGER, REPORT, sizingOf, VirtualPool } from './virtual-pool.ts';

describe('the start of a pool', () => {
  test('the first worker starts alone, the others after 250 ms', () => {
    const pool = new VirtualPool({ count: 4, isReady: false });
    assert.equal(pool.forked.length, 1);
    pool.pass(249);
    assert.equal(pool.forked.length, 1);
    pool.pass(1);
    assert.equal(pool.forked.length, 4);
  });

  test('the other workers start 20 ms after the first one is ready', () => {
    const pool = new VirtualPool({ count: 4, isReady: false });
    pool.pass(100);
    pool.ready(pool.worker(1));
    pool.pass(19);
    assert.equal(pool.forked.length, 1);
    pool.pass(1);
    assert.equal(pool.forked.length, 4);
  });

  test('a pool has started once, when all wanted workers serve', () => {
    const pool = new VirtualPool({ count: 2, isReady: false });
    pool.pass(300);
    pool.ready(pool.worker(1));
    assert.deepEqual([pool.state.hasStarted, pool.events('pool.started').length], [false, 0]);
    pool.ready(pool.worker(2));
    assert.deepEqual([pool.state.hasStarted, pool.events('pool.started').length], [true, 1]);
    pool.killed(pool.worker(1));
    pool.ready(pool.worker(3));
    assert.deepEqual([pool.state.hasStarted, pool.events('pool.started').length], [true, 1]);
  });

  test('a pool has started without workers that have failed for WORKER_START_TIMEOUT_MS', () => {
    const pool = new VirtualPool({ count: 2, isReady: false });
    pool.pass(300);
    pool.ready(pool.worker(1));
    while (!pool.state.hasStarted && pool.now < 60_000) {
      for (const worker of pool.present) if (worker.state === 'starting') pool.fails(worker);
      pool.pass(100);
    }
    assert.ok(pool.now >= 30_200 && pool.now <= 30_500, `${pool.now}`);
    assert.equal(pool.state.isFailing, true);
  });

  test('a pool whose first workers only fail gives up after START_TIMEOUT_MS', () => {
    const pool = new VirtualPool({ isReady: false, startTimeoutMs: 20_000 });
    while (pool.givenUp === undefined && pool.now < 60_000) {
      for (const worker of pool.present) pool.fails(worker);
      pool.pass(50);
    }
    assert.deepEqual([pool.givenUp, pool.now >= 20_000, pool.now <= 20_100], ['start-timeout', true, true]);
  });

  test('a pool whose first worker hangs gives up at START_TIMEOUT_MS only after a failure', () => {
    const pool = new VirtualPool({ count: 1, isReady: false, startTimeoutMs: 20_000, workerStartTimeoutMs: 30_000 });
    pool.pass(29_999);
    assert.equal(pool.givenUp, undefined, 'nothing has failed');
    pool.pass(1);
    assert.equal(pool.givenUp, 'start-timeout');
    assert.equal(pool.exited[0]?.reason, 'start-timeout');
  });

  test('a permanent error of the first worker ends the pool at once', () => {
    const pool = new VirtualPool({ isReady: false });
    pool.fails(pool.worker(1), { isPermanent: true });
    assert.equal(pool.givenUp, 'permanent');
    const forks = pool.forked.length;
    pool.pass(60_000);
    assert.equal(pool.forked.length, forks, 'it starts no worker any more');
  });

  test('a worker whose options Node.js rejects ends the pool at once, with a hint', () => {
    const pool = new VirtualPool({ isReady: false });
    pool.exits(pool.worker(1), 9);
    assert.equal(pool.givenUp, 'permanent');
    assert.match(pool.exited[0]?.failure ?? '', /^exit code 9: Node.js rejects its options/);
  });

  test('a worker that has reported and exits with code 9 is retried', () => {
    const pool = new VirtualPool({ isReady: false });
    pool.message(pool.worker(1), { type: 'redis', state: 'ready', message: '' });
    pool.exits(pool.worker(1), 9);
    assert.equal(pool.givenUp, undefined);
    assert.equal(pool.exited[0]?.failure, 'exit code 9');
  });

  test('a worker that the system refuses to fork is retried', () => {
    const pool = new VirtualPool({ count: 1, isReady: false });
    pool.apply({ type: 'exited', worker: pool.worker(1), how: { error: 'spawn ENOMEM' } });
    assert.deepEqual([pool.worker(1).reason, pool.worker(1).failure], ['crash', 'cannot be started: spawn ENOMEM']);
    assert.equal(pool.forked.length, 2);
  });

  test('a worker that starts and becomes ready is announced, with the time of its start', () => {
    const pool = new VirtualPool({ count: 1, isReady: false });
    pool.pass(300.4);
    pool.ready(pool.worker(1));
    pool.request({ type: 'roll' });
    pool.pass(500);
    pool.ready(pool.worker(2));
    pool.ready(pool.worker(2));
    const [first, second] = [
      { worker: 1, workerPid: 101, generation: 1 },
      { worker: 2, workerPid: 102, generation: 2 },
    ];
    assert.deepEqual(pool.events('worker.starting'), [
      { event: 'worker.starting', ...first },
      { event: 'worker.starting', ...second },
    ]);
    assert.deepEqual(pool.events('worker.ready'), [
      { event: 'worker.ready', ...first, ms: 300 },
      { event: 'worker.ready', ...second, ms: 500 },
    ]);
  });

  test('a worker that is not ready within WORKER_START_TIMEOUT_MS is killed and retried', () => {
    const pool = new VirtualPool();
    pool.killed(pool.worker(1));
    pool.passReporting(29_999, () => [pool.worker(2)]);
    assert.equal(pool.worker(3).state, 'starting');
    pool.pass(1);
    assert.equal(pool.worker(3).state, 'exited');
    assert.deepEqual(
      [pool.worker(3).reason, pool.worker(3).failure],
      ['start-timeout', 'not ready within 30000 ms (WORKER_START_TIMEOUT_MS)'],
    );
    assert.equal(pool.worker(4).state, 'starting');
  });

  test('a worker that was killed because it started too slowly never serves, though it reports that it is ready', () => {
    const pool = new VirtualPool({ count: 1, isReady: false });
    pool.killsAtOnce = false;
    pool.pass(30_000);
    pool.ready(pool.worker(1));
    assert.deepEqual([pool.worker(1).state, pool.state.hasStarted], ['starting', false]);
    assert.deepEqual([pool.events('worker.ready'), pool.events('pool.started')], [[], []]);
    assert.ok(!pool.effects.some(({ type }) => type === 'forward'), 'the primary does not open for it');
    pool.reap(pool.worker(1));
    assert.equal(pool.exitEvents[0]?.isFailedStart, true);
    pool.ready(pool.worker(2));
    assert.equal(pool.state.hasStarted, true);
  });

  test('a late message of one worker does not kill another one whose message may have arrived, too', () => {
    const pool = new VirtualPool({ count: 2, isReady: false });
    pool.pass(300);
    pool.ready(pool.worker(1));
    pool.now = 40_000;
    pool.reports(pool.worker(1));
    pool.ready(pool.worker(2));
    assert.deepEqual([pool.states(), pool.wakeAt <= pool.now + 10_000], ['ready ready', true]);
  });

  test('a restart ends no worker for a new one that was killed because it started too slowly', () => {
    const pool = new VirtualPool({ count: 1 });
    pool.killsAtOnce = false;
    const request = pool.request({ type: 'roll' });
    pool.passReporting(30_500, () => [pool.worker(1)]);
    pool.ready(pool.worker(2));
    pool.passReporting(2000, () => [pool.worker(1)]);
    assert.equal(pool.worker(1).state, 'ready');
    pool.reap(pool.worker(2));
    assert.match(String(pool.answer(request)), /worker 2, to replace worker 1, failed to start: not ready within 30000 ms/);
  });
});

describe('failures of a pool that serves', () => {
  test('failed starts beside a worker that serves back off and never end the pool', () => {
    const pool = new VirtualPool({ restartIntensity: 0 });
    pool.killed(pool.worker(1));
    for (let count = 0; count < 100; count++) {
      const failing = pool.present.find(({ state }) => state === 'starting');
      if (failing !== undefined) pool.fails(failing);
      pool.passReporting(5000);
    }
    assert.equal(pool.givenUp, undefined);
    assert.equal(Math.max(...pool.events('pool.backoff').map(({ ms }) => ms)), 5000);
  });

  test('the only worker that crashes again and again ends the pool after RESTART_INTENSITY crashes', () => {
    const pool = new VirtualPool({ count: 1, restartIntensity: 3 });
    let crashes = 0;
    while (pool.givenUp === undefined && pool.now < 600_000) {
      for (const worker of pool.present) {
        pool.ready(worker);
        pool.pass(3000);
        pool.crashes(worker);
        pool.drained(worker);
        crashes++;
      }
      pool.pass(1000);
    }
    assert.deepEqual([pool.givenUp, crashes], ['crash-loop', 4]);
    assert.equal(pool.events('worker.exit').filter(({ reason }) => reason === 'crash').length, crashes);
  });

  test('crashes older than RESTART_PERIOD_MS are forgotten', () => {
    const pool = new VirtualPool({ count: 1, restartIntensity: 2, restartPeriodMs: 4000 });
    for (let count = 0; count < 30; count++) {
      const [worker] = pool.present;
      assert.ok(worker);
      pool.ready(worker);
      pool.passReporting(9000);
      pool.crashes(worker);
      pool.drained(worker);
      pool.passReporting(5000);
    }
    assert.equal(pool.givenUp, undefined);
  });

  test('the back-off starts again at its beginning after a worker was stable for 10 s', () => {
    const pool = new VirtualPool();
    const [first] = pool.forked;
    assert.ok(first);
    pool.killed(first);
    for (let count = 0; count < 4; count++) {
      const failing = pool.present.find(({ state }) => state === 'starting');
      if (failing !== undefined) pool.fails(failing);
      pool.passReporting(1000);
    }
    assert.deepEqual(
      pool.events('pool.backoff').map(({ ms }) => ms),
      [100, 200, 400],
    );
    for (const worker of pool.present) if (worker.state === 'starting') pool.ready(worker);
    pool.passReporting(10_000);
    const last = pool.present.at(0);
    assert.ok(last);
    pool.crashes(last);
    pool.drained(last);
    assert.equal(pool.events('pool.backoff').length, 3, 'the first failure of a stable worker costs no time');
    assert.ok(pool.present.some(({ state }) => state === 'starting'));
  });

  test('a worker that crashes drains, and its successor starts at once beside it', () => {
    const pool = new VirtualPool();
    pool.passReporting(10_000);
    pool.crashes(pool.worker(1));
    assert.deepEqual([pool.worker(1).state, pool.worker(1).reason, pool.worker(3).state], ['draining', 'crash', 'starting']);
    assert.deepEqual(pool.events('worker.draining')[0], {
      event: 'worker.draining',
      worker: 1,
      workerPid: 101,
      reason: 'crash',
    });
    pool.passReporting(10_000, () => [pool.worker(2)]);
    assert.equal(pool.worker(1).state, 'exited', 'it is killed 5 s after its own deadline');
    assert.equal(pool.worker(1).failure, 'boom');
    assert.equal(pool.worker(1).missedDeadline, true);
  });

  test('the successor of a worker that crashes waits for its end if two do not fit', () => {
    const pool = new VirtualPool({ restartSurge: 'never' });
    pool.passReporting(10_000);
    pool.crashes(pool.worker(1));
    assert.equal(pool.forked.length, 2);
    pool.drained(pool.worker(1));
    assert.equal(pool.worker(3).state, 'starting');
  });

  test('a worker that is killed from outside is replaced at once', () => {
    const pool = new VirtualPool();
    pool.killed(pool.worker(1));
    assert.deepEqual([pool.worker(1).reason, pool.worker(1).failure], ['killed', 'signal SIGKILL']);
    assert.deepEqual([pool.worker(3).state, pool.worker(3).id], ['starting', 1]);
    assert.deepEqual(
      pool.present.map(({ id }) => id),
      [1, 2],
      'the lowest id comes first',
    );
  });

  test('a kill from outside replaces an earlier reason, and a kill by the kernel counts as oom', () => {
    const pool = new VirtualPool();
    pool.apply({ type: 'scale', wanted: 1 });
    assert.equal(pool.worker(2).reason, 'scale-down');
    pool.killed(pool.worker(2), 'oom');
    assert.deepEqual([pool.worker(2).reason, pool.worker(2).failure], ['oom', 'killed by the kernel for lack of memory']);
    const [exit] = pool.events('worker.exit');
    assert.deepEqual([exit?.reason, exit?.isFailure, exit?.isFailedStart], ['oom', true, false]);
  });

  test('SIGTERM to a worker is no crash, any other end is one', () => {
    const pool = new VirtualPool();
    pool.apply({
      type: 'exited',
      worker: pool.worker(1),
      how: { code: null, signal: 'SIGTERM', killer: undefined, lost: { open: 1, oldest: [] } },
    });
    assert.deepEqual([pool.worker(1).reason, pool.worker(1).failure], ['killed', 'signal SIGTERM']);
    assert.equal(pool.worker(1).lost?.open, 1);
    pool.exits(pool.worker(2), 0);
    assert.deepEqual([pool.worker(2).reason, pool.worker(2).failure], ['crash', 'exit code 0']);
  });
});

describe('silence', () => {
  test('a worker that has not reported for WORKER_HEARTBEAT_TIMEOUT_MS is replaced even while another one drains', () => {
    const pool = new VirtualPool({ count: 3, cpus: 1 });
    pool.request({ type: 'roll' });
    pool.ready(pool.worker(4));
    pool.passReporting(1000);
    assert.equal(pool.worker(1).state, 'draining');
    pool.passReporting(12_000, () => pool.present.filter(worker => worker !== pool.worker(2)));
    const replaced = pool.events('worker.replace');
    assert.deepEqual(
      replaced.map(({ worker, reason }) => [worker, reason]),
      [[2, 'hung']],
      'while worker 1 still drains',
    );
    assert.equal(pool.worker(1).state, 'draining');
    pool.ready(pool.worker(5));
    pool.passReporting(299, () => pool.present.filter(worker => worker !== pool.worker(2)));
    assert.equal(pool.worker(2).state, 'ready');
    pool.passReporting(1, () => []);
    assert.equal(pool.worker(2).state, 'draining', 'its successor needs to serve for 300 ms only');
    assert.ok(pool.effects.some(effect => effect.type === 'inspect' && effect.worker === pool.worker(2)));
    pool.apply({ type: 'inspected', worker: pool.worker(2), stack: ['spin (app.js:1:1)'] });
    assert.deepEqual([pool.worker(2).state, pool.worker(2).reason], ['exited', 'hung']);
    assert.deepEqual(pool.events('worker.hung')[0]?.stack, ['spin (app.js:1:1)']);
  });

  /** Worker 1 hangs, and its successor serves. */
  function withHung(): VirtualPool {
    const pool = new VirtualPool();
    pool.passReporting(12_000, () => [pool.worker(2)]);
    pool.ready(pool.worker(3));
    pool.passReporting(1000, () => [pool.worker(2), pool.worker(3)]);
    assert.equal(pool.worker(1).state, 'draining');
    return pool;
  }

  test('a hung worker that answers again drains, because its inspector is open', () => {
    const pool = withHung();
    pool.reports(pool.worker(1));
    pool.apply({ type: 'inspected', worker: pool.worker(1), stack: undefined });
    assert.equal(pool.worker(1).state, 'draining');
    assert.ok(pool.effects.some(effect => effect.type === 'drain' && effect.worker === pool.worker(1)));
    assert.equal(pool.events('worker.hung')[0]?.stack, 'unavailable');
    pool.drained(pool.worker(1));
    assert.equal(pool.worker(1).reason, 'hung');
  });

  test('a hung worker whose stack is never read is killed', () => {
    const pool = withHung();
    assert.deepEqual(pool.events('worker.draining'), [{ event: 'worker.draining', worker: 1, workerPid: 101, reason: 'hung' }]);
    pool.passReporting(11_000, () => [pool.worker(2), pool.worker(3)]);
    assert.deepEqual([pool.worker(1).state, pool.worker(1).failure], ['exited', 'not gone after 11000 ms, killed']);
  });

  test('a worker under diagnosis or in a debugger is not hung', () => {
    const pool = new VirtualPool();
    pool.apply({ type: 'diagnosis', worker: pool.worker(1), isRunning: true });
    pool.apply({ type: 'inspector-opened', worker: pool.worker(2) });
    pool.pass(60_000);
    assert.equal(pool.events('worker.replace').length, 0);
    pool.apply({ type: 'diagnosis', worker: pool.worker(1), isRunning: false });
    pool.pass(9_999);
    assert.equal(pool.events('worker.replace').length, 0, 'the silence of the diagnosis does not count');
    pool.pass(2000);
    assert.deepEqual(
      pool.events('worker.replace').map(({ worker }) => worker),
      [1],
    );
  });

  test('silence counts only while the primary is awake', () => {
    const pool = new VirtualPool();
    pool.now += 3_600_000;
    pool.apply({ type: 'tick' });
    assert.equal(pool.events('worker.replace').length, 0);
  });

  for (const [timeoutMs, stepMs] of [
    [0, 1000],
    [300, 100],
    [5000, 500],
    [60_000, 1000],
  ] as const) {
    test(`with WORKER_HEARTBEAT_TIMEOUT_MS=${timeoutMs} an idle primary wakes up every ${stepMs} ms`, () => {
      const pool = new VirtualPool({ count: 1, workerHeartbeatTimeoutMs: timeoutMs });
      pool.pass(pool.wakeAt - pool.now);
      assert.equal(pool.wakeAt - pool.now, stepMs);
    });
  }

  test('a worker hangs once it has not reported in a whole WORKER_HEARTBEAT_TIMEOUT_MS after the current second', () => {
    const pool = new VirtualPool({ workerHeartbeatTimeoutMs: 10_000 });
    pool.passReporting(1000);
    const hung = () => pool.events('worker.replace').map(({ worker }) => worker);
    pool.passReporting(10_500, () => [pool.worker(2)]);
    assert.deepEqual(hung(), []);
    pool.passReporting(500, () => [pool.worker(2)]);
    assert.deepEqual(hung(), [1]);
  });

  test('a hung worker that exits before its stack is read stays gone', () => {
    const pool = withHung();
    pool.killed(pool.worker(1));
    pool.apply({ type: 'inspected', worker: pool.worker(1), stack: undefined });
    assert.deepEqual([pool.worker(1).state, pool.worker(1).reason], ['exited', 'killed']);
    assert.ok(!pool.effects.some(effect => effect.type === 'drain' && effect.worker === pool.worker(1)));
  });

  test('WORKER_HEARTBEAT_TIMEOUT_MS=0 turns the watch off', () => {
    const pool = new VirtualPool({ workerHeartbeatTimeoutMs: 0 });
    pool.pass(600_000);
    assert.equal(pool.events('worker.replace').length, 0);
  });

  test('the only worker that serves and hangs is replaced by one that starts beside it', () => {
    const pool = new VirtualPool({ count: 1 });
    pool.pass(12_000);
    pool.ready(pool.worker(2));
    pool.pass(300);
    assert.equal(pool.worker(1).state, 'draining');
  });
});

describe('scale', () => {
  test('superfluous workers drain one at a time, the highest id first', () => {
    const pool = new VirtualPool({ count: 4 });
    pool.apply({ type: 'scale', wanted: 2 });
    assert.equal(pool.states(), 'ready ready ready draining');
    pool.passReporting(5000);
    assert.equal(pool.states(), 'ready ready ready draining');
    pool.drained(pool.worker(4));
    assert.equal(pool.states(), 'ready ready draining exited');
    pool.drained(pool.worker(3));
    assert.equal(pool.states(), 'ready ready exited exited');
    assert.deepEqual(pool.events('pool.scale'), [{ event: 'pool.scale', from: 4, to: 2 }]);
    assert.deepEqual(pool.events('worker.draining'), [
      { event: 'worker.draining', worker: 4, workerPid: 104, reason: 'scale-down' },
      { event: 'worker.draining', worker: 3, workerPid: 103, reason: 'scale-down' },
    ]);
  });

  test('a superfluous worker that does not serve ends first', () => {
    const pool = new VirtualPool({ count: 3 });
    pool.apply({ type: 'cordon', worker: pool.worker(1), wantsCordon: true });
    pool.apply({ type: 'scale', wanted: 2 });
    assert.equal(pool.states(), 'draining ready ready');
  });

  test('a superfluous worker that does not end is killed 5 s after SHUTDOWN_TIMEOUT_MS', () => {
    const pool = new VirtualPool();
    pool.apply({ type: 'scale', wanted: 1 });
    pool.passReporting(29_999);
    assert.equal(pool.worker(2).state, 'draining');
    pool.passReporting(1);
    assert.deepEqual(
      [pool.worker(2).state, pool.worker(2).failure, pool.worker(2).missedDeadline],
      ['exited', 'not gone after 30000 ms, killed', true],
    );
    assert.equal(pool.events('worker.exit')[0]?.isFailure, true);
  });

  test('an enlargement is answered when all workers are up', () => {
    const pool = new VirtualPool();
    const request = pool.request({ type: 'enlarge', wanted: 4 });
    assert.equal(pool.forked.length, 4);
    pool.ready(pool.worker(3));
    assert.equal(pool.answers.size, 0);
    pool.ready(pool.worker(4));
    assert.equal(pool.answer(request), undefined);
  });

  test('a failed start ends an enlargement, and the pool returns to its size', () => {
    const pool = new VirtualPool();
    const request = pool.request({ type: 'enlarge', wanted: 4 });
    pool.ready(pool.worker(3));
    pool.fails(pool.worker(4));
    const error = pool.answer(request);
    assert.ok(error instanceof ScaleError);
    assert.equal(error.message, 'worker 4 failed to start: no database; the pool returns from 4 to 2 workers');
    assert.deepEqual([pool.state.wanted, pool.states()], [2, 'ready ready draining exited']);
    assert.deepEqual(pool.events('pool.scale-failed')[0], {
      event: 'pool.scale-failed',
      from: 4,
      to: 2,
      error: 'worker 4 failed to start: no database',
    });
  });

  test('start timeouts of an enlargement never end a pool that serves', () => {
    const pool = new VirtualPool({ restartIntensity: 0, count: 1 });
    for (let count = 0; count < 20; count++) {
      const request = pool.request({ type: 'enlarge', wanted: 2 });
      pool.passReporting(40_000, () => [pool.worker(1)]);
      assert.match(String(pool.answer(request)), /failed to start: not ready within 30000 ms/);
    }
    assert.deepEqual([pool.givenUp, pool.state.wanted, pool.worker(1).state], [undefined, 1, 'ready']);
  });

  test('a crash of a new worker ends an enlargement, that of an older one does not, unless memory is short', () => {
    const pool = new VirtualPool();
    pool.passReporting(10_000);
    const first = pool.request({ type: 'enlarge', wanted: 4 });
    pool.crashes(pool.worker(1));
    assert.equal(pool.answers.size, 0);
    pool.ready(pool.worker(3));
    pool.crashes(pool.worker(3));
    assert.match(String(pool.answer(first)), /worker 3 crashed: boom/);
    const second = pool.request({ type: 'enlarge', wanted: 5 });
    pool.killed(pool.worker(2), 'oom');
    assert.match(String(pool.answer(second)), /worker 2 was killed for lack of memory: killed by the kernel/);
  });

  test('another number supersedes an enlargement, which returns to the first size when it fails', () => {
    const pool = new VirtualPool();
    const first = pool.request({ type: 'enlarge', wanted: 4 });
    const second = pool.request({ type: 'enlarge', wanted: 5 });
    assert.ok(pool.answer(first) instanceof SupersededError);
    assert.match(String(pool.answer(first)), /superseded: the wanted number is now 5 workers/);
    pool.fails(pool.worker(3));
    assert.match(String(pool.answer(second)), /returns from 5 to 2/);
    const third = pool.request({ type: 'enlarge', wanted: 6 });
    pool.apply({ type: 'scale', wanted: 3 });
    assert.ok(pool.answer(third) instanceof SupersededError);
  });

  test('more CPUs let more workers start at the same time', () => {
    const pool = new VirtualPool({ count: 2, cpus: 1 });
    pool.apply({ type: 'configure', sizing: sizingOf(2, 3, 64) });
    pool.apply({ type: 'scale', wanted: 9 });
    assert.equal(pool.forked.length, 5);
    assert.equal(pool.worker(5).heap.heapPerWorkerMb, 64);
  });

  test('a new worker takes the lowest free id', () => {
    const pool = new VirtualPool({ count: 3 });
    pool.killed(pool.worker(2));
    assert.equal(pool.worker(4).id, 2);
  });
});

describe('cordon', () => {
  test('a cordoned worker counts as out at once, and as in when it has acknowledged', () => {
    const pool = new VirtualPool();
    const worker = pool.worker(1);
    assert.equal(pool.state.mayLeave(pool.worker(2)), true);
    pool.apply({ type: 'cordon', worker, wantsCordon: true });
    assert.equal(worker.state, 'cordoned');
    assert.equal(pool.state.mayLeave(pool.worker(2)), false);
    pool.apply({ type: 'cordon', worker, wantsCordon: false });
    assert.equal(worker.state, 'cordoned');
    pool.message(worker, { type: 'uncordoned' });
    assert.equal(worker.state, 'ready');
    const sent = pool.effects.flatMap(effect => (effect.type === 'send' ? effect.message.type : []));
    assert.deepEqual(sent, ['cordon', 'uncordon']);
    assert.equal(pool.events('worker.cordoned').length, 1);
    assert.equal(pool.events('worker.uncordoned').length, 1);
  });

  test('a worker that already drains is not cordoned', () => {
    const pool = new VirtualPool();
    pool.apply({ type: 'scale', wanted: 1 });
    pool.apply({ type: 'cordon', worker: pool.worker(2), wantsCordon: true });
    assert.equal(pool.worker(2).state, 'draining');
    assert.equal(pool.events('worker.cordoned').length, 0);
  });

  test('the end of a cordon changes nothing for a worker that serves', () => {
    const pool = new VirtualPool();
    pool.apply({ type: 'cordon', worker: pool.worker(1), wantsCordon: false });
    pool.message(pool.worker(1), { type: 'uncordoned' });
    assert.equal(pool.worker(1).state, 'ready');
    assert.deepEqual([pool.events('worker.cordoned'), pool.events('worker.uncordoned')], [[], []]);
  });

  test('a cordoned worker that crashes drains, and is not announced as back', () => {
    const pool = new VirtualPool();
    pool.apply({ type: 'cordon', worker: pool.worker(1), wantsCordon: true });
    pool.crashes(pool.worker(1));
    pool.crashes(pool.worker(1));
    assert.equal(pool.worker(1).state, 'draining');
    assert.deepEqual([pool.events('worker.uncordoned').length, pool.events('worker.draining').length], [0, 1]);
  });

  test('a worker that was cordoned again meanwhile stays out', () => {
    const pool = new VirtualPool();
    const worker = pool.worker(1);
    for (const wantsCordon of [true, false, true]) pool.apply({ type: 'cordon', worker, wantsCordon });
    pool.message(worker, { type: 'uncordoned' });
    assert.equal(worker.state, 'cordoned');
  });
});

describe('what is known of a worker', () => {
  const CLOSING = {
    tasks: { finished: 1, failed: 0, timedOut: 2, ms: 40 },
    handlers: { count: 0, failed: 0, timedOut: 0, ms: 0, first: [] },
  };
  const OPEN = { open: 2, oldest: [{ method: 'GET', path: '/slow', ageMs: 5, bytesSent: 0 }] };

  test('nothing is known of a worker that has just been started', () => {
    const pool = new VirtualPool({ count: 1, isReady: false, heapMb: 64 });
    pool.pass(100);
    const worker = pool.worker(1);
    assert.deepEqual([worker.heap.heapPerWorkerMb, worker.startedAt, worker.reportedAt, worker.refusedUntil], [64, 0, 0, 0]);
    assert.deepEqual(
      [worker.isKilled, worker.isDiagnosed, worker.isInspected, worker.missedDeadline],
      [false, false, false, false],
    );
    assert.deepEqual(worker.waitingFor, { open: 0, oldest: [] });
  });

  test('the reports of a worker are kept, with the time of the last snapshot and of the first one with requests', () => {
    const pool = new VirtualPool({ count: 1 });
    const worker = pool.worker(1);
    assert.equal(worker.port, 3000);
    pool.reports(worker, { requests: 0 });
    assert.equal(worker.busySince, undefined);
    pool.pass(100);
    const busyAt = pool.now;
    pool.reports(worker);
    pool.pass(100);
    pool.reports(worker, { requests: 2 });
    assert.deepEqual([worker.snapshot?.requests, worker.busySince, worker.reportedAt], [2, busyAt, busyAt + 100]);
    pool.message(worker, { type: 'redis', state: 'ready', message: 'up', evictionPolicy: 'noeviction' });
    assert.deepEqual(worker.redis, { state: 'ready', message: 'up', evictionPolicy: 'noeviction' });
    pool.message(worker, { type: 'keys-read', change: 'c1' });
    assert.equal(worker.keysRead, 'c1');
  });

  test('what a drain waits for is known until it ends', () => {
    const pool = new VirtualPool();
    pool.apply({ type: 'scale', wanted: 1 });
    pool.message(pool.worker(2), { type: 'waiting', ...OPEN, tasks: 1 });
    assert.deepEqual([pool.worker(2).waitingFor.open, pool.worker(2).waitingFor.oldest], [OPEN.open, OPEN.oldest]);
    pool.message(pool.worker(2), { type: 'drained', drain: LEDGER });
    assert.deepEqual(pool.worker(2).waitingFor, { open: 0, oldest: [] });
    pool.message(pool.worker(2), { type: 'closed', closing: CLOSING });
    assert.deepEqual(pool.worker(2).drain, { ...LEDGER, closing: CLOSING });
    // Without a drain there is nothing that it belongs to.
    pool.message(pool.worker(1), { type: 'closed', closing: CLOSING });
    assert.equal(pool.worker(1).drain, undefined);
  });

  test('a worker whose app ends the process has lost its open requests, and says why', () => {
    const pool = new VirtualPool();
    pool.message(pool.worker(1), { type: 'app-exit', message: 'the app called process.exit(3)', ...OPEN });
    pool.exits(pool.worker(1), 3);
    const [exit] = pool.events('worker.exit');
    assert.deepEqual(
      [exit?.reason, exit?.failure, exit?.openFailure],
      ['crash', 'the app called process.exit(3)', 'the app called process.exit(3)'],
    );
    assert.deepEqual(exit?.lost, OPEN);
  });

  test('the exit of a worker that crashed has its error, and for others only the class and a fingerprint', () => {
    const pool = new VirtualPool();
    pool.reports(pool.worker(1), { requests: 7 });
    pool.crashes(pool.worker(1));
    pool.drained(pool.worker(1));
    const [exit] = pool.events('worker.exit');
    assert.ok(exit);
    const { fingerprint = '', openFailure, error, drain, snapshot, ...rest } = exit;
    assert.deepEqual(rest, {
      event: 'worker.exit',
      worker: 1,
      workerPid: 101,
      reason: 'crash',
      failure: 'boom',
      code: 0,
      lost: undefined,
      isFailure: true,
      isFailedStart: false,
      missedDeadline: false,
    });
    assert.match(fingerprint, /^#[0-9a-f]+$/);
    assert.equal(openFailure, `Error, message ${fingerprint}`);
    assert.deepEqual([error?.message, drain, snapshot?.requests], ['boom', LEDGER, 7]);
  });

  test('the exit of a worker that left as wanted is no failure, and has a text only with another exit code than 0', () => {
    for (const [code, failure] of [
      [0, undefined],
      [3, 'exit code 3'],
    ] as const) {
      const pool = new VirtualPool();
      pool.apply({ type: 'scale', wanted: 1 });
      pool.exits(pool.worker(2), code);
      const [exit] = pool.events('worker.exit');
      assert.deepEqual(
        [exit?.reason, exit?.code, exit?.failure, exit?.isFailure, exit?.isFailedStart, exit?.fingerprint, exit?.error],
        ['scale-down', code, failure, false, false, undefined, undefined],
      );
    }
  });

  test('the text of a failure to listen is not the text of the app, and everybody may see it', () => {
    const pool = new VirtualPool({ isReady: false });
    pool.message(pool.worker(1), { type: 'failed', stage: 'listen', ...REPORT, message: 'port 3000 is in use' });
    pool.exits(pool.worker(1));
    pool.fails(pool.worker(2), { message: 'password=1' });
    const [listen, app] = pool.events('worker.exit');
    assert.equal(listen?.openFailure, 'port 3000 is in use');
    assert.equal(app?.openFailure, `Error, message ${app?.fingerprint}`);
  });

  test('a worker that crashes while it drains keeps its reason and its deadline', () => {
    const pool = new VirtualPool();
    pool.apply({ type: 'scale', wanted: 1 });
    const { killAt } = pool.worker(2);
    pool.pass(500);
    pool.crashes(pool.worker(2));
    assert.deepEqual([pool.worker(2).reason, pool.worker(2).killAt], ['scale-down', killAt]);
  });

  test('a worker whose debugger port Node.js rejects (exit code 12) is not retried', () => {
    const pool = new VirtualPool({ isReady: false });
    pool.exits(pool.worker(1), 12);
    assert.equal(pool.givenUp, 'permanent');
  });

  test('a measurement of memory has no effect of its own', () => {
    const pool = new VirtualPool();
    const effects = pool.apply({
      type: 'measured',
      worker: pool.worker(1),
      memory: { privateBytes: 1, sharedBytes: 1 },
    });
    assert.deepEqual(effects, []);
  });
});

describe('the shutdown', () => {
  test('workers that start are killed, those that serve drain until their deadline', () => {
    const pool = new VirtualPool();
    pool.killed(pool.worker(1));
    pool.apply({ type: 'stop' });
    assert.deepEqual([pool.worker(3).state, pool.worker(3).reason], ['exited', 'shutdown']);
    pool.pass(1000);
    assert.equal(pool.forked.length, 3, 'none is started any more');
    pool.apply({ type: 'drain-all', timeoutMs: 2000 });
    assert.deepEqual([pool.worker(2).state, pool.worker(2).reason], ['draining', 'shutdown']);
    pool.pass(6999);
    assert.equal(pool.worker(2).state, 'draining');
    pool.pass(1);
    assert.equal(pool.worker(2).state, 'exited');
    assert.equal(pool.wakeAt, Number.POSITIVE_INFINITY, 'nothing is due');
  });

  test('a worker that already drains keeps its reason and its deadline', () => {
    const pool = new VirtualPool();
    pool.apply({ type: 'scale', wanted: 1 });
    pool.apply({ type: 'stop' });
    pool.apply({ type: 'drain-all', timeoutMs: 60_000 });
    pool.pass(30_000);
    assert.deepEqual([pool.worker(2).state, pool.worker(2).reason], ['exited', 'scale-down']);
    assert.equal(pool.worker(1).state, 'draining');
  });

  test('silent workers are killed, those that report are not', () => {
    const pool = new VirtualPool();
    pool.passReporting(12_000, () => [pool.worker(2), ...pool.forked.slice(2)]);
    pool.apply({ type: 'stop' });
    pool.apply({ type: 'kill-silent' });
    assert.deepEqual([pool.worker(1).state, pool.worker(2).state], ['exited', 'ready']);
    assert.equal(pool.worker(1).failure, 'did not answer at the shutdown, killed');
  });

  test('a worker that was killed during its start misses no deadline of the shutdown', () => {
    const pool = new VirtualPool();
    pool.killsAtOnce = false;
    pool.killed(pool.worker(1));
    pool.passReporting(12_000, () => [pool.worker(2)]);
    pool.apply({ type: 'stop' });
    pool.apply({ type: 'kill-silent' });
    pool.apply({ type: 'drain-all', timeoutMs: 2000 });
    pool.drained(pool.worker(2));
    pool.apply({ type: 'kill-undrained' });
    pool.reap(pool.worker(3));
    assert.deepEqual([pool.worker(3).reason, pool.worker(3).missedDeadline], ['shutdown', false]);
  });

  test('workers that have not reported their drain are killed at its end, those that have may exit', () => {
    const pool = new VirtualPool();
    pool.apply({ type: 'stop' });
    pool.apply({ type: 'drain-all', timeoutMs: 2000 });
    pool.message(pool.worker(1), {
      type: 'drained',
      drain: { ...LEDGER, finished: 0, longestRequestMs: 0, durationMs: 1 },
    });
    pool.apply({ type: 'kill-undrained' });
    assert.deepEqual([pool.worker(1).state, pool.worker(2).state], ['draining', 'exited']);
    assert.equal(pool.worker(2).failure, 'drain not finished at the deadline, killed');
    pool.pass(7000);
    assert.deepEqual([pool.worker(1).state, pool.worker(1).missedDeadline], ['exited', false]);
  });

  test('every request of a pool that stops is answered, and a restart in progress has not failed', () => {
    const pool = new VirtualPool();
    const requests = [
      pool.request({ type: 'enlarge', wanted: 4 }),
      pool.request({ type: 'roll' }),
      pool.request({ type: 'restart', worker: pool.worker(1) }),
    ];
    pool.apply({ type: 'stop' });
    requests.push(pool.request({ type: 'roll' }), pool.request({ type: 'enlarge', wanted: 4 }));
    for (const request of requests) assert.match(String(pool.answer(request)), /the pod is draining/);
    assert.deepEqual([pool.events('pool.restart-failed'), pool.state.requests.rolls.failure], [[], 0]);
  });
});

test('a pool whose only worker is being replaced is bridged for 10 s', () => {
  const pool = new VirtualPool({ count: 1, restartSurge: 'never' });
  assert.equal(pool.state.isBridged(pool.now), false);
  pool.request({ type: 'roll' });
  assert.equal(pool.state.isBridged(pool.now + 9999), true);
  assert.equal(pool.state.isBridged(pool.now + 10_000), false);
  pool.passReporting(10_000);
  assert.equal(pool.state.isBridged(pool.now), false);
  const crashed = new VirtualPool({ count: 1 });
  crashed.killed(crashed.worker(1));
  assert.equal(crashed.state.isBridged(crashed.now), false, 'nor one whose only worker was killed');
});

test('broadcasts of workers are passed on and change nothing', () => {
  const pool = new VirtualPool();
  const effects = pool.apply({
    type: 'message',
    worker: pool.worker(1),
    message: { type: 'broadcast', event: 'x', json: '1' },
  });
  assert.deepEqual(
    effects.map(({ type }) => type),
    ['forward'],
  );
});
