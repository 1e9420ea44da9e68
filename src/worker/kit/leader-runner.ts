/**
 * Carries out what a candidate decides: sends requests to the lock, calls the app's start function, aborts its signal, and reports to the primary.
 */
import type { LogSource } from '../../log/log.ts';
import type { LeaderReport, LeaderScope } from '../../protocol/leader.ts';
import { monotonicMs } from '../../protocol/messages.ts';
import {
  Candidate,
  type CandidateEffect,
  type CandidateEvent,
  type GiveUpReason,
  type LeaderTimes,
} from '../../state/leader-candidate.ts';
import type { Acquired, Held, LeaderLock } from '../../state/leader-lock.ts';
import { NotReplicatedError } from '../../state/replica-wait.ts';
import { loggable } from '../error-report.ts';
import type { Start } from './leaders.ts';

/** Of setTimeout. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

/** This worker does not lead any more, or cannot be certain that it does. */
export class LeaderLostError extends Error {
  override readonly name = 'LeaderLostError';
  readonly code = 'ERR_LEADER_LOST';

  constructor(name: string, token: number) {
    super(`this worker does not lead ${JSON.stringify(name)} with token ${token} any more`);
  }
}

type Step<T> = T extends unknown ? Omit<T, 'name' | 'scope'> : never;

export interface RunnerOptions {
  name: string;
  scope: LeaderScope;
  start: Start;
  lock: LeaderLock;
  times: LeaderTimes;
  log: LogSource;
  report: (report: Step<LeaderReport>) => void;
}

interface Term {
  token: number;
  isOver: boolean;
  readonly ending: AbortController;
}

export class LeaderRunner {
  readonly #options: RunnerOptions;
  readonly #candidate: Candidate;
  readonly #stopped = Promise.withResolvers<void>();
  /** The last release. */
  #released: Promise<void> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;
  #term: Term | undefined;
  /** The token of the leader that was last reported. */
  #reported: number | undefined;

  constructor(options: RunnerOptions) {
    this.#options = options;
    this.#candidate = new Candidate(options.times, () => crypto.randomUUID());
  }

  get scope(): LeaderScope {
    return this.#options.scope;
  }

  /** Of its current term. */
  get token(): number | undefined {
    return this.#term?.isOver === false ? this.#term.token : undefined;
  }

  begin(): void {
    if (this.#options.scope === 'fleet') this.#options.report({ step: 'waits' });
    this.#apply({ type: 'tick' });
  }

  onSeen(token: number, isFree: boolean): void {
    this.#apply({ type: 'seen', token, isFree });
  }

  giveUp(why: GiveUpReason, graceMs: number): void {
    this.#apply({ type: 'give-up', why, graceMs, isFinal: false });
  }

  /** Resolves when it leads no more, and the lock is free for others, or Redis does not answer. */
  async stop(graceMs: number): Promise<void> {
    this.#apply({ type: 'give-up', why: 'drain', graceMs, isFinal: true });
    await this.#stopped.promise;
    await this.#released;
  }

  #apply(event: CandidateEvent): void {
    for (const effect of this.#candidate.apply(event, monotonicMs())) this.#carryOut(effect);
    clearTimeout(this.#timer);
    if (this.#candidate.isStopped) this.#stopped.resolve();
    const { dueAt } = this.#candidate;
    if (dueAt === Number.POSITIVE_INFINITY) return;
    const ms = Math.min(MAX_TIMEOUT_MS, Math.max(0, Math.ceil(dueAt - monotonicMs())));
    this.#timer = setTimeout(() => this.#apply({ type: 'tick' }), ms).unref();
  }

  #carryOut(effect: CandidateEffect): void {
    const { name, report, log } = this.#options;
    switch (effect.type) {
      case 'acquire':
        void this.#acquire(effect.owner, effect.seen);
        break;
      case 'renew':
        void this.#renew(effect.owner);
        break;
      case 'release':
        if (effect.term !== undefined) this.#endTerm();
        this.#released = this.#release(effect.owner, effect.term);
        break;
      case 'start':
        this.#term = { token: effect.token, isOver: false, ending: new AbortController() };
        this.#reported = undefined;
        report({ step: 'leads', token: effect.token, owner: effect.owner });
        void this.#run(this.#term);
        break;
      case 'abort':
        this.#abort();
        break;
      case 'lost':
        this.#endTerm();
        report({ step: 'lost', token: effect.token, why: effect.why });
        break;
      case 'ignored': {
        const warning =
          'the start function goes on after its signal has aborted: it must end, and check assertHeld() before each step';
        log().error({ event: 'leader.ignores-abort', name, term: effect.token, warning });
        break;
      }
      default:
        effect satisfies never;
    }
  }

  /** What a listener throws is an uncaught error, as with every event target. */
  #abort(): void {
    const term = this.#term;
    term?.ending.abort(new LeaderLostError(this.#options.name, term.token));
  }

  #endTerm(): void {
    if (this.#term !== undefined) this.#term.isOver = true;
  }

  async #run(term: Term): Promise<void> {
    const { name, start, log } = this.#options;
    const { signal } = term.ending;
    const assertHeld = () => {
      if (!term.isOver) this.#apply({ type: 'tick' }); // by the clock: a blocked loop runs no timers
      if (term.isOver) throw new LeaderLostError(name, term.token);
    };
    let hasFailed = false;
    try {
      await null; // after the effects of this event
      await start({ signal, token: term.token, assertHeld });
    } catch (error) {
      hasFailed = !signal.aborted || (error !== signal.reason && (error as Error | undefined)?.name !== 'AbortError');
      if (hasFailed) log().error({ event: 'leader.failed', name, term: term.token, err: loggable(error) });
    }
    this.#apply({ type: 'settled', hasFailed });
  }

  async #acquire(owner: string, seen: number): Promise<void> {
    const sentAt = monotonicMs();
    try {
      const answer = await this.#options.lock.acquire(owner, seen);
      this.#onAnswer(answer, sentAt);
    } catch (error) {
      // Its lock was released: it is not ours for certain.
      if (error instanceof NotReplicatedError) this.#apply({ type: 'held', token: 0, leftMs: -1 });
      else this.#apply({ type: 'not-acquired' });
    }
  }

  #onAnswer(answer: Acquired | Held, sentAt: number): void {
    if ('token' in answer) {
      // In the scope `pod` it is granted long after the request: there the term does not expire.
      this.#apply({ type: 'acquired', token: answer.token, sentAt });
      return;
    }
    const { holder, lastToken, leftMs } = answer;
    if (holder !== undefined && holder.token !== this.#reported) {
      this.#reported = holder.token;
      this.#options.report({ step: 'waits', holder });
    }
    this.#apply({ type: 'held', token: lastToken, leftMs });
  }

  async #renew(owner: string): Promise<void> {
    const sentAt = monotonicMs();
    try {
      const isHeld = await this.#options.lock.renew(owner);
      this.#apply(isHeld ? { type: 'renewed', sentAt } : { type: 'taken' });
    } catch {
      this.#apply({ type: 'not-renewed' });
    }
  }

  /** Reported once the lock is free: the primary then notifies the others. */
  async #release(owner: string, term: { token: number; why: GiveUpReason | 'failed' } | undefined): Promise<void> {
    // If Redis does not answer, the lock expires.
    await this.#options.lock.release(owner).catch(() => undefined);
    this.#options.report({ step: 'released', why: 'drain', ...term });
  }
}
