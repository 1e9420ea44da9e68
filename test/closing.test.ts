/**
 * The app's tasks and close handlers of one worker, after its last answer. A whole pod is in test/process/after-answers.test.ts.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { EventLog } from '../src/protocol/event-log.ts';
import { CloseHandlers } from '../src/worker/kit/closing.ts';
import { Tasks } from '../src/worker/kit/tasks.ts';

const never = () => new Promise(() => undefined);
const inMs = (ms: number) => performance.now() + ms;

function logging(): { log: () => EventLog; lines: string[] } {
  const lines: string[] = [];
  const write = ({ event, ...fields }: { event: string; name?: string; err?: unknown; tasks?: number }) => {
    const { name = '', err, tasks = '' } = fields;
    lines.push(`${event} ${name}${tasks}${err === undefined ? '' : ` ${(err as Error).message}`}`);
  };
  const log = { debug: write, info: write, warn: write, error: write, fatal: write } as unknown as EventLog;
  return { log: () => log, lines };
}

/** An object that Promise.resolve follows. */
const thenable = (then: unknown) => Object.fromEntries([['then', then]]);

describe('close handlers', () => {
  test('run one after another, the last one first, after the app itself', async () => {
    const { log, lines } = logging();
    const handlers = new CloseHandlers(log);
    const steps: string[] = [];
    for (const name of ['database', 'cache', 'queue'])
      handlers.add(async () => {
        steps.push(`${name} begins`);
        await sleep(name === 'queue' ? 5 : 1);
        steps.push(`${name} ends`);
      });
    const { count, failed, timedOut } = await handlers.run(inMs(1000), () => steps.push('app'));
    assert.deepEqual(steps, ['app', ...['queue', 'cache', 'database'].flatMap(name => [`${name} begins`, `${name} ends`])]);
    assert.deepEqual({ count, failed, timedOut, lines }, { count: 4, failed: 0, timedOut: 0, lines: [] });
  });

  test('that throw, reject or hang are in the ledger with their times, and the others run', async () => {
    const { log, lines } = logging();
    const handlers = new CloseHandlers(log);
    let isLastClosed = false;
    handlers.add(() => (isLastClosed = true));
    handlers.add(function throws() {
      throw Object.assign(new TypeError('no pool'), { code: 'E_POOL' });
    });
    handlers.add(async function rejects() {
      throw 'text';
    });
    handlers.add(never.bind(undefined), { timeoutMs: 15 });
    const { first, ms, ...counts } = await handlers.run(inMs(1000));
    assert.ok(isLastClosed);
    assert.deepEqual(counts, { count: 4, failed: 2, timedOut: 1 });
    assert.deepEqual(
      first.map(({ name, result, error }) => [name, result, error?.class, error?.code]),
      [
        ['never', 'timed-out', undefined, undefined],
        ['rejects', 'failed', 'Error', undefined],
        ['throws', 'failed', 'TypeError', 'E_POOL'],
        ['', 'done', undefined, undefined],
      ],
    );
    const hung = first[0]?.ms ?? 0;
    assert.ok(hung >= 14 && hung < 800 && ms >= hung, `${hung} of ${ms} ms`);
    assert.deepEqual(lines, [
      'worker.close-handler-timed-out never',
      'worker.close-handler-failed rejects text',
      'worker.close-handler-failed throws no pool',
    ]);
  });

  test('have what is left of the drain, and one second after it; those that are left then are called', async () => {
    const handlers = new CloseHandlers(logging().log);
    const called: string[] = [];
    for (const name of ['last', 'second', 'first']) {
      handlers.add(() => {
        called.push(name);
        return never();
      });
    }
    const startedAt = performance.now();
    const { timedOut } = await handlers.run(startedAt - 10_000);
    const tookMs = performance.now() - startedAt;
    assert.deepEqual([called, timedOut], [['first', 'second', 'last'], 3]);
    assert.ok(tookMs >= 990 && tookMs < 3000, `${tookMs} ms`);
  });

  test('are named up to twenty, and all counted; one that is added by another one runs, too', async () => {
    const handlers = new CloseHandlers(logging().log);
    for (let added = 0; added < 30; added++) handlers.add(() => added === 3 && handlers.add(() => undefined));
    const { count, first } = await handlers.run(inMs(1000));
    assert.deepEqual([count, first.length], [31, 20]);
  });

  test('that add themselves again run until their time is over', { timeout: 10_000 }, async () => {
    const handlers = new CloseHandlers(logging().log);
    const again = () => handlers.add(again);
    handlers.add(again);
    const { count, failed } = await handlers.run(inMs(0));
    assert.ok(count > 1);
    assert.equal(failed, 0);
  });

  test('that are no functions, or have an impossible time, are an error at the call', () => {
    const handlers = new CloseHandlers(logging().log);
    const add = (...args: unknown[]) => Reflect.apply(handlers.add, handlers, args);
    for (const close of [undefined, null, 'close', {}]) assert.throws(() => add(close), TypeError);
    const nameless = Object.defineProperty(() => undefined, 'name', { value: 1 });
    const throwing = Object.defineProperty(() => undefined, 'name', {
      get: () => {
        throw new Error('no name');
      },
    });
    add(nameless);
    assert.throws(() => add(throwing), /no name/);
    for (const options of [null, 5, { timeoutMs: '5' }]) assert.throws(() => add(never, options), TypeError);
    for (const timeoutMs of [0, -1, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 31])
      assert.throws(() => add(never, { timeoutMs }), RangeError);
    assert.throws(() => add(never, { timeout: 5 }), /^TypeError: kit\.onClose: there is no option timeout; there is timeoutMs$/);
    assert.throws(() => add(null), /^TypeError: the handler of kit\.onClose must be a function, got null$/);
    assert.throws(() => add(never, never), /^TypeError: kit\.onClose: the options must be an object, got function$/);
  });
});

describe('tasks', () => {
  test('that settle while the worker drains are counted, and those before are not', async () => {
    const { log, lines } = logging();
    const tasks = new Tasks(log);
    tasks.add(Promise.resolve());
    tasks.add(Promise.reject(new Error('before')));
    await sleep(1);
    tasks.beginDrain();
    tasks.add(sleep(5));
    tasks.add(sleep(1).then(() => Promise.reject(new Error('during'))));
    assert.equal(tasks.open, 2);
    const { ms, ...counts } = await tasks.settled(inMs(5000));
    assert.deepEqual(counts, { finished: 1, failed: 1, timedOut: 0 });
    assert.ok(ms >= 4 && ms < 4000, `${ms} ms`);
    assert.deepEqual([tasks.open, lines], [0, ['task.failed  before', 'task.failed  during']]);
  });

  test('that follow each other are all waited for', async () => {
    const tasks = new Tasks(logging().log);
    tasks.beginDrain();
    const next = (left: number): Promise<void> =>
      sleep(1).then(() => {
        if (left > 0) tasks.add(next(left - 1));
      });
    tasks.add(next(3));
    assert.deepEqual((await tasks.settled(inMs(5000))).finished, 4);
    // Added by the code that awaits a task, after the task has been counted.
    const first = Promise.resolve();
    tasks.add(first);
    void Array.from({ length: 20 })
      .reduce<Promise<void>>(promise => promise.then(() => undefined), first)
      .then(() => tasks.add(sleep(2)));
    assert.equal((await tasks.settled(inMs(5000))).finished, 6);
  });

  test('that do not settle in time are counted and logged, and a late rejection does no harm', async () => {
    const { log, lines } = logging();
    const tasks = new Tasks(log);
    tasks.beginDrain();
    const { promise, reject } = Promise.withResolvers<void>();
    tasks.add(promise);
    tasks.add(never());
    const { ms, ...counts } = await tasks.settled(inMs(20));
    assert.deepEqual([counts, lines.splice(0)], [{ finished: 0, failed: 0, timedOut: 2 }, ['worker.tasks-unfinished 2']]);
    reject(new Error('late'));
    await sleep(1);
    assert.deepEqual([tasks.open, lines], [1, ['task.failed  late']]);
  });

  test('are not kept once they have settled', async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const tasks = new Tasks(logging().log);
    const results = Array.from({ length: 100 }, () => {
      const result = Buffer.alloc(1000);
      tasks.add(Promise.resolve(result));
      return new WeakRef(result);
    });
    await sleep(1);
    collect();
    const kept = results.filter(result => result.deref() !== undefined).length;
    assert.ok(kept < 10, `${kept} of 100 are in memory`);
  });

  test('without a task a drain does not wait', async () => {
    const startedAt = performance.now();
    assert.deepEqual((await new Tasks(logging().log).settled(inMs(5000))).timedOut, 0);
    assert.ok(performance.now() - startedAt < 1000);
  });

  test('that are no promises are an error at the call; any thenable is one', async () => {
    const tasks = new Tasks(logging().log);
    const add = (task: unknown) => Reflect.apply(tasks.add, tasks, [task]);
    for (const task of [undefined, null, 1, 'text', {}, thenable(1)]) assert.throws(() => add(task), TypeError);
    assert.throws(
      () => add(async () => undefined),
      /^TypeError: the argument of kit\.task must be a promise, got a function: call it, and pass/,
    );
    assert.equal(tasks.open, 0);
    add(thenable((resolve: () => void) => resolve()));
    add(
      thenable(() => {
        throw new Error('thrown');
      }),
    );
    await sleep(1);
    const { finished, failed } = await tasks.settled(inMs(1000));
    assert.deepEqual({ finished, failed }, { finished: 1, failed: 1 });
  });
});
