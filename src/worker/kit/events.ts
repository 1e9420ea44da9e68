/**
 * The app's handlers of broadcast events in this worker. The primary and the event bus deliver the events.
 */
import type { LogSource } from '../../log/log.ts';
import { checkEventName } from '../../state/broadcast.ts';
import { callApp } from './app-call.ts';
import { checkFunction } from './arguments.ts';

/** Of an event whose data is of any type. */
export type Handler = (data: never) => unknown;

export class EventHandlers {
  readonly #log: LogSource;
  readonly #retained: ReadonlyMap<string, string>;
  readonly #handlers = new Map<string, Handler[]>();

  /** `retained` has the last event of each retained name, as JSON, and is kept up to date. */
  constructor(log: LogSource, retained: ReadonlyMap<string, string>) {
    this.#log = log;
    this.#retained = retained;
  }

  /** @throws TypeError */
  add(event: string, handler: Handler): void {
    checkEventName(event);
    checkFunction(`the handler of event "${event}"`, handler);
    this.#handlers.set(event, [...this.#of(event), handler]);
    // After the code that subscribes: variables that the handler uses may be declared below it.
    queueMicrotask(() => {
      const json = this.#retained.get(event);
      if (json === undefined || json === 'null' || !this.#of(event).includes(handler)) return;
      this.#call(handler, event, json);
    });
  }

  /** Removes the handler; one of several equal ones. @throws TypeError */
  remove(event: string, handler: Handler): void {
    checkEventName(event);
    checkFunction(`the handler of event "${event}"`, handler);
    const handlers = this.#of(event);
    if (!handlers.includes(handler)) return;
    const left = handlers.toSpliced(handlers.lastIndexOf(handler), 1);
    if (left.length > 0) this.#handlers.set(event, left);
    else this.#handlers.delete(event);
  }

  /** Calls the handlers of the event, each with its own copy of the data. */
  deliver(event: string, json: string): void {
    for (const handler of this.#of(event)) this.#call(handler, event, json);
  }

  #of(event: string): readonly Handler[] {
    return this.#handlers.get(event) ?? [];
  }

  #call(handler: Handler, event: string, json: string): void {
    void callApp(this.#log, { event: 'broadcast.handler-failed', name: event }, () => handler(JSON.parse(json) as never));
  }
}
