/**
 * The rules of the shutdown in virtual time: delay, deadline, order, exit code. Real processes: test/process/sigterm.test.ts and drain*.test.ts.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Totals } from '../src/admin/totals.ts';
import type { Pool } from '../src/pool/pool.ts';
import { Shutdown, writeTerminationMessage } from '../src/primary/shutdown.ts';
import type { LifecycleEvent } from '../src/protocol/events.ts';
import { ExitCode } from '../src/protocol/exit.ts';
import { EXIT_SLACK_MS } from '../src/protocol/messages.ts';
import { temporaryFolder } from './process/operator.ts';

/** Sleeps end when the test advances the time to them. */
class VirtualClock {
  now = 0;
  readonly #sleeps: { at: number; wake: () => void }[] = [];

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#sleeps.push({ at: this.now + ms, wake: resolve });
    signal?.addEventListener('abort', () => resolve());
    return promise;
  }

  async advance(ms: number): Promise<void> {
    const end = this.now + ms;
    await settled();
    for (;;) {
      const next = this.#sleeps.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (next === undefined) break;
      this.#sleeps.splice(this.#sleeps.indexOf(next), 1);
      this.now = Math.max(this.now, next.at);
      next.wake();
      await settled();
    }
    this.now = end;
  }
}

/** Resolves when no promise is left to settle. */
const settled = () => new Promise(setImmediate);

interface Worker {
  isActive: boolean;
  drain: object | undefined;
  openRequests: number;
  /** Never sees its accept queue empty. */
  isBlocked?: boolean;
}

interface Setup {
  delayMs?: number;
  timeoutMs?: number;
  listeners?: number[];
  /** Connections in the accept queues. */
  waiting?: number;
  workers?: number;
}

const LIMITS = { startTimeoutMs: 5, restartIntensity: 10, restartPeriodMs: 60 };

/** A shutdown whose steps are recorded as `time name`. */
class Harness {
  readonly clock = new VirtualClock();
  readonly steps: string[] = [];
  readonly workers: Worker[];
  readonly drains = { cutRequests: 0 };
  readonly shutdown: Shutdown;
  queues = new Map<string, number>();
  waiting: number;
  terminationMessage: string | undefined;
  #empty = Promise.withResolvers<void>();

  constructor({ delayMs = 0, timeoutMs = 1000, listeners = [0], waiting = 0, workers = 1 }: Setup = {}) {
    this.waiting = waiting;
    this.workers = Array.from({ length: workers }, () => ({ isActive: true, drain: undefined, openRequests: 0 }));
    const step = (name: string) => this.steps.push(`${this.clock.now} ${name}`);
    const self = this;
    const handleOf = (worker: Worker) => ({
      get isActive() {
        return worker.isActive;
      },
      get drain() {
        return worker.drain;
      },
      get openRequests() {
        return worker.openRequests;
      },
      send: ({ type }: { type: string }) => step(type),
      takeAll: (which?: number[]) => {
        step(`take-all ${which ?? 'own'}`);
        return worker.isBlocked ? new Promise<void>(() => undefined) : Promise.resolve();
      },
    });
    const handles = new Map(this.workers.map(worker => [worker, handleOf(worker)]));
    const pool = {
      settings: { config: { shutdownDelayMs: delayMs, shutdownTimeoutMs: timeoutMs, appModule: 'app.js', ...LIMITS } },
      resizer: { close: () => step('stop resizing') },
      supervisor: {
        get handles() {
          return self.workers.map(worker => handles.get(worker));
        },
        stop: () => step('stop starting'),
        killSilent: () => step('kill silent'),
        drainAll: (ms: number) => {
          for (const { isActive } of this.workers) if (isActive) step(`drain ${ms}`);
        },
        killUndrained: () => {
          for (const worker of [...this.workers].filter(({ drain }) => drain === undefined)) {
            step('kill');
            this.exit(worker);
          }
        },
        empty: () => this.#empty.promise,
      },
      balancing: {
        listeners,
        port: 3000,
        get waiting() {
          return self.waiting;
        },
        balanceByConnections: () => step('balance by connections'),
        close: () => step('close listeners'),
      },
      outputs: { flush: async (stallMs: number) => step(`flush ${stallMs}`) },
      emit: (event: LifecycleEvent) => {
        const { event: name, ...fields } = event;
        step([name, ...Object.values(fields)].join(' '));
        if (event.event === 'shutdown.unserved') this.drains.cutRequests += event.connections;
      },
    };
    this.shutdown = new Shutdown(
      pool as unknown as Pool,
      { drains: this.drains } as Totals,
      { closeResources: async () => void step('close Redis'), closeControl: () => step('close control') },
      {
        now: () => this.clock.now,
        sleep: (ms, signal) => this.clock.sleep(ms, signal),
        sendQueues: () => this.queues,
        exit: code => step(`exit ${code}`),
        writeTerminationMessage: message => {
          this.terminationMessage = message;
        },
      },
    );
  }

  /** A worker process ends. */
  exit(worker: Worker): void {
    this.workers.splice(this.workers.indexOf(worker), 1);
    if (this.workers.length === 0) this.#empty.resolve();
  }

  /** What has happened since the last call. */
  async after(ms: number): Promise<string[]> {
    await this.clock.advance(ms);
    return this.steps.splice(0);
  }
}

test('a shutdown without requests runs its steps in order and exits with 0', async () => {
  const harness = new Harness({ delayMs: 300 });
  harness.shutdown.runBy();
  harness.shutdown.begin();
  assert.deepEqual(await harness.after(299), [
    '0 stop resizing',
    '0 stop starting',
    '0 disable-keepalive',
    '0 shutdown.delay 300',
  ]);
  assert.deepEqual(await harness.after(1), [
    '300 shutdown.drain 1 1000',
    '300 kill silent',
    '300 balance by connections',
    '300 take-all 0',
    '300 close listeners',
    '300 drain 1000',
  ]);
  harness.exit(harness.workers[0] as Worker);
  assert.deepEqual(await harness.after(0), [
    '300 close Redis',
    '300 close control',
    '300 primary.exit 0',
    '300 flush 1000',
    '300 exit 0',
  ]);
});

test('the shutdown delay ends early if no worker is left', async () => {
  const harness = new Harness({ delayMs: 5000 });
  harness.shutdown.runBy();
  harness.shutdown.begin();
  await harness.after(100);
  harness.exit(harness.workers[0] as Worker);
  assert.equal((await harness.after(0)).at(-1), '100 exit 0');
});

test('a shutdown that is requested before the admin port is known runs once that is known, and only once', async () => {
  const harness = new Harness();
  harness.shutdown.begin();
  harness.shutdown.begin();
  assert.equal(harness.shutdown.hasBegun, true);
  assert.deepEqual(await harness.after(1000), []);
  harness.shutdown.runBy();
  assert.equal((await harness.after(0)).filter(step => step.endsWith('stop starting')).length, 1);
});

test('a shutdown that aborts requests counts them and exits with 1', async () => {
  const harness = new Harness();
  harness.drains.cutRequests = 5; // before the shutdown
  harness.shutdown.runBy();
  harness.shutdown.begin();
  await harness.after(1000);
  harness.drains.cutRequests = 7;
  harness.exit(harness.workers[0] as Worker);
  const steps = await harness.after(0);
  assert.ok(steps.includes('1000 shutdown.cut 2'));
  assert.equal(steps.at(-1), '1000 exit 1');
});

test('requests aborted before the shutdown do not change its exit code', async () => {
  const harness = new Harness();
  harness.drains.cutRequests = 5;
  harness.shutdown.runBy();
  harness.shutdown.begin();
  harness.exit(harness.workers[0] as Worker);
  assert.equal((await harness.after(0)).at(-1), '0 exit 0');
});

test('a shutdown that lost an unknown number of requests exits with 1', async () => {
  const harness = new Harness();
  harness.shutdown.runBy();
  harness.shutdown.begin();
  harness.shutdown.markLost();
  harness.exit(harness.workers[0] as Worker);
  assert.equal((await harness.after(0)).at(-1), '0 exit 1');
});

test('workers get half of SHUTDOWN_TIMEOUT_MS to empty the accept queues, and the rest for their requests', async () => {
  const harness = new Harness({ timeoutMs: 1000 });
  (harness.workers[0] as Worker).isBlocked = true;
  harness.shutdown.runBy();
  harness.shutdown.begin();
  await harness.after(499);
  assert.deepEqual(await harness.after(1), ['500 close listeners', '500 drain 500']);
});

test('with a listener per worker, each worker empties its own queue first, for at most 100 ms', async () => {
  const harness = new Harness({ listeners: [0, 1], workers: 2 });
  (harness.workers[0] as Worker).isBlocked = true;
  harness.shutdown.runBy();
  harness.shutdown.begin();
  const takes = (steps: string[]) => steps.filter(step => step.includes('take-all'));
  assert.deepEqual(takes(await harness.after(99)), ['0 take-all own', '0 take-all own']);
  assert.deepEqual(takes(await harness.after(1)), ['100 take-all 0,1', '100 take-all 0,1']);
});

test('a blocked worker is killed just before the deadline of the platform, after its queued connections are counted', async () => {
  const harness = new Harness({ timeoutMs: 1000, waiting: 3 });
  harness.shutdown.runBy();
  harness.shutdown.begin();
  const killAt = 1000 + EXIT_SLACK_MS - 50;
  assert.ok(!(await harness.after(killAt - 1)).some(step => step.endsWith('kill')));
  const steps = await harness.after(1);
  assert.deepEqual(steps.slice(0, 2), [`${killAt} shutdown.unserved 3`, `${killAt} kill`]);
  assert.ok(steps.includes(`${killAt} shutdown.cut 3`));
  assert.equal(steps.at(-1), `${killAt} exit 1`);
});

test('a worker that has reported its drain is not killed at the deadline', async () => {
  const harness = new Harness();
  (harness.workers[0] as Worker).drain = {};
  harness.shutdown.runBy();
  harness.shutdown.begin();
  assert.ok(!(await harness.after(20_000)).some(step => step.endsWith('kill')));
});

test('connections that no worker accepts are counted if there is no worker, exit code 1', async () => {
  const harness = new Harness({ waiting: 2, workers: 1 });
  harness.shutdown.runBy();
  harness.shutdown.begin();
  harness.exit(harness.workers[0] as Worker);
  const steps = await harness.after(0);
  assert.ok(steps.includes('0 shutdown.unserved 2'));
  assert.equal(steps.at(-1), '0 exit 1');
});

test('the exit waits for clients that still acknowledge data, at most until the deadline, and keeps the exit code', async () => {
  const harness = new Harness({ delayMs: 300, timeoutMs: 1000 });
  harness.queues = new Map([
    ['one client', 100],
    ['another', 20],
  ]);
  harness.shutdown.runBy();
  harness.shutdown.begin();
  await harness.after(300);
  harness.exit(harness.workers[0] as Worker);
  assert.ok(!(await harness.after(999)).some(step => step.includes('exit')));
  const steps = await harness.after(1);
  assert.ok(steps.includes('1300 shutdown.unacknowledged 2 120'));
  assert.equal(steps.at(-1), '1300 exit 0');
});

test('exiting at once kills no worker, counts queued connections and open requests without a reported drain, and exits with 1', async () => {
  const harness = new Harness({ workers: 2 });
  const [first, second] = harness.workers as [Worker, Worker];
  Object.assign(first, { openRequests: 4 });
  Object.assign(second, { openRequests: 3, drain: {} });
  harness.waiting = 2;
  harness.shutdown.exitAtOnce();
  assert.deepEqual(await harness.after(0), [
    '0 shutdown.unserved 2',
    '0 shutdown.cut 6',
    '0 close control',
    '0 primary.exit 1',
    '0 flush 100',
    '0 exit 1',
  ]);
});

test('exiting at once without open requests reports none', async () => {
  const harness = new Harness();
  harness.shutdown.exitAtOnce();
  assert.deepEqual(await harness.after(0), ['0 close control', '0 primary.exit 1', '0 flush 100', '0 exit 1']);
});

test('an aborted start skips the delay and exits with its code, even if requests are lost', async () => {
  const harness = new Harness({ delayMs: 5000 });
  harness.shutdown.runBy();
  harness.shutdown.giveUp('crash-loop', { id: 1, failure: 'boom', openFailure: 'Error' });
  harness.shutdown.abort(ExitCode.badConfig, 'a later reason');
  harness.shutdown.markLost();
  harness.exit(harness.workers[0] as Worker);
  const steps = await harness.after(0);
  assert.equal(steps.filter(step => step.includes('primary.abort')).length, 1);
  assert.ok(!steps.some(step => step.includes('shutdown.delay')));
  assert.equal(steps.at(-1), `0 exit ${ExitCode.crashLoop}`);
});

test('the deadline has no effect once all workers have exited', async () => {
  const harness = new Harness();
  harness.shutdown.runBy();
  harness.shutdown.begin();
  await harness.after(0);
  harness.waiting = 3;
  harness.exit(harness.workers[0] as Worker);
  const steps = [...(await harness.after(0)), ...(await harness.after(60_000))];
  assert.deepEqual(steps, ['0 close Redis', '0 close control', '0 primary.exit 0', '0 flush 1000', '0 exit 0']);
});

test('connections that arrive while a worker serves are not counted as unserved', async () => {
  const harness = new Harness({ waiting: 2 });
  harness.shutdown.runBy();
  harness.shutdown.begin();
  assert.ok(!(await harness.after(0)).some(step => step.includes('unserved')));
});

for (const [reason, code, message] of [
  ['permanent', ExitCode.failed, 'SyntaxError: secret'],
  [
    'start-timeout',
    ExitCode.failed,
    'no worker became ready within 5 ms (START_TIMEOUT_MS); last failure: worker 2: SyntaxError: secret',
  ],
  [
    'crash-loop',
    ExitCode.crashLoop,
    'workers keep crashing: more than 10 times within 60 ms (RESTART_INTENSITY, RESTART_PERIOD_MS), and none serves; last failure: worker 2: SyntaxError: secret',
  ],
] as const) {
  test(`a pool that gives up by ${reason} exits with ${code}, and only the log has the text of the app`, async () => {
    const harness = new Harness();
    harness.shutdown.giveUp(reason, { id: 2, failure: 'SyntaxError: secret', openFailure: 'SyntaxError' });
    assert.deepEqual(await harness.after(0), [`0 primary.abort ${code} ${message}`]);
    assert.equal(harness.terminationMessage, message.replace('SyntaxError: secret', 'SyntaxError (APP_MODULE app.js)'));
  });
}

test('the termination message is written to an existing file only, at most 4096 bytes of it', () => {
  const file = join(temporaryFolder(), 'termination-log');
  writeTerminationMessage('reason', file);
  assert.equal(existsSync(file), false);
  writeFileSync(file, '');
  writeTerminationMessage('x'.repeat(5000), file);
  assert.equal(readFileSync(file, 'utf8'), 'x'.repeat(4096));
  writeTerminationMessage('a folder is not writable', temporaryFolder());
});
