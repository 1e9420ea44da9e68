/**
 * Replaces workers one at a time, the new one first: start it beside the old one, let it prove itself, then drain the old one.
 * Capacity never falls below the wanted number, and there is never more than one worker too many.
 */
import type { ExitReason } from '../messages.ts';
import type { WorkerHandle } from './worker-handle.ts';

/** A new worker that serves this long without dying is good enough to replace an old one. */
const PROVE_MS = 1000;
/** A hung one serves nobody: there is less to lose, and its stack is in the log by then. */
const PROVE_AGAINST_HUNG_MS = 300;

/** The new worker did not come up; the old ones go on. */
export class ReplacementError extends Error {
  override readonly name = 'ReplacementError';
}

/** Told what happens, step by step, in words. */
export type OnStep = (step: string) => void;

interface Batch {
  reason: ExitReason;
  onStep: OnStep;
  saidReady: Set<WorkerHandle>;
  waiting: WorkerHandle[];
  done: PromiseWithResolvers<void>;
}

interface Step {
  batch: Batch;
  old: WorkerHandle;
  fresh: WorkerHandle;
}

export class Replacer {
  readonly #batches: Batch[] = [];
  #step: Step | undefined;

  /**
   * Queues workers to be replaced; the next `tick` begins.
   * @returns resolves when all of them are gone; rejects with a ReplacementError when a new one does not come up
   */
  request(workers: readonly WorkerHandle[], reason: ExitReason, onStep: OnStep = () => undefined): Promise<void> {
    const batch = {
      reason,
      onStep,
      saidReady: new Set<WorkerHandle>(),
      waiting: [...workers],
      done: Promise.withResolvers<void>(),
    };
    this.#batches.push(batch);
    return batch.done.promise;
  }

  /** Whether this worker is being replaced, will be, or replaces another one. */
  isConcernedWith(handle: WorkerHandle): boolean {
    return (
      this.#step?.old === handle || this.#step?.fresh === handle || this.#batches.some(({ waiting }) => waiting.includes(handle))
    );
  }

  /** Whether this worker runs beside the one it is to replace, and so is none of the wanted ones yet. */
  isExtra(handle: WorkerHandle): boolean {
    return this.#step?.fresh === handle && this.#step.old.isActive;
  }

  /** When `step` has something to do by time alone. */
  get dueAt(): number {
    const { batch, fresh, old } = this.#step ?? {};
    if (fresh?.readyAt === undefined || !old?.isActive) return Number.POSITIVE_INFINITY;
    return fresh.readyAt + (batch?.reason === 'hung' ? PROVE_AGAINST_HUNG_MS : PROVE_MS);
  }

  /** Does what is due. `fork` starts a worker; it is not called before `mayForkAt`. */
  step(now: number, mayForkAt: number, drainTimeoutMs: number, fork: () => WorkerHandle): void {
    if (this.#step !== undefined) this.#continue(this.#step, now, drainTimeoutMs);
    if (this.#step !== undefined || now < mayForkAt) return;
    const batch = this.#batches[0];
    const old = batch?.waiting.shift();
    if (batch === undefined) return;
    if (old?.isActive) {
      this.#step = { batch, old, fresh: fork() };
      batch.onStep(`starting worker ${this.#step.fresh.id} to replace worker ${old.id}`);
    } else if (old === undefined) this.#finish(batch);
    else this.step(now, mayForkAt, drainTimeoutMs, fork); // gone by itself, and replaced like any that is missing
  }

  #continue({ batch, old, fresh }: Step, now: number, drainTimeoutMs: number): void {
    if (fresh.readyAt !== undefined && !batch.saidReady.has(fresh)) {
      batch.saidReady.add(fresh);
      batch.onStep(`worker ${fresh.id} (process ${fresh.pid}) serves after ${Math.round(fresh.readyAt - fresh.startedAt)} ms`);
    }
    if (old.state === 'exited') {
      const { finished = 0, cut = [], durationMs = 0 } = old.drain ?? {};
      batch.onStep(`worker ${old.id} is gone: ${finished} requests finished, ${cut.length} cut, ${durationMs} ms`);
      this.#step = undefined;
    } else if (old.isActive && !fresh.isActive) {
      this.#step = undefined;
      this.#finish(
        batch,
        new ReplacementError(`worker ${fresh.id}, to replace worker ${old.id}, did not come up: ${fresh.failure}`),
      );
    } else if (old.isActive && now >= this.dueAt) {
      batch.onStep(`draining worker ${old.id}`);
      // A hung worker hears no request to drain.
      if (batch.reason === 'hung') old.kill('hung');
      else old.beginDrain(batch.reason, drainTimeoutMs);
    }
  }

  #finish(batch: Batch, error?: ReplacementError): void {
    this.#batches.splice(this.#batches.indexOf(batch), 1);
    if (error) batch.done.reject(error);
    else batch.done.resolve();
  }
}
