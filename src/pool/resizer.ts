/**
 * What changes a running pool: the limits of the container, an operator's number of workers, and settings that are read again by a
 * rolling restart. More CPUs fork, fewer drain, another heap replaces the workers.
 */
import { type Config, ConfigError, type WorkerCount } from '../config/config.ts';
import type { LogSource } from '../log/log.ts';
import type { Emit } from '../protocol/events.ts';
import type { Sizing } from '../protocol/sizing.ts';
import { type Limits, readerBelow, resolveLimits } from '../resources/cgroup.ts';
import { isSameHeap, WORKABLE_HEAP_MIB } from '../resources/heap.ts';
import type { NodeOptions } from '../resources/node-options.ts';
import { type Detected, detect } from '../resources/sizing.ts';
import type { OnStep } from './pending.ts';
import { ScaleError, SupersededError } from './requests.ts';
import type { Settings } from './settings.ts';
import type { Supervisor } from './supervisor.ts';

export class Resizer {
  readonly #root: string;
  #nodeOptions: NodeOptions;
  readonly #log: LogSource;
  readonly #emit: Emit;
  #requested: WorkerCount;
  /** The last setting with which all workers have started, or the pool was started. */
  #settled: WorkerCount;
  #detected: Detected;
  #follower: { close(): void } | undefined;
  /** Changes of the limits that were carried out. */
  resizes = { up: 0, down: 0, heap: 0 };

  /** `detected` is the first sizing. */
  constructor({ workers, sizingRoot }: Config, nodeOptions: NodeOptions, detected: Detected, log: LogSource, emit: Emit) {
    this.#root = sizingRoot;
    this.#nodeOptions = nodeOptions;
    this.#log = log;
    this.#emit = emit;
    this.#requested = workers;
    this.#settled = workers;
    this.#detected = detected;
  }

  get sizing(): Sizing {
    return this.#detected.sizing;
  }

  get limits(): Limits {
    return this.#detected.limits;
  }

  /** NODE_OPTIONS for the workers, without heap options, which are on their command line. */
  get workerNodeOptions(): string {
    return this.#detected.nodeOptions;
  }

  /** Node.js options for the workers, with their heap. */
  get workerCommandLine(): readonly string[] {
    return this.#detected.workerCommandLine;
  }

  /** Watches the limits from now on. */
  async follow(supervisor: Supervisor): Promise<void> {
    const { LimitFollower } = await import('../resources/follow.ts');
    const read = readerBelow(this.#root);
    this.#follower = new LimitFollower(this.#detected.limits, {
      root: this.#root,
      resolve: () => resolveLimits(read),
      changed: limits => this.#apply(supervisor, limits),
    });
  }

  /**
   * Applies an operator's setting of NODE_CLUSTER_WORKERS; an enlargement is waited for.
   * @throws ScaleError if memory does not hold that many with a workable heap, unless `isForced`; if a worker fails to start, and the
   * pool has returned to its previous size
   */
  async scale(requested: WorkerCount, isForced: boolean, supervisor: Supervisor): Promise<void> {
    const { sizing, workable } = detect(requested, this.#nodeOptions, this.#root, this.limits);
    if (sizing.workers <= supervisor.wanted) {
      this.#settled = requested;
      this.#requested = requested;
      this.#apply(supervisor, this.limits);
      return;
    }
    if (sizing.workers > workable.count && !isForced) throw this.#refused(sizing.workers, workable);
    const before = this.sizing.memory;
    this.#requested = requested;
    this.#take(this.limits, supervisor);
    this.resizes.up++;
    try {
      await supervisor.enlarge(sizing.workers);
    } catch (error) {
      if (!(error instanceof SupersededError)) this.#takeBack(supervisor);
      throw error;
    }
    this.#settled = requested;
    // Only now: had the new ones failed to start, the old ones would have been replaced for nothing.
    if (!isSameHeap(this.sizing.memory, before)) this.#replaceOutdated(supervisor);
  }

  /** Takes what a reload has changed; the rolling restart that follows gives the workers their heap. */
  reload({ config, nodeOptions }: Settings, supervisor: Supervisor): void {
    this.#requested = config.workers;
    this.#settled = config.workers;
    this.#nodeOptions = nodeOptions;
    this.#detected = detect(config.workers, nodeOptions, this.#root, this.#detected.limits);
    supervisor.configure(this.sizing, config);
    if (this.sizing.workers !== supervisor.wanted) supervisor.scale(this.sizing.workers);
  }

  close(): void {
    this.#follower?.close();
  }

  #apply(supervisor: Supervisor, limits: Limits): void {
    const before = this.sizing;
    const { workers, memory } = this.#take(limits, supervisor);
    if (workers !== before.workers) {
      this.resizes[workers > before.workers ? 'up' : 'down']++;
      supervisor.scale(workers);
    }
    if (!isSameHeap(memory, before.memory)) this.#replaceOutdated(supervisor);
  }

  /** Sizes again, for later workers. */
  #take(limits: Limits, supervisor: Supervisor): Sizing {
    this.#detected = detect(this.#requested, this.#nodeOptions, this.#root, limits);
    const { workers, reason, memory, cpus, warnings } = this.sizing;
    this.#emit({
      event: 'sizing.changed',
      workers,
      reason,
      heapPerWorkerMb: memory.heapPerWorkerMb,
      semiSpaceMb: memory.semiSpaceMb,
      quota: cpus.quota,
      memoryLimitBytes: memory.limitBytes,
    });
    for (const warning of warnings) this.#log().warn({ event: 'sizing.warning', warning });
    supervisor.configure(this.sizing);
    return this.sizing;
  }

  #takeBack(supervisor: Supervisor): void {
    this.#requested = this.#settled;
    const { workers } = this.#take(this.limits, supervisor);
    if (workers !== supervisor.wanted) supervisor.scale(workers); // the limits have changed
  }

  #replaceOutdated(supervisor: Supervisor): void {
    this.resizes.heap++;
    // Fails only if new workers do not start, which is logged; the old ones keep their heap.
    supervisor.replaceOutdated(this.sizing.memory);
  }

  #refused(workers: number, { count, memory }: Detected['workable']): ScaleError {
    const why = `${workers} workers do not fit: ${memory} gives ${count} a workable heap of ${WORKABLE_HEAP_MIB} MiB each; use --force to override`;
    this.#emit({ event: 'pool.scale-refused', workers, warning: why });
    return new ScaleError(why);
  }
}

interface Context {
  settings: Settings;
  resizer: Resizer;
  supervisor: Supervisor;
  emit: Emit;
}

/**
 * A rolling restart: the settings are read again, refused or taken, and then every worker is replaced. One at a time; a request while one
 * runs starts another one after it, one for all such requests.
 */
export class RollingRestart {
  readonly #settings: Settings;
  readonly #resizer: Resizer;
  readonly #supervisor: Supervisor;
  readonly #emit: Emit;
  #running: Promise<void> | undefined;
  #following: Promise<void> | undefined;

  constructor({ settings, resizer, supervisor, emit }: Context) {
    this.#settings = settings;
    this.#resizer = resizer;
    this.#supervisor = supervisor;
    this.#emit = emit;
  }

  /**
   * Resolves when all workers are of the new generation.
   * @throws ConfigError before any worker is replaced; ReplacementError if the restart ends early and the old workers keep serving, or if
   * requests were lost
   */
  async request(onStep: OnStep): Promise<void> {
    if (this.#running === undefined) {
      // Starts in a later turn: otherwise a reload that is refused at once would be noted as running after it has ended.
      this.#running = Promise.resolve().then(() => this.#run(onStep));
      return this.#running;
    }
    onStep('a rolling restart is running: this one starts after it');
    this.#following ??= this.#running.catch(() => undefined).then(() => this.#run(onStep));
    return this.#following;
  }

  async #run(onStep: OnStep): Promise<void> {
    const [settings, resizer, supervisor] = [this.#settings, this.#resizer, this.#supervisor];
    try {
      const takeBack = settings.reload();
      resizer.reload(settings, supervisor);
      await supervisor.restartAll(onStep).catch(error => {
        // The old workers keep serving, and their later replacements must be able to start too.
        if (supervisor.serving.length > 0) {
          takeBack();
          resizer.reload(settings, supervisor);
        }
        throw error;
      });
    } catch (error) {
      if (error instanceof ConfigError) {
        this.#emit({ event: 'reload.refused', problems: error.problems });
        const problems = error.problems.length === 1 ? '1 problem' : `${error.problems.length} problems`;
        supervisor.refused(`bad configuration: ${problems}, see reload.refused in the log`);
      }
      throw error;
    } finally {
      this.#running = this.#following;
      this.#following = undefined;
    }
  }
}
