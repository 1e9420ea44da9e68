/**
 * The one stream of lifecycle events. Listeners get each event once, in order, also those from before they listened: the primary is
 * loaded after the first fork. An event that a listener emits comes after the current one.
 */
import type { LogSource } from '../log/log.ts';
import { type Emit, type EventListener, type EventName, type EventOf, type LifecycleEvent, LOGGED } from '../protocol/events.ts';

interface Entry {
  event: LifecycleEvent;
  at: number;
}

export class Events {
  readonly #listeners = new Set<EventListener>();
  /** For listeners that attach later; undefined once all are there. */
  #kept: Entry[] | undefined = [];
  readonly #queue: Entry[] = [];
  #isDelivering = false;

  /** Reports a fact to all listeners before it returns, unless a listener calls it. */
  readonly emit: Emit = event => {
    const entry = { event, at: Date.now() };
    this.#kept?.push(entry);
    this.#queue.push(entry);
    if (!this.#isDelivering) this.#deliver();
  };

  /** Calls `listener` with each event from now on, with the kept ones first. The returned function unsubscribes. */
  listen(listener: EventListener): () => void {
    for (const { event, at } of [...(this.#kept ?? [])]) listener(event, at);
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Writes the events to the log from now on. */
  logTo(log: LogSource): void {
    this.listen(event => writeLine(log, event));
  }

  /** All listeners that need the past are attached: it is kept no longer. */
  forgetPast(): void {
    this.#kept = undefined;
  }

  #deliver(): void {
    this.#isDelivering = true;
    try {
      for (let entry = this.#queue.shift(); entry !== undefined; entry = this.#queue.shift())
        for (const listener of this.#listeners) listener(entry.event, entry.at);
    } finally {
      this.#isDelivering = false;
    }
  }
}

function writeLine<Name extends EventName>(log: LogSource, event: EventOf<Name>): void {
  const logged = LOGGED[event.event as Name];
  if (logged === false) return;
  const level = typeof logged.level === 'function' ? logged.level(event) : logged.level;
  if (level === undefined) return;
  log()[level](logged.line?.(event) ?? event);
}
