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
}

/** A worker has at most 8 under way (worker/moves.ts). Its app can forge more: they are closed. */
const MAX_PER_WORKER = 64;

export class Moves<W extends Worker = WorkerProcess> {
  readonly #takersFor: (from: W) => W[];
  readonly #onMoved: (from: W, to: W) => void;
  readonly #moves = new Map<number, Move<W>>();
  /** Connections that were sent to each worker since its last report. */
  readonly #sent = new WeakMap<Worker, { reportedAt: number; count: number }>();
  #lastId = 0;
  #moved = 0;

  /**
   * @param takersFor the workers that may take connections of that one
   * @param onMoved called with the sender and the receiver of each connection that has moved
   */
  constructor(takersFor: (from: W) => W[], onMoved: (from: W, to: W) => void = () => undefined) {
    this.#takersFor = takersFor;
    this.#onMoved = onMoved;
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
    const move: Move<W> = { from, id, handle, to: undefined, tried: new Set([from]) };
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
    for (const [key, move] of this.#of(({ to }) => to === worker)) this.#pass(key, move);
  }

  #of(is: (move: Move<W>) => boolean): [number, Move<W>][] {
    return [...this.#moves].filter(([, move]) => is(move));
  }

  #pass(key: number, move: Move<W>): void {
    const to = this.#leastLoaded(move);
    move.to = to;
    if (to === undefined) {
      this.#end(key, move, false);
      return;
    }
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

  /** The one with the fewest connections, unless it is full (MAX_CONNECTIONS). */
  #leastLoaded({ from, tried }: Move<W>): W | undefined {
    const load = (worker: W) => (worker.snapshot?.connections ?? 0) + this.#sentSinceReport(worker);
    const [first] = this.#takersFor(from)
      .filter(worker => !tried.has(worker) && load(worker) < (worker.snapshot?.maxConnections ?? Number.POSITIVE_INFINITY))
      .toSorted((a, b) => load(a) - load(b));
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
