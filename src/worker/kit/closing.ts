/**
 * The app's close handlers, which run after the last answer of this worker.
 */
import type { LogSource } from '../../log/log.ts';
import { callApp, settledWithin } from './app-call.ts';

/** For all close handlers of the app together. */
const CLOSE_TIMEOUT_MS = 1000;

export class CloseHandlers {
  readonly #log: LogSource;
  readonly #handlers: (() => unknown)[] = [];

  constructor(log: LogSource) {
    this.#log = log;
  }

  add(close: () => unknown): void {
    this.#handlers.push(close);
  }

  /** Runs the handlers, and `closeApp` beside them. */
  async run(closeApp?: () => unknown): Promise<void> {
    const handlers = closeApp === undefined ? this.#handlers : [...this.#handlers, closeApp];
    const closing = handlers.map(close => callApp(this.#log, { event: 'worker.close-handler-failed' }, close));
    await settledWithin(CLOSE_TIMEOUT_MS, Promise.all(closing));
  }
}
