/**
 * Keeps the wanted number of workers alive: starts what is missing, replaces what is outdated, drains what is superfluous.
 * One method, `tick`, looks at the world and does the next thing; every event ends in it.
 */
import type { Config } from '../../config.ts';
import type { LogSource } from '../../log.ts';
import type { ToPrimary } from '../../messages.ts';
import type { Sizing } from '../../resources/sizing.ts';
import { Announcer, type SupervisorEvents } from './announcer.ts';
import { CrashBudget } from './crash-budget.ts';
import { Generations } from './generations.ts';
import { Recycling } from './recycling.ts';
import { type OnStep, ReplacementError, Replacer } from './replacer.ts';
import { Turnover } from './turnover.ts';
import { Watchdog } from './watchdog.ts';
import type { WorkerHandle, WorkerListener } from './worker-handle.ts';

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
  readonly #announcer: Announcer;
  readonly #handles = new Set<WorkerHandle>();
  readonly #replacer = new Replacer(handle => this.#watchdog.isHung(handle));
  readonly #crashes: CrashBudget;
  readonly #generations: Generations;
  readonly #recycling: Recycling;
  readonly #turnover: Turnover;
  #wanted: number;
  #stopping = false;
  #allServedOnce = false;
  #headStartUntil = performance.now() + HEAD_START_MS;
  #emptied: PromiseWithResolvers<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  readonly #watchdog: Watchdog;

  constructor(config: Config, log: LogSource, sizing: Sizing, hands: Hands) {
    this.#config = config;
    this.#log = log;
    this.#announcer = new Announcer(log);
    this.#hands = hands;
    this.#crashes = new CrashBudget(config);
    this.#wanted = sizing.workers;
    this.#generations = new Generations(log);
    this.#recycling = new Recycling(config, sizing);
    this.#watchdog = new Watchdog(config, log, this.#handles, () => this.tick());
    this.#turnover = new Turnover({ log, watchdog: this.#watchdog, recycling: this.#recycling, replacer: this.#replacer });
  }

  /** Tells `events` from now on, what happened before first. */
  attach(events: SupervisorEvents): void {
    this.#announcer.attach(events);
  }

  get wanted(): number {
    return this.#wanted;
  }

  get generation(): number {
    return this.#generations.current;
  }

  get rolls(): Generations['rolls'] {
    return this.#generations.rolls;
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
    this.#recycling.change(this.#config, sizing);
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
    // Those that replace another one, too: they have started before.
    await this.#roll(this.#active, onStep);
  }

  /** Replaces one worker, the new one first. @throws ReplacementError */
  async restart(handle: WorkerHandle, onStep?: OnStep): Promise<void> {
    const done = this.#replacer.request([handle], 'restart', onStep);
    this.tick();
    await done;
  }

  /** The same for those workers only that run with another heap than `heapMb`. */
  async replaceOutdated(heapMb: number | null): Promise<void> {
    const outdated = this.#active.filter(handle => handle.heapMb !== heapMb);
    if (outdated.length > 0) await this.#roll(outdated);
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
    this.#watchdog.endSlowStarters(now, this.#config.workerStartTimeoutMs);
    for (let missing = this.#missing(now); missing > 0; missing--) this.#start();
    this.#turnover.look(this.#pool(), now);
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
    if (message.type === 'ready') this.#headStartUntil = Math.min(this.#headStartUntil, performance.now() + AFTER_FIRST_READY_MS);
    // Whatever it was that made them all: the last one is ready, or fewer are wanted.
    if (!this.#allServedOnce) this.#allServedOnce = this.serving.length >= this.#wanted;
    if (message.type === 'crashing') this.#countFailure(handle);
    this.#announcer.said(handle, message);
    this.tick();
  }

  malformed(handle: WorkerHandle, error: Error): void {
    this.#announcer.malformed(handle, error);
  }

  exited(handle: WorkerHandle): void {
    this.#handles.delete(handle);
    this.#announcer.exited(handle);
    this.#countFailure(handle);
    if (this.#handles.size === 0) this.#emptied?.resolve();
    this.tick();
  }

  whoKilled(): 'oom' | 'killed' {
    return this.#announcer.whoKilled();
  }

  get #active(): WorkerHandle[] {
    return this.handles.filter(handle => handle.isActive);
  }

  /** The active workers that make up the wanted number, lowest id first. */
  #pool(): WorkerHandle[] {
    return this.#active.filter(handle => !this.#replacer.isExtra(handle));
  }

  async #roll(old: WorkerHandle[], onStep?: OnStep): Promise<void> {
    await this.#generations.next(old.length, async () => {
      if (old.length === 0) throw new ReplacementError('no worker is up; those that start from now on have the new settings');
      const done = this.#replacer.request(old, 'restart', onStep);
      this.tick();
      await done;
    });
  }

  /** How many workers may be started now. */
  #missing(now: number): number {
    if (now < this.#crashes.nextForkAt) return 0;
    return Math.min(this.#wanted, now < this.#headStartUntil ? 1 : this.#wanted) - this.#pool().length;
  }

  #start(): WorkerHandle {
    const handle = this.#hands.fork(this.#freeId(), this.generation, this);
    this.#handles.add(handle);
    this.#recycling.started(handle);
    return handle;
  }

  /** The lowest free number, so that ids in metrics stay few over many restarts. */
  #freeId(): number {
    const taken = new Set([...this.#handles].map(handle => handle.id));
    let id = 1;
    while (taken.has(id)) id++;
    return id;
  }

  /** One at a time: who does not serve first, then the highest id. */
  #drainSuperfluous(): void {
    const pool = this.#pool();
    if (pool.length <= this.#wanted || this.handles.some(handle => handle.reason === 'scale-down')) return;
    (pool.findLast(handle => !handle.isServing) ?? pool.at(-1))?.beginDrain('scale-down', this.#config.shutdownTimeoutMs);
  }

  #countFailure(handle: WorkerHandle): void {
    const backoffMs = this.#crashes.count(handle, performance.now());
    if (backoffMs === undefined) return;
    if (this.#crashes.isSpent) this.#announcer.tell(events => events.gaveUp(`worker ${handle.id}: ${handle.failure}`));
    else if (backoffMs > 0) this.#log().warn({ event: 'pool.backoff', ms: backoffMs, failures: this.#crashes.failuresInARow });
  }

  #wake(now: number): void {
    const starting = this.handles.filter(handle => handle.state === 'starting');
    const dueAt = Math.min(
      this.#replacer.dueAt(this.#crashes.nextForkAt),
      ...starting.map(handle => handle.startedAt + this.#config.workerStartTimeoutMs),
      this.#pool().length < this.#wanted ? Math.max(this.#crashes.nextForkAt, this.#headStartUntil) : Number.POSITIVE_INFINITY,
    );
    clearTimeout(this.#timer);
    if (dueAt < Number.POSITIVE_INFINITY) this.#timer = setTimeout(() => this.tick(), Math.max(1, dueAt - now));
  }
}
