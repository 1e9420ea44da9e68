/**
 * The pool as a state machine: an event and the time go in, effects come out. It decides which workers start, drain and are killed, and
 * answers an operator's requests. It has no process, timer or clock: the supervisor carries out the effects.
 * Every event ends in the same steps: cull, start, replace. Only a tick times workers out first.
 */
import type { Config } from '../config/config.ts';
import type { LifecycleEvent } from '../protocol/events.ts';
import { type ExitReason, isCrash } from '../protocol/exit.ts';
import type { Sizing } from '../protocol/sizing.ts';
import type { Effect, PoolEvent, Sensors, WorkerEvent } from './effects.ts';
import { type Count, Failures, type GiveUpReason, isFailedStart, Starts } from './failures.ts';
import { Footprints, type MemoryView, type Plan, planReplacement } from './memory.ts';
import { Recycling } from './recycling.ts';
import { Replacements } from './replacement.ts';
import { Requests } from './requests.ts';
import { isServing, isUp, type WorkerRecord } from './worker-state.ts';
import { named, Workers } from './workers.ts';

/** While the only worker is replaced, the pod stays ready for this long. After that, load balancers should use other pods. */
const BRIDGED_MS = 10_000;

export class PoolState {
  #config: Config;
  #sizing: Sizing;
  readonly #sensors: Sensors;
  readonly #workers: Workers;
  readonly #requests: Requests;
  readonly #failures: Failures;
  readonly #starts: Starts;
  readonly #footprints = new Footprints<WorkerRecord>();
  readonly #recycling: Recycling<WorkerRecord>;
  readonly #replacements: Replacements;
  #servedAt = 0;
  #lastFailure: WorkerRecord | undefined;
  #isBinding = false;
  #isStopping = false;
  #hasGivenUp = false;
  #effects: Effect[] = [];

  /** `now` is when the pool begins to start. */
  constructor(config: Config, sizing: Sizing, sensors: Sensors, now: number) {
    this.#config = config;
    this.#sizing = sizing;
    this.#sensors = sensors;
    const push = (effect: Effect) => void this.#effects.push(effect);
    this.#workers = new Workers(config, push);
    const replace = (...request: Parameters<Replacements['request']>) => this.#replacements.request(...request);
    this.#requests = new Requests(sizing.workers, push, replace, config.dev !== undefined);
    this.#failures = new Failures(config, now);
    this.#starts = new Starts(this.#failures, sizing, now);
    this.#recycling = new Recycling(config, this.#footprints);
    this.#replacements = new Replacements(this.#workers, this.#requests, {
      plan: (worker, reason) => this.#plan(worker, reason),
      fork: at => this.#fork(at),
      isQuick: config.dev !== undefined,
    });
  }

  /** Every worker that has not exited, lowest id first. */
  get workers(): WorkerRecord[] {
    return this.#workers.all;
  }

  get wanted(): number {
    return this.#requests.wanted;
  }

  /** The generation, the rolling restarts so far, and the last refusal. */
  get requests(): Pick<Requests, 'generation' | 'rolls' | 'lastRefusal'> {
    return this.#requests;
  }

  get hasStarted(): boolean {
    return this.#starts.hasStarted;
  }

  get isFailing(): boolean {
    return this.#failures.failingSince !== undefined;
  }

  /** Whether no worker serves because the only one is being replaced, for less than BRIDGED_MS: connections wait in the listening socket. */
  isBridged(now: number): boolean {
    return this.#replacements.isBetween && now - this.#servedAt < BRIDGED_MS;
  }

  mayLeave(worker: WorkerRecord): boolean {
    return this.#workers.mayLeave(worker);
  }

  /** The memory data on which the pool bases replacements. */
  get memoryView(): MemoryView {
    const [first] = this.#pool;
    return {
      headroom: this.#sensors.headroom(),
      freshWorkerBytes: this.#footprints.fresh?.settledBytes,
      restart: first === undefined ? { kind: 'surge' } : this.#plan(first, 'restart'),
      pointlessRecycling: this.#recycling.pointless,
    };
  }

  /** `now` by the monotonic clock, in milliseconds. */
  apply(event: PoolEvent, now: number): Effect[] {
    this.#effects = [];
    this.#handle(event, now);
    const isBroadcast = event.type === 'message' && event.message.type === 'broadcast';
    // These change nothing that is due, and an app may send thousands of broadcasts a second.
    if (!isBroadcast && event.type !== 'measured') this.#proceed(now);
    return this.#effects;
  }

  #handle(event: PoolEvent, now: number): void {
    switch (event.type) {
      case 'tick':
        this.#timeOut(now);
        break;
      case 'bound':
        this.#isBinding = false;
        break;
      case 'measured':
        this.#footprints.note(event.worker, event.memory, event.worker.busySince, now);
        break;
      case 'scale':
      case 'enlarge':
      case 'restart':
      case 'roll':
      case 'refused':
        if (event.type === 'roll') this.#failures.reload();
        this.#requests.handle(event, this.#workers.active, now);
        break;
      case 'configure':
        this.#configure(event.config ?? this.#config, event.sizing);
        break;
      default:
        this.#workers.handle(event, now);
        this.#follow(event, now);
    }
  }

  #follow(event: WorkerEvent, now: number): void {
    if (event.type === 'message') {
      const { worker, message } = event;
      if (message.type === 'crashing') this.#countFailure(worker, now);
      if (message.type === 'ready' && isUp(worker)) this.#starts.ready(now);
      if (message.type === 'named-port' && worker.reason === 'named-port') {
        this.#isBinding = true;
        this.#effects.push({ type: 'bind', port: message.port });
      }
      if (message.type !== 'ready' || isUp(worker)) this.#effects.push({ type: 'forward', worker, message });
    }
    if (event.type === 'exited') {
      this.#footprints.keep(this.workers);
      this.#countFailure(event.worker, now);
    }
    if (event.type === 'stop') {
      this.#isStopping = true;
      this.#requests.stop();
      this.#replacements.stop(now);
    }
  }

  #proceed(now: number): void {
    if (!this.#isOver) {
      this.#noteServing(now);
      this.#cull(now);
      this.#start(now);
      this.#replace(now);
    }
    this.#effects.push({ type: 'wake', at: this.#dueAt(now) });
  }

  /** Whether the pool no longer starts or replaces workers. */
  get #isOver(): boolean {
    return this.#isStopping || this.#hasGivenUp;
  }

  #timeOut(now: number): void {
    this.#workers.timeOut(now);
    if (this.#isOver) return;
    this.#workers.countSilence(now);
    if (now >= (this.#failures.startDeadlineAt ?? Number.POSITIVE_INFINITY)) this.#giveUp('start-timeout');
  }

  #noteServing(now: number): void {
    const count = this.#count;
    if (count.serving > 0) this.#servedAt = now;
    this.#requests.noteUp(count.up);
    if (this.#starts.note(count, now, this.#config.workerStartTimeoutMs)) this.#emit({ event: 'pool.started' });
  }

  /** Drains excess workers, one at a time: first those that do not serve, then the highest id. */
  #cull(now: number): void {
    const pool = this.#pool;
    if (pool.length <= this.wanted || this.workers.some(({ reason }) => reason === 'scale-down')) return;
    const worker = pool.findLast(each => !isServing(each)) ?? pool.at(-1);
    if (worker !== undefined) this.#workers.drain(worker, 'scale-down', this.#config.shutdownTimeoutMs, now);
  }

  #start(now: number): void {
    if (this.#isBinding) return;
    for (let count = this.#starts.take(this.#count, now); count > 0; count--) this.#replacements.started(this.#fork(now));
  }

  /** Requests the replacement of workers that hang or are due for recycling, and advances the current replacements. */
  #replace(now: number): void {
    const pool = this.#pool;
    for (const worker of pool) {
      // A hung worker does not wait for a rolling restart to reach it.
      const isOut = worker.state === 'starting' || this.#replacements.isBusyWith(worker);
      if (!isOut && this.#workers.isHung(worker)) this.#requestReplacement(worker, 'hung');
    }
    const isChanging = this.workers.some(({ state }) => state === 'starting' || state === 'draining');
    const headroom = isChanging ? undefined : this.#sensors.headroom();
    const isOut = (worker: WorkerRecord) =>
      worker.state === 'starting' || this.#replacements.isConcernedWith(worker) || now < worker.refusedUntil;
    for (const { worker, reason } of this.#recycling.due(pool, isOut, { headroom, now }))
      this.#requestReplacement(worker, reason);
    const why = this.#recycling.takePointless();
    if (why !== undefined) this.#emit({ event: 'recycling.pointless', why });
    this.#replacements.tick(now, this.#failures.nextStartAt, this.#pool.length < this.wanted);
  }

  #dueAt(now: number): number {
    const { deadlineAt, nextSilenceAt } = this.#workers;
    if (this.#isOver) return deadlineAt;
    const startAt = this.#starts.dueAt(this.#count, now, this.#config.workerStartTimeoutMs);
    return Math.min(deadlineAt, nextSilenceAt, startAt, this.#replacements.dueAt(this.#failures.nextStartAt));
  }

  /** The active workers that make up the wanted number, lowest id first. */
  get #pool(): WorkerRecord[] {
    return this.#workers.active.filter(worker => !this.#replacements.isExtra(worker));
  }

  get #count(): Count {
    const pool = this.#pool;
    // Crashed workers that still drain, and use the memory that their successors need.
    const crowding = this.workers.filter(
      worker => worker.state === 'draining' && worker.reason === 'crash' && this.#plan(worker, 'crash').kind === 'old-first',
    );
    return {
      pool: pool.length + this.#replacements.leaving + crowding.length,
      wanted: this.wanted,
      up: pool.filter(isUp).length,
      serving: this.workers.filter(isServing).length,
      starting: this.workers.filter(({ state }) => state === 'starting').map(({ startedAt }) => startedAt),
    };
  }

  #configure(config: Config, sizing: Sizing): void {
    this.#config = config;
    this.#sizing = sizing;
    this.#workers.limits = config;
    this.#failures.limits = config;
    this.#recycling.change(config);
    this.#starts.resized(sizing);
  }

  #requestReplacement(worker: WorkerRecord, reason: ExitReason): void {
    this.#emit({ event: 'worker.replace', ...named(worker), reason });
    this.#replacements.request([worker], reason, { kind: 'own', worker });
  }

  #fork(now: number): WorkerRecord {
    return this.#workers.fork({
      generation: this.#requests.generation,
      heap: this.#sizing.memory,
      maxRequests: this.#recycling.drawMaxRequests(this.#sensors.random),
      startedAt: now,
    });
  }

  #countFailure(worker: WorkerRecord, now: number): void {
    const isMissing = !this.#replacements.isExtra(worker);
    const up = this.workers.filter(isUp);
    const verdict = this.#failures.ended(worker, isMissing, up, now);
    if (isCrash(worker.reason) || isFailedStart(worker)) {
      this.#lastFailure = worker;
      if (isMissing) this.#requests.failed(worker);
    }
    if (verdict.kind === 'give-up') this.#giveUp(verdict.why);
    if (verdict.kind === 'back-off')
      this.#emit({ event: 'pool.backoff', ms: verdict.ms, failures: this.#failures.failuresInARow });
  }

  #giveUp(why: GiveUpReason): void {
    if (this.#hasGivenUp || this.#lastFailure === undefined) return;
    this.#hasGivenUp = true;
    this.#effects.push({ type: 'give-up', why, last: this.#lastFailure });
  }

  /** How this worker would be replaced now, for that reason. */
  #plan(worker: WorkerRecord, reason: ExitReason): Plan {
    const { restartSurge: surge } = this.#config;
    return planReplacement({ surge, headroom: this.#sensors.headroom(), ...this.#footprints.replacementOf(worker, reason) });
  }

  #emit(event: LifecycleEvent): void {
    this.#effects.push({ type: 'emit', event });
  }
}
