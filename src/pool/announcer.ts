/**
 * Tells what becomes of workers: the log, and the primary, which is still being loaded while the first worker starts.
 */
import type { LogSource } from '../log/log.ts';
import { fingerprintOf } from '../protocol/audience.ts';
import type { ToPrimary } from '../protocol/messages.ts';
import { type GiveUpReason, isCrash, isFailedStart } from './failures.ts';
import type { WorkerProcess } from './worker-process.ts';

/** What the supervisor tells the primary. */
export interface SupervisorEvents {
  /** After every change of a worker's state. */
  changed(): void;
  said(handle: WorkerProcess, message: ToPrimary): void;
  /** A message of a worker was dropped. */
  malformed(): void;
  exited(handle: WorkerProcess): void;
  whoKilled(): 'oom' | 'killed';
  /** The pool gives up; `last` is the worker that failed last. */
  gaveUp(why: GiveUpReason, last: WorkerProcess): void;
}

export class Announcer {
  readonly #log: LogSource;
  #events: SupervisorEvents | undefined;
  /** Workers that have sent one. */
  readonly #malformed = new WeakSet<WorkerProcess>();
  readonly #early: ((events: SupervisorEvents) => void)[] = [];

  constructor(log: LogSource) {
    this.#log = log;
  }

  /** Tells `events` from now on, what happened before first. */
  attach(events: SupervisorEvents): void {
    this.#events = events;
    for (const tell of this.#early.splice(0)) tell(events);
  }

  said(handle: WorkerProcess, message: ToPrimary): void {
    if (message.type === 'ready') {
      const { id: worker, pid: workerPid, generation, startedAt } = handle;
      this.#log().info({ event: 'worker.ready', worker, workerPid, generation, ms: Math.round(performance.now() - startedAt) });
    }
    this.tell(events => {
      events.said(handle, message);
      events.changed();
    });
  }

  /** Logs the first malformed message of each worker; all are counted. */
  malformed(handle: WorkerProcess, error: Error): void {
    const { id: worker, pid: workerPid } = handle;
    if (!this.#malformed.has(handle)) {
      this.#log().warn({ event: 'worker.malformed-message', worker, workerPid, error: error.message });
    }
    this.#malformed.add(handle);
    this.tell(events => events.malformed());
  }

  exited(handle: WorkerProcess): void {
    const { id, pid, reason, failure, error, drain } = handle;
    const fingerprint = error && fingerprintOf(error.message);
    const level = isCrash(reason) || isFailedStart(handle) || handle.missedDeadline ? 'error' : 'info';
    this.#log()[level]({
      event: 'worker.exit',
      worker: id,
      workerPid: pid,
      reason,
      failure,
      fingerprint,
      ...(drain && { drain }),
    });
    this.tell(events => {
      events.exited(handle);
      events.changed();
    });
  }

  tell(tell: (events: SupervisorEvents) => void): void {
    if (this.#events === undefined) this.#early.push(tell);
    else tell(this.#events);
  }

  whoKilled(): 'oom' | 'killed' {
    return this.#events?.whoKilled() ?? 'killed';
  }
}
