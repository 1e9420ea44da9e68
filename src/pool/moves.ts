/**
 * Passes connections on to workers that serve, from those that end and from those that have more than others (rebalancing.ts). The primary never
 * reads from one: it has only the handle, of which it keeps a copy until a worker has answered that it serves the connection: if one refuses it
 * or dies, the next one gets it.
 */
import type { ConnectionHandle } from '../protocol/handles.ts';
import type { WorkerProcess } from './worker-process.ts';

type Worker = Pick<WorkerProcess, 'snapshot' | 'reportedAt' | 'send'>;

interface Move<W> {
  readonly from: W;
  /** The sender's number of it. */
  readonly id: number;
  readonly handle: ConnectionHandle;
  to: W | undefined;
  readonly tried: Set<W>;
  /** The sender has ended, and no worker could take it: it waits for the next one. */
  waitsUntil: number | undefined;
}

/** A worker has at most 32 under way (worker/moves.ts). Its app can forge more: they are closed. */
const MAX_PER_WORKER = 64;
/** A worker that takes this many gets others only where all do: it reads one in each turn of its event loop. */
const MANY_UNDER_WAY = 4;
/** A worker that has not reported for so long may be blocked: it gets none while another one serves. They report once a second. */
const SILENT_MS = 2000;
/** A worker that is missing starts within this time, unless something is wrong. */
const MAX_WAIT_MS = 10_000;

export class Moves<W extends Worker = WorkerProcess> {
  readonly #takersFor: (from: W) => W[];
  readonly #onMoved: (from: W, to: W) => void;
  readonly #moves = new Map<number, Move<W>>();
  /** Connections that were sent to each worker since its last report. */
  readonly #sent = new WeakMap<Worker, { reportedAt: number; count: number }>();
  readonly #left = new WeakSet<Worker>();
  readonly #now: () => number;
  #lastId = 0;
  #moved = 0;

  /**
   * @param takersFor the workers that may take connections of that one
   * @param onMoved called with the sender and the receiver of each connection that has moved
   * @param now a monotonic clock in milliseconds
   */
  constructor(
    takersFor: (from: W) => W[],
    onMoved: (from: W, to: W) => void = () => undefined,
    now: () => number = () => performance.now(),
  ) {
    this.#takersFor = takersFor;
    this.#onMoved = onMoved;
    this.#now = now;
  }

  /** Connections that another worker has taken, since the start. */
  get moved(): number {
    return this.#moved;
  }

  /** Connections under way. */
  get underWay(): number {
    return this.#moves.size;
  }

  /** A worker wants to move a connection; its handle may be missing. */
  request(from: W, id: number, handle: ConnectionHandle | undefined): void {
    if (handle === undefined || this.#of(move => move.from === from).length >= MAX_PER_WORKER) {
      handle?.close();
      from.send({ type: 'moved', id, isTaken: false });
      return;
    }
    const key = ++this.#lastId;
    const move: Move<W> = { from, id, handle, to: undefined, tried: new Set([from]), waitsUntil: undefined };
    this.#moves.set(key, move);
    this.#pass(key, move);
  }

  /** A worker has taken or refused a connection. */
  answered(by: W, key: number, isTaken: boolean): void {
    const move = this.#moves.get(key);
    if (move === undefined || move.to !== by) return;
    if (isTaken) this.#end(key, move, true);
    else this.#pass(key, move);
  }

  /** No more messages come from this worker. What it has not taken goes to another one. */
  left(worker: W): void {
    this.#left.add(worker);
    for (const [key, move] of this.#of(({ to }) => to === worker)) this.#pass(key, move);
  }

  /** A worker has reported: it may be a new one, for the connections that no other worker has. */
  reported(): void {
    if (this.#moves.size === 0) return;
    for (const [key, move] of this.#of(({ waitsUntil }) => waitsUntil !== undefined)) this.#pass(key, move);
  }

  #of(is: (move: Move<W>) => boolean): [number, Move<W>][] {
    return [...this.#moves].filter(([, move]) => is(move));
  }

  #pass(key: number, move: Move<W>): void {
    const to = this.#leastLoaded(move);
    move.to = to;
    if (to === undefined) {
      if (this.#left.has(move.from)) move.waitsUntil ??= this.#now() + MAX_WAIT_MS;
      if (this.#now() >= (move.waitsUntil ?? 0)) this.#end(key, move, false);
      return;
    }
    move.waitsUntil = undefined;
    move.tried.add(to);
    this.#noteSent(to);
    to.send({ type: 'take', id: key }, move.handle);
  }

  #end(key: number, { from, to, id, handle }: Move<W>, isTaken: boolean): void {
    this.#moves.delete(key);
    if (isTaken) this.#moved++;
    if (isTaken && to !== undefined) this.#onMoved(from, to);
    from.send({ type: 'moved', id, isTaken });
    handle.close();
  }

  /**
   * The one with the fewest connections, unless it is full (MAX_CONNECTIONS). One that seems to be blocked, or has many to read, is the last choice.
   */
  #leastLoaded({ from, tried }: Move<W>): W | undefined {
    const load = (worker: W) => (worker.snapshot?.connections ?? 0) + this.#sentSinceReport(worker);
    const underWay = Map.groupBy(this.#moves.values(), ({ to }) => to);
    const rank = (worker: W) => {
      if (this.#now() - worker.reportedAt > SILENT_MS) return 2;
      return (underWay.get(worker)?.length ?? 0) < MANY_UNDER_WAY ? 0 : 1;
    };
    const [first] = this.#takersFor(from)
      .filter(worker => !tried.has(worker) && load(worker) < (worker.snapshot?.maxConnections ?? Number.POSITIVE_INFINITY))
      .toSorted((a, b) => rank(a) - rank(b) || load(a) - load(b));
    return first;
  }

  #sentSinceReport(worker: W): number {
    const sent = this.#sent.get(worker);
    return sent?.reportedAt === worker.reportedAt ? sent.count : 0;
  }

  #noteSent(worker: W): void {
    this.#sent.set(worker, { reportedAt: worker.reportedAt, count: this.#sentSinceReport(worker) + 1 });
  }
}
