/**
 * Evens out the kept connections of the workers that serve (REBALANCE_KEEPALIVE): after each report of a worker the plan (rebalance-plan.ts) says
 * how many are to move, the worker that has too many chooses which, and sends them as it does in a drain (moves.ts).
 */
import { RULES } from '../balancing/policy.ts';
import type { Config } from '../config/config.ts';
import type { Policy } from '../config/variables.ts';
import type { Emit } from '../protocol/events.ts';
import { isFailure } from '../protocol/exit.ts';
import type { WorkerEvent } from './effects.ts';
import { RebalancePlanner } from './rebalance-plan.ts';
import type { WorkerProcess } from './worker-process.ts';

/** What it knows of a worker. */
type Worker = Pick<WorkerProcess, 'id' | 'state' | 'isServing' | 'snapshot' | 'reportedAt' | 'send'>;

/** After a worker has failed, its successor may, too: it gets no connections but new ones for so long. */
const PROBATION_MS = 10_000;

/** The pool, as far as it matters here. */
export interface RebalancingContext<W extends Worker> {
  /** Every worker that has not exited. */
  readonly workers: () => W[];
  readonly wanted: () => number;
  readonly policy: () => Policy;
  readonly config: () => Pick<Config, 'rebalanceKeepalive' | 'moveConnections' | 'sticky' | 'dev'>;
  readonly emit: Emit;
  /** Monotonic, in milliseconds. */
  readonly now: () => number;
}

export class Rebalancing<W extends Worker = WorkerProcess> {
  readonly #context: RebalancingContext<W>;
  readonly #planner: RebalancePlanner<W>;
  /** How many connections each worker may still send to each other one. */
  #granted = new Map<W, Map<W, number>>();

  constructor(context: RebalancingContext<W>) {
    this.#context = context;
    this.#planner = new RebalancePlanner(({ moved, from, to, durationMs }) => {
      const ids = (workers: ReadonlySet<W>) => [...workers].map(({ id }) => id);
      context.emit({ event: 'pool.rebalanced', connections: moved, from: ids(from), to: ids(to), ms: durationMs });
    });
  }

  /** The workers that may take a connection of this one: while it serves, those that have fewer. */
  takersFor(from: W): W[] {
    if (!from.isServing) return this.#context.workers().filter(({ isServing }) => isServing);
    const granted = [...(this.#granted.get(from) ?? [])];
    return granted.flatMap(([to, count]) => (to.isServing && count > 0 ? [to] : []));
  }

  /** A worker has taken a connection of another one. */
  onMoved(from: W, to: W): void {
    const now = this.#context.now();
    const granted = this.#granted.get(from);
    if (from.isServing && granted !== undefined) {
      granted.set(to, (granted.get(to) ?? 0) - 1);
      this.#planner.onMoved(from, to, now);
    } else {
      this.#planner.onDrained(now);
    }
  }

  /** Of any worker, once the pool has followed it. */
  onEvent(event: WorkerEvent): void {
    if (event.type === 'message' && event.message.type === 'stats') this.#onReport();
    if (event.type === 'exited' && isFailure(event.worker.reason)) this.#planner.pauseUntil(this.#context.now() + PROBATION_MS);
  }

  #onReport(): void {
    const { workers, policy, now } = this.#context;
    if (!this.#isOn || this.#isChanging) return;
    const serving = workers().filter(({ isServing }) => isServing);
    const candidates = serving.flatMap(worker => {
      const { snapshot, reportedAt } = worker;
      return snapshot === undefined ? [] : [{ worker, reportedAt, ...snapshot }];
    });
    const transfers = this.#planner.next(candidates, RULES[policy()].rebalances, now());
    if (transfers.length === 0) return;
    this.#granted = new Map();
    for (const { from, to, count } of transfers)
      this.#granted.set(from, (this.#granted.get(from) ?? new Map<W, number>()).set(to, count));
    for (const [from, counts] of this.#granted)
      from.send({ type: 'rebalance', count: [...counts.values()].reduce((sum, count) => sum + count, 0) });
  }

  /** With NODE_CLUSTER_STICKY the worker that a cookie names would serve the requests of a moved connection, too. */
  get #isOn(): boolean {
    const { rebalanceKeepalive, moveConnections, sticky, dev } = this.#context.config();
    return rebalanceKeepalive && moveConnections && sticky === undefined && dev === undefined;
  }

  /** Workers are replaced or leave: their connections move anyway. */
  get #isChanging(): boolean {
    const workers = this.#context.workers();
    return (
      workers.some(({ state }) => state === 'draining') ||
      workers.filter(({ isServing }) => isServing).length > this.#context.wanted()
    );
  }
}
