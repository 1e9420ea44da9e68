/**
 * What changes a running pool, with a supervisor that only notes what is requested of it, and the limits of a simulated container.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { type Config, ConfigError, type WorkerCount } from '../src/config/config.ts';
import type { LogSource } from '../src/log/log.ts';
import type { OnStep } from '../src/pool/pending.ts';
import { ScaleError, SupersededError } from '../src/pool/requests.ts';
import { Resizer, RollingRestart } from '../src/pool/resizer.ts';
import type { Settings } from '../src/pool/settings.ts';
import type { Supervisor } from '../src/pool/supervisor.ts';
import type { LifecycleEvent } from '../src/protocol/events.ts';
import type { Sizing } from '../src/protocol/sizing.ts';
import type { Heap } from '../src/resources/heap.ts';
import { detect } from '../src/resources/sizing.ts';
import { FakeRoot } from './fake-root.ts';
import { turns } from './simulated-worker.ts';

const MIB = 2 ** 20;
const AUTO: WorkerCount = { kind: 'auto' };
const NO_OPTIONS = { environment: [], commandLine: [], workers: [] };
const count = (number: number): WorkerCount => ({ kind: 'count', count: number });
const cpus = (number: number) => `${number * 100_000} 100000`;

/** Notes what is requested of it; a test answers what is waited for. */
class SimulatedSupervisor {
  wanted: number;
  serving: unknown[] = [{}];
  readonly steps: string[] = [];
  sizing: Sizing | undefined;
  config: Config | undefined;
  readonly #pending: PromiseWithResolvers<void>[] = [];

  constructor(wanted: number) {
    this.wanted = wanted;
  }

  get asSupervisor(): Supervisor {
    return this as unknown as Supervisor;
  }

  configure(sizing: Sizing, config?: Config): void {
    this.steps.push(config === undefined ? 'configure' : 'configure with settings');
    this.sizing = sizing;
    this.config = config;
  }

  scale(wanted: number): void {
    this.steps.push(`scale ${wanted}`);
    this.wanted = wanted;
  }

  async enlarge(wanted: number): Promise<void> {
    this.steps.push(`enlarge ${wanted}`);
    await this.#wait();
    this.wanted = wanted;
  }

  replaceOutdated({ heapPerWorkerMb }: Heap): void {
    this.steps.push(`replace those without a heap of ${heapPerWorkerMb}`);
  }

  async restartAll(onStep: OnStep): Promise<void> {
    this.steps.push('restart all');
    onStep('restarting');
    await this.#wait();
  }

  refused(why: string): void {
    this.steps.push(`refused: ${why}`);
  }

  answers(error?: Error): void {
    const pending = this.#pending.shift();
    assert.ok(pending, 'nothing is waited for');
    if (error === undefined) pending.resolve();
    else pending.reject(error);
  }

  async #wait(): Promise<void> {
    const pending = Promise.withResolvers<void>();
    this.#pending.push(pending);
    await pending.promise;
  }
}

function start({ workers = AUTO, ...limits }: { workers?: WorkerCount; cpuMax?: string; memoryMax?: string } = {}) {
  const root = new FakeRoot({ cpuMax: cpus(2), ...limits });
  const events: LifecycleEvent[] = [];
  const warnings: unknown[] = [];
  const log = (() => ({ warn: (record: unknown) => void warnings.push(record) })) as unknown as LogSource;
  const config = { workers, sizingRoot: root.path } as Config;
  const resizer = new Resizer(
    config,
    NO_OPTIONS,
    detect(config.workers, NO_OPTIONS, config.sizingRoot),
    log,
    event => void events.push(event),
  );
  const supervisor = new SimulatedSupervisor(resizer.sizing.workers);
  return { root, events, warnings, resizer, supervisor, config };
}

function follow(t: TestContext, options?: Parameters<typeof start>[0]) {
  t.mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
  const started = start(options);
  t.after(() => started.resizer.close());
  const following = started.resizer.follow(started.supervisor.asSupervisor);
  return { ...started, following, pass: (ms: number) => t.mock.timers.tick(ms) };
}

test('a pool is sized by the limits of its container, and its workers get the heap on their command line', () => {
  const { resizer, events } = start({ memoryMax: String(512 * MIB) });
  const { workers, memory } = resizer.sizing;
  assert.equal(workers, 2);
  assert.equal(resizer.limits.quota?.value, 2);
  assert.deepEqual(resizer.workerCommandLine, [
    `--max-old-space-size=${memory.heapPerWorkerMb}`,
    `--max-semi-space-size=${memory.semiSpaceMb}`,
  ]);
  assert.equal(resizer.workerNodeOptions, '');
  assert.deepEqual([events, resizer.resizes], [[], { up: 0, down: 0, heap: 0 }]);
});

test('fewer workers are drained without a wait, and those that stay are replaced where they get another heap', async () => {
  const { resizer, supervisor, events } = start({ workers: count(4), memoryMax: String(1024 * MIB) });
  await resizer.scale(count(2), false, supervisor.asSupervisor);
  const { heapPerWorkerMb, semiSpaceMb } = resizer.sizing.memory;
  assert.deepEqual(supervisor.steps, ['configure', 'scale 2', `replace those without a heap of ${heapPerWorkerMb}`]);
  assert.equal(supervisor.sizing, resizer.sizing);
  assert.deepEqual(resizer.resizes, { up: 0, down: 1, heap: 1 });
  assert.partialDeepStrictEqual(events, [
    { event: 'sizing.changed', workers: 2, quota: 2, heapPerWorkerMb, semiSpaceMb, memoryLimitBytes: 1024 * MIB },
  ]);
});

test('the same number of workers under another setting changes no worker', async () => {
  const { resizer, supervisor } = start();
  await resizer.scale(count(2), false, supervisor.asSupervisor);
  assert.deepEqual(supervisor.steps, ['configure']);
  assert.deepEqual(resizer.resizes, { up: 0, down: 0, heap: 0 });
});

test('limits that allow more workers replace the old ones, for their smaller heap, once the new ones are up', async () => {
  const { resizer, supervisor } = start({ memoryMax: String(1024 * MIB) });
  const scaled = resizer.scale(count(4), false, supervisor.asSupervisor);
  assert.deepEqual(supervisor.steps, ['configure', 'enlarge 4']);
  supervisor.answers();
  await scaled;
  assert.deepEqual(supervisor.steps.slice(2), [`replace those without a heap of ${resizer.sizing.memory.heapPerWorkerMb}`]);
  assert.deepEqual(resizer.resizes, { up: 1, down: 0, heap: 1 });
});

test('more workers without a memory limit replace none', async () => {
  const { resizer, supervisor, warnings } = start();
  const scaled = resizer.scale(count(4), false, supervisor.asSupervisor);
  supervisor.answers();
  await scaled;
  assert.deepEqual(supervisor.steps, ['configure', 'enlarge 4']);
  assert.partialDeepStrictEqual(warnings, [{ event: 'sizing.warning' }]);
});

test('more workers than memory holds are refused with the number that fits, unless they are forced', async () => {
  const { resizer, supervisor, events } = start({ memoryMax: String(512 * MIB) });
  const refusal = await resizer.scale(count(9), false, supervisor.asSupervisor).catch((error: unknown) => error);
  assert.ok(refusal instanceof ScaleError);
  assert.match(refusal.message, /^9 workers .*512 MiB .*gives 3 .*64 MiB.*--force/);
  assert.deepEqual(events, [{ event: 'pool.scale-refused', workers: 9, warning: refusal.message }]);
  assert.deepEqual([supervisor.steps, resizer.sizing.workers], [[], 2]);
  const fits = resizer.scale(count(3), false, supervisor.asSupervisor);
  supervisor.answers();
  await fits;
  const forced = resizer.scale(count(9), true, supervisor.asSupervisor);
  supervisor.answers();
  await forced;
  assert.equal(resizer.sizing.workers, 9);
});

test('an enlargement that fails takes the previous setting and heap back', async () => {
  const { resizer, supervisor } = start({ memoryMax: String(1024 * MIB) });
  const before = resizer.sizing;
  const scaled = resizer.scale(count(4), false, supervisor.asSupervisor);
  assert.notDeepEqual(resizer.sizing, before);
  supervisor.answers(new ScaleError('worker 3 failed'));
  await assert.rejects(scaled, /worker 3 failed/);
  assert.deepEqual(resizer.sizing, before);
  assert.deepEqual(supervisor.steps, ['configure', 'enlarge 4', 'configure']);
});

test('an enlargement that fails goes back to the last setting that succeeded, not to that of the start', async () => {
  const { resizer, supervisor } = start();
  const three = resizer.scale(count(3), false, supervisor.asSupervisor);
  supervisor.answers();
  await three;
  const five = resizer.scale(count(5), false, supervisor.asSupervisor);
  supervisor.answers(new ScaleError('no'));
  await assert.rejects(five);
  assert.equal(resizer.sizing.workers, 3);
  await resizer.scale(count(1), false, supervisor.asSupervisor);
  const four = resizer.scale(count(4), false, supervisor.asSupervisor);
  supervisor.answers(new ScaleError('no'));
  await assert.rejects(four);
  assert.equal(resizer.sizing.workers, 1);
});

test('an enlargement that a later request supersedes leaves that request in force', async () => {
  const { resizer, supervisor } = start();
  const first = resizer.scale(count(4), false, supervisor.asSupervisor);
  const second = resizer.scale(count(5), false, supervisor.asSupervisor);
  supervisor.answers(new SupersededError(5));
  await assert.rejects(first, SupersededError);
  supervisor.answers();
  await second;
  assert.equal(resizer.sizing.workers, 5);
  assert.deepEqual(supervisor.steps, ['configure', 'enlarge 4', 'configure', 'enlarge 5']);
});

test('limits that changed during an enlargement that fails are in force afterwards', async t => {
  const { resizer, supervisor, root, following, pass } = follow(t);
  await following;
  const scaled = resizer.scale(count(6), false, supervisor.asSupervisor);
  root.cpuMax(cpus(3));
  pass(10_000);
  pass(2000);
  assert.equal(resizer.limits.quota?.value, 3);
  supervisor.answers(new ScaleError('no'));
  await assert.rejects(scaled);
  assert.equal(resizer.sizing.workers, 3);
  assert.equal(supervisor.steps.at(-1), 'scale 3');
});

test('more CPUs that last for 2 s start workers, and fewer that last for 10 s drain them', async t => {
  const { resizer, supervisor, root, following, pass } = follow(t);
  await following;
  root.cpuMax(cpus(4));
  pass(10_000);
  pass(1999);
  assert.deepEqual(supervisor.steps, []);
  pass(1);
  assert.deepEqual(supervisor.steps, ['configure', 'scale 4']);
  root.cpuMax(cpus(1));
  pass(10_000);
  pass(10_000);
  assert.deepEqual(supervisor.steps, ['configure', 'scale 4', 'configure', 'scale 1']);
  assert.deepEqual(resizer.resizes, { up: 1, down: 1, heap: 0 });
});

test('limits that change for less than 2 s change nothing', async t => {
  const { supervisor, root, following, pass, events } = follow(t);
  await following;
  root.cpuMax(cpus(4));
  pass(10_000);
  pass(1000);
  root.cpuMax(cpus(2));
  await turns(); // inotify reports it
  pass(20_000);
  assert.deepEqual([supervisor.steps, events], [[], []]);
});

test('another memory limit replaces the workers for their heap, and leaves their number', async t => {
  const { resizer, supervisor, root, following, pass } = follow(t, { memoryMax: String(1024 * MIB) });
  await following;
  root.memoryMax(String(2048 * MIB));
  pass(10_000);
  pass(2000);
  const { heapPerWorkerMb } = resizer.sizing.memory;
  assert.deepEqual(supervisor.steps, ['configure', `replace those without a heap of ${heapPerWorkerMb}`]);
  assert.deepEqual(resizer.resizes, { up: 0, down: 0, heap: 1 });
});

test('after its end the limits are not watched, nor must they have been', async t => {
  const { resizer, supervisor, root, following, pass } = follow(t);
  await following;
  resizer.close();
  root.cpuMax(cpus(4));
  pass(60_000);
  assert.deepEqual(supervisor.steps, []);
  start().resizer.close();
});

test('a reload takes the new settings, and changes the number of workers only where it differs', async () => {
  const { resizer, supervisor, config } = start();
  const settings = (workers: WorkerCount) => ({ config: { ...config, workers }, nodeOptions: NO_OPTIONS }) as unknown as Settings;
  resizer.reload(settings(count(2)), supervisor.asSupervisor);
  assert.deepEqual(supervisor.steps, ['configure with settings']);
  resizer.reload(settings(count(3)), supervisor.asSupervisor);
  assert.deepEqual(supervisor.steps.slice(1), ['configure with settings', 'scale 3']);
  assert.deepEqual(supervisor.config?.workers, count(3));
  const four = resizer.scale(count(4), false, supervisor.asSupervisor);
  supervisor.answers(new ScaleError('no'));
  await assert.rejects(four);
  assert.equal(resizer.sizing.workers, 3, 'the reloaded setting is the one to go back to');
});

test('a reload takes the Node.js options of later workers', () => {
  const { resizer, supervisor, config } = start();
  const nodeOptions = { environment: ['--trace-warnings'], commandLine: [], workers: ['--max-old-space-size=99'] };
  resizer.reload({ config, nodeOptions } as unknown as Settings, supervisor.asSupervisor);
  assert.match(resizer.workerNodeOptions, /--trace-warnings/);
  assert.deepEqual(resizer.workerCommandLine, ['--max-old-space-size=99']);
});

function startRolling() {
  const { resizer, supervisor, config, events } = start();
  const settings = {
    config,
    nodeOptions: NO_OPTIONS,
    problem: undefined as Error | undefined,
    reload: () => {
      supervisor.steps.push('read the settings');
      if (settings.problem !== undefined) throw settings.problem;
      return () => void supervisor.steps.push('take the settings back');
    },
  };
  const rolling = new RollingRestart({
    settings: settings as unknown as Settings,
    resizer,
    supervisor: supervisor.asSupervisor,
    emit: event => void events.push(event),
  });
  return { rolling, supervisor, settings, events };
}

const ignore = () => undefined;

test('a rolling restart reads the settings again, takes them, and restarts all workers', async () => {
  const { rolling, supervisor } = startRolling();
  const steps: string[] = [];
  const restart = rolling.request(step => void steps.push(step));
  await turns(1);
  assert.deepEqual(supervisor.steps, ['read the settings', 'configure with settings', 'restart all']);
  supervisor.answers();
  await restart;
  assert.deepEqual(steps, ['restarting']);
});

test('requests during a rolling restart lead to one that follows it, for all of them', async () => {
  const { rolling, supervisor } = startRolling();
  const first = rolling.request(ignore);
  await turns(1);
  const steps: string[] = [];
  const others = [rolling.request(step => void steps.push(step)), rolling.request(ignore)];
  await turns(1);
  assert.equal(steps.length, 1, 'one step, for the first of them');
  assert.equal(supervisor.steps.length, 3);
  supervisor.answers(new Error('the first fails'));
  await assert.rejects(first, /the first fails/);
  await turns(1);
  assert.equal(supervisor.steps.at(-1), 'restart all');
  const last = rolling.request(ignore); // while the second runs
  supervisor.answers();
  await Promise.all(others);
  await turns(1);
  supervisor.answers();
  await last;
  assert.equal(supervisor.steps.filter(step => step === 'restart all').length, 3);
});

test('a rolling restart that fails takes the settings back while old workers serve', async () => {
  const { rolling, supervisor } = startRolling();
  const restart = rolling.request(ignore);
  await turns(1);
  supervisor.answers(new Error('it does not start'));
  await assert.rejects(restart, /it does not start/);
  assert.deepEqual(supervisor.steps.slice(3), ['take the settings back', 'configure with settings']);
});

test('a rolling restart that fails keeps the new settings where no worker serves', async () => {
  const { rolling, supervisor, events } = startRolling();
  const restart = rolling.request(ignore);
  await turns(1);
  supervisor.serving = [];
  supervisor.answers(new Error('it does not start'));
  await assert.rejects(restart, /it does not start/);
  assert.deepEqual([supervisor.steps.slice(3), events], [[], []]);
});

test('bad settings are refused before any worker is touched, and a later request reads them again', async () => {
  const { rolling, supervisor, settings, events } = startRolling();
  for (const [problems, words] of [
    [['PORT must be a port'], '1 problem'],
    [['PORT must be a port', 'HOST is fixed'], '2 problems'],
  ] as const) {
    settings.problem = new ConfigError(problems);
    await assert.rejects(rolling.request(ignore), settings.problem);
    assert.deepEqual(events.splice(0), [{ event: 'reload.refused', problems }]);
    const [read, refused = '', ...more] = supervisor.steps.splice(0);
    assert.deepEqual([read, more], ['read the settings', []]);
    assert.ok(refused.startsWith('refused: ') && refused.includes(`: ${words}, `), refused);
  }
  settings.problem = undefined;
  const restart = rolling.request(() => undefined);
  await turns(1);
  supervisor.answers();
  await restart;
});
