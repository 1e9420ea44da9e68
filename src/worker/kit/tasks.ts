/**
 * The app's work that goes on after an answer (`kit.task`): how much is in progress, and what a drain waits for. A promise is not kept: it is
 * counted until it settles.
 */
import type { LogSource } from '../../log/log.ts';
import type { TaskTotals } from '../../protocol/closing.ts';
import { callApp, within } from './app-call.ts';
import { typeName } from './arguments.ts';

export class Tasks {
  readonly #log: LogSource;
  #open = 0;
  #finished = 0;
  #failed = 0;
  #before = { finished: 0, failed: 0 };
  #onNone: () => void = () => undefined;

  constructor(log: LogSource) {
    this.#log = log;
  }

  /** Those that have not settled. */
  get open(): number {
    return this.#open;
  }

  /** @throws TypeError unless it is a promise */
  add(task: PromiseLike<unknown>): void {
    if (!isThenable(task)) {
      const got = typeof task === 'function' ? 'a function: call it, and pass its promise' : typeName(task);
      throw new TypeError(`the argument of kit.task must be a promise, got ${got}`);
    }
    this.#open++;
    void callApp(this.#log, { event: 'task.failed' }, () => task).then(error => {
      if (error === undefined) this.#finished++;
      else this.#failed++;
      this.#open--;
      if (this.#open === 0) this.#onNone();
    });
  }

  /** Tasks that settle from now on count for the drain. */
  beginDrain(): void {
    this.#before = { finished: this.#finished, failed: this.#failed };
  }

  /** Resolves when all have settled, also those that are added meanwhile, or at `deadline` (of `performance.now()`). */
  async settled(deadline: number): Promise<TaskTotals> {
    const startedAt = performance.now();
    for (;;) {
      const leftMs = deadline - performance.now();
      if (this.#open > 0 && leftMs > 0) await within(leftMs, new Promise<void>(resolve => (this.#onNone = resolve)));
      // The code that waited for a task may add the next one.
      await new Promise(setImmediate);
      if (this.#open === 0 || leftMs <= 0) break;
    }
    const timedOut = this.#open;
    if (timedOut > 0) this.#log().warn({ event: 'worker.tasks-unfinished', tasks: timedOut });
    return {
      finished: this.#finished - this.#before.finished,
      failed: this.#failed - this.#before.failed,
      timedOut,
      ms: Math.round(performance.now() - startedAt),
    };
  }
}

function isThenable(task: unknown): task is PromiseLike<unknown> {
  const isObject = (typeof task === 'object' && task !== null) || typeof task === 'function';
  return isObject && typeof Reflect.get(task, 'then') === 'function';
}
