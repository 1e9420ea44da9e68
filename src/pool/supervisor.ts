/**
 * Keeps the wanted number of workers alive: starts what is missing, replaces what is outdated, drains what is superfluous.
 * One method, `tick`, looks at the world and does the next thing; every event ends in it.
 */
import type { Config } from '../config/config.ts';
import type { Sizing } from '../protocol/api.ts';
import { fingerprintOf } from '../protocol/audience.ts';
import type { Emit } from '../protocol/events.ts';
import { type ExitReason, isCrash } from '../protocol/exit.ts';
import type { ToPrimary } from '../protocol/messages.ts';
import type { Headroom } from '../resources/usage.ts';
import { Enlargement } from './enlargement.ts';
import { Failures, type GiveUpReason, isFailedStart } from './failures.ts';
import { Generations, type Refusal } from './generations.ts';
import { type MemoryView, PoolMemory } from './pool-memory.ts';
import { Recycling } from './recycling.ts';
import { type OnStep, ReplacementError, ReplacementRefusedError, Replacer } from './replacer.ts';
import { type Count, Starts } from './starts.ts';
import type { Plan } from './surge.ts';
import { Turnover } from './turnover.ts';
import { Watchdog } from './watchdog.ts';
import type { WorkerListener, WorkerProcess } from './worker-process.ts';

/** What the supervisor does not know how to do. */
export interface Hands {
  fork(id: number, generation: number, listener: WorkerListener): WorkerProcess;
  /** After every look at the pool, and what it has led to. */
  ticked(handles: WorkerProcess[], wanted: number): void;
  /** Of the container; undefined without a limit. */
  headroom(): Headroom | undefined;
  emit: Emit;
}

/** The primary, which is still being loaded while the first worker starts. */
export interface SupervisorListener {
  onMessage(handle: WorkerProcess, message: ToPrimary): void;
  /** Who has sent the SIGKILL that was not ours. */
  whoKilled(): 'oom' | 'killed';
  /** The pool gives up; `last` is the worker that failed last. */
  gaveUp(why: GiveUpReason, last: WorkerProcess): void;
}

/** A client waits this long for an answer; after that it should be sent to another pod. */
const BRIDGED_MS = 10_000;

export class Supervisor implements WorkerListener {
  #config: Config;
  readonly #hands: Hands;
  readonly emit: Emit;
  #listener: SupervisorListener | undefined;
  /** For the listener. */
  readonly #early: ((listener: SupervisorListener) => void)[] = [];
  /** Workers that have sent a malformed message. */
  readonly #malformed = new WeakSet<WorkerProcess>();
  readonly #handles = new Set<WorkerProcess>();
  readonly #replacer = new Replacer<WorkerProcess>({
    isHung: handle => this.#watchdog.isHung(handle),
    endHung: (handle, drainTimeoutMs) => void this.#watchdog.end(handle, drainTimeoutMs),
    mayLeave: handle => this.mayLeave(handle),
    isAlone: () => this.#wanted === 1,
    plan: (handle, reason) => this.planFor(handle, reason),
  });
  readonly #memory: PoolMemory;
  readonly #failures: Failures;
  readonly #starts: Starts;
  readonly #enlargement = new Enlargement();
  readonly #generations: Generations;
  readonly #recycling: Recycling<WorkerProcess>;
  readonly #turnover: Turnover;
  #wanted: number;
  #stopping = false;
  /** When a worker was last seen to serve. */
  #servedAt = 0;
  #lastFailure: WorkerProcess | undefined;
  #emptied: PromiseWithResolvers<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  readonly #watchdog: Watchdog;

  constructor(config: Config, sizing: Sizing, hands: Hands) {
    this.#config = config;
    this.#hands = hands;
    this.emit = hands.emit;
    const now = performance.now();
    this.#failures = new Failures(config, now);
    this.#starts = new Starts(this.#failures, sizing, now);
    this.#wanted = sizing.workers;
    this.#generations = new Generations(this.emit);
    this.#memory = new PoolMemory(() => hands.headroom());
    this.#recycling = new Recycling(config, this.#memory.footprints);
    this.#watchdog = new Watchdog(config, this.emit, this.#handles, () => this.tick());
    this.#turnover = new Turnover({
      emit: this.emit,
      watchdog: this.#watchdog,
      recycling: this.#recycling,
      replacer: this.#replacer,
      memory: this.#memory,
    });
  }

  /** Calls `listener` from now on, with what happened before first. */
  attach(listener: SupervisorListener): void {
    this.#listener = listener;
    for (const call of this.#early.splice(0)) call(listener);
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

  /** The last restart that was refused. */
  get lastRefusal(): Refusal | undefined {
    return this.#generations.lastRefusal;
  }

  /** True once all wanted workers serve at the same time, or some do and the others have failed for WORKER_START_TIMEOUT_MS. */
  get hasStarted(): boolean {
    return this.#starts.hasStarted;
  }

  /** Whether workers are missing because they fail to start. */
  get isFailing(): boolean {
    return this.#failures.failingSince !== undefined;
  }

  /** Every worker that has not exited, lowest id first. */
  get handles(): WorkerProcess[] {
    return [...this.#handles].sort((a, b) => a.id - b.id);
  }

  /** Whether no worker serves because the only one is being replaced, and only for a short time so far: connections wait in the listening socket. */
  get isBridged(): boolean {
    return this.#replacer.isBetween && performance.now() - this.#servedAt < BRIDGED_MS;
  }

  get serving(): WorkerProcess[] {
    return this.handles.filter(handle => handle.isServing);
  }

  /** Whether another worker serves, so that this one may leave the rotation. */
  mayLeave(handle: WorkerProcess): boolean {
    return this.serving.some(other => other !== handle && !this.#watchdog.isHung(other));
  }

  /** The memory data on which the pool bases replacements. */
  get memoryView(): MemoryView {
    const [first] = this.#pool();
    return {
      headroom: this.#memory.headroom,
      freshWorkerBytes: this.#memory.footprints.fresh?.settledBytes,
      restart: first === undefined ? { kind: 'surge' } : this.planFor(first, 'restart'),
      pointlessRecycling: this.#recycling.pointless,
    };
  }

  /** How this worker would be replaced now, for that reason. */
  planFor(handle: WorkerProcess, reason: ExitReason): Plan {
    return this.#memory.plan(handle, this.#config.restartSurge, reason);
  }

  /** Sets the number of workers: starts missing ones a few at a time, drains excess ones one at a time. */
  scale(wanted: number): void {
    this.#enlargement.supersede(wanted);
    this.#setWanted(wanted);
  }

  /**
   * The same for an operator who waits for more workers.
   * @throws ScaleError when one of them fails to start, and the pool goes back to the number that it had
   */
  async enlarge(wanted: number): Promise<void> {
    const done = this.#enlargement.begin(this.#wanted, wanted, performance.now());
    this.#setWanted(wanted);
    await done;
  }

  #setWanted(wanted: number): void {
    const from = this.#wanted;
    this.#wanted = wanted;
    this.emit({ event: 'pool.scale', from, to: wanted });
    this.tick();
  }

  /** Takes the limits of a new sizing; the number of workers is `scale`'s matter. */
  resized(sizing: Sizing): void {
    this.#starts.resized(sizing);
  }

  /** Takes settings that were read again; the number of workers is `scale`'s matter. */
  reloaded(config: Config, sizing: Sizing): void {
    this.#config = config;
    this.#failures.limits = config;
    this.#recycling.change(config);
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

  /** Replaces one worker. @throws ReplacementError */
  async restart(handle: WorkerProcess, onStep?: OnStep): Promise<void> {
    const done = this.#replacer.request([handle], 'restart', onStep);
    this.tick();
    await done.catch(error => {
      if (error instanceof ReplacementRefusedError) this.refused(error.message);
      throw error;
    });
  }

  /** Records a restart that was refused, and why. */
  refused(why: string): void {
    this.#generations.refused(why);
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
    this.#enlargement.stop();
    for (const handle of this.#handles) if (handle.state === 'starting') handle.kill('shutdown');
  }

  /** Kills the workers that have not answered for WORKER_HEARTBEAT_TIMEOUT_MS: they would only delay the exit. */
  endSilent(): void {
    for (const handle of this.#handles)
      if (this.#watchdog.isSilent(handle)) handle.giveUp('shutdown', 'did not answer at the shutdown, killed');
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
    if (this.serving.length > 0) this.#servedAt = now;
    const { startDeadlineAt, nextStartAt } = this.#failures;
    if (startDeadlineAt !== undefined && now >= startDeadlineAt) {
      this.#giveUp('start-timeout');
      return;
    }
    this.#watchdog.endSlowStarters(now, this.#config.workerStartTimeoutMs);
    this.#starts.look(this.#count, now, () => this.#replacer.started(this.#start()));
    this.#turnover.look(this.handles, this.#pool(), now);
    this.#replacer.look({
      now,
      isShort: this.#pool().length < this.#wanted,
      mayForkAt: nextStartAt,
      drainTimeoutMs: this.#config.shutdownTimeoutMs,
      fork: () => this.#start(),
    });
    this.#drainSuperfluous();
    this.#noteStarted(now);
    this.#hands.ticked(this.handles, this.#wanted);
    this.#wake(now);
  }

  said(handle: WorkerProcess, message: ToPrimary): void {
    if (message.type === 'ready') {
      this.#starts.ready(performance.now());
    }
    if (message.type === 'crashing') this.#countFailure(handle);
    if (message.type === 'ready') {
      const ms = Math.round(performance.now() - handle.startedAt);
      this.emit({ event: 'worker.ready', ...fieldsOf(handle), generation: handle.generation, ms }); // before its consequences
    }
    this.#callListener(listener => listener.onMessage(handle, message));
    this.#noteStarted(performance.now());
    this.tick();
  }

  /** Logs the first malformed message of each worker; all are counted. */
  malformed(handle: WorkerProcess, error: Error): void {
    const isFirst = !this.#malformed.has(handle);
    this.#malformed.add(handle);
    this.emit({ event: 'worker.malformed-message', ...fieldsOf(handle), error: error.message, isFirst });
  }

  exited(handle: WorkerProcess): void {
    this.#handles.delete(handle);
    const { reason = 'crash', failure, openFailure, error, drain, lost, snapshot, missedDeadline } = handle;
    const isStart = isFailedStart(handle);
    this.emit({
      event: 'worker.exit',
      ...fieldsOf(handle),
      reason,
      failure,
      openFailure,
      fingerprint: error && fingerprintOf(error.message),
      error,
      drain,
      lost,
      snapshot,
      isFailure: isCrash(reason) || isStart || missedDeadline,
      isFailedStart: isStart,
      missedDeadline,
    });
    this.#countFailure(handle);
    if (this.#handles.size === 0) this.#emptied?.resolve();
    this.tick();
  }

  whoKilled(): 'oom' | 'killed' {
    return this.#listener?.whoKilled() ?? 'killed';
  }

  #callListener(call: (listener: SupervisorListener) => void): void {
    if (this.#listener === undefined) this.#early.push(call);
    else call(this.#listener);
  }

  get #active(): WorkerProcess[] {
    return this.handles.filter(handle => handle.isActive);
  }

  /** The active workers that make up the wanted number, lowest id first. */
  #pool(): WorkerProcess[] {
    return this.#active.filter(handle => !this.#replacer.isExtra(handle));
  }

  async #roll(old: WorkerProcess[], onStep?: OnStep): Promise<void> {
    await this.#generations.next(old.length, async () => {
      if (old.length === 0) throw new ReplacementError('no worker is up; those that start from now on have the new settings');
      const done = this.#replacer.request(old, 'restart', onStep);
      this.tick();
      await done;
    });
  }

  /** How many workers are ending after an error and still use the memory that their successors need. */
  get #crowding(): number {
    const ending = this.handles.filter(({ state, reason }) => state === 'draining' && reason === 'crash');
    return ending.filter(handle => this.planFor(handle, 'crash').kind === 'old-first').length;
  }

  get #count(): Count {
    const starting = this.handles.filter(({ state }) => state === 'starting').map(({ startedAt }) => startedAt);
    const pool = this.#pool().length + this.#replacer.leaving + this.#crowding;
    return { pool, wanted: this.#wanted, up: this.#pool().filter(isUp).length, serving: this.serving.length, starting };
  }

  #noteStarted(now: number): void {
    const count = this.#count;
    this.#enlargement.look(count.up);
    if (this.#starts.note(count, now, this.#config.workerStartTimeoutMs)) this.emit({ event: 'pool.started' });
  }

  #start(): WorkerProcess {
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

  #countFailure(handle: WorkerProcess): void {
    const isMissing = !this.#replacer.isExtra(handle);
    const up = this.handles.filter(other => other !== handle && isUp(other));
    const verdict = this.#failures.ended(handle, isMissing, up, performance.now());
    if (isCrash(handle.reason) || isFailedStart(handle)) {
      this.#lastFailure = handle;
      if (isMissing) this.#stopEnlarging(handle);
    }
    if (verdict.kind === 'give-up') this.#giveUp(verdict.why);
    if (verdict.kind === 'back-off')
      this.emit({ event: 'pool.backoff', ms: verdict.ms, failures: this.#failures.failuresInARow });
  }

  #stopEnlarging(handle: WorkerProcess): void {
    const back = this.#enlargement.failed(handle);
    if (back === undefined) return;
    const from = this.#wanted;
    this.#wanted = back.wanted;
    this.emit({ event: 'pool.scale-failed', from, to: back.wanted, error: back.why });
  }

  #giveUp(why: GiveUpReason): void {
    const handle = this.#lastFailure;
    if (handle !== undefined) this.#callListener(listener => listener.gaveUp(why, handle));
  }

  #wake(now: number): void {
    const starting = this.handles.filter(handle => handle.state === 'starting');
    const dueAt = Math.min(
      this.#replacer.dueAt(this.#failures.nextStartAt),
      this.#starts.dueAt(this.#count, now, this.#config.workerStartTimeoutMs),
      ...starting.map(handle => handle.startedAt + this.#config.workerStartTimeoutMs),
    );
    clearTimeout(this.#timer);
    if (dueAt < Number.POSITIVE_INFINITY) this.#timer = setTimeout(() => this.tick(), Math.max(1, dueAt - now));
  }
}

const isUp = ({ state }: WorkerProcess) => state === 'ready' || state === 'cordoned';

const fieldsOf = ({ id: worker, pid: workerPid }: WorkerProcess) => ({ worker, workerPid });
