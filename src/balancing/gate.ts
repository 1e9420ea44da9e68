/**
 * A worker's gate before the shared listener: late binding. While others are better off, this worker leaves new connections in the
 * kernel's queue for them. A gate is never quite shut: every 10 to 100 ms it opens for one turn of the event loop, so that a
 * connection which nobody takes (a blocked, dead or frozen worker looks idle on the board) is taken here, and the workers that should
 * have taken it are not waited for until they report again.
 */
import type { Server, Socket } from 'node:net';
import type { Board, View } from './board.ts';
import { averageWith, costOf, faded, type Load, shouldLeaveIt } from './choice.ts';

const SOONEST_PROBE_MS = 10;
/** While nothing changes on the board. */
const LATEST_PROBE_MS = 100;
/** How long a worker that left a connection waiting is not waited for; doubled while it says nothing. */
const DISTRUST_MS = 50;
const LONGEST_DISTRUST_MS = 2000;
/** A changed response time is worth a report (2 µs) this often. */
const REPORT_EVERY_MS = 10;

interface Distrust {
  sequence: number;
  forMs: number;
  until: number;
}

/**
 * What libuv offers and Node's net.Server does not: to stop and start polling a listening socket. readStop and readStart are what
 * net.Socket calls on the same class of handle. The one place in the kit that relies on it; where it is missing, no gate shuts and
 * the policy is `none` in effect (test/process/balancing.test.ts notices).
 */
interface Pausable {
  readStart(): number;
  readStop(): number;
}

function pausableOf(server: Server): Pausable | undefined {
  const handle: unknown = Reflect.get(server, '_handle');
  if (typeof handle !== 'object' || handle === null) return undefined;
  if (typeof Reflect.get(handle, 'readStart') !== 'function' || typeof Reflect.get(handle, 'readStop') !== 'function')
    return undefined;
  const pausable = handle as Pausable;
  // Polls already since listen(): this tells libuv that there is something to stop.
  return pausable.readStart() === 0 ? pausable : undefined;
}

export class Gate {
  readonly #id: number;
  readonly #board: Board;
  readonly #clockOffset = Number(process.hrtime.bigint()) / 1e6 - performance.now();
  #handle: Pausable | undefined;
  #isTaking = false;
  #isShut = false;
  #hasTaken = false;
  #reportedAt = 0;
  #timer: NodeJS.Timeout | undefined;
  #probeMs = SOONEST_PROBE_MS;
  /** Of the last look: who has said what. */
  #seen = new Map<number, number>();
  readonly #distrusted = new Map<number, Distrust>();
  readonly #load: Load = { sequence: 0, connections: 0, responseMs: 0, averagedAt: 0 };

  constructor(id: number, board: Board) {
    this.#id = id;
    this.#board = board;
  }

  /** After each listen(). @returns false where this Node.js can't pause a listener */
  open(server: Server): boolean {
    this.#handle = pausableOf(server);
    this.#isTaking = true;
    this.#isShut = false;
    if (this.#load.sequence === 0) {
      // Slow start: an unproven worker counts as slow as the slowest.
      const now = this.#now();
      this.#load.responseMs = Math.max(0, ...[...this.#board.look().loads.values()].map(load => faded(load, now)));
      this.#load.averagedAt = now;
    }
    this.#report();
    return this.#handle !== undefined;
  }

  /** Before the listener closes: others do not wait for this worker any more. */
  retire(): void {
    clearTimeout(this.#timer);
    this.#handle = undefined;
    this.#isTaking = false;
    this.#report();
  }

  accepted(socket: Socket): void {
    this.#load.connections++;
    this.#hasTaken = true;
    socket.once('close', () => {
      this.#load.connections--;
      this.#report();
      if (this.#isShut) this.#decide();
    });
    this.#report();
    this.#decide();
  }

  answered(milliseconds: number): void {
    const now = this.#now();
    this.#load.responseMs = averageWith(this.#load, milliseconds, now);
    this.#load.averagedAt = now;
    if (now - this.#reportedAt >= REPORT_EVERY_MS) this.#report();
  }

  /** For people: connections, or with `response-time` the cost of one more in ms. */
  get load(): number {
    return this.#board.look().policy === 'response-time' ? Math.round(costOf(this.#load, this.#now())) : this.#load.connections;
  }

  #report(): void {
    this.#load.sequence++;
    this.#reportedAt = this.#now();
    this.#board.report(this.#id, this.#isTaking, this.#load);
  }

  #decide(view = this.#board.look()): void {
    if (this.#handle === undefined) return;
    const now = this.#now();
    const trusted = [...view.loads].filter(([id, load]) => id !== this.#id && !this.#isDistrusted(id, load, now));
    const leaveIt = shouldLeaveIt(
      view.policy,
      this.#load,
      trusted.map(([, load]) => load),
      now,
    );
    if (leaveIt && !this.#isShut) this.#shut(view);
    if (!leaveIt && this.#isShut) this.#unshut();
  }

  #shut(view: View): void {
    this.#handle?.readStop();
    this.#isShut = true;
    this.#probeMs = SOONEST_PROBE_MS;
    this.#remember(view);
    this.#scheduleProbe();
  }

  #unshut(): void {
    clearTimeout(this.#timer);
    this.#isShut = false;
    this.#handle?.readStart();
  }

  #scheduleProbe(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#probe(), this.#probeMs).unref();
  }

  #probe(): void {
    const view = this.#board.look();
    this.#decide(view);
    if (!this.#isShut || this.#handle === undefined) return;
    this.#hasTaken = false;
    this.#handle.readStart();
    // Timers, then the kernel's events, then this.
    setImmediate(() => this.#endProbe(view));
  }

  #endProbe(view: View): void {
    if (!this.#isShut || this.#handle === undefined) return;
    this.#handle.readStop();
    const silent = [...view.loads].filter(([id, { sequence }]) => id !== this.#id && this.#seen.get(id) === sequence);
    if (this.#hasTaken) for (const [id, { sequence }] of silent) this.#distrust(id, sequence);
    const isQuiet = !this.#hasTaken && silent.length === view.loads.size - (view.loads.has(this.#id) ? 1 : 0);
    this.#probeMs = isQuiet ? Math.min(LATEST_PROBE_MS, this.#probeMs * 2) : SOONEST_PROBE_MS;
    this.#remember(view);
    this.#scheduleProbe();
    if (this.#hasTaken) this.#decide();
  }

  #remember({ loads }: View): void {
    this.#seen = new Map([...loads].map(([id, { sequence }]) => [id, sequence]));
  }

  #distrust(id: number, sequence: number): void {
    const before = this.#distrusted.get(id);
    const forMs = before?.sequence === sequence ? Math.min(LONGEST_DISTRUST_MS, before.forMs * 2) : DISTRUST_MS;
    this.#distrusted.set(id, { sequence, forMs, until: this.#now() + forMs });
  }

  #isDistrusted(id: number, { sequence }: Load, now: number): boolean {
    const distrust = this.#distrusted.get(id);
    return distrust !== undefined && distrust.sequence === sequence && now < distrust.until;
  }

  /** All workers' clock. */
  #now(): number {
    return performance.now() + this.#clockOffset;
  }
}
