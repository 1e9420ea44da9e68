/**
 * The size of the pool: decided at the start, followed while it runs. More CPUs fork, fewer drain, another heap rolls the workers.
 */
import cluster from 'node:cluster';
import type { Config, WorkerCount } from '../../config.ts';
import type { LogSource } from '../../log.ts';
import type { Limits } from '../../resources/cgroup.ts';
import { readerBelow, resolveLimits } from '../../resources/cgroup.ts';
import { type Detected, detect } from '../../resources/detect.ts';
import type { Sizing } from '../../resources/sizing.ts';
import type { Settings } from '../settings.ts';
import type { Supervisor } from './supervisor.ts';

export class Resizer {
  readonly #entry: string;
  readonly #root: string;
  #nodeOptions: string;
  readonly #log: LogSource;
  #asked: WorkerCount;
  #detected: Detected;
  #follower: { close(): void } | undefined;
  /** Changes of the limits that were carried out. */
  resizes = { up: 0, down: 0, heap: 0 };

  constructor({ workers, sizingRoot }: Config, nodeOptions: string, entry: string, log: LogSource) {
    this.#entry = entry;
    this.#root = sizingRoot;
    this.#nodeOptions = nodeOptions;
    this.#log = log;
    this.#asked = workers;
    this.#detected = detect(workers, nodeOptions, sizingRoot);
    this.#setHeap();
  }

  get sizing(): Sizing {
    return this.#detected.sizing;
  }

  get limits(): Limits {
    return this.#detected.limits;
  }

  /** NODE_OPTIONS for the workers: without what it says of the heap, which is on their command line. */
  get workerNodeOptions(): string {
    return this.#detected.nodeOptions;
  }

  /** Watches the limits from now on. */
  async follow(supervisor: Supervisor): Promise<void> {
    const { LimitFollower } = await import('../../resources/follow.ts');
    const read = readerBelow(this.#root);
    this.#follower = new LimitFollower(this.#detected.limits, {
      root: this.#root,
      resolve: () => resolveLimits(read),
      changed: limits => this.#apply(supervisor, limits),
    });
  }

  /** Another setting of NODE_CLUSTER_WORKERS, by an operator. */
  ask(asked: WorkerCount, supervisor: Supervisor): void {
    this.#asked = asked;
    this.#apply(supervisor, this.#detected.limits);
  }

  /** Takes what a reload has changed; the rolling restart that follows gives the workers their heap. */
  reload({ config, nodeOptions }: Settings, supervisor: Supervisor): void {
    this.#asked = config.workers;
    this.#nodeOptions = nodeOptions;
    this.#detected = detect(config.workers, nodeOptions, this.#root, this.#detected.limits);
    this.#setHeap();
    supervisor.reloaded(config, this.sizing);
    if (this.sizing.workers !== supervisor.wanted) supervisor.scale(this.sizing.workers);
  }

  close(): void {
    this.#follower?.close();
  }

  #apply(supervisor: Supervisor, limits: Limits): void {
    const before = this.sizing;
    this.#detected = detect(this.#asked, this.#nodeOptions, this.#root, limits);
    const { workers, reason, memory, cpus, warnings } = this.sizing;
    const { heapPerWorkerMb } = memory;
    this.#log().info({
      event: 'sizing.changed',
      workers,
      reason,
      heapPerWorkerMb,
      quota: cpus.quota,
      memoryLimitBytes: memory.limitBytes,
    });
    for (const warning of warnings) this.#log().warn({ event: 'sizing.warning', warning });
    supervisor.resized(this.sizing);
    this.#setHeap();
    if (workers !== before.workers) {
      this.resizes[workers > before.workers ? 'up' : 'down']++;
      supervisor.scale(workers);
    }
    if (heapPerWorkerMb !== before.memory.heapPerWorkerMb) {
      this.resizes.heap++;
      // Fails only where new workers do not come up, which the supervisor has logged; the old ones go on with the old heap.
      supervisor.replaceOutdated(heapPerWorkerMb).catch(() => undefined);
    }
  }

  /** For the workers to come. */
  #setHeap(): void {
    const { heapPerWorkerMb } = this.sizing.memory;
    const heap = heapPerWorkerMb === null ? [] : [`--max-old-space-size=${heapPerWorkerMb}`];
    cluster.setupPrimary({ exec: this.#entry, execArgv: [...process.execArgv, ...heap] });
  }
}
