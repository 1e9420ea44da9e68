/**
 * The supervisor with simulated processes and a simulated clock: what it does with the effects of the pool's rules.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { Config } from '../src/config/config.ts';
import { Supervisor, type SupervisorListener } from '../src/pool/supervisor.ts';
import type { WorkerListener, WorkerProcess } from '../src/pool/worker-process.ts';
import type { WorkerRecord } from '../src/pool/worker-state.ts';
import type { LifecycleEvent } from '../src/protocol/events.ts';
import type { ToPrimary } from '../src/protocol/messages.ts';
import type { Snapshot } from '../src/protocol/snapshot.ts';
import type { Headroom } from '../src/resources/usage.ts';
import { LEDGER, poolConfig, REPORT, sizingOf } from './virtual-pool.ts';

/** Above the kernel's largest process id: nothing of these processes can be read. */
const FIRST_PID = 2 ** 23;

class SimulatedProcess {
  readonly record: Readonly<WorkerRecord>;
  readonly listener: WorkerListener;
  readonly pid: number;
  readonly isInspectedAtStart: boolean;
  readonly stack = Promise.withResolvers<string[] | undefined>();
  readonly #pool: SimulatedPool;

  constructor(pool: SimulatedPool, record: WorkerRecord, listener: WorkerListener) {
    this.#pool = pool;
    this.record = record;
    this.listener = listener;
    this.pid = pool.refusesForks ? 0 : FIRST_PID + pool.processes.length;
    this.isInspectedAtStart = pool.isInspected;
  }

  get id(): number {
    return this.record.id;
  }

  get isServing(): boolean {
    return this.record.state === 'ready';
  }

  beginDrain(reason: string, timeoutMs: number): void {
    this.#pool.steps.push(`drain ${this.id}: ${reason} ${timeoutMs}`);
    this.#pool.onDrain(this);
  }

  send(message: object): void {
    this.#pool.steps.push(`send ${this.id}: ${JSON.stringify(message)}`);
  }

  kill(): void {
    this.#pool.steps.push(`kill ${this.id}`);
  }

  async readStack(timeoutMs: number): Promise<string[] | undefined> {
    this.#pool.steps.push(`read the stack of ${this.id} within ${timeoutMs}`);
    return this.stack.promise;
  }

  reports(message: ToPrimary): void {
    this.listener.onEvent({ type: 'message', worker: this.record as WorkerRecord, message });
  }

  ready(): void {
    this.reports({ type: 'ready', port: 3000 });
  }

  stats(snapshot: Partial<Snapshot> = {}): void {
    this.reports({ type: 'stats', snapshot: { requests: 1, inFlight: 0, memory: { rss: 1000 }, ...snapshot } as Snapshot });
  }

  exits(code = 1): void {
    const how = { code, signal: null, killer: undefined, lost: undefined };
    this.listener.onEvent({ type: 'exited', worker: this.record as WorkerRecord, how });
  }

  drained(): void {
    this.reports({ type: 'drained', drain: LEDGER });
    this.exits(0);
  }
}

interface Options extends Partial<Config> {
  count?: number;
  isReady?: boolean;
  isInspected?: boolean;
  refusesForks?: boolean;
}

class SimulatedPool {
  readonly processes: SimulatedProcess[] = [];
  readonly events: LifecycleEvent[] = [];
  /** The names of the events, and what was done to the processes, in order. */
  readonly steps: string[] = [];
  readonly changes: { ids: number[]; wanted: number }[] = [];
  readonly supervisor: Supervisor;
  headroom: Headroom | undefined;
  refusesForks: boolean;
  readonly isInspected: boolean;
  /** When the event loop has read what arrived. */
  onImmediate: (run: () => void) => void = run => run();
  onFork: (process: SimulatedProcess) => void = () => undefined;
  onDrain: (process: SimulatedProcess) => void = () => undefined;
  onEmit: (event: LifecycleEvent) => void = () => undefined;
  onBind: (port: number) => Promise<void> = async () => undefined;
  readonly #context: TestContext;
  #now = 1000;

  constructor(
    context: TestContext,
    { count = 2, isReady = true, isInspected = false, refusesForks = false, ...config }: Options = {},
  ) {
    this.#context = context;
    this.isInspected = isInspected;
    this.refusesForks = refusesForks;
    context.mock.timers.enable({ apis: ['setTimeout'] });
    context.mock.method(globalThis, 'setImmediate', (run: () => void) => this.onImmediate(run));
    context.mock.method(performance, 'now', () => this.#now);
    this.supervisor = new Supervisor(poolConfig(config), sizingOf(count), {
      fork: (worker, listener) => {
        const process = new SimulatedProcess(this, worker, listener);
        this.processes.push(process);
        this.onFork(process);
        return process as unknown as WorkerProcess;
      },
      bind: port => this.onBind(port),
      onChange: (workers, wanted) => this.changes.push({ ids: workers.map(({ id }) => id), wanted }),
      headroom: () => this.headroom,
      whoKilled: () => 'killed',
      emit: event => {
        this.steps.push(event.event);
        this.events.push(event);
        this.onEmit(event);
      },
    });
    this.supervisor.start();
    if (!isReady) return;
    this.pass(300);
    for (const process of this.processes) process.ready();
    this.pass(1000);
    this.steps.length = 0;
  }

  /** Lets time pass; the timers run when they are due. */
  pass(ms: number): void {
    for (let passed = 0; passed < ms; passed += 10) {
      this.#now += 10;
      this.#context.mock.timers.tick(10);
    }
  }

  process(number: number): SimulatedProcess {
    const process = this.processes[number - 1];
    assert.ok(process, `only ${this.processes.length} processes; steps: ${this.steps.join('; ')}`);
    return process;
  }

  handle(number: number): WorkerProcess {
    return this.process(number) as unknown as WorkerProcess;
  }

  names(): string[] {
    return this.events.map(({ event }) => event);
  }
}

/** The result of a request that may have been answered; undefined before. */
function resultOf(request: Promise<void>): { get: () => Promise<string | undefined> } {
  let result: string | undefined;
  request.then(
    () => (result = 'done'),
    (error: Error) => (result = `${error.name}: ${error.message}`),
  );
  return {
    get: async () => {
      for (let turn = 0; turn < 5; turn++) await Promise.resolve();
      return result;
    },
  };
}

test('a worker that was forked is reported with its process, and one that serves as ready', t => {
  const pool = new SimulatedPool(t);
  assert.deepEqual(pool.names(), ['worker.starting', 'worker.starting', 'worker.ready', 'worker.ready', 'pool.started']);
  assert.deepEqual(pool.events[0], { event: 'worker.starting', worker: 1, workerPid: FIRST_PID, generation: 1 });
  assert.equal(pool.supervisor.hasStarted, true);
  assert.equal(pool.supervisor.isFailing, false);
  assert.deepEqual(pool.supervisor.handles, pool.processes);
});

test('a fork that the system refuses is a failed start and never reported as a process', t => {
  const pool = new SimulatedPool(t, { count: 1, isReady: false, refusesForks: true });
  assert.deepEqual(pool.names(), []);
  const { listener, record } = pool.process(1);
  listener.onEvent({ type: 'exited', worker: record as WorkerRecord, how: { error: 'spawn EAGAIN' } });
  const [event] = pool.events;
  assert.partialDeepStrictEqual(event, { event: 'worker.exit', isFailedStart: true });
  assert.match(event?.event === 'worker.exit' ? (event.failure ?? '') : '', /spawn EAGAIN/);
  assert.equal(pool.supervisor.isFailing, true);
});

test('a worker that the user inspects does not count as hung however long it is silent', t => {
  const pool = new SimulatedPool(t, { isInspected: true });
  pool.pass(30_000);
  assert.deepEqual(pool.steps, []);
});

test('the serving workers are those that are ready, in the order of their ids', t => {
  const pool = new SimulatedPool(t, { isReady: false });
  pool.pass(300);
  pool.process(2).ready();
  assert.deepEqual(
    pool.supervisor.handles.map(({ id }) => id),
    [1, 2],
  );
  assert.deepEqual(
    pool.supervisor.serving.map(({ id }) => id),
    [2],
  );
  assert.equal(pool.supervisor.hasStarted, false);
  assert.equal(pool.supervisor.mayLeave(pool.handle(1)), true);
  assert.equal(pool.supervisor.mayLeave(pool.handle(2)), false, 'it is the only one that serves');
});

test('after each event the primary gets the workers that have not exited, and their wanted number', t => {
  const pool = new SimulatedPool(t);
  pool.changes.length = 0;
  pool.supervisor.scale(1);
  pool.process(2).exits(0);
  assert.deepEqual(pool.changes, [
    { ids: [1, 2], wanted: 1 },
    { ids: [1], wanted: 1 },
  ]);
});

test('what workers report before the primary listens reaches it first and in order, and later reports at once', t => {
  const pool = new SimulatedPool(t, { count: 1, isReady: false });
  const got: string[] = [];
  pool.process(1).ready();
  pool.process(1).stats();
  pool.supervisor.attach({
    onMessage: (handle, message) => void got.push(`${handle.id} ${message.type}`),
    bound: () => undefined,
    gaveUp: () => undefined,
  });
  assert.deepEqual(got, ['1 ready', '1 stats']);
  pool.process(1).stats();
  assert.deepEqual(got, ['1 ready', '1 stats', '1 stats']);
});

test('a pool that gives up says why, with the failure of the last worker and without the text of the app', t => {
  const pool = new SimulatedPool(t, { count: 1, isReady: false });
  const calls: Parameters<SupervisorListener['gaveUp']>[] = [];
  pool.process(1).reports({ type: 'failed', stage: 'app', ...REPORT, message: 'password is x', isPermanent: true });
  pool.process(1).exits();
  pool.supervisor.attach({ onMessage: () => undefined, bound: () => undefined, gaveUp: (...call) => void calls.push(call) });
  assert.equal(calls.length, 1);
  const [why, last] = calls[0] ?? [];
  assert.equal(typeof why, 'string');
  assert.equal(last?.failure, 'password is x');
  assert.match(last?.openFailure ?? '', /^Error, message #[0-9a-f]{8}$/);
});

test('effects that lead to events are carried out in order: the events come after the effects that wait', t => {
  const pool = new SimulatedPool(t);
  pool.onDrain = process => process.exits(0);
  pool.supervisor.drainAll(500);
  assert.deepEqual(pool.steps.slice(0, 6), [
    'worker.draining',
    'drain 1: shutdown 500',
    'worker.draining',
    'drain 2: shutdown 500',
    'worker.exit',
    'worker.exit',
  ]);
});

test('an exception of one effect leaves the pool able to act, and the other effects are carried out with the next event', t => {
  const pool = new SimulatedPool(t);
  pool.supervisor.stop();
  pool.onEmit = () => {
    pool.onEmit = () => undefined;
    throw new Error('no room');
  };
  assert.throws(() => pool.supervisor.drainAll(500), /no room/);
  pool.supervisor.killUndrained();
  assert.deepEqual(pool.steps, [
    'worker.draining',
    'drain 1: shutdown 500',
    'worker.draining',
    'drain 2: shutdown 500',
    'kill 1',
    'kill 2',
  ]);
});

test('the restart of a worker resolves when its successor serves and it has exited, with each step in words', async t => {
  const pool = new SimulatedPool(t);
  const steps: string[] = [];
  const restart = resultOf(pool.supervisor.restart(pool.handle(1), step => void steps.push(step)));
  pool.process(3).ready();
  pool.pass(5000);
  assert.equal(await restart.get(), undefined);
  pool.process(1).drained();
  pool.pass(10);
  assert.equal(await restart.get(), 'done');
  assert.match(steps[0] ?? '', /worker 3 .*worker 1/);
  assert.match(steps.at(-1) ?? '', /^worker 1 .*1 requests? finished/);
  assert.deepEqual(
    pool.supervisor.handles.map(({ id }) => id),
    [2, 3],
  );
});

test('the restart of a worker whose successor fails is rejected with the reason, and the worker goes on', async t => {
  const pool = new SimulatedPool(t);
  const restart = resultOf(pool.supervisor.restart(pool.handle(1)));
  pool.process(3).exits();
  assert.match((await restart.get()) ?? '', /^ReplacementError: .*exit code 1/);
  assert.equal(pool.process(1).isServing, true);
});

test('a rolling restart replaces every worker, and counts the generation and the restart', async t => {
  const pool = new SimulatedPool(t);
  const steps: string[] = [];
  const roll = resultOf(pool.supervisor.restartAll(step => void steps.push(step)));
  assert.equal(pool.supervisor.generation, 2);
  for (const [old, fresh] of [
    [1, 3],
    [2, 4],
  ] as const) {
    pool.process(fresh).ready();
    pool.pass(5000);
    pool.process(old).drained();
    pool.pass(10);
  }
  assert.equal(await roll.get(), 'done');
  assert.deepEqual(pool.supervisor.rolls, { success: 1, failure: 0, refused: 0 });
  assert.ok(steps.length > 4);
});

test('two requests are answered each with its own result, and each once', async t => {
  const pool = new SimulatedPool(t);
  const first = resultOf(pool.supervisor.restart(pool.handle(1)));
  const second = resultOf(pool.supervisor.restart(pool.handle(2)));
  pool.process(3).exits();
  assert.match((await first.get()) ?? '', /^ReplacementError/);
  assert.equal(await second.get(), undefined);
  pool.pass(2000);
  pool.process(4).ready();
  pool.pass(5000);
  pool.process(2).drained();
  pool.pass(10);
  assert.equal(await second.get(), 'done');
  assert.match((await first.get()) ?? '', /^ReplacementError/);
});

test('an enlargement resolves when all workers are up, and is rejected with the first that fails', async t => {
  const pool = new SimulatedPool(t);
  const four = resultOf(pool.supervisor.enlarge(3));
  pool.pass(1000);
  assert.equal(await four.get(), undefined);
  pool.process(3).ready();
  assert.equal(await four.get(), 'done');
  const five = resultOf(pool.supervisor.enlarge(4));
  pool.pass(1000);
  pool.process(4).exits();
  assert.match((await five.get()) ?? '', /^ScaleError: worker 4 .*exit code 1.*from 4 to 3 workers/);
  assert.equal(pool.supervisor.wanted, 3);
});

test('a worker is sent out of rotation and back', t => {
  const pool = new SimulatedPool(t);
  const { listener, record } = pool.process(1);
  for (const wantsCordon of [true, false]) listener.onEvent({ type: 'cordon', worker: record as WorkerRecord, wantsCordon });
  assert.deepEqual(pool.steps, ['worker.cordoned', 'send 1: {"type":"cordon"}', 'send 1: {"type":"uncordon"}']);
});

test('another heap replaces only the workers that run with the old one, and later workers start with the new one', t => {
  const pool = new SimulatedPool(t);
  pool.supervisor.replaceOutdated(sizingOf(2).memory);
  assert.deepEqual(pool.steps, [], 'all have this heap');
  pool.supervisor.configure(sizingOf(2, 8, 100));
  pool.supervisor.replaceOutdated(sizingOf(2, 8, 100).memory);
  assert.deepEqual(pool.steps, ['pool.restart', 'worker.starting']);
  assert.equal(pool.process(3).record.heap.heapPerWorkerMb, 100);
});

test('settings that were read again are in force at once', t => {
  const pool = new SimulatedPool(t);
  pool.supervisor.configure(sizingOf(2), poolConfig({ shutdownTimeoutMs: 7000 }));
  pool.supervisor.configure(sizingOf(2));
  pool.supervisor.scale(1);
  assert.deepEqual(pool.steps, ['pool.scale', 'worker.draining', 'drain 2: scale-down 7000']);
});

test('a refused restart is counted, and its time is that of the wall clock', t => {
  const pool = new SimulatedPool(t);
  assert.equal(pool.supervisor.lastRefusal, undefined);
  pool.supervisor.refused('bad configuration');
  assert.equal(pool.supervisor.rolls.refused, 1);
  assert.deepEqual(pool.supervisor.lastRefusal, {
    why: 'bad configuration',
    at: Math.round(performance.timeOrigin + performance.now()),
  });
});

test('a worker that is not ready in time is killed, and one whose ready message waits in the event loop is not', t => {
  const late = new SimulatedPool(t, { count: 1, isReady: false, workerStartTimeoutMs: 2000 });
  late.pass(1990);
  assert.deepEqual(late.steps, ['worker.starting']);
  late.pass(20);
  assert.deepEqual(late.steps.slice(0, 2), ['worker.starting', 'kill 1']);
});

test('a timer that is due reads the messages that have arrived before it acts', t => {
  const pool = new SimulatedPool(t, { count: 1, isReady: false, workerStartTimeoutMs: 2000 });
  const immediates: (() => void)[] = [];
  pool.onImmediate = run => void immediates.push(run);
  pool.supervisor.configure(sizingOf(1)); // sets the timer
  pool.pass(2500);
  assert.deepEqual(pool.steps, ['worker.starting'], 'the deadline has passed, and nothing has acted');
  pool.process(1).ready();
  for (const run of immediates) run();
  assert.equal(pool.process(1).isServing, true);
  assert.equal(pool.steps.includes('kill 1'), false);
});

test('an idle pool wakes at most once a second', t => {
  const pool = new SimulatedPool(t, { workerHeartbeatTimeoutMs: 0 });
  pool.changes.length = 0;
  pool.pass(10_000);
  assert.ok(pool.changes.length <= 10, `${pool.changes.length} times`);
});

test('a hung worker is replaced: its stack is read and reported, then it is killed', async t => {
  const pool = new SimulatedPool(t);
  for (let seconds = 0; seconds < 15; seconds++) {
    pool.process(1).stats();
    for (const process of pool.processes.slice(2)) process.stats();
    pool.pass(1000);
  }
  pool.process(3).ready();
  for (let seconds = 0; seconds < 5; seconds++) {
    for (const number of [1, 3]) pool.process(number).stats();
    pool.pass(1000);
  }
  assert.ok(pool.steps.includes('read the stack of 2 within 3000'), pool.steps.join());
  assert.equal(pool.steps.includes('kill 2'), false);
  pool.process(2).stack.resolve(['spin (file:///app.mjs:1:1)']);
  await pool.process(2).stack.promise;
  for (let turn = 0; turn < 5; turn++) await Promise.resolve();
  assert.deepEqual(
    pool.events.filter(({ event }) => event === 'worker.hung'),
    [{ event: 'worker.hung', worker: 2, workerPid: FIRST_PID + 1, stack: ['spin (file:///app.mjs:1:1)'] }],
  );
  assert.ok(pool.steps.includes('kill 2'));
});

test('at a shutdown no worker starts, those that start are killed, the others drain, and the pool is empty after their exit', async t => {
  const pool = new SimulatedPool(t);
  pool.supervisor.scale(3);
  pool.pass(500);
  pool.steps.length = 0;
  pool.supervisor.stop();
  assert.deepEqual(pool.steps, ['kill 3']);
  pool.supervisor.drainAll(9000);
  assert.ok(pool.steps.includes('drain 1: shutdown 9000') && pool.steps.includes('drain 2: shutdown 9000'));
  const [first, second] = [resultOf(pool.supervisor.empty()), resultOf(pool.supervisor.empty())];
  pool.process(3).exits();
  pool.process(1).drained();
  assert.equal(await first.get(), undefined);
  pool.process(2).drained();
  assert.deepEqual([await first.get(), await second.get()], ['done', 'done']);
  assert.equal(await resultOf(pool.supervisor.empty()).get(), 'done', 'it is empty already');
  pool.pass(60_000);
  assert.equal(pool.processes.length, 3);
});

test('at a shutdown the workers that do not answer are killed, and only those', t => {
  const pool = new SimulatedPool(t);
  for (let seconds = 0; seconds < 12; seconds++) {
    pool.process(1).stats();
    pool.pass(1000);
  }
  pool.supervisor.stop();
  pool.steps.length = 0;
  pool.supervisor.killSilent();
  assert.deepEqual(pool.steps, ['kill 2']);
});

test('a pool of one whose worker is being replaced bridges the time until the next one serves', t => {
  const pool = new SimulatedPool(t, { count: 1, restartSurge: 'never' });
  assert.equal(pool.supervisor.isBridged, false);
  void pool.supervisor.restart(pool.handle(1)).catch(() => undefined);
  pool.process(1).drained();
  assert.equal(pool.supervisor.isBridged, true);
  pool.process(2).ready();
  assert.equal(pool.supervisor.isBridged, false);
});

test('the memory of a worker is read once it is ready and at most once a second, and its own report stands in for what cannot be read', t => {
  const pool = new SimulatedPool(t, { count: 1, isReady: false });
  const fresh = () => pool.supervisor.memoryView.freshWorkerBytes;
  const reports = (rss: number) => pool.process(1).stats({ memory: { rss, heapTotal: 0, heapUsed: 0 } });
  pool.process(1).ready();
  pool.pass(2000);
  assert.equal(fresh(), undefined, 'it has reported nothing');
  reports(500);
  pool.pass(1000);
  assert.equal(fresh(), 500);
  for (let seconds = 0; seconds < 62; seconds++) {
    reports(600 + seconds);
    pool.pass(1000);
  }
  assert.ok((fresh() ?? 0) > 650, 'what it uses after a minute of requests');
});

test('the memory of a worker is read at most once a second, however many events there are', t => {
  const pool = new SimulatedPool(t, { workerMaxRssMb: 1 });
  const reports = (rss: number) => pool.process(1).stats({ memory: { rss, heapTotal: 0, heapUsed: 0 } });
  reports(1000);
  pool.pass(1000);
  reports(1000); // read before this event
  reports(2 ** 22);
  for (let event = 0; event < 3; event++) reports(2 ** 22);
  assert.equal(pool.steps.includes('worker.replace'), false);
  for (let seconds = 0; seconds < 3; seconds++) {
    pool.pass(1000);
    reports(2 ** 22);
  }
  assert.equal(pool.steps.includes('worker.replace'), true, 'the next reading shows that it is too large');
});

test('what a worker reports while it is being forked is passed on', t => {
  const pool = new SimulatedPool(t, { count: 1, isReady: false });
  const got: string[] = [];
  pool.supervisor.attach({
    onMessage: (handle, message) => void got.push(`${handle.id} ${message.type}`),
    bound: () => undefined,
    gaveUp: () => undefined,
  });
  pool.onFork = process => process.stats();
  pool.supervisor.scale(2);
  pool.process(1).ready();
  pool.pass(1000);
  assert.deepEqual(got, ['1 ready', '2 stats']);
});

test('a worker that is not ready is not read', t => {
  const pool = new SimulatedPool(t, { count: 1, isReady: false });
  pool.process(1).stats();
  pool.pass(2000);
  assert.equal(pool.supervisor.memoryView.freshWorkerBytes, undefined);
});

test('a pool that has ended wakes at most once more', t => {
  const pool = new SimulatedPool(t, { count: 1 });
  pool.supervisor.stop();
  pool.supervisor.drainAll(1000);
  pool.process(1).drained();
  pool.changes.length = 0;
  pool.pass(100_000);
  assert.ok(pool.changes.length <= 1, `${pool.changes.length} times`);
});

test('a pool whose last worker has exited is empty, although no event follows', async t => {
  const pool = new SimulatedPool(t, { count: 1 });
  pool.supervisor.stop();
  pool.process(1).exits(0);
  assert.equal(await resultOf(pool.supervisor.empty()).get(), 'done');
});
