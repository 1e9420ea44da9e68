/**
 * When connections move from one serving worker to another, and how many: pure, with the clock passed in. What moves goes from a worker with more
 * connections to one with fewer, and never so many that the latter has more afterwards: whatever the loads are, it comes to an end.
 */

/** A worker that serves, by its last report. Times are monotonic, in milliseconds. */
export interface Candidate<Worker> {
  readonly worker: Worker;
  readonly connections: number;
  /** Its connections as the policy weights them: more than `connections` for one that it takes for slow. */
  readonly load: number;
  /** Its limit (MAX_CONNECTIONS). */
  readonly maxConnections?: number | undefined;
  readonly reportedAt: number;
}

/** So many connections are to move. */
export interface Transfer<Worker> {
  readonly from: Worker;
  readonly to: Worker;
  readonly count: number;
}

/** When connections move to a worker: whenever it has fewer than others, or only after it has joined those that serve. */
export type Rebalances = 'always' | 'joined';

/** What has moved from the first transfer until the workers were even, or no more could move. */
export interface Rebalancing<Worker> {
  readonly moved: number;
  readonly from: ReadonlySet<Worker>;
  readonly to: ReadonlySet<Worker>;
  readonly durationMs: number;
}

/** A hand-over costs 140 µs of CPU time, in three processes: at most so many in a step, and one step a second. */
export const MAX_PER_STEP = 200;
const STEP_MS = 1000;
/** Workers are even as long as one has at most this share of the mean more than another, and one connection. */
const UNEVEN_SHARE = 0.2;
/** Connections come and go: an unevenness that is not due to a worker that has joined must last this long. */
export const LASTING_MS = 3000;
/** A worker that has not reported for so long, which it does every second, is blocked: it neither gets nor gives any. */
export const SILENT_MS = 2500;
/**
 * The next step waits after one in which fewer than this share of the connections could move: TLS, event streams, an app that listens to
 * `connection`. Each time twice as long.
 */
const MIN_MOVED_SHARE = 0.1;
const PAUSE_MS = 2000;
const MAX_PAUSE_MS = 60_000;

export class RebalancePlanner<Worker> {
  readonly #onEnd: (rebalancing: Rebalancing<Worker>) => void;
  #serving = new Set<Worker>();
  /** Those that serve since shortly, and have not got their share yet. */
  readonly #joined = new Set<Worker>();
  #unevenSince: number | undefined;
  #pausedUntil = 0;
  /** Steps in a row in which too few could move, and how long the next one waits for that. */
  #failedSteps = 0;
  #retryAt = 0;
  /** The last step, until it has been evaluated. */
  #step: { planned: number; moved: number; isCut: boolean } | undefined;
  #steppedAt = Number.NEGATIVE_INFINITY;
  #movedAt = Number.NEGATIVE_INFINITY;
  #current: { moved: number; from: Set<Worker>; to: Set<Worker>; startedAt: number } | undefined;

  constructor(onEnd: (rebalancing: Rebalancing<Worker>) => void) {
    this.#onEnd = onEnd;
  }

  /** No connection moves before: a worker has failed, and others may. */
  pauseUntil(time: number): void {
    this.#pausedUntil = Math.max(this.#pausedUntil, time);
  }

  /** A worker has taken a connection of one that drains: what both have reported before does not count. */
  onDrained(now: number): void {
    this.#movedAt = now;
  }

  /** A worker has taken a connection of another one, as planned. */
  onMoved(from: Worker, to: Worker, now: number): void {
    this.#movedAt = now;
    if (this.#step === undefined || this.#current === undefined) return;
    this.#step.moved++;
    this.#current.moved++;
    this.#current.from.add(from);
    this.#current.to.add(to);
  }

  /** What is to move now; to be called after each report of a worker. */
  next(candidates: readonly Candidate<Worker>[], rebalances: Rebalances, now: number): Transfer<Worker>[] {
    this.#follow(candidates);
    if (now < Math.max(this.#pausedUntil, this.#retryAt, this.#steppedAt + STEP_MS)) return [];
    const reporting = candidates.filter(({ reportedAt }) => now - reportedAt < SILENT_MS);
    // Reports from before the last move count connections twice.
    if (reporting.some(({ reportedAt }) => reportedAt <= Math.max(this.#movedAt, this.#steppedAt))) return [];
    const isCut = this.#step?.isCut === true;
    if (!this.#evaluate(now)) return [];
    const takes = ({ worker }: Candidate<Worker>) => rebalances === 'always' || this.#joined.has(worker);
    const transfers = reporting.length < 2 ? [] : transfersBetween(reporting, takes, isCut ? 2 : leadOf(reporting));
    if (transfers.length === 0) {
      if (reporting.length === candidates.length) this.#joined.clear();
      this.#unevenSince = undefined;
      this.#end();
      return [];
    }
    this.#unevenSince ??= now;
    const isExpected = isCut || transfers.some(({ to }) => this.#joined.has(to));
    if (!isExpected && now - this.#unevenSince < LASTING_MS) return [];
    const planned = transfers.reduce((sum, { count }) => sum + count, 0);
    this.#unevenSince = undefined;
    this.#steppedAt = now;
    this.#step = { planned, moved: 0, isCut: planned === MAX_PER_STEP };
    this.#current ??= { moved: 0, from: new Set(), to: new Set(), startedAt: now };
    return transfers;
  }

  #follow(candidates: readonly Candidate<Worker>[]): void {
    const serving = new Set(candidates.map(({ worker }) => worker));
    for (const worker of this.#joined) if (!serving.has(worker)) this.#joined.delete(worker);
    for (const worker of serving) {
      if (this.#serving.has(worker)) continue;
      this.#joined.add(worker);
      this.#failedSteps = this.#retryAt = 0;
    }
    this.#serving = serving;
  }

  /** Whether another step may follow now. */
  #evaluate(now: number): boolean {
    const step = this.#step;
    this.#step = undefined;
    if (step === undefined) return true;
    if (!step.isCut) this.#end();
    if (step.moved >= step.planned * MIN_MOVED_SHARE) {
      this.#failedSteps = 0;
      return true;
    }
    this.#retryAt = now + Math.min(MAX_PAUSE_MS, PAUSE_MS * 2 ** this.#failedSteps++);
    this.#end();
    return false;
  }

  #end(): void {
    if (this.#current !== undefined && this.#current.moved > 0) {
      const { startedAt, ...current } = this.#current;
      this.#onEnd({ ...current, durationMs: Math.round(this.#movedAt - startedAt) });
    }
    this.#current = undefined;
  }
}

/** Workers are uneven from this difference on. */
function leadOf(candidates: readonly Candidate<unknown>[]): number {
  const total = candidates.reduce((sum, { connections }) => sum + connections, 0);
  return Math.max(2, 1 + Math.ceil((UNEVEN_SHARE * total) / candidates.length));
}

/**
 * One connection after the other, from the worker with the most to the one with the fewest that may take it, until they differ by at most one.
 * None while they differ by less than `lead`.
 */
function transfersBetween<Worker>(
  candidates: readonly Candidate<Worker>[],
  takes: (candidate: Candidate<Worker>) => boolean,
  lead: number,
): Transfer<Worker>[] {
  const all = candidates.map(candidate => ({
    ...candidate,
    mayTake: takes(candidate) && candidate.load <= candidate.connections,
  }));
  const transfers = new Map<Worker, Map<Worker, number>>();
  for (let count = 0; count < MAX_PER_STEP; count++) {
    const most = all.reduce((a, b) => (b.connections > a.connections ? b : a));
    const fewest = all
      .filter(({ mayTake, connections, maxConnections = Number.POSITIVE_INFINITY }) => mayTake && connections < maxConnections)
      .reduce((a, b) => (b.connections < a.connections ? b : a), most);
    if (most.connections - fewest.connections < (count === 0 ? lead : 2)) break;
    most.connections--;
    fewest.connections++;
    const to = transfers.get(most.worker) ?? new Map<Worker, number>();
    transfers.set(most.worker, to.set(fewest.worker, (to.get(fewest.worker) ?? 0) + 1));
  }
  return [...transfers].flatMap(([from, counts]) => [...counts].map(([to, count]) => ({ from, to, count })));
}
