/**
 * Keeps the wanted number of workers alive: starts what is missing, replaces what is outdated, drains what is superfluous.
 * One method, `tick`, looks at the world and does the next thing; every event ends in it.
 */
import type { Config } from '../config.ts';
import type { LogSource } from '../log.ts';
import type { ExitReason, ToPrimary } from '../messages.ts';
import type { Sizing } from '../resources/sizing.ts';
import { CrashBudget, isFailure } from './crash-budget.ts';
import { drawMaxRequests, maxRssMb, recycleReason } from './recycling.ts';
import { type OnStep, Replacer } from './replacer.ts';
import { Watchdog } from './watchdog.ts';
import type { WorkerHandle, WorkerListener } from './worker-handle.ts';

/** What the supervisor tells the primary. */
export interface SupervisorEvents {
  /** After every change of a worker's state. */
  changed(): void;
  said(handle: WorkerHandle, message: ToPrimary): void;
  exited(handle: WorkerHandle): void;
  whoKilled(): 'oom' | 'killed';
  /** More crashes than RESTART_INTENSITY within RESTART_PERIOD_MS; the last one's words. */
  gaveUp(message: string): void;
}

/** What the supervisor does not know how to do. */
export interface Hands {
  fork(id: number, generation: number, listener: WorkerListener): WorkerHandle;
  /** After every look at the pool, and what it has led to. */
  ticked(handles: WorkerHandle[], wanted: number): void;
}

/** At the start one worker has the CPUs to itself until it serves, this long at most: the first answer comes sooner. */
const HEAD_START_MS = 250;
/** Forking blocks the primary: connections that waited for the first worker go before. */
const AFTER_FIRST_READY_MS = 20;

export class Supervisor implements WorkerListener {
  #config: Config;
  readonly #log: LogSource;
  readonly #hands: Hands;
  /** Undefined while the primary is being loaded; what happens until then is kept. */
  #events: SupervisorEvents | undefined;
  readonly #early: ((events: SupervisorEvents) => void)[] = [];
  /** Rolling restarts so far. */
  readonly rolls = { success: 0, failure: 0 };
  readonly #handles = new Set<WorkerHandle>();
  readonly #replacer = new Replacer(handle => this.#watchdog.isHung(handle));
  readonly #crashes: CrashBudget;
  readonly #maxRequests = new WeakMap<WorkerHandle, number>();
  #maxRssMb: number;
  #wanted: number;
  #generation = 1;
  #stopping = false;
  #allServedOnce = false;
  #headStartUntil = performance.now() + HEAD_START_MS;
  #emptied: PromiseWithResolvers<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  readonly #watchdog: Watchdog;

  constructor(config: Config, log: LogSource, sizing: Sizing, hands: Hands) {
    this.#config = config;
    this.#log = log;
    this.#hands = hands;
    this.#crashes = new CrashBudget(config);
    this.#wanted = sizing.workers;
    this.#maxRssMb = maxRssMb(config, sizing);
    this.#watchdog = new Watchdog(config, log, this.#handles, () => this.tick());
  }

  /** Tells `events` from now on, what happened before first. */
  attach(events: SupervisorEvents): void {
    this.#events = events;
    for (const tell of this.#early.splice(0)) tell(events);
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

  /** Works towards `wanted` workers from now on: starts the missing at once, drains the superfluous one at a time. */
  scale(wanted: number): void {
    this.#log().info({ event: 'pool.scale', from: this.#wanted, to: wanted });
    this.#wanted = wanted;
    this.tick();
  }

  /** Takes the limits of a new sizing; the number of workers is `scale`'s matter. */
  resized(sizing: Sizing): void {
    this.#maxRssMb = maxRssMb(this.#config, sizing);
  }

  /** Takes settings that were read again; the number of workers is `scale`'s matter. */
  reloaded(config: Config, sizing: Sizing): void {
    this.#config = config;
    this.#crashes.limits = config;
    this.resized(sizing);
  }

  /**
   * Replaces every worker by one of the next generation, one at a time.
   * @throws ReplacementError when a new one does not come up; the old ones go on
   */
  async restartAll(onStep?: OnStep): Promise<void> {
    await this.#roll(this.#pool(), onStep);
  }

  /** Replaces one worker, the new one first. @throws ReplacementError */
  async restart(handle: WorkerHandle, onStep?: OnStep): Promise<void> {
    const done = this.#replacer.request([handle], 'restart', onStep);
    this.tick();
    await done;
  }

  /** The same for those workers only that run with another heap than `heapMb`. */
  async replaceOutdated(heapMb: number | null): Promise<void> {
    await this.#roll(this.#pool().filter(handle => handle.heapMb !== heapMb));
  }

  /** No worker is started from now on; those that do not serve yet are ended. */
  stop(): void {
    this.#stopping = true;
    clearTimeout(this.#timer);
    this.#watchdog.stop();
    for (const handle of this.#handles) if (handle.state === 'starting') handle.kill('shutdown');
  }

  /** Resolves when no worker is left. */
  async empty(): Promise<void> {
    if (this.#handles.size === 0) return;
    this.#emptied ??= Promise.withResolvers<void>();
    await this.#emptied.promise;
  }

  /** Does what is due, and sleeps until the next thing is due by time alone. */
  tick(): void {
    if (this.#stopping) return;
    const now = performance.now();
    this.#endSlowStarters(now);
    for (let missing = this.#missing(now); missing > 0; missing--) this.#start();
    this.#recycle(now);
    this.#replacer.look({
      now,
      mayForkAt: this.#crashes.nextForkAt,
      drainTimeoutMs: this.#config.shutdownTimeoutMs,
      fork: () => this.#start(),
    });
    this.#drainSuperfluous();
    this.#hands.ticked(this.handles, this.#wanted);
    this.#wake(now);
  }

  said(handle: WorkerHandle, message: ToPrimary): void {
    if (message.type === 'ready') {
      this.#headStartUntil = Math.min(this.#headStartUntil, performance.now() + AFTER_FIRST_READY_MS);
      const ms = Math.round(performance.now() - handle.startedAt);
      this.#log().info({ event: 'worker.ready', worker: handle.id, workerPid: handle.pid, generation: handle.generation, ms });
      if (this.serving.length >= this.#wanted) this.#allServedOnce = true;
    }
    if (message.type === 'crashing') this.#failed(handle);
    this.#tell(events => {
      events.said(handle, message);
      events.changed();
    });
    this.tick();
  }

  exited(handle: WorkerHandle): void {
    this.#handles.delete(handle);
    const { id, pid, reason, failure, drain } = handle;
    const level = isFailure(reason) || handle.missedDeadline ? 'error' : 'info';
    this.#log()[level]({ event: 'worker.exit', worker: id, workerPid: pid, reason, failure, ...(drain && { drain }) });
    if (isFailure(reason)) this.#failed(handle);
    this.#tell(events => {
      events.exited(handle);
      events.changed();
    });
    if (this.#handles.size === 0) this.#emptied?.resolve();

    this.tick();
  }

  whoKilled(): 'oom' | 'killed' {
    return this.#events?.whoKilled() ?? 'killed';
  }

  #tell(tell: (events: SupervisorEvents) => void): void {
    if (this.#events === undefined) this.#early.push(tell);
    else tell(this.#events);
  }

  /** The active workers that make up the wanted number, lowest id first. */
  #pool(): WorkerHandle[] {
    return this.handles.filter(handle => handle.isActive && !this.#replacer.isExtra(handle));
  }

  async #roll(old: WorkerHandle[], onStep?: OnStep): Promise<void> {
    if (old.length === 0) return;
    const before = this.#generation++;
    const generation = this.#generation;
    this.#log().info({ event: 'pool.restart', generation: this.#generation, workers: old.length });
    const done = this.#replacer.request(old, 'restart', onStep);
    this.tick();
    try {
      await done;
      this.rolls.success++;
      this.#log().info({ event: 'pool.restarted', generation: this.#generation });
    } catch (error) {
      this.rolls.failure++;
      // Unless a later roll has begun meanwhile.
      if (this.#generation === generation) this.#generation = before;
      this.#log().error({ event: 'pool.restart-failed', generation: before, error: (error as Error).message });
      throw error;
    }
  }

  #endSlowStarters(now: number): void {
    for (const handle of this.#handles) {
      if (handle.state !== 'starting' || now - handle.startedAt < this.#config.workerStartTimeoutMs) continue;
      handle.failure = `not ready within ${this.#config.workerStartTimeoutMs} ms (WORKER_START_TIMEOUT_MS)`;
      handle.kill('start-timeout');
    }
  }

  /** How many workers may be started now. */
  #missing(now: number): number {
    if (now < this.#crashes.nextForkAt) return 0;
    return Math.min(this.#wanted, now < this.#headStartUntil ? 1 : this.#wanted) - this.#pool().length;
  }

  #start(): WorkerHandle {
    const handle = this.#hands.fork(this.#freeId(), this.#generation, this);
    this.#handles.add(handle);
    this.#maxRequests.set(handle, drawMaxRequests(this.#config, Math.random));
    return handle;
  }

  /** The lowest free number, so that ids in metrics stay few over many restarts. */
  #freeId(): number {
    const taken = new Set([...this.#handles].map(handle => handle.id));
    let id = 1;
    while (taken.has(id)) id++;
    return id;
  }

  #recycle(now: number): void {
    for (const handle of this.#pool()) {
      if (handle.state === 'starting' || this.#replacer.isBusyWith(handle)) continue;
      const isHung = this.#watchdog.isHung(handle);
      // A hung one does not wait for its turn in a roll.
      if (!isHung && this.#replacer.isConcernedWith(handle)) continue;
      const limits = {
        maxRequests: this.#maxRequests.get(handle) ?? 0,
        maxRssMb: this.#maxRssMb,
        maxAgeMs: this.#config.workerMaxAgeMs,
      };
      const reason = isHung ? 'hung' : recycleReason(handle, limits, now);
      if (reason !== undefined) this.#replace(handle, reason);
    }
  }

  #replace(handle: WorkerHandle, reason: ExitReason): void {
    const { id: worker, pid: workerPid } = handle;
    this.#log()[reason === 'hung' ? 'error' : 'info']({ event: 'worker.replace', worker, workerPid, reason });
    if (reason === 'hung') void this.#watchdog.logStack(handle);
    this.#replacer.request([handle], reason).catch((error: Error) => {
      // Asked for again by the next tick, after the back-off.
      this.#log().error({ event: 'worker.replace-failed', worker, reason, error: error.message });
    });
  }

  /** One at a time, the highest id first. */
  #drainSuperfluous(): void {
    const pool = this.#pool();
    const isOneLeaving = this.handles.some(handle => handle.reason === 'scale-down');
    if (pool.length > this.#wanted && !isOneLeaving) pool.at(-1)?.beginDrain('scale-down', this.#config.shutdownTimeoutMs);
  }

  #failed(handle: WorkerHandle): void {
    const backoffMs = this.#crashes.count(handle, performance.now());
    if (backoffMs === undefined) return;
    if (this.#crashes.isSpent) this.#tell(events => events.gaveUp(`worker ${handle.id}: ${handle.failure}`));
    else if (backoffMs > 0) this.#log().warn({ event: 'pool.backoff', ms: backoffMs, failures: this.#crashes.failuresInARow });
  }

  #wake(now: number): void {
    const starting = this.handles.filter(handle => handle.state === 'starting');
    const isShort = this.#pool().length < this.#wanted;
    const dueAt = Math.min(
      this.#replacer.dueAt(this.#crashes.nextForkAt),
      ...starting.map(handle => handle.startedAt + this.#config.workerStartTimeoutMs),
      isShort ? Math.max(this.#crashes.nextForkAt, this.#headStartUntil) : Number.POSITIVE_INFINITY,
    );
    clearTimeout(this.#timer);
    if (dueAt < Number.POSITIVE_INFINITY) this.#timer = setTimeout(() => this.tick(), Math.max(1, dueAt - now));
  }
}
