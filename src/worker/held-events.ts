/**
 * Holds back events of `process` for the app's own listeners until their worker has no open requests, or its drain deadline has passed:
 * these listeners close databases and exit, which would break open requests.
 */
import { constants } from 'node:os';
import { isOwnListener } from './process-events.ts';

/** If an app keeps throwing while its worker drains, only the first errors are delivered. */
const MAX_HELD = 10;

interface Held {
  event: string;
  args: unknown[];
}

export class HeldEvents {
  readonly #held: Held[] = [];
  readonly #onFailed: (event: string, error: unknown) => void;

  /** `onFailed` is called for a listener that throws or rejects. */
  constructor(onFailed: (event: string, error: unknown) => void) {
    this.#onFailed = onFailed;
  }

  hold(event: string, ...args: unknown[]): void {
    if (this.#held.length < MAX_HELD) this.#held.push({ event, args });
  }

  /** A signal that ends the app: if it has no listeners, those of SIGTERM are used. */
  holdSignal(signal: NodeJS.Signals): void {
    const event = listenersOf(signal).length > 0 ? signal : 'SIGTERM';
    if (!this.#held.some(held => held.event === event)) this.hold(event, event, constants.signals[event]);
  }

  /**
   * Calls the listeners of each event, in order. Resolves when those that return a promise are done, or after `timeoutMs`.
   * @returns whether one of them has returned no promise, and so may still be at work
   */
  async release(timeoutMs: number): Promise<boolean> {
    const results = this.#held
      .splice(0)
      .flatMap(({ event, args }) => listenersOf(event).map(listener => this.#call(event, listener, args)));
    const pending = results.filter(result => result instanceof Promise);
    await Promise.race([Promise.all(pending), new Promise(resolve => setTimeout(resolve, timeoutMs))]);
    return pending.length < results.length;
  }

  #call(event: string, listener: Listener, args: unknown[]): unknown {
    const failed = (error: unknown) => this.#onFailed(event, error);
    try {
      const result = Reflect.apply(listener, process, args);
      return result instanceof Promise ? result.catch(failed) : undefined;
    } catch (error) {
      failed(error);
      return undefined;
    }
  }
}

/** In the emitter's form: a listener added with `once` removes itself when called. */
type Listener = (...args: unknown[]) => unknown;

const listenersOf = (event: string) => process.rawListeners(event).filter(listener => !isOwnListener(listener)) as Listener[];

/** Resolves when nothing keeps this process alive, or after `timeoutMs`. */
export async function idle(timeoutMs: number): Promise<void> {
  process.channel?.unref();
  await new Promise<void>(resolve => {
    process.once('beforeExit', () => resolve());
    setTimeout(resolve, timeoutMs).unref();
  });
}
