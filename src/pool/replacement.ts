/**
 * Replaces workers one at a time. With surge the new one starts first, beside the old one, and serves for a while; then the old one drains,
 * then the new one warms up; capacity never falls below the wanted number, and there is never more than one worker too many. Where two
 * do not fit, the old one ends first, and the pool starts the new one like any missing worker; connections wait in the listening socket.
 * Only a hung worker is ended at once. Under `bosun dev` there are no pauses: an old worker drains as soon as its successor is ready, and nothing
 * waits for its end. Pure, with the clock passed in.
 */
import { type ExitReason, isCrash } from '../protocol/exit.ts';
import type { Plan } from './memory.ts';
import { AbandonedError, ReplacementError, ReplacementRefusedError, type Requests, RequestsLostError } from './requests.ts';
import { isActive, type WorkerRecord } from './worker-state.ts';
import type { Workers } from './workers.ts';

/** An old worker drains once the new one has served this long. */
const PROVE_MS = 1000;
/** Shorter for a hung worker, which serves no requests. */
const PROVE_AGAINST_HUNG_MS = 300;
/**
 * The pause after a step whose connections did not move, in which the new worker warms up and clients reconnect. If the next one started at once,
 * both would compete for the CPUs.
 */
const WARM_UP_MS = 2000;

/** For whom workers are replaced. `request` is that of an operator who waits, if there is one. */
export type Purpose =
  /** A rolling restart to this generation. */
  | { kind: 'roll'; generation: number; request: number | undefined }
  /** One worker, as an operator wants it. */
  | { kind: 'one'; request: number }
  /** One worker, by a decision of the pool. */
  | { kind: 'own'; worker: WorkerRecord; request?: undefined };

interface Step {
  readonly old: WorkerRecord;
  /** Undefined while the old one is ending and the new one has not been started. */
  fresh: WorkerRecord | undefined;
  isReadyReported: boolean;
  isExitReported: boolean;
}

export interface Batch {
  readonly reason: ExitReason;
  readonly purpose: Purpose;
  waiting: WorkerRecord[];
  step: Step | undefined;
  /** The next worker would end first, but is the only one that serves; or it is being replaced already. */
  isHeld: boolean;
  /** What old workers lost that did not drain properly. */
  readonly losses: string[];
}

/** What the pool decides and does. */
export interface ReplacementContext {
  plan(worker: WorkerRecord, reason: ExitReason): Plan;
  fork(now: number): WorkerRecord;
  /** Without pauses, for `bosun dev`. */
  readonly isQuick: boolean;
}

export class Replacements {
  readonly #workers: Workers;
  readonly #requests: Requests;
  readonly #pool: ReplacementContext;
  readonly #batches: Batch[] = [];
  /** No next worker is replaced before. */
  #restUntil = 0;

  constructor(workers: Workers, requests: Requests, pool: ReplacementContext) {
    this.#workers = workers;
    this.#requests = requests;
    this.#pool = pool;
  }

  /** Queues workers to be replaced; the next tick starts with them. */
  request(workers: readonly WorkerRecord[], reason: ExitReason, purpose: Purpose): void {
    this.#batches.push({ reason, purpose, waiting: [...workers], step: undefined, isHeld: false, losses: [] });
  }

  /** Ends every replacement: no further worker starts. */
  stop(now: number): void {
    for (const batch of [...this.#batches]) this.#end(batch, now, new AbandonedError('the pod is draining'));
  }

  /** Whether this worker is being replaced, is queued for it, or replaces another one. */
  isConcernedWith(worker: WorkerRecord): boolean {
    return this.isBusyWith(worker) || this.#batches.some(({ waiting }) => waiting.includes(worker));
  }

  /** Whether this worker is being replaced, is queued as hung, or replaces another one. */
  isBusyWith(worker: WorkerRecord): boolean {
    return this.#batches.some(
      ({ reason, step, waiting }) =>
        step?.old === worker || step?.fresh === worker || (reason === 'hung' && waiting.includes(worker)),
    );
  }

  /** Whether this worker runs beside the one it is to replace, and so is none of the wanted ones yet. */
  isExtra(worker: WorkerRecord): boolean {
    return this.#batches.some(({ step }) => step?.fresh === worker && isActive(step.old));
  }

  /** Whether an old worker is ending or has ended, and its successor does not serve yet. */
  get isBetween(): boolean {
    return this.#batches.some(({ step }) => step !== undefined && !isActive(step.old) && step.fresh?.readyAt === undefined);
  }

  /** How many workers must not start before the one that they replace has exited. */
  get leaving(): number {
    return this.#batches.filter(({ step }) => step !== undefined && step.fresh === undefined && step.old.state !== 'exited')
      .length;
  }

  /** The pool has started this worker, as successor of one that ended first, if there is one. */
  started(fresh: WorkerRecord): void {
    const batch = this.#batches.find(({ step }) => step !== undefined && step.fresh === undefined && step.old.state === 'exited');
    if (batch?.step === undefined) return;
    this.#reportExit(batch, batch.step);
    batch.step.fresh = fresh;
    this.#requests.progress(batch, `starting worker ${fresh.id} in its place`);
  }

  /** When `tick` has something to do by time alone. No worker is started before `mayForkAt`. */
  dueAt(mayForkAt: number): number {
    return Math.min(
      ...this.#current.map(batch => {
        if (batch.isHeld) return Number.POSITIVE_INFINITY;
        if (batch.step === undefined) return batch.waiting.length === 0 ? 0 : Math.max(mayForkAt, this.#mayBeginAt(batch));
        const { old, fresh } = batch.step;
        const waitsForProof = fresh !== undefined && (old.state === 'exited' || this.#mayEnd(old));
        return waitsForProof ? this.#isProvenAt(batch, fresh) : Number.POSITIVE_INFINITY;
      }),
    );
  }

  /**
   * Does what is due.
   * @param mayForkAt no worker is started before
   * @param isShort whether the pool has fewer workers than wanted, so that an ended one must be replaced
   */
  tick(now: number, mayForkAt: number, isShort: boolean): void {
    for (const batch of this.#current) {
      if (batch.step === undefined) this.#begin(batch, now, mayForkAt);
      else this.#continue(batch, batch.step, now, isShort);
    }
  }

  /** One batch after the other, except for hung workers: their clients would wait while another worker drains, for up to 25 s. */
  get #current(): Batch[] {
    const [, ...later] = this.#batches.filter(({ reason }) => reason !== 'hung');
    return this.#batches.filter(batch => !later.includes(batch));
  }

  #mayBeginAt({ reason }: Batch): number {
    return reason === 'hung' ? 0 : this.#restUntil;
  }

  #isProvenAt({ reason }: Batch, { readyAt = Number.POSITIVE_INFINITY }: WorkerRecord): number {
    if (this.#pool.isQuick) return readyAt;
    return readyAt + (reason === 'hung' ? PROVE_AGAINST_HUNG_MS : PROVE_MS);
  }

  /** Not while the new worker is cordoned and no other worker serves. */
  #mayEnd(old: WorkerRecord): boolean {
    return isActive(old) && (this.#workers.isHung(old) || this.#workers.mayLeave(old));
  }

  #begin(batch: Batch, now: number, mayForkAt: number): void {
    // Those that have ended by themselves are replaced like any that is missing.
    batch.waiting = batch.waiting.filter(isActive);
    const [old] = batch.waiting;
    if (old === undefined) this.#end(batch, now);
    if (old === undefined || now < mayForkAt || now < this.#mayBeginAt(batch)) return;
    // One that hangs, and is being replaced for that, gets no second successor.
    batch.isHeld = this.#batches.some(({ step }) => step?.old === old);
    if (batch.isHeld) return;
    const plan = this.#pool.plan(old, batch.reason);
    switch (plan.kind) {
      case 'refuse':
        this.#end(batch, now, new ReplacementRefusedError(`worker ${old.id} is not replaced: ${plan.why}`));
        break;
      case 'surge': {
        batch.waiting.shift();
        const fresh = this.#pool.fork(now);
        batch.step = { old, fresh, isReadyReported: false, isExitReported: false };
        this.#requests.progress(batch, `starting worker ${fresh.id} to replace worker ${old.id}`);
        break;
      }
      case 'old-first':
        batch.isHeld = !this.#mayEnd(old) && this.#requests.wanted > 1;
        if (batch.isHeld) return;
        batch.waiting.shift();
        batch.step = { old, fresh: undefined, isReadyReported: false, isExitReported: false };
        this.#requests.progress(batch, `draining worker ${old.id} before its successor starts (${plan.why}); connections wait`);
        this.#workers.end(old, batch.reason, now);
        break;
      default:
        plan satisfies never;
    }
  }

  #continue(batch: Batch, step: Step, now: number, isShort: boolean): void {
    const { old, fresh } = step;
    if (fresh?.readyAt !== undefined && !step.isReadyReported) {
      step.isReadyReported = true;
      const ms = Math.round(fresh.readyAt - fresh.startedAt);
      this.#requests.progress(batch, `worker ${fresh.id} (process ${fresh.pid}) serves after ${ms} ms`);
    }
    if (old.state === 'exited') this.#reportExit(batch, step);
    if (fresh?.state === 'exited' && fresh.reason === 'load-again') {
      // The next one loads the app as this one has found that it must be loaded. Without the old one, the pool starts it.
      step.fresh = isActive(old) ? this.#pool.fork(now) : undefined;
      return;
    }
    const isProven = fresh !== undefined && now >= this.#isProvenAt(batch, fresh);
    if (fresh !== undefined && isReplacedItself(fresh)) {
      // It did start, so this step did not fail.
      if (isActive(old)) batch.waiting.unshift(old);
      if (old.state !== 'draining') this.#endStep(batch, step, now);
    } else if (fresh !== undefined && !isActive(fresh) && (isActive(old) || (old.state === 'exited' && !isProven))) {
      batch.step = undefined;
      const why = `${fresh.reason === 'oom' ? 'oom: ' : ''}${fresh.failure ?? `it was ended (${fresh.reason})`}`;
      const text = `worker ${fresh.id}, to replace worker ${old.id}, failed to start: ${why}`;
      this.#end(batch, now, fresh.reason === 'restart' ? new AbandonedError(text) : new ReplacementError(text));
    } else if (old.state === 'exited') {
      // If fewer are wanted by now, there is no successor.
      if (fresh === undefined ? !isShort : isProven) this.#endStep(batch, step, now);
    } else if (isProven && this.#mayEnd(old)) {
      this.#requests.progress(batch, `draining worker ${old.id}`);
      this.#workers.end(old, batch.reason, now);
      this.#restUntil = now + WARM_UP_MS;
      if (this.#pool.isQuick) this.#endQuickly(batch, now);
    } else if (isProven && this.#pool.isQuick && !isActive(old)) this.#endQuickly(batch, now);
  }

  #endStep(batch: Batch, { old, fresh }: Step, now: number): void {
    batch.step = undefined;
    const { finished = 0, closedGracefully = 0, moved = 0 } = old.drain ?? {};
    // An idle worker leaves no load to warm up on, and of one that has moved its connections few clients must reconnect.
    if (moved > closedGracefully || (closedGracefully === 0 && finished === 0)) this.#restUntil = now;
    else if (fresh?.readyAt !== undefined) this.#restUntil = Math.max(this.#restUntil, fresh.readyAt + WARM_UP_MS);
  }

  #endQuickly(batch: Batch, now: number): void {
    batch.step = undefined;
    this.#restUntil = now;
  }

  #reportExit(batch: Batch, step: Step): void {
    if (step.isExitReported) return;
    step.isExitReported = true;
    const { id, reason, failure, drain, snapshot } = step.old;
    if (drain !== undefined) {
      const { finished, cutRequests, durationMs } = drain;
      this.#requests.progress(batch, `worker ${id} is gone: ${finished} requests finished, ${cutRequests} cut, ${durationMs} ms`);
      return;
    }
    const text = `worker ${id} ${howEnded(reason, failure)} and lost its open requests (${snapshot?.inFlight ?? 0} in its last report)`;
    this.#requests.progress(batch, text);
    if (reason === 'oom' || reason === 'killed') batch.losses.push(text);
  }

  #end(batch: Batch, now: number, error?: ReplacementError): void {
    this.#batches.splice(this.#batches.indexOf(batch), 1);
    const { losses } = batch;
    this.#requests.replaced(batch, error ?? (losses.length > 0 ? new RequestsLostError(losses.join('; ')) : undefined), now);
  }
}

function howEnded(reason: ExitReason | undefined, failure: string | undefined): string {
  if (reason === 'oom') return 'was killed by the kernel for lack of memory (oom)';
  return reason === 'killed' ? 'was killed' : `ended (${reason}${failure === undefined ? '' : `: ${failure}`})`;
}

/** Whether a worker served and then had to leave, for a later restart or a smaller pool. */
function isReplacedItself({ state, readyAt, reason }: WorkerRecord): boolean {
  return !isActive({ state }) && readyAt !== undefined && reason !== undefined && reason !== 'killed' && !isCrash(reason);
}
