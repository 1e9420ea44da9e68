/**
 * Replaces workers one at a time. With surge the new one starts first, beside the old one, and serves for a while; then the old one drains,
 * then the new one warms up; capacity never falls below the wanted number, and there is never more than one worker too many. Where two
 * do not fit, the old one ends first, and the pool starts the new one like any missing worker; connections wait in the listening socket.
 * Only a hung worker is ended at once.
 */
import { type ExitReason, isCrash } from '../protocol/exit.ts';
import type { Plan } from './surge.ts';
import type { WorkerProcess } from './worker-process.ts';

/** A new worker that serves this long without dying is good enough to replace an old one. */
const PROVE_MS = 1000;
/** A hung worker serves no requests: there is less to lose. */
const PROVE_AGAINST_HUNG_MS = 300;
/**
 * The new worker runs cold code on the connections that it has taken over. Where the next one started at once, it would
 * compete for the CPUs meanwhile. What the rest gains has not been measured on a quiet machine; a roll has 0.60 of the throughput
 * on 2 cores with it (make bench-rolling).
 */
const WARM_UP_MS = 2000;

/** A replacement failed: the new worker did not start, or the old one was killed with open requests. */
export class ReplacementError extends Error {
  override readonly name: string = 'ReplacementError';
}

/** The worker cannot be replaced without losing requests: it goes on. */
export class ReplacementRefusedError extends ReplacementError {
  override readonly name = 'ReplacementRefusedError';
}

/** All workers were replaced, and requests were lost on the way. */
export class RequestsLostError extends ReplacementError {
  override readonly name = 'RequestsLostError';
}

/** Told what happens, step by step, in words. */
export type OnStep = (step: string) => void;

/** The parts of a worker that matter here. */
export type Replaceable = Pick<
  WorkerProcess,
  'id' | 'pid' | 'state' | 'isActive' | 'startedAt' | 'readyAt' | 'reason' | 'failure' | 'drain' | 'beginDrain'
> & { snapshot: { inFlight: number } | undefined };

interface Step<Worker> {
  old: Worker;
  /** Undefined while the old one is ending and the new one has not been started. */
  fresh: Worker | undefined;
  hasSaidReady: boolean;
  hasSaidGone: boolean;
}

interface Batch<Worker> {
  reason: ExitReason;
  onStep: OnStep;
  waiting: Worker[];
  step: Step<Worker> | undefined;
  /** The next worker would end first, but is the only one that serves. */
  isHeld: boolean;
  /** What old workers lost that did not drain properly. */
  losses: string[];
  done: PromiseWithResolvers<void>;
}

/** The circumstances of a look. */
export interface Now<Worker> {
  /** By the monotonic clock. */
  now: number;
  /** No worker is started before. */
  mayForkAt: number;
  drainTimeoutMs: number;
  fork: () => Worker;
  /** Whether the pool has fewer workers than wanted, so that an ended one must be replaced. */
  isShort: boolean;
}

/** What the pool knows of its workers. */
export interface PoolView<Worker> {
  isHung: (handle: Worker) => boolean;
  /** Begins at once. */
  endHung: (handle: Worker, drainTimeoutMs: number) => void;
  /** Whether another one serves. */
  mayLeave: (handle: Worker) => boolean;
  /** Whether only one worker is wanted. */
  isAlone: () => boolean;
  plan: (handle: Worker, reason: ExitReason) => Plan;
}

export class Replacer<Worker extends Replaceable> {
  readonly #pool: PoolView<Worker>;
  readonly #batches: Batch<Worker>[] = [];
  #restUntil = 0;

  constructor(pool: PoolView<Worker>) {
    this.#pool = pool;
  }

  /**
   * Queues workers to be replaced; the next `tick` begins.
   * @returns resolves when all of them have ended; rejects with a ReplacementError
   */
  request(workers: readonly Worker[], reason: ExitReason, onStep: OnStep = () => undefined): Promise<void> {
    const done = Promise.withResolvers<void>();
    this.#batches.push({ reason, onStep, waiting: [...workers], step: undefined, isHeld: false, losses: [], done });
    return done.promise;
  }

  /** Whether this worker is being replaced, will be, or replaces another one. */
  isConcernedWith(handle: Worker): boolean {
    return this.isBusyWith(handle) || this.#batches.some(({ waiting }) => waiting.includes(handle));
  }

  /** Whether this worker is being replaced, or replaces another one; a hung one, whether it will be. */
  isBusyWith(handle: Worker): boolean {
    return this.#batches.some(
      ({ reason, step, waiting }) =>
        step?.old === handle || step?.fresh === handle || (reason === 'hung' && waiting.includes(handle)),
    );
  }

  /** Whether this worker runs beside the one it is to replace, and so is none of the wanted ones yet. */
  isExtra(handle: Worker): boolean {
    return this.#batches.some(({ step }) => step?.fresh === handle && step.old.isActive);
  }

  /** Whether a worker is ending or has ended whose successor does not serve yet. */
  get isBetween(): boolean {
    return this.#batches.some(({ step }) => step !== undefined && !step.old.isActive && step.fresh?.readyAt === undefined);
  }

  /** How many workers must not start before the one that they replace has ended. */
  get leaving(): number {
    return this.#batches.filter(({ step }) => step !== undefined && step.fresh === undefined && step.old.state !== 'exited')
      .length;
  }

  /** The pool has started this worker, as successor of one that ended first, if there is one. */
  started(fresh: Worker): void {
    const batch = this.#batches.find(({ step }) => step !== undefined && step.fresh === undefined && step.old.state === 'exited');
    if (batch?.step === undefined) return;
    this.#sayGone(batch, batch.step);
    batch.step.fresh = fresh;
    batch.onStep(`starting worker ${fresh.id} in its place`);
  }

  /** When `look` has something to do by time alone. */
  dueAt(mayForkAt: number): number {
    return Math.min(
      ...this.#going.map(batch => {
        if (batch.isHeld) return Number.POSITIVE_INFINITY;
        if (batch.step === undefined) return batch.waiting.length === 0 ? 0 : Math.max(mayForkAt, this.#mayBeginAt(batch));
        const { old, fresh } = batch.step;
        const waitsForProof = fresh !== undefined && (old.state === 'exited' || this.#mayGo(old));
        return waitsForProof ? this.#isProvenAt(batch, fresh) : Number.POSITIVE_INFINITY;
      }),
    );
  }

  /** Does what is due. */
  look(circumstances: Now<Worker>): void {
    for (const batch of this.#going) {
      if (batch.step === undefined) this.#begin(batch, circumstances);
      else this.#continue(batch, batch.step, circumstances);
    }
  }

  /** One batch after the other, but for hung workers: their clients wait while another one drains, for 25 seconds perhaps. */
  get #going(): Batch<Worker>[] {
    const [first, ...others] = this.#batches.filter(({ reason }) => reason !== 'hung');
    return this.#batches.filter(batch => batch === first || !others.includes(batch));
  }

  #mayBeginAt({ reason }: Batch<Worker>): number {
    return reason === 'hung' ? 0 : this.#restUntil;
  }

  #isProvenAt({ reason }: Batch<Worker>, { readyAt = Number.POSITIVE_INFINITY }: Worker): number {
    return readyAt + (reason === 'hung' ? PROVE_AGAINST_HUNG_MS : PROVE_MS);
  }

  /** Not while the new worker is cordoned and no other worker serves. */
  #mayGo(old: Worker): boolean {
    return old.isActive && (this.#pool.isHung(old) || this.#pool.mayLeave(old));
  }

  #begin(batch: Batch<Worker>, { now, mayForkAt, drainTimeoutMs, fork }: Now<Worker>): void {
    // Those that are gone by themselves are replaced like any that is missing.
    batch.waiting = batch.waiting.filter(({ isActive }) => isActive);
    const [old] = batch.waiting;
    if (old === undefined) this.#finish(batch);
    if (old === undefined || now < mayForkAt || now < this.#mayBeginAt(batch)) return;
    const plan = this.#pool.plan(old, batch.reason);
    const step = { old, fresh: undefined, hasSaidReady: false, hasSaidGone: false };
    switch (plan.kind) {
      case 'refuse':
        this.#finish(batch, new ReplacementRefusedError(`worker ${old.id} is not replaced: ${plan.why}`));
        break;
      case 'surge': {
        batch.waiting.shift();
        const fresh = fork();
        batch.step = { ...step, fresh };
        batch.onStep(`starting worker ${fresh.id} to replace worker ${old.id}`);
        break;
      }
      case 'old-first':
        batch.isHeld = !this.#mayGo(old) && !this.#pool.isAlone();
        if (batch.isHeld) return;
        batch.waiting.shift();
        batch.step = step;
        batch.onStep(`draining worker ${old.id} before its successor starts (${plan.why}); connections wait`);
        this.#end(old, batch.reason, drainTimeoutMs);
        break;
      default:
        plan satisfies never;
    }
  }

  #continue(batch: Batch<Worker>, step: Step<Worker>, { now, drainTimeoutMs, isShort }: Now<Worker>): void {
    const { old, fresh } = step;
    if (fresh?.readyAt !== undefined && !step.hasSaidReady) {
      step.hasSaidReady = true;
      batch.onStep(`worker ${fresh.id} (process ${fresh.pid}) serves after ${Math.round(fresh.readyAt - fresh.startedAt)} ms`);
    }
    if (old.state === 'exited') this.#sayGone(batch, step);
    const isProven = fresh !== undefined && now >= this.#isProvenAt(batch, fresh);
    if (fresh !== undefined && isReplacedItself(fresh)) {
      // It did start, so this step did not fail.
      if (old.isActive) batch.waiting.unshift(old);
      if (old.state !== 'draining') this.#stepDone(batch, step, now);
    } else if (fresh?.isActive === false && (old.isActive || (old.state === 'exited' && !isProven))) {
      batch.step = undefined;
      const why = `${fresh.reason === 'oom' ? 'oom: ' : ''}${fresh.failure}`;
      this.#finish(batch, new ReplacementError(`worker ${fresh.id}, to replace worker ${old.id}, failed to start: ${why}`));
    } else if (old.state === 'exited') {
      // If fewer are wanted by now, there is no successor.
      if (fresh === undefined ? !isShort : isProven) this.#stepDone(batch, step, now);
    } else if (isProven && this.#mayGo(old)) {
      batch.onStep(`draining worker ${old.id}`);
      this.#end(old, batch.reason, drainTimeoutMs);
      this.#restUntil = now + WARM_UP_MS;
    }
  }

  #stepDone(batch: Batch<Worker>, { old, fresh }: Step<Worker>, now: number): void {
    batch.step = undefined;
    const { finished = 0, closedGracefully = 0 } = old.drain ?? {};
    // An idle worker leaves no load to warm up on.
    if (finished + closedGracefully === 0) this.#restUntil = now;
    else if (fresh?.readyAt !== undefined) this.#restUntil = Math.max(this.#restUntil, fresh.readyAt + WARM_UP_MS);
  }

  /** A hung worker cannot receive a request to drain; one that has recovered can. */
  #end(old: Worker, reason: ExitReason, drainTimeoutMs: number): void {
    if (this.#pool.isHung(old)) this.#pool.endHung(old, drainTimeoutMs);
    else old.beginDrain(reason, drainTimeoutMs);
  }

  #sayGone({ onStep, losses }: Batch<Worker>, step: Step<Worker>): void {
    if (step.hasSaidGone) return;
    step.hasSaidGone = true;
    const { id, reason, failure, drain, snapshot } = step.old;
    if (drain !== undefined) {
      onStep(`worker ${id} is gone: ${drain.finished} requests finished, ${drain.cutRequests} cut, ${drain.durationMs} ms`);
      return;
    }
    const how =
      reason === 'oom'
        ? 'was killed by the kernel for lack of memory (oom)'
        : reason === 'killed'
          ? 'was killed'
          : `ended (${reason}: ${failure})`;
    const words = `worker ${id} ${how} and lost its open requests (${snapshot?.inFlight ?? 0} in its last report)`;
    onStep(words);
    if (reason === 'oom' || reason === 'killed') losses.push(words);
  }

  #finish(batch: Batch<Worker>, error?: ReplacementError): void {
    this.#batches.splice(this.#batches.indexOf(batch), 1);
    if (error) batch.done.reject(error);
    else if (batch.losses.length > 0) batch.done.reject(new RequestsLostError(batch.losses.join('; ')));
    else batch.done.resolve();
  }
}

/** Whether a worker served and then had to leave, as a later restart or a smaller pool asked for. */
function isReplacedItself({ isActive, readyAt, reason }: Replaceable): boolean {
  return !isActive && readyAt !== undefined && reason !== undefined && reason !== 'killed' && !isCrash(reason);
}
