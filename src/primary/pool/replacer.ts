/**
 * Replaces workers one at a time, the new one first: start it beside the old one, let it prove itself, then drain the old one, then let
 * the new one warm up. Capacity never falls below the wanted number, and there is never more than one worker too many; only a hung one
 * waits for nobody.
 */
import type { ExitReason } from '../../messages.ts';
import type { WorkerHandle } from './worker-handle.ts';

/** A new worker that serves this long without dying is good enough to replace an old one. */
const PROVE_MS = 1000;
/** A hung one serves nobody: there is less to lose. */
const PROVE_AGAINST_HUNG_MS = 300;
/**
 * The new worker runs cold code on the connections that it has taken over. Where the next one started at once, it would
 * compete for the CPUs meanwhile. What the rest gains has not been measured on a quiet machine; a roll has 0.60 of the throughput
 * on 2 cores with it (make bench-rolling).
 */
const WARM_UP_MS = 2000;

/** The new worker did not come up; the old ones go on. */
export class ReplacementError extends Error {
  override readonly name = 'ReplacementError';
}

/** Told what happens, step by step, in words. */
export type OnStep = (step: string) => void;

interface Step {
  old: WorkerHandle;
  fresh: WorkerHandle;
  hasSaidReady: boolean;
}

interface Batch {
  reason: ExitReason;
  onStep: OnStep;
  waiting: WorkerHandle[];
  step: Step | undefined;
  done: PromiseWithResolvers<void>;
}

/** The circumstances of a look. */
export interface Now {
  /** By the monotonic clock. */
  now: number;
  /** No worker is started before. */
  mayForkAt: number;
  drainTimeoutMs: number;
  fork: () => WorkerHandle;
}

/** What the pool knows of its workers. */
export interface PoolView {
  isHung: (handle: WorkerHandle) => boolean;
  /** Begins at once. */
  endHung: (handle: WorkerHandle, drainTimeoutMs: number) => void;
  /** Whether another one serves. */
  mayLeave: (handle: WorkerHandle) => boolean;
}

export class Replacer {
  readonly #pool: PoolView;
  readonly #batches: Batch[] = [];
  #restUntil = 0;

  constructor(pool: PoolView) {
    this.#pool = pool;
  }

  /**
   * Queues workers to be replaced; the next `tick` begins.
   * @returns resolves when all of them are gone; rejects with a ReplacementError when a new one does not come up
   */
  request(workers: readonly WorkerHandle[], reason: ExitReason, onStep: OnStep = () => undefined): Promise<void> {
    const batch = { reason, onStep, waiting: [...workers], step: undefined, done: Promise.withResolvers<void>() };
    this.#batches.push(batch);
    return batch.done.promise;
  }

  /** Whether this worker is being replaced, will be, or replaces another one. */
  isConcernedWith(handle: WorkerHandle): boolean {
    return this.isBusyWith(handle) || this.#batches.some(({ waiting }) => waiting.includes(handle));
  }

  /** Whether this worker is being replaced, or replaces another one; a hung one, whether it will be. */
  isBusyWith(handle: WorkerHandle): boolean {
    return this.#batches.some(
      ({ reason, step, waiting }) =>
        step?.old === handle || step?.fresh === handle || (reason === 'hung' && waiting.includes(handle)),
    );
  }

  /** Whether this worker runs beside the one it is to replace, and so is none of the wanted ones yet. */
  isExtra(handle: WorkerHandle): boolean {
    return this.#batches.some(({ step }) => step?.fresh === handle && step.old.isActive);
  }

  /** When `look` has something to do by time alone. */
  dueAt(mayForkAt: number): number {
    return Math.min(
      ...this.#going.map(batch => {
        if (batch.step === undefined) return batch.waiting.length === 0 ? 0 : Math.max(mayForkAt, this.#mayBeginAt(batch));
        const { old, fresh } = batch.step;
        return this.#mayGo(old) ? this.#isProvenAt(batch, fresh) : Number.POSITIVE_INFINITY;
      }),
    );
  }

  /** Does what is due. */
  look(circumstances: Now): void {
    for (const batch of this.#going) {
      if (batch.step === undefined) this.#begin(batch, circumstances);
      else this.#continue(batch, batch.step, circumstances);
    }
  }

  /** One batch after the other, but for hung workers: their clients wait while another one drains, for 25 seconds perhaps. */
  get #going(): Batch[] {
    const [first, ...others] = this.#batches.filter(({ reason }) => reason !== 'hung');
    return this.#batches.filter(batch => batch === first || !others.includes(batch));
  }

  #mayBeginAt({ reason }: Batch): number {
    return reason === 'hung' ? 0 : this.#restUntil;
  }

  #isProvenAt({ reason }: Batch, { readyAt = Number.POSITIVE_INFINITY }: WorkerHandle): number {
    return readyAt + (reason === 'hung' ? PROVE_AGAINST_HUNG_MS : PROVE_MS);
  }

  /** Not while the new worker is cordoned, and nobody else serves. */
  #mayGo(old: WorkerHandle): boolean {
    return old.isActive && (this.#pool.isHung(old) || this.#pool.mayLeave(old));
  }

  #begin(batch: Batch, { now, mayForkAt, fork }: Now): void {
    // Those that are gone by themselves are replaced like any that is missing.
    batch.waiting = batch.waiting.filter(({ isActive }) => isActive);
    const [old] = batch.waiting;
    if (old === undefined) this.#finish(batch);
    if (old === undefined || now < mayForkAt || now < this.#mayBeginAt(batch)) return;
    batch.waiting.shift();
    const fresh = fork();
    batch.step = { old, fresh, hasSaidReady: false };
    batch.onStep(`starting worker ${fresh.id} to replace worker ${old.id}`);
  }

  #continue(batch: Batch, step: Step, { now, drainTimeoutMs }: Now): void {
    const { old, fresh } = step;
    if (fresh.readyAt !== undefined && !step.hasSaidReady) {
      step.hasSaidReady = true;
      batch.onStep(`worker ${fresh.id} (process ${fresh.pid}) serves after ${Math.round(fresh.readyAt - fresh.startedAt)} ms`);
    }
    if (old.state === 'exited' && fresh.readyAt !== undefined) {
      const { finished = 0, cutRequests = 0, handedOver = 0, durationMs = 0 } = old.drain ?? {};
      batch.onStep(`worker ${old.id} is gone: ${finished} requests finished, ${cutRequests} cut, ${durationMs} ms`);
      batch.step = undefined;
      // What had nothing to do leaves nothing to warm up on.
      if (finished + handedOver === 0) this.#restUntil = now;
    } else if (old.state !== 'draining' && !fresh.isActive) {
      batch.step = undefined;
      this.#finish(
        batch,
        new ReplacementError(`worker ${fresh.id}, to replace worker ${old.id}, did not come up: ${fresh.failure}`),
      );
    } else if (this.#mayGo(old) && now >= this.#isProvenAt(batch, fresh)) {
      batch.onStep(`draining worker ${old.id}`);
      // A hung one hears no request to drain; one that was hung, and is no more, does.
      if (this.#pool.isHung(old)) this.#pool.endHung(old, drainTimeoutMs);
      else old.beginDrain(batch.reason, drainTimeoutMs);
      this.#restUntil = now + WARM_UP_MS;
    }
  }

  #finish(batch: Batch, error?: ReplacementError): void {
    this.#batches.splice(this.#batches.indexOf(batch), 1);
    if (error) batch.done.reject(error);
    else batch.done.resolve();
  }
}
