/**
 * The workers of the pool that have not exited: their deadlines, their silence, and what the pool does with one of them. Each change of
 * state is emitted here, once. Pure, with the clock passed in; it writes the records and pushes effects.
 */
import type { Config } from '../config/config.ts';
import type { LifecycleEvent } from '../protocol/events.ts';
import type { ExitReason } from '../protocol/exit.ts';
import { APP_MS, type DrainTimes, EXIT_SLACK_MS, type ToPrimary } from '../protocol/messages.ts';
import type { Effect, WorkerEvent } from './effects.ts';
import {
  exit,
  exitEvent,
  isActive,
  isServing,
  leave,
  type NewWorker,
  newWorker,
  receive,
  type WorkerRecord,
} from './worker-state.ts';

/** Silence is counted in steps: ten in WORKER_HEARTBEAT_TIMEOUT_MS, and an idle primary wakes once a second at most. */
const SILENCE_STEPS = 10;
const MIN_SILENCE_STEP_MS = 100;
const MAX_SILENCE_STEP_MS = 1000;
/** For the inspector of a hung worker to open, and again for its answers: 50 ms on an idle machine. */
export const STACK_TIMEOUT_MS = 3000;

/** Of EXIT_SLACK_MS, under `bosun dev`: a worker that a debugger has paused never answers. */
const DEV_EXIT_SLACK_MS = 500;

type Limits = Pick<Config, 'workerStartTimeoutMs' | 'workerHeartbeatTimeoutMs' | 'shutdownTimeoutMs' | 'dev'>;

export class Workers {
  limits: Limits;
  readonly #workers = new Set<WorkerRecord>();
  readonly #push: (effect: Effect) => void;
  readonly #silenceStepMs: number;
  #nextSilenceAt = 0;

  constructor(limits: Limits, push: (effect: Effect) => void) {
    this.limits = limits;
    this.#push = push;
    const { workerHeartbeatTimeoutMs: timeoutMs } = limits;
    const stepMs = timeoutMs === 0 ? MAX_SILENCE_STEP_MS : timeoutMs / SILENCE_STEPS;
    this.#silenceStepMs = Math.min(MAX_SILENCE_STEP_MS, Math.max(MIN_SILENCE_STEP_MS, stepMs));
  }

  /** Lowest id first. */
  get all(): WorkerRecord[] {
    return [...this.#workers].sort((a, b) => a.id - b.id);
  }

  get active(): WorkerRecord[] {
    return this.all.filter(isActive);
  }

  /** Whether another worker serves, so that this one may leave the rotation. */
  mayLeave(worker: WorkerRecord): boolean {
    return this.all.some(other => other !== worker && isServing(other) && !this.isHung(other));
  }

  /** Silent, and not paused by a debugger. */
  isHung(worker: WorkerRecord): boolean {
    return this.#isSilent(worker) && !worker.isInspected;
  }

  /** Whether it has not reported for WORKER_HEARTBEAT_TIMEOUT_MS. The first step after a message does not count yet. */
  #isSilent({ isDiagnosed, silentMs }: WorkerRecord): boolean {
    const { workerHeartbeatTimeoutMs: timeoutMs } = this.limits;
    return timeoutMs > 0 && !isDiagnosed && silentMs - this.#silenceStepMs >= timeoutMs;
  }

  /** Kills those that are overdue. */
  timeOut(now: number): void {
    for (const worker of this.all) {
      if (now >= worker.killAt) this.#giveUpOn(worker, `not gone after ${worker.exitTimeoutMs} ms, killed`);
      if (now >= this.#startDeadlineOf(worker))
        this.kill(worker, 'start-timeout', `not ready within ${this.limits.workerStartTimeoutMs} ms (WORKER_START_TIMEOUT_MS)`);
    }
  }

  /** Counts the silence: one step however late this tick is, since it counts only while the primary itself is awake. */
  countSilence(now: number): void {
    if (now < this.#nextSilenceAt) return;
    for (const worker of this.#workers) worker.silentMs += this.#silenceStepMs;
    this.#nextSilenceAt = now + this.#silenceStepMs;
  }

  get nextSilenceAt(): number {
    return this.#nextSilenceAt;
  }

  /** The next deadline of a worker. */
  get deadlineAt(): number {
    return Math.min(...this.all.map(worker => Math.min(worker.killAt, this.#startDeadlineOf(worker))));
  }

  handle(event: WorkerEvent, now: number): void {
    switch (event.type) {
      case 'forked':
        this.#forked(event.worker, event.pid, event.isInspected);
        break;
      case 'message':
        this.#received(event.worker, event.message, now);
        break;
      case 'exited':
        exit(event.worker, event.how);
        this.#workers.delete(event.worker);
        this.#emit(exitEvent(event.worker));
        break;
      case 'cordon':
        this.#cordon(event.worker, event.wantsCordon);
        break;
      case 'diagnosis':
        event.worker.isDiagnosed = event.isRunning;
        // The silence until its end does not count.
        event.worker.silentMs = 0;
        break;
      case 'inspector-opened':
        // If the pool has not requested it, a user or the app has opened it.
        if (isActive(event.worker)) event.worker.isInspected = true;
        break;
      case 'inspected':
        this.#inspected(event.worker, event.stack, now);
        break;
      case 'stop':
        for (const worker of this.all) if (worker.state === 'starting') this.kill(worker, 'shutdown');
        break;
      case 'abandon-starts':
        for (const worker of this.all) if (worker.state === 'starting') this.kill(worker, 'restart', 'a later change was saved');
        break;
      case 'drain-all':
        for (const worker of this.active) this.drain(worker, 'shutdown', event.timeoutMs, now);
        break;
      case 'kill-silent':
        for (const worker of this.all)
          if (this.#isSilent(worker) && !worker.isKilled) this.#giveUpOn(worker, 'did not answer at the shutdown, killed');
        break;
      case 'kill-undrained':
        for (const worker of this.all)
          if (worker.drain === undefined && !worker.isKilled)
            this.#giveUpOn(worker, 'drain not finished at the deadline, killed');
        break;
      default:
        event satisfies never;
    }
  }

  /** Starts one, with the lowest free id, so that ids in metrics stay few over many restarts. */
  fork(start: Omit<NewWorker, 'id'>): WorkerRecord {
    const taken = new Set(this.all.map(({ id }) => id));
    let id = 1;
    while (taken.has(id)) id++;
    const worker = newWorker({ ...start, id });
    this.#workers.add(worker);
    this.#push({ type: 'fork', worker });
    return worker;
  }

  /** Its process is there; `isInspected`: the user has opened its inspector. */
  #forked(worker: WorkerRecord, pid: number, isInspected: boolean): void {
    worker.pid = pid;
    worker.isInspected = isInspected;
    this.#emit({ event: 'worker.starting', ...named(worker), generation: worker.generation });
  }

  #received(worker: WorkerRecord, message: ToPrimary, now: number): void {
    const before = worker.state;
    receive(worker, message, now);
    const { state, generation } = worker;
    if (before === 'starting' && state === 'ready')
      this.#emit({ event: 'worker.ready', ...named(worker), generation, ms: Math.round(now - worker.startedAt) });
    if (before === 'cordoned' && state === 'ready') this.#emit({ event: 'worker.uncordoned', ...named(worker) });
    if (before !== 'draining' && state === 'draining') this.#emitDraining(worker);
  }

  /** A worker counts as out of rotation from the request, and as back once it has acknowledged. Two requests at once never take out every worker. */
  #cordon(worker: WorkerRecord, wantsCordon: boolean): void {
    worker.wantsCordon = wantsCordon;
    if (wantsCordon && worker.state === 'ready') {
      worker.state = 'cordoned';
      this.#emit({ event: 'worker.cordoned', ...named(worker) });
    }
    this.#push({ type: 'send', worker, message: { type: wantsCordon ? 'cordon' : 'uncordon' } });
  }

  /** Lets it finish its open requests and exit. A hung worker cannot receive that message: its stack is read, and it is killed. */
  end(worker: WorkerRecord, reason: ExitReason, now: number): void {
    if (this.isHung(worker)) {
      this.#leave(worker, 'hung', 2 * STACK_TIMEOUT_MS + EXIT_SLACK_MS, now);
      this.#push({ type: 'inspect', worker });
    } else this.drain(worker, reason, this.limits.shutdownTimeoutMs, now);
  }

  /** The stack of a hung worker was read. One that answers again drains: it cannot stay, because its inspector is open. */
  #inspected(worker: WorkerRecord, stack: string[] | undefined, now: number): void {
    this.#emit({ event: 'worker.hung', ...named(worker), stack: stack ?? 'unavailable' });
    if (worker.state === 'exited') return;
    if (this.isHung(worker)) this.kill(worker, 'hung');
    else this.drain(worker, 'hung', this.limits.shutdownTimeoutMs, now);
  }

  drain(worker: WorkerRecord, reason: ExitReason, timeoutMs: number, now: number): void {
    const slackMs = this.limits.dev === undefined ? EXIT_SLACK_MS : DEV_EXIT_SLACK_MS;
    this.#leave(worker, reason, timeoutMs + slackMs, now);
    this.#push({ type: 'drain', worker, reason, timeoutMs });
  }

  /** Kills it instead of waiting any longer. Unless it has reported its drain, its open requests are lost. */
  #giveUpOn(worker: WorkerRecord, failure: string): void {
    worker.missedDeadline = worker.drain === undefined;
    this.kill(worker, 'shutdown', failure);
  }

  /** `failure` says why, unless the worker has. */
  kill(worker: WorkerRecord, reason: ExitReason, failure?: string): void {
    worker.reason ??= reason;
    worker.failure ??= failure;
    worker.isKilled = true;
    worker.killAt = Number.POSITIVE_INFINITY;
    this.#push({ type: 'kill', worker });
  }

  #leave(worker: WorkerRecord, reason: ExitReason, timeoutMs: number, now: number): void {
    const wasDraining = worker.state === 'draining';
    leave(worker, reason, timeoutMs, now);
    if (!wasDraining) this.#emitDraining(worker);
  }

  /** None while a debugger may have paused it. */
  #startDeadlineOf({ state, isKilled, isInspected, startedAt }: WorkerRecord): number {
    return state === 'starting' && !isKilled && !isInspected
      ? startedAt + this.limits.workerStartTimeoutMs
      : Number.POSITIVE_INFINITY;
  }

  #emitDraining(worker: WorkerRecord): void {
    this.#emit({ event: 'worker.draining', ...named(worker), reason: worker.reason ?? 'crash' });
  }

  #emit(event: LifecycleEvent): void {
    this.#push({ type: 'emit', event });
  }
}

export const named = ({ id, pid }: WorkerRecord) => ({ worker: id, workerPid: pid });

/**
 * A connection that cannot move is closed once it has been idle for this long. Its client may send the next request at that moment, and
 * loses it: the longer the wait, the fewer connections end that are still in use (300 clients with a request a second each: 1.5 requests a
 * rolling restart lost after 0.3 s, 0.8 after 1 s, none of 22,771 after 3 s).
 */
const QUIET_MS = 3000;
/** After the delay of a shutdown the load balancer sends its requests elsewhere: those in transit have arrived by then. */
const QUIET_AT_SHUTDOWN_MS = 300;

/** Of a drain for that reason, which ends after `timeoutMs`. */
export function drainTimesFor(reason: ExitReason, timeoutMs: number): DrainTimes {
  const isShutdown = reason === 'shutdown';
  const quietMs = isShutdown ? QUIET_AT_SHUTDOWN_MS : QUIET_MS;
  return { timeoutMs, quietMs, appMs: APP_MS, endStalled: isShutdown, moves: !isShutdown };
}
