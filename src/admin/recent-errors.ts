/**
 * The last request errors of the pod, and how often each kind has come since the start. Bounded: a worker may report what it pleases.
 */
import type { Audience } from '../protocol/audience.ts';
import { MAX_ERRORS, type RequestError, type WorkerError } from '../protocol/error-status.ts';
import type { EventListener } from '../protocol/events.ts';

export class RecentErrors {
  /** The newest last. */
  readonly #errors: WorkerError[] = [];
  /** By kind, the one that has come last at the end. */
  readonly #kinds = new Map<string, WorkerError>();

  /** Takes what `worker` has reported. */
  receive(worker: number, errors: readonly RequestError[]): void {
    for (const error of errors) this.#add({ ...error, worker });
  }

  /** An error that has ended a worker is one, too. */
  readonly onEvent: EventListener = (event, at) => {
    if (event.event !== 'worker.exit' || event.error === undefined || event.isFailedStart) return;
    const { worker, error } = event;
    const { own: _, ...place } = error.summary;
    const frame = /^\s+at .*$/m.exec(error.stack)?.[0].trim();
    this.#add({ at, ...place, count: 1, message: error.message, ...(frame && { frame }), worker });
  };

  /** The newest last. For operators. */
  get last(): readonly WorkerError[] {
    return this.#errors;
  }

  /** The last error of each kind, the newest first; `count` is how often it has come. */
  kinds(audience: Audience): WorkerError[] {
    const kinds = [...this.#kinds.values()].reverse();
    if (audience === 'operator') return kinds;
    return kinds.map(({ message: _, frame: __, path: ___, ...open }) => open);
  }

  #add(error: WorkerError): void {
    this.#errors.push(error);
    if (this.#errors.length > MAX_ERRORS) this.#errors.shift();
    const { class: name, code, file, line, method, route, status } = error;
    const key = JSON.stringify([name, code, file, line, method, route, status]);
    const count = (this.#kinds.get(key)?.count ?? 0) + error.count;
    this.#kinds.delete(key);
    this.#kinds.set(key, { ...error, count });
    const [oldest] = this.#kinds.keys();
    if (this.#kinds.size > MAX_ERRORS && oldest !== undefined) this.#kinds.delete(oldest);
  }
}
