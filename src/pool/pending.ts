/**
 * What is waited for: answers to the operator's requests, acknowledgements of a worker, and the next time at which something is due.
 */

/** Called with each step of a restart, in words. */
export type OnStep = (step: string) => void;

/** Requests that the pool's state machine answers by their number. */
export class PendingRequests {
  readonly #requests = new Map<number, PromiseWithResolvers<void> & { onStep: OnStep | undefined }>();
  #last = 0;

  /** Calls `send` with the number of a new request. Resolves or rejects with its answer. */
  async send(send: (request: number) => void, onStep?: OnStep): Promise<void> {
    const request = ++this.#last;
    const answered = Promise.withResolvers<void>();
    this.#requests.set(request, { ...answered, onStep });
    send(request);
    await answered.promise;
  }

  progress(request: number, step: string): void {
    this.#requests.get(request)?.onStep?.(step);
  }

  answer(request: number, error: Error | undefined): void {
    const pending = this.#requests.get(request);
    this.#requests.delete(request);
    if (error === undefined) pending?.resolve();
    else pending?.reject(error);
  }
}

/** Requests to a worker. */
export class Acknowledgements {
  #pending: PromiseWithResolvers<void>[] = [];

  /** Resolves when the request that was just sent is acknowledged, or never will be. */
  async next(): Promise<void> {
    const acknowledged = Promise.withResolvers<void>();
    this.#pending.push(acknowledged);
    await acknowledged.promise;
  }

  /** The oldest request is acknowledged. */
  acknowledge(): void {
    this.#pending.shift()?.resolve();
  }

  /** What is pending will not be acknowledged. */
  giveUp(): void {
    for (const { resolve } of this.#pending.splice(0)) resolve();
  }
}

/** Calls back once, at the earliest time that was set. Times that are set later again and again do not postpone it. */
export class EarliestTimer {
  readonly #callback: () => void;
  #timer: NodeJS.Timeout | undefined;
  #at = Number.POSITIVE_INFINITY;

  constructor(callback: () => void) {
    this.#callback = callback;
  }

  /** `time` by the monotonic clock, in milliseconds. */
  set(time: number): void {
    const now = performance.now();
    const at = Math.max(time, now + 1);
    if (at >= this.#at) return;
    clearTimeout(this.#timer);
    this.#at = at;
    // Timers run before the event loop reads messages: a worker that has become ready in time must not be killed.
    this.#timer = setTimeout(setImmediate, at - now, () => {
      this.#at = Number.POSITIVE_INFINITY;
      this.#callback();
    });
  }
}

/** A listener that is still being loaded: until it is attached, the calls to it are kept. */
export class LateListener<Listener> {
  #listener: Listener | undefined;
  readonly #early: ((listener: Listener) => void)[] = [];

  /** It first gets the calls missed so far. */
  attach(listener: Listener): void {
    this.#listener = listener;
    for (const call of this.#early.splice(0)) call(listener);
  }

  call(call: (listener: Listener) => void): void {
    if (this.#listener === undefined) this.#early.push(call);
    else call(this.#listener);
  }
}
