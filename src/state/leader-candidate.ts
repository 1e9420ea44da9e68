/**
 * A candidate for the lead under one name, as a state machine: an event and the time go in, effects come out. It has no timer, no Redis
 * and no app: worker/kit/leader-runner.ts carries the effects out. Times are milliseconds of the monotonic clock, passed in.
 *
 * waiting → leading → ending → waiting, or stopped after the drain. While its start function still runs, it does not try to lead again.
 */

/** All in milliseconds. */
export interface LeaderTimes {
  /** The lock expires this long after its last renewal. */
  ttl: number;
  /** A term ends that much before: for clocks that run at different speeds, and for what the app has just begun. */
  margin: number;
  /** Between two renewals, and after one that failed. */
  renewEvery: number;
  retryEvery: number;
  /** Between two attempts to get the lock; each waits for half of it at least. */
  pollEvery: number;
  /** After `bosun leader NAME --release` this worker leaves the lock to others for so long. */
  holdOff: number;
  /** After the start function has failed: doubled with each failure in a row. */
  firstBackoff: number;
  maxBackoff: number;
}

/** A holder that is killed is followed after at most `ttl` and half a second. */
export const LEADER_TIMES: LeaderTimes = {
  ttl: 5000,
  margin: 1000,
  renewEvery: 1000,
  retryEvery: 250,
  pollEvery: 1000,
  holdOff: 5000,
  firstBackoff: 1000,
  maxBackoff: 30_000,
};

/** How long a start function may take to end after its abort, unless the drain is shorter. The lock is kept meanwhile. */
export const GRACE_MS = 10_000;

/** Attempts that are due at the same moment are spread over this time. */
const SPREAD_MS = 200;

export type GiveUpReason = 'drain' | 'request';
export type LostReason = 'expired' | 'taken';
export type ReleaseReason = GiveUpReason | 'failed';

export type CandidateEvent =
  | { type: 'tick' }
  /** The lock is ours; `sentAt` is when the request for it was sent. */
  | { type: 'acquired'; token: number; sentAt: number }
  /** We do not have it: the last token, and how long the lock of another one lasts if it is not renewed; below 0 if that is unknown. */
  | { type: 'held'; token: number; leftMs: number }
  /** The request failed. It may have had an effect. */
  | { type: 'not-acquired' }
  | { type: 'renewed'; sentAt: number }
  /** Another one has the lock, or nobody has. */
  | { type: 'taken' }
  | { type: 'not-renewed' }
  /** The start function has ended. */
  | { type: 'settled'; hasFailed: boolean }
  /** A token that was seen elsewhere; `isFree`: its holder has released the lock. */
  | { type: 'seen'; token: number; isFree: boolean }
  /** `isFinal`: this worker is about to exit. */
  | { type: 'give-up'; why: GiveUpReason; graceMs: number; isFinal: boolean };

export type CandidateEffect =
  /** Each request is answered by an event before the next one is sent. */
  | { type: 'acquire'; owner: string; seen: number }
  | { type: 'renew'; owner: string }
  /** `term` is the one that ends by it; without one, the lock was not used. */
  | { type: 'release'; owner: string; term?: { token: number; why: ReleaseReason } }
  | { type: 'start'; token: number; owner: string }
  /** After the effect that ends the term, if the lock is lost. */
  | { type: 'abort' }
  | { type: 'lost'; token: number; why: LostReason }
  /** The start function goes on without the lock. */
  | { type: 'ignored'; token: number };

export class Candidate {
  readonly #times: LeaderTimes;
  readonly #newOwner: () => string;
  readonly #random: () => number;
  #phase: 'waiting' | 'leading' | 'ending' | 'stopped' = 'waiting';
  /** Of the current attempt or term: an attempt whose answer was lost is repeated with the same one, and finds its own lock. */
  #owner: string;
  #token = 0;
  #heldUntil = Number.NEGATIVE_INFINITY;
  #nextAt = Number.NEGATIVE_INFINITY;
  /** Until then other candidates go first. */
  #notBefore = Number.NEGATIVE_INFINITY;
  #isPending = false;
  /** An attempt without an answer may have acquired the lock. */
  #mayHold = false;
  /** The start function has been called and has not ended. */
  #isRunning = false;
  /** When a start function that goes on after its abort counts as one that ignores it. */
  #graceEndsAt = Number.POSITIVE_INFINITY;
  #end: { why: GiveUpReason; isFinal: boolean } = { why: 'request', isFinal: false };
  #failures = 0;
  #seen = 0;
  #effects: CandidateEffect[] = [];

  /** `newOwner` makes a name that nobody else has, `random` returns 0 to 1. */
  constructor(times: LeaderTimes, newOwner: () => string, random: () => number = Math.random) {
    this.#times = times;
    this.#newOwner = newOwner;
    this.#random = random;
    this.#owner = newOwner();
  }

  /** Until when this worker has the lock for certain, unless it releases it. */
  get heldUntil(): number {
    return this.#heldUntil;
  }

  /** It will not lead any more. Its start function may still run. */
  get isStopped(): boolean {
    return this.#phase === 'stopped';
  }

  /** When the next tick is due. */
  get dueAt(): number {
    const nextAt = this.#isPending ? Number.POSITIVE_INFINITY : this.#nextAt;
    if (this.#hasLock) return Math.min(this.#heldUntil, nextAt, this.#phase === 'ending' ? this.#graceEndsAt : nextAt);
    if (this.#isRunning) return this.#graceEndsAt;
    return this.#phase === 'waiting' ? nextAt : Number.POSITIVE_INFINITY;
  }

  apply(event: CandidateEvent, now: number): CandidateEffect[] {
    this.#effects = [];
    // An answer that comes too late must not end a term that has already expired in another way.
    if (this.#hasLock && now >= this.#heldUntil) this.#lose('expired', now);
    this.#handle(event, now);
    this.#proceed(now);
    return this.#effects;
  }

  get #hasLock(): boolean {
    return this.#phase === 'leading' || this.#phase === 'ending';
  }

  #handle(event: CandidateEvent, now: number): void {
    switch (event.type) {
      case 'tick':
        break;
      case 'acquired':
        this.#isPending = false;
        this.#acquired(event.token, event.sentAt, now);
        break;
      case 'held':
        this.#isPending = false;
        this.#renewOwner(); // a release of the old one may still be in flight
        this.#seen = Math.max(this.#seen, event.token);
        this.#nextAt = now + this.#untilNextPoll(event.leftMs);
        break;
      case 'not-acquired':
        this.#isPending = false;
        this.#mayHold = true;
        this.#nextAt = now + this.#untilNextPoll();
        break;
      case 'renewed':
        this.#isPending = false;
        if (this.#hasLock) this.#extend(event.sentAt);
        break;
      case 'not-renewed':
        this.#isPending = false;
        if (this.#hasLock) this.#nextAt = now + this.#times.retryEvery;
        break;
      case 'taken':
        this.#isPending = false;
        if (this.#hasLock) this.#lose('taken', now);
        break;
      case 'settled':
        this.#settled(event.hasFailed, now);
        break;
      case 'seen':
        this.#seen = Math.max(this.#seen, event.token);
        if (event.isFree && this.#phase === 'waiting')
          this.#nextAt = Math.min(this.#nextAt, Math.max(this.#notBefore, now + this.#random() * SPREAD_MS));
        break;
      case 'give-up':
        this.#giveUp(event, now);
        break;
      default:
        event satisfies never;
    }
  }

  /** What is due now. */
  #proceed(now: number): void {
    if (this.#phase === 'ending' && (!this.#isRunning || now >= this.#graceEndsAt)) this.#release(this.#end.why, now);
    if (this.#isRunning && !this.#hasLock && now >= this.#graceEndsAt) {
      this.#graceEndsAt = Number.POSITIVE_INFINITY;
      this.#effects.push({ type: 'ignored', token: this.#token });
    }
    if (this.#isPending || now < this.#nextAt) return;
    if (this.#hasLock) this.#request({ type: 'renew', owner: this.#owner });
    else if (this.#phase === 'waiting' && !this.#isRunning)
      this.#request({ type: 'acquire', owner: this.#owner, seen: this.#seen });
  }

  #request(effect: CandidateEffect): void {
    this.#isPending = true;
    this.#effects.push(effect);
  }

  #acquired(token: number, sentAt: number, now: number): void {
    const isTooLate = now >= sentAt + this.#times.ttl - this.#times.margin;
    // Another one has led with that token since the attempt was sent, and Redis has lost it.
    const isOutdated = token <= this.#seen;
    this.#seen = Math.max(this.#seen, token);
    if (this.#phase !== 'waiting' || isTooLate || isOutdated) {
      this.#effects.push({ type: 'release', owner: this.#owner });
      this.#renewOwner();
      this.#nextAt = now + this.#untilNextPoll();
      return;
    }
    this.#phase = 'leading';
    this.#token = token;
    this.#mayHold = false;
    this.#isRunning = true;
    this.#graceEndsAt = Number.POSITIVE_INFINITY;
    this.#extend(sentAt);
    this.#effects.push({ type: 'start', token, owner: this.#owner });
  }

  #extend(sentAt: number): void {
    this.#heldUntil = sentAt + this.#times.ttl - this.#times.margin;
    this.#nextAt = sentAt + this.#times.renewEvery * (0.8 + this.#random() / 5);
  }

  #settled(hasFailed: boolean, now: number): void {
    this.#isRunning = false;
    this.#graceEndsAt = Number.POSITIVE_INFINITY;
    if (this.#phase !== 'leading') return;
    if (!hasFailed) {
      this.#failures = 0; // its work is done, or goes on without it: this worker leads until something ends the term
      return;
    }
    this.#release('failed', now);
    this.#effects.push({ type: 'abort' });
    const { firstBackoff, maxBackoff } = this.#times;
    this.#notBefore = now + Math.min(firstBackoff * 2 ** this.#failures++, maxBackoff) * (0.5 + this.#random() / 2);
    this.#nextAt = this.#notBefore;
  }

  #giveUp({ why, graceMs, isFinal }: Extract<CandidateEvent, { type: 'give-up' }>, now: number): void {
    const graceEndsAt = now + graceMs;
    if (this.#phase === 'leading') {
      this.#phase = 'ending';
      this.#end = { why, isFinal };
      this.#graceEndsAt = graceEndsAt;
      this.#effects.push({ type: 'abort' });
    } else if (this.#phase === 'ending' && isFinal) {
      this.#end = { why, isFinal };
      this.#graceEndsAt = Math.min(this.#graceEndsAt, graceEndsAt);
    } else if (this.#phase === 'waiting' && isFinal) {
      this.#phase = 'stopped';
      if (this.#isPending || this.#mayHold) this.#effects.push({ type: 'release', owner: this.#owner });
    }
  }

  #release(why: ReleaseReason, now: number): void {
    this.#effects.push({ type: 'release', owner: this.#owner, term: { token: this.#token, why } });
    if (this.#isRunning) this.#graceEndsAt = now;
    this.#notBefore = now + this.#times.holdOff;
    this.#endTerm(this.#notBefore);
  }

  /** The lock is left to expire: what the app has just begun may need the rest of its time. */
  #lose(why: LostReason, now: number): void {
    this.#effects.push({ type: 'lost', token: this.#token, why });
    if (this.#phase === 'leading') {
      this.#effects.push({ type: 'abort' });
      this.#graceEndsAt = now + GRACE_MS;
    }
    this.#endTerm(now + this.#untilNextPoll());
  }

  #endTerm(nextAt: number): void {
    this.#phase = this.#phase === 'ending' && this.#end.isFinal ? 'stopped' : 'waiting';
    this.#heldUntil = Number.NEGATIVE_INFINITY;
    this.#nextAt = nextAt;
    this.#renewOwner();
  }

  /** Every term has an owner of its own: a lock that an earlier one has left in Redis is not taken for the new one's. */
  #renewOwner(): void {
    this.#owner = this.#newOwner();
    this.#mayHold = false;
  }

  #untilNextPoll(leftMs = -1): number {
    const ms = this.#times.pollEvery * (0.5 + this.#random() / 2);
    return leftMs < 0 ? ms : Math.min(ms, leftMs + this.#random() * SPREAD_MS);
  }
}
