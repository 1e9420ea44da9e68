/**
 * The shell around the pool's state machine (state.ts): passes in events and the time, carries out the effects, and sets the only timer.
 */
import type { Config } from '../config/config.ts';
import type { Emit } from '../protocol/events.ts';
import type { ToPrimary } from '../protocol/messages.ts';
import type { Sizing } from '../protocol/sizing.ts';
import type { Heap } from '../resources/heap.ts';
import type { Headroom } from '../resources/usage.ts';
import type { Effect, PoolEvent, RequestEvent } from './effects.ts';
import type { GiveUpReason } from './failures.ts';
import type { MemoryView } from './memory.ts';
import { EarliestTimer, LateListener, type OnStep, PendingRequests } from './pending.ts';
import type { Refusal, Requests } from './requests.ts';
import { PoolState } from './state.ts';
import { MemoryReader } from './worker-io.ts';
import type { WorkerListener, WorkerProcess } from './worker-process.ts';
import { openFailureOf, type WorkerRecord } from './worker-state.ts';
import { STACK_TIMEOUT_MS } from './workers.ts';

/** What the supervisor needs from outside the pool's rules. */
export interface SupervisorOptions {
  fork: (worker: WorkerRecord, listener: WorkerListener) => WorkerProcess;
  /** Takes the port that the app has named. @throws PortError */
  bind: (port: number) => Promise<void>;
  /** Called after every change of the pool. */
  onChange: (workers: WorkerProcess[], wanted: number) => void;
  /** Of the container; undefined without a limit. */
  headroom: () => Headroom | undefined;
  /** The origin of a SIGKILL that the primary did not send; called once for each. */
  whoKilled: () => 'oom' | 'killed';
  emit: Emit;
}

/** The primary, which is still being loaded while the first worker starts. */
export interface SupervisorListener {
  onMessage(handle: WorkerProcess, message: ToPrimary): void;
  /** The listening sockets have the port that the app has named, or cannot have it. */
  bound(error: Error | undefined): void;
  /** The pool has given up; `last` is the worker that failed last. */
  gaveUp(why: GiveUpReason, last: Pick<WorkerProcess, 'id' | 'failure' | 'openFailure'>): void;
}

export class Supervisor {
  readonly #newState: () => PoolState;
  #state: PoolState;
  readonly #options: SupervisorOptions;
  readonly #processes = new WeakMap<WorkerRecord, WorkerProcess>();
  readonly #memory = new MemoryReader();
  readonly #requests = new PendingRequests();
  readonly #effects: Effect[] = [];
  #isCarryingOut = false;
  /** Events before `start`, while BEFORE_START runs. */
  #held: PoolEvent[] | undefined = [];
  readonly #timer = new EarliestTimer(() => this.#apply({ type: 'tick' }));
  readonly #listener = new LateListener<SupervisorListener>();
  #emptied: PromiseWithResolvers<void> | undefined;

  constructor(config: Config, sizing: Sizing, options: SupervisorOptions) {
    this.#options = options;
    this.#newState = () => new PoolState(config, sizing, { ...options, random: Math.random }, performance.now());
    this.#state = this.#newState();
  }

  /** Attaches the listener; it first gets the calls missed so far. */
  attach(listener: SupervisorListener): void {
    this.#listener.attach(listener);
  }

  get wanted(): number {
    return this.#state.wanted;
  }

  get generation(): number {
    return this.#state.requests.generation;
  }

  get rolls(): Requests['rolls'] {
    return this.#state.requests.rolls;
  }

  get lastRefusal(): Refusal | undefined {
    const { lastRefusal } = this.#state.requests;
    return lastRefusal && { ...lastRefusal, at: Math.round(performance.timeOrigin + lastRefusal.at) };
  }

  /** True once all wanted workers serve at the same time, or some do and the others have failed for WORKER_START_TIMEOUT_MS. */
  get hasStarted(): boolean {
    return this.#state.hasStarted;
  }

  get isFailing(): boolean {
    return this.#state.isFailing;
  }

  /** Whether no worker serves because the only one is being replaced, for less than 10 s: connections wait in the listening socket. */
  get isBridged(): boolean {
    return this.#state.isBridged(performance.now());
  }

  /** Every worker that has not exited, lowest id first. */
  get handles(): WorkerProcess[] {
    return this.#state.workers.flatMap(worker => this.#processes.get(worker) ?? []);
  }

  get serving(): WorkerProcess[] {
    return this.handles.filter(handle => handle.isServing);
  }

  mayLeave(handle: WorkerProcess): boolean {
    return this.#state.mayLeave(handle.record);
  }

  get memoryView(): MemoryView {
    return this.#state.memoryView;
  }

  /** Until then nothing is forked, and what changes the pool waits. */
  start(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    this.#state = this.#newState(); // its times begin now
    for (const event of [{ type: 'tick' } as const, ...held]) this.#apply(event);
  }

  /** Sets the number of workers: starts missing ones a few at a time, drains excess ones one at a time. */
  scale(wanted: number): void {
    this.#apply({ type: 'scale', wanted });
  }

  /**
   * Raises the number of workers and waits until they serve.
   * @throws ScaleError if one of them fails to start; the pool then returns to its previous size
   */
  async enlarge(wanted: number): Promise<void> {
    await this.#request(request => ({ type: 'enlarge', wanted, request }));
  }

  /** Replaces one worker. @throws ReplacementError */
  async restart(handle: WorkerProcess, onStep?: OnStep): Promise<void> {
    await this.#request(request => ({ type: 'restart', worker: handle.record, request }), onStep);
  }

  /**
   * Replaces every worker by one of the next generation, one at a time.
   * @throws ReplacementError if a new one does not start; the old ones keep serving
   */
  async restartAll(onStep?: OnStep): Promise<void> {
    await this.#request(request => ({ type: 'roll', request }), onStep);
  }

  /** Replaces the workers with another heap, and does not wait. */
  replaceOutdated(heap: Heap): void {
    this.#apply({ type: 'roll', exceptHeap: heap });
  }

  /** Records a restart that was refused before it began, and why. */
  refused(why: string): void {
    this.#apply({ type: 'refused', why });
  }

  /** Applies a new sizing and reloaded settings, but not the number of workers: see `scale`. */
  configure(sizing: Sizing, config?: Config): void {
    this.#apply({ type: 'configure', sizing, ...(config && { config }) });
  }

  /** Kills the workers that do not serve yet: what they load has changed. */
  abandonStarts(): void {
    this.#apply({ type: 'abandon-starts' });
  }

  /** Starts no more workers, and kills those that do not serve yet. */
  stop(): void {
    this.#apply({ type: 'stop' });
  }

  /** Kills the workers that have not answered for WORKER_HEARTBEAT_TIMEOUT_MS: they would only delay the exit. */
  killSilent(): void {
    this.#apply({ type: 'kill-silent' });
  }

  /** Lets all workers finish their open requests within `timeoutMs`, then exit. */
  drainAll(timeoutMs: number): void {
    this.#apply({ type: 'drain-all', timeoutMs });
  }

  killUndrained(): void {
    this.#apply({ type: 'kill-undrained' });
  }

  /** Resolves when no worker is left. */
  async empty(): Promise<void> {
    if (this.#state.workers.length === 0) return;
    this.#emptied ??= Promise.withResolvers<void>();
    await this.#emptied.promise;
  }

  #apply(event: PoolEvent): void {
    if (this.#held !== undefined) return void this.#held.push(event);
    const now = performance.now();
    this.#measure(now);
    this.#effects.push(...this.#state.apply(event, now));
    // An effect may cause an event; its effects follow those already queued.
    if (this.#isCarryingOut) return;
    this.#isCarryingOut = true;
    try {
      for (let effect = this.#effects.shift(); effect !== undefined; effect = this.#effects.shift()) this.#carryOut(effect);
    } finally {
      this.#isCarryingOut = false;
    }
    if (this.#state.workers.length === 0) this.#emptied?.resolve();
    this.#options.onChange(this.handles, this.wanted);
  }

  #carryOut(effect: Effect): void {
    const handle = 'worker' in effect ? this.#processes.get(effect.worker) : undefined;
    switch (effect.type) {
      case 'fork':
        this.#fork(effect.worker);
        break;
      case 'drain':
        handle?.beginDrain(effect.reason, effect.timeoutMs);
        break;
      case 'send':
        handle?.send(effect.message);
        break;
      case 'kill':
        handle?.kill();
        break;
      case 'inspect':
        if (handle !== undefined) void this.#inspect(effect.worker, handle);
        break;
      case 'bind':
        void this.#bind(effect.port);
        break;
      case 'emit':
        this.#options.emit(effect.event);
        break;
      case 'forward':
        if (handle !== undefined) this.#listener.call(listener => listener.onMessage(handle, effect.message));
        break;
      case 'progress':
        this.#requests.progress(effect.request, effect.text);
        break;
      case 'answer':
        this.#requests.answer(effect.request, effect.error);
        break;
      case 'give-up':
        this.#listener.call(listener => listener.gaveUp(effect.why, { ...effect.last, openFailure: openFailureOf(effect.last) }));
        break;
      case 'wake':
        this.#timer.set(effect.at);
        break;
      default:
        effect satisfies never;
    }
  }

  #fork(worker: WorkerRecord): void {
    const handle = this.#options.fork(worker, {
      onEvent: event => this.#apply(event),
      onMalformed: this.#options.emit,
      whoKilled: this.#options.whoKilled,
    });
    this.#processes.set(worker, handle);
    const { pid, isInspectedAtStart: isInspected } = handle;
    if (pid !== 0) this.#apply({ type: 'forked', worker, pid, isInspected });
  }

  async #bind(port: number): Promise<void> {
    const error = await this.#options.bind(port).then(
      () => undefined,
      (error: Error) => error,
    );
    this.#listener.call(listener => listener.bound(error));
    if (error === undefined) this.#apply({ type: 'bound' });
  }

  async #inspect(worker: WorkerRecord, handle: WorkerProcess): Promise<void> {
    const stack = await handle.readStack(STACK_TIMEOUT_MS);
    this.#apply({ type: 'inspected', worker, stack });
  }

  #measure(now: number): void {
    for (const worker of this.#state.workers) {
      const memory = this.#memory.read(worker, now);
      if (memory !== undefined) this.#state.apply({ type: 'measured', worker, memory }, now);
    }
  }

  async #request(event: (request: number) => RequestEvent, onStep?: OnStep): Promise<void> {
    await this.#requests.send(request => this.#apply(event(request)), onStep);
  }
}
