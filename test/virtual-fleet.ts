/**
 * Candidates for one lock in virtual time, over a simulated Redis with one replica. The scripts of leader-lock.ts are simulated by what they
 * promise; leader-lock.test.ts runs them on a real Redis.
 */
import { Candidate, type CandidateEffect, type CandidateEvent, GRACE_MS, LEADER_TIMES } from '../src/state/leader-candidate.ts';
import { seededRandom } from './random.ts';

const { ttl } = LEADER_TIMES;
const COMMAND_TIMEOUT_MS = 500;
const MAX_WAY_MS = 40;
const STEP_MS = 10;

/** `loss`: one request in eight, or its answer, for the whole time. */
export type Trouble = 'loss' | 'pause' | 'kill' | 'freeze' | 'release' | 'fail' | 'failover' | 'flush' | 'clock';

interface Data {
  lock?: { owner: string; token: number; expiresAt: number };
  last: number;
}

/** By its own clock, which is not ours. */
class VirtualRedis {
  #offsetMs = 1_000_000;
  #data: Data = { last: 0 };
  #replica: Data = { last: 0 };
  frozenUntil = 0;

  /** @returns the token, or of another one's lock its token and how long it lasts */
  acquire(owner: string, seen: number, now: number): { isOurs: boolean; token: number; leftMs: number } {
    const at = now + this.#offsetMs;
    const lock = this.#lock(now);
    if (lock !== undefined && lock.owner !== owner)
      return { isOurs: false, token: Math.max(lock.token, this.#data.last), leftMs: lock.expiresAt - at };
    const token = lock?.token ?? Math.max(Math.floor(at * 1000), this.#data.last + 1, seen + 1);
    this.#data = { lock: { owner, token, expiresAt: at + ttl }, last: Math.max(this.#data.last, token) };
    this.replicate(); // WAIT: only what it has confirmed is used
    return { isOurs: true, token, leftMs: ttl };
  }

  renew(owner: string, now: number): boolean {
    const lock = this.#lock(now);
    if (lock?.owner !== owner) return false;
    this.#data = { ...this.#data, lock: { ...lock, expiresAt: now + this.#offsetMs + ttl } };
    return true;
  }

  release(owner: string, now: number): void {
    if (this.#lock(now)?.owner === owner) this.#data = { last: this.#data.last };
  }

  replicate(): void {
    this.#replica = this.#data;
  }

  /** The replica takes over with what it has, and with its own clock. */
  failOver(offsetMs: number): void {
    this.#data = this.#replica;
    this.#offsetMs = offsetMs;
  }

  flush(): void {
    this.#data = { last: 0 };
    this.replicate();
  }

  step(offsetMs: number): void {
    this.#offsetMs = offsetMs;
  }

  get offsetMs(): number {
    return this.#offsetMs;
  }

  #lock(now: number): Data['lock'] {
    const { lock } = this.#data;
    return lock !== undefined && lock.expiresAt > now + this.#offsetMs ? lock : undefined;
  }
}

interface Worker {
  it: Candidate;
  id: number;
  pausedUntil: number;
  isDead: boolean;
  /** Answers and notices that it has not read yet. */
  unread: { at: number; event: CandidateEvent }[];
  term: Term | undefined;
}

interface Term {
  token: number;
  owner: string;
  isAborted: boolean;
}

export class VirtualFleet {
  /** Every term that has started. */
  readonly terms: Term[] = [];
  /** Two that had the lock at the same time, each by its own clock. */
  readonly overlaps: string[] = [];
  /** A term whose token was not above those of all terms for which Redis gave the lock before. */
  readonly disorders: string[] = [];
  /** A candidate that was awake, and whose signal had not aborted at the end of its term. */
  readonly unaborted: string[] = [];
  /** The owners and tokens for which Redis gave the lock, in this order. */
  readonly #issued: string[] = [];
  readonly #random: () => number;
  readonly #troubles: readonly Trouble[];
  readonly #redis = new VirtualRedis();
  readonly #network: { at: number; run: () => void }[] = [];
  readonly #timers: { at: number; run: () => void }[] = [];
  #candidates: Worker[] = [];
  #owners = 0;
  #workers = 0;
  #now = 0;

  constructor(seed: number, troubles: readonly Trouble[]) {
    this.#random = seededRandom(seed);
    this.#troubles = troubles;
    for (let count = 0; count < 4; count++) this.#join();
  }

  /** Those that may act as the leader now. */
  get holding(): Worker[] {
    return this.#candidates.filter(({ it, isDead }) => !isDead && this.#now < it.heldUntil);
  }

  killHolder(): void {
    for (const holder of this.holding) this.#replace(holder);
  }

  run(ms: number): void {
    for (const end = this.#now + ms; this.#now < end; this.#now += STEP_MS) {
      const trouble = this.#troubles[Math.floor(this.#random() * this.#troubles.length)];
      if (trouble !== undefined && this.#random() < STEP_MS / 2500) this.#cause(trouble);
      if (this.#random() < 0.02) this.#redis.replicate();
      if (this.#now >= this.#redis.frozenUntil) for (const { run } of this.#due(this.#network)) run();
      for (const { run } of this.#due(this.#timers)) run();
      for (const candidate of this.#candidates) this.#live(candidate);
      this.#check();
    }
  }

  #check(): void {
    const { holding } = this;
    if (holding.length > 1) this.overlaps.push(`${this.#now}: ${holding.map(({ id }) => id)}`);
    for (const { id, term, it, pausedUntil } of this.#candidates)
      if (term !== undefined && !term.isAborted && it.heldUntil <= this.#now && pausedUntil <= this.#now)
        this.unaborted.push(`${this.#now}: ${id}`);
  }

  #compare(started: Term): void {
    const orderOf = ({ owner, token }: Term) => this.#issued.indexOf(`${owner} ${token}`);
    for (const term of this.terms)
      if (Math.sign(term.token - started.token) !== Math.sign(orderOf(term) - orderOf(started)))
        this.disorders.push(`${this.#now}: ${started.token} beside ${term.token}`);
  }

  #cause(trouble: Trouble): void {
    const any = this.#candidates[Math.floor(this.#random() * this.#candidates.length)];
    if (any === undefined) return;
    const offsetMs = Math.max(0, this.#redis.offsetMs + (this.#random() - 0.5) * 600_000);
    switch (trouble) {
      case 'loss':
        break;
      case 'pause':
        any.pausedUntil = this.#now + this.#random() * 12_000;
        break;
      case 'kill':
        this.#replace(any);
        break;
      case 'freeze':
        this.#redis.frozenUntil = this.#now + this.#random() * 8000;
        break;
      case 'release':
        any.unread.push({ at: this.#now, event: { type: 'give-up', why: 'request', graceMs: GRACE_MS, isFinal: false } });
        break;
      case 'fail':
        if (any.term !== undefined) any.unread.push({ at: this.#now, event: { type: 'settled', hasFailed: true } });
        break;
      case 'failover':
        this.#redis.failOver(offsetMs);
        break;
      case 'flush':
        this.#redis.flush();
        break;
      case 'clock':
        this.#redis.step(offsetMs);
        break;
      default:
        trouble satisfies never;
    }
  }

  #join(): void {
    const it = new Candidate(LEADER_TIMES, () => `owner ${++this.#owners}`, this.#random);
    this.#candidates.push({ it, id: ++this.#workers, pausedUntil: 0, isDead: false, unread: [], term: undefined });
  }

  #replace(candidate: Worker): void {
    candidate.isDead = true;
    this.#candidates = this.#candidates.filter(each => each !== candidate);
    this.#join();
  }

  #due<T extends { at: number }>(queue: T[]): T[] {
    const due = queue.filter(({ at }) => at <= this.#now);
    queue.splice(0, queue.length, ...queue.filter(({ at }) => at > this.#now));
    return due;
  }

  #live(candidate: Worker): void {
    if (this.#now < candidate.pausedUntil) return;
    for (const { event } of this.#due(candidate.unread)) {
      if (event.type === 'settled') candidate.term = undefined;
      this.#carryOut(candidate, candidate.it.apply(event, this.#now));
    }
    if (this.#now >= candidate.it.dueAt) this.#carryOut(candidate, candidate.it.apply({ type: 'tick' }, this.#now));
  }

  #carryOut(candidate: Worker, effects: CandidateEffect[]): void {
    for (const effect of effects) {
      switch (effect.type) {
        case 'acquire':
        case 'renew':
          this.#request(candidate, effect);
          break;
        case 'release':
          this.#network.push({ at: this.#arrival(), run: () => this.#redis.release(effect.owner, this.#now) });
          break;
        case 'start':
          candidate.term = { token: effect.token, owner: effect.owner, isAborted: false };
          this.#compare(candidate.term);
          this.terms.push(candidate.term);
          // The primary announces it.
          for (const { unread } of this.#candidates)
            unread.push({ at: this.#now, event: { type: 'seen', token: effect.token, isFree: false } });
          break;
        case 'abort':
          if (candidate.term === undefined) break;
          candidate.term.isAborted = true;
          candidate.unread.push({ at: this.#now + this.#random() * 2000, event: { type: 'settled', hasFailed: false } });
          break;
        case 'lost':
        case 'ignored':
          break;
        default:
          effect satisfies never;
      }
    }
  }

  #request(candidate: Worker, effect: Extract<CandidateEffect, { type: 'acquire' | 'renew' }>): void {
    const sentAt = this.#now;
    let isAnswered = false;
    const answer = (at: number, event: CandidateEvent) => {
      if (!isAnswered) candidate.unread.push({ at, event });
      isAnswered = true;
    };
    const lost = this.#troubles.includes('loss') ? this.#random() : 0.5;
    const arrive = () => {
      const event = this.#answerTo(effect, sentAt);
      if (lost > 1 / 16 && this.#now < sentAt + COMMAND_TIMEOUT_MS) answer(this.#arrival(), event);
    };
    if (lost < 15 / 16) this.#network.push({ at: this.#arrival(), run: arrive });
    // Read by the candidate when it is awake.
    const timeOut: CandidateEvent = { type: effect.type === 'renew' ? 'not-renewed' : 'not-acquired' };
    this.#timers.push({ at: sentAt + COMMAND_TIMEOUT_MS, run: () => answer(this.#now, timeOut) });
  }

  #answerTo(effect: Extract<CandidateEffect, { type: 'acquire' | 'renew' }>, sentAt: number): CandidateEvent {
    if (effect.type === 'renew')
      return this.#redis.renew(effect.owner, this.#now) ? { type: 'renewed', sentAt } : { type: 'taken' };
    const { isOurs, token, leftMs } = this.#redis.acquire(effect.owner, effect.seen, this.#now);
    if (!isOurs) return { type: 'held', token, leftMs };
    const given = `${effect.owner} ${token}`;
    if (!this.#issued.includes(given)) this.#issued.push(given);
    return { type: 'acquired', token, sentAt };
  }

  #arrival(): number {
    return this.#now + this.#random() * MAX_WAY_MS;
  }
}
