/**
 * Keeps the wanted number of workers alive: starts what is missing, backs off while they crash, gives up when they keep crashing.
 * One method, `tick`, looks at the world and does the next thing; every event ends in it.
 */
import type { Config } from '../config.ts';
import type { LogSource } from '../log.ts';
import type { ExitReason, ToPrimary } from '../messages.ts';
import type { WorkerHandle, WorkerListener } from './worker-handle.ts';

/** What the supervisor tells the primary. */
export interface SupervisorEvents {
  /** After every change of a worker's state. */
  changed(): void;
  said(handle: WorkerHandle, message: ToPrimary): void;
  exited(handle: WorkerHandle): void;
  /** More crashes than RESTART_INTENSITY within RESTART_PERIOD_MS; the last one's words. */
  gaveUp(message: string): void;
}

export type Fork = (id: number, generation: number, listener: WorkerListener) => WorkerHandle;

/** The exits that are failures of the app, and count against RESTART_INTENSITY. Somebody's `kill` is none. */
const FAILURES: ReadonlySet<ExitReason> = new Set(['crash', 'oom', 'hung', 'start-timeout']);

/** At the start one worker has the CPUs to itself until it serves, this long at most: the first answer comes sooner, by a fifth on two cores. */
const HEAD_START_MS = 250;
const HEAD_START_REST_MS = 20;

/** The first failure costs no time; then 0.1 s, doubled up to 5 s. A worker that stays up this long ends the row. */
const BACKOFF_FIRST_MS = 100;
const BACKOFF_LONGEST_MS = 5000;
const STABLE_AFTER_MS = 10_000;

export class Supervisor implements WorkerListener {
  readonly #config: Config;
  readonly #log: LogSource;
  readonly #fork: Fork;
  readonly #events: SupervisorEvents;
  readonly #handles = new Set<WorkerHandle>();
  #wanted: number;
  readonly #generation = 1;
  #stopping = false;
  #allServedOnce = false;
  readonly #counted = new WeakSet<WorkerHandle>();
  #failuresInARow = 0;
  #failedAt: number[] = [];
  #nextForkAt = 0;
  #headStartUntil = performance.now() + HEAD_START_MS;
  #timer: NodeJS.Timeout | undefined;
  #emptied: PromiseWithResolvers<void> | undefined;

  constructor(config: Config, log: LogSource, wanted: number, fork: Fork, events: SupervisorEvents) {
    this.#config = config;
    this.#log = log;
    this.#wanted = wanted;
    this.#fork = fork;
    this.#events = events;
  }

  get wanted(): number {
    return this.#wanted;
  }

  get generation(): number {
    return this.#generation;
  }

  /** True from the moment that all wanted workers served at the same time. */
  get allServedOnce(): boolean {
    return this.#allServedOnce;
  }

  /** Every worker that has not exited, lowest id first. */
  get handles(): WorkerHandle[] {
    return [...this.#handles].sort((a, b) => a.id - b.id);
  }

  get serving(): WorkerHandle[] {
    return this.handles.filter(handle => handle.isServing);
  }

  scale(wanted: number): void {
    this.#log().info({ event: 'pool.scale', from: this.#wanted, to: wanted });
    this.#wanted = wanted;
    this.tick();
  }

  /** No worker is started from now on; those that do not serve yet are ended. */
  stop(): void {
    this.#stopping = true;
    clearTimeout(this.#timer);
    for (const handle of this.#handles) if (handle.state === 'starting') handle.kill('shutdown');
  }

  /** Resolves when no worker is left. */
  async empty(): Promise<void> {
    if (this.#handles.size === 0) return;
    this.#emptied ??= Promise.withResolvers<void>();
    await this.#emptied.promise;
  }

  /** Does what is due: ends those that start too slowly, starts the missing, drains the superfluous. */
  tick(): void {
    if (this.#stopping) return;
    const now = performance.now();
    const active = this.handles.filter(handle => handle.isActive);
    for (const handle of active) {
      if (handle.state === 'starting' && now - handle.startedAt >= this.#config.workerStartTimeoutMs) this.#timedOut(handle);
    }
    for (let missing = this.#missing(active.length, now); missing > 0; missing--) this.#start();
    // One at a time, the youngest first: the oldest have the warmest caches.
    const isOneLeaving = this.handles.some(handle => handle.reason === 'scale-down');
    if (active.length > this.#wanted && !isOneLeaving) active.at(-1)?.beginDrain('scale-down', this.#config.shutdownTimeoutMs);
    this.#wake(now);
  }

  said(handle: WorkerHandle, message: ToPrimary): void {
    if (message.type === 'ready') {
      this.#headStartUntil = Math.min(this.#headStartUntil, performance.now() + HEAD_START_REST_MS);
      this.#log().info({
        event: 'worker.ready',
        worker: handle.id,
        workerPid: handle.pid,
        ms: Math.round(performance.now() - handle.startedAt),
      });
      if (this.serving.length >= this.#wanted) this.#allServedOnce = true;
    }
    if (message.type === 'crashing') this.#failed(handle);
    this.#events.said(handle, message);
    this.#events.changed();
    if (message.type !== 'stats') this.tick();
  }

  exited(handle: WorkerHandle): void {
    this.#handles.delete(handle);
    const { id, pid, reason, failure, drain } = handle;
    const expected = reason !== undefined && !FAILURES.has(reason) && !handle.missedDeadline;
    this.#log()[expected ? 'info' : 'error']({
      event: 'worker.exit',
      worker: id,
      workerPid: pid,
      reason,
      failure,
      ...(drain && { drain }),
    });
    if (reason !== undefined && FAILURES.has(reason)) this.#failed(handle);
    this.#events.exited(handle);
    if (this.#handles.size === 0) this.#emptied?.resolve();
    this.#events.changed();
    this.tick();
  }

  /** How many workers may be started now. */
  #missing(active: number, now: number): number {
    if (now < this.#nextForkAt) return 0;
    return Math.min(this.#wanted, now < this.#headStartUntil ? 1 : this.#wanted) - active;
  }

  #start(): void {
    this.#handles.add(this.#fork(this.#freeId(), this.#generation, this));
  }

  /** The lowest free number, so that ids in metrics stay few over many restarts. */
  #freeId(): number {
    const taken = new Set([...this.#handles].map(handle => handle.id));
    let id = 1;
    while (taken.has(id)) id++;
    return id;
  }

  #timedOut(handle: WorkerHandle): void {
    handle.failure = `not ready within ${this.#config.workerStartTimeoutMs} ms (WORKER_START_TIMEOUT_MS)`;
    handle.kill('start-timeout');
  }

  #failed(handle: WorkerHandle): void {
    if (this.#counted.has(handle)) return; // when it said that it was crashing
    this.#counted.add(handle);
    const now = performance.now();
    const wasStable = handle.readyAt !== undefined && now - handle.readyAt >= STABLE_AFTER_MS;
    this.#failuresInARow = wasStable ? 1 : this.#failuresInARow + 1;
    this.#failedAt = [...this.#failedAt.filter(at => now - at < this.#config.restartPeriodMs), now];
    if (this.#failedAt.length > this.#config.restartIntensity) {
      this.#events.gaveUp(`worker ${handle.id}: ${handle.failure}`);
      return;
    }
    const row = this.#failuresInARow - 1;
    const backoffMs = row === 0 ? 0 : Math.min(BACKOFF_FIRST_MS * 2 ** (row - 1), BACKOFF_LONGEST_MS);
    this.#nextForkAt = now + backoffMs;
    if (backoffMs > 0) this.#log().warn({ event: 'pool.backoff', ms: backoffMs, failures: this.#failuresInARow });
  }

  /** Sleeps until the next thing is due by time alone. */
  #wake(now: number): void {
    const startsUntil = this.handles
      .filter(handle => handle.state === 'starting')
      .map(handle => handle.startedAt + this.#config.workerStartTimeoutMs);
    const isShort = this.handles.filter(handle => handle.isActive).length < this.#wanted;
    const due = Math.min(...startsUntil, isShort ? Math.max(this.#nextForkAt, this.#headStartUntil) : Number.POSITIVE_INFINITY);
    clearTimeout(this.#timer);
    if (due < Number.POSITIVE_INFINITY) this.#timer = setTimeout(() => this.tick(), Math.max(1, due - now));
  }
}
