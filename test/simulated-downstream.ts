/**
 * A downstream that answers only so many requests at once, the others wait in it; requests that come when they come (Poisson), and the limit in
 * between, in virtual time.
 */
import { ConcurrencyLimit, WINDOW_MS } from '../src/worker/concurrency/limit.ts';
import { Waiting } from '../src/worker/concurrency/waiting.ts';
import { type Random, seededRandom } from './random.ts';

export interface SimulatedRoute {
  path: string;
  /** Of all requests. */
  share: number;
  /** Mean time that the downstream takes for one. */
  ms: number;
  /** It takes none of the downstream's places. */
  isFree?: boolean;
}

export interface Phase {
  seconds: number;
  /** Requests per second. */
  rate: number;
  /** Requests that the downstream answers at once. */
  capacity: number;
  routes: SimulatedRoute[];
  /** The time of one, as a factor of the mean. */
  spread?: (random: Random) => number;
  /** Clients leave after this. */
  patienceMs?: number;
  /** Share of requests that fail at once. */
  failing?: number;
}

export interface Result {
  answered: number;
  turnedAway: number;
  left: number;
  latencies: number[];
  /** Of the limit, at each tick. */
  limits: number[];
}

export const exponential = (random: Random) => -Math.log(1 - random());

interface Event {
  at: number;
  run: () => void;
}

export class Simulation {
  readonly limit = new ConcurrencyLimit();
  readonly #waiting = new Waiting<() => void>();
  readonly #random: Random;
  readonly #isLimited: boolean;
  readonly #events: Event[] = [];
  #phase: Phase | undefined;
  #result: Result | undefined;
  #busy = 0;
  readonly #queue: (() => void)[] = [];
  now = 0;

  constructor(seed: number, isLimited = true) {
    this.#random = seededRandom(seed);
    this.#isLimited = isLimited;
    const tick = () => {
      this.limit.tick(this.now);
      this.#result?.limits.push(this.limit.limit);
      this.#admit();
      this.#at(WINDOW_MS, tick);
    };
    this.#at(WINDOW_MS, tick);
  }

  run(phase: Phase): Result {
    const result: Result = { answered: 0, turnedAway: 0, left: 0, latencies: [], limits: [] };
    this.#phase = phase;
    this.#result = result;
    const end = this.now + phase.seconds * 1000;
    const arrive = () => {
      if (this.#phase !== phase) return;
      this.#arrive(phase);
      this.#at((exponential(this.#random) * 1000) / phase.rate, arrive);
    };
    this.#at(0, arrive);
    for (let event = this.#events[0]; event !== undefined && event.at < end; event = this.#events[0]) {
      this.#pop();
      this.now = event.at;
      event.run();
    }
    this.now = end;
    return result;
  }

  #arrive(phase: Phase): void {
    const at = this.now;
    const route = this.#pick(phase.routes);
    const isFailing = this.#random() < (phase.failing ?? 0);
    const ms = isFailing ? 0.2 : route.ms * (phase.spread?.(this.#random) ?? 1);
    const result = this.#result;
    const serve = () => {
      if (phase.patienceMs !== undefined && this.now - at >= phase.patienceMs) {
        if (result !== undefined) result.left++;
        return;
      }
      const handled = this.limit.begin(() => route.path, this.now);
      let isDone = false;
      const done = (isGood: boolean) => {
        if (isDone) return;
        isDone = true;
        this.limit.answered(handled, isGood, this.now);
        this.limit.release(handled);
        this.#admit();
      };
      const answer = () => {
        if (!isDone && result !== undefined) {
          if (!isFailing) result.answered++;
          result.latencies.push(this.now - at);
        }
        done(!isFailing);
      };
      if (phase.patienceMs !== undefined)
        this.#at(Math.max(0, at + phase.patienceMs - this.now), () => {
          if (!isDone && result !== undefined) result.left++;
          done(false);
        });
      if (isFailing || route.isFree) this.#at(ms, answer);
      else this.#downstream(ms, answer);
    };
    if (!this.#isLimited || (!this.limit.isFull && this.#waiting.size === 0)) {
      serve();
      return;
    }
    this.limit.onWaiting();
    if (!this.#waiting.add(serve, this.limit.limit, this.now) && result !== undefined) result.turnedAway++;
    this.#at(this.#waiting.maxWaitMs(this.limit.latencyMs, this.now), () => this.#admit());
  }

  #pick(routes: readonly SimulatedRoute[]): SimulatedRoute {
    let left = this.#random();
    for (const route of routes) {
      left -= route.share;
      if (left < 0) return route;
    }
    throw new Error('the shares of the routes add up to less than 1');
  }

  #admit(): void {
    const overdue = this.#waiting.takeOverdue(this.#waiting.maxWaitMs(this.limit.latencyMs, this.now), this.now);
    if (this.#result !== undefined) this.#result.turnedAway += overdue.length;
    while (!this.limit.isFull) {
      const serve = this.#waiting.take();
      if (serve === undefined) return;
      serve();
    }
  }

  #downstream(ms: number, answer: () => void): void {
    const begin = () => {
      this.#busy++;
      this.#at(ms, () => {
        this.#busy--;
        while (this.#busy < (this.#phase?.capacity ?? 1) && this.#queue.length > 0) this.#queue.shift()?.();
        answer();
      });
    };
    if (this.#busy < (this.#phase?.capacity ?? 1)) begin();
    else this.#queue.push(begin);
  }

  /** A binary heap: the next event comes first. */
  #at(inMs: number, run: () => void): void {
    const events = this.#events;
    events.push({ at: this.now + inMs, run });
    for (let child = events.length - 1; child > 0; ) {
      const parent = (child - 1) >> 1;
      if ((events[parent] as Event).at <= (events[child] as Event).at) break;
      [events[parent], events[child]] = [events[child] as Event, events[parent] as Event];
      child = parent;
    }
  }

  #pop(): void {
    const events = this.#events;
    const last = events.pop() as Event;
    if (events.length === 0) return;
    events[0] = last;
    for (let parent = 0; ; ) {
      let first = parent;
      for (const child of [2 * parent + 1, 2 * parent + 2])
        if (child < events.length && (events[child] as Event).at < (events[first] as Event).at) first = child;
      if (first === parent) return;
      [events[parent], events[first]] = [events[first] as Event, events[parent] as Event];
      parent = first;
    }
  }
}
