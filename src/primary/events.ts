/**
 * The stream of lifecycle events. Each listener gets each event once and in order, including those from before it was attached: the primary
 * is loaded after the first fork. An event that a listener emits is delivered after the current one.
 */
import type { LogSource } from '../log/log.ts';
import { reportOf } from '../protocol/api.ts';
import type { LogEvent } from '../protocol/event-log.ts';
import type { Emit, EventListener, LifecycleEvent } from '../protocol/events.ts';
import { LOG_EVENTS, type LogEventName } from '../protocol/log-events.ts';
import type { Level } from '../protocol/log-fields.ts';

interface Entry {
  event: LifecycleEvent;
  at: number;
}

export class Events {
  readonly #listeners = new Set<EventListener>();
  /** For listeners that are attached later; undefined once all are attached. */
  #kept: Entry[] | undefined = [];
  readonly #queue: Entry[] = [];
  #isDelivering = false;

  /** Delivers the event to all listeners before it returns, unless a listener calls it. */
  readonly emit: Emit = event => {
    const entry = { event, at: Date.now() };
    this.#kept?.push(entry);
    this.#queue.push(entry);
    if (!this.#isDelivering) this.#deliver();
  };

  /** Calls `listener` with the kept events, and with each one from now on. The returned function unsubscribes. */
  listen(listener: EventListener): () => void {
    for (const { event, at } of [...(this.#kept ?? [])]) listener(event, at);
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Writes the events to the log from now on. A failure is logged once: the exit of its worker does not repeat it, nor a retry its stack. */
  logTo(log: LogSource): void {
    let lastStack: string | undefined;
    this.listen(event => {
      if (event.event !== 'worker.failed') return writeLine(log, event);
      const { stack, ...line } = event;
      log().error(stack === lastStack || !stack ? line : event);
      lastStack = stack;
    });
  }

  /** Drops the kept events: all listeners that need them are attached. */
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

/** Logs the events that LOG_EVENTS lists. */
function writeLine(log: LogSource, event: LifecycleEvent): void {
  switch (event.event) {
    case 'worker.exit': {
      const { worker, workerPid, reason, code, failure, error, fingerprint, drain, isFailure, snapshot } = event;
      const isLoggedAlready = error !== undefined && snapshot === undefined; // it never served
      const fields = {
        worker,
        workerPid,
        reason,
        code,
        fingerprint,
        ...(!isLoggedAlready && { failure }),
        ...(drain && { drain: reportOf(drain) }),
      };
      log()[isFailure ? 'error' : 'info']({ event: event.event, ...fields });
      break;
    }
    case 'worker.replace':
      log()[event.reason === 'hung' ? 'error' : 'info'](event);
      break;
    case 'worker.malformed-message': {
      const { isFirst, ...line } = event;
      if (isFirst) log().warn(line);
      break;
    }
    default:
      if (isLogged(event)) writeAsItIs(log, event);
  }
}

type Logged = LogEvent<LogEventName>;

const isLogged = (event: { event: string }): event is Logged => Object.hasOwn(LOG_EVENTS, event.event);

function writeAsItIs(log: LogSource, event: Logged): void {
  const [level] = LOG_EVENTS[event.event].levels;
  const logger: Readonly<Record<Level, (line: never) => void>> = log();
  logger[level](event as never); // its type is that of the table's entry, and so is its level
}
