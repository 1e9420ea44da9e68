/**
 * A worker's gate before the shared listener: late binding. While others are better off and take connections, this worker leaves new
 * ones in the kernel's queue for them. A gate opens again when this worker's own load falls, when another worker that has become the
 * busier one rings, and when the better ones say nothing: a blocked, dead or frozen worker looks idle on the board. Every 10 to 100 ms
 * one that has said nothing is rung for; where none answers, none is waited for until it reports again.
 */
import type { Socket } from 'node:net';
import { averageWith, betterOff, faded, lastTurn, surplus, turnsAfter, weigher } from './policy.ts';
import type { Board, Entry, View } from './scoreboard.ts';

const SOONEST_PROBE_MS = 10;
/** While nothing changes on the board unless it is asked for. */
const LATEST_PROBE_MS = 100;
/** An idle worker answers within a millisecond where a CPU is free, and later where workers wait for one. */
const ANSWER_MS = 10;
/** One that answers is enough. */
const MOST_ASKED = 4;
/** A changed response time is worth a report (2 µs) this often. */
const REPORT_EVERY_MS = 10;
/** A worker that was woken and has not reported since is not woken again this soon: it may be busy. */
const RING_EVERY_MS = 1;
/** A worker with fewer connections than before looks this often for those that should leave the next one to it. */
const TELL_EVERY_MS = 5;

/** What the gate stands before. */
interface Door {
  hold(): void;
  release(): void;
}

export class Gate {
  readonly #board: Board;
  readonly #clockOffset = Number(process.hrtime.bigint()) / 1e6 - performance.now();
  readonly #own: Entry;
  readonly #distrust = new Distrust();
  readonly #rung = new Map<number, { at: number; sequence: number }>();
  /** Undefined while this worker takes nothing at all. */
  #door: Door | undefined;
  #hasAsked = false;
  #reportedAt = 0;
  #toldAt = 0;
  #timer: NodeJS.Timeout | undefined;
  #probeMs = SOONEST_PROBE_MS;
  /** The other workers at the last check. */
  #others: Entry[] = [];

  constructor(id: number, board: Board) {
    this.#board = board;
    this.#own = {
      id,
      pid: process.pid,
      state: 'away',
      sequence: 0,
      connections: 0,
      responseMs: 0,
      averagedAt: 0,
      takenAt: 0,
      turns: 0,
    };
    wakeWhenRung(() => {
      this.#report(); // also where nothing else follows: a sign of life
      this.#decide();
    });
  }

  /** From now on this worker takes connections. */
  open(door: Door): void {
    this.#door = door;
    door.release();
    const { entries } = this.#board.look();
    this.#own.turns = Math.max(this.#own.turns, lastTurn(entries));
    if (this.#own.sequence === 0) {
      // Slow start: an unproven worker counts as slow as the slowest.
      const now = this.#now();
      this.#own.responseMs = Math.max(0, ...entries.map(entry => faded(entry, now)));
      this.#own.averagedAt = now;
    }
    this.#report('open');
    this.#decide();
  }

  /** Whether this worker currently leaves connections to others. */
  get isShut(): boolean {
    return this.#own.state === 'shut';
  }

  /** Before it takes no more: others do not wait for this worker any more. */
  retire(): void {
    clearTimeout(this.#timer);
    this.#door = undefined;
    this.#report('away');
  }

  accepted(socket: Socket): void {
    this.#own.connections++;
    this.#own.turns = turnsAfter(this.#own, this.#others);
    this.#own.takenAt = this.#now();
    socket.once('close', () => {
      this.#own.connections--;
      this.#report();
      if (this.#own.state === 'shut') this.#decide();
      this.#tellWorse();
    });
    this.#report();
    this.#decide();
  }

  answered(milliseconds: number): void {
    const now = this.#now();
    this.#own.responseMs = averageWith(this.#own, milliseconds, now);
    this.#own.averagedAt = now;
    if (now - this.#reportedAt >= REPORT_EVERY_MS) this.#report();
  }

  /** For people: connections; with `response-time`, at a slow worker as many times that as it is slower than the typical one. */
  get load(): number {
    const { policy, entries } = this.#board.look();
    const weight = weigher(policy, entries, this.#now())(this.#own);
    return Math.round((weight * this.#own.connections) / (this.#own.connections + 1));
  }

  /** Keep-alive connections that it should give away in the next second. */
  get surplus(): number {
    const { policy, entries } = this.#board.look();
    const others = entries.filter(({ id }) => id !== this.#own.id);
    return policy === 'least-connections' && this.#door !== undefined ? surplus(this.#own, others) : 0;
  }

  #report(state = this.#own.state): void {
    this.#own.state = state;
    this.#own.sequence++;
    this.#reportedAt = this.#now();
    this.#board.report(this.#own);
  }

  #decide(view = this.#board.look()): void {
    this.#others = view.entries.filter(({ id }) => id !== this.#own.id);
    if (this.#door === undefined) return;
    const now = this.#now();
    const trusted = this.#trusted(now);
    const better = betterOff(view.policy, this.#own, trusted, now);
    const [best] = better;
    if (best === undefined) {
      this.#unshut();
    } else if (better.some(({ state }) => state === 'open')) {
      this.#shut(view);
    } else {
      // The best of them does not know yet. Until it does, this one goes on for a while.
      this.#ring(best, now);
      if (betterOff(view.policy, this.#own, trusted, now, 2).length > 0) this.#shut(view);
      else if (view.policy === 'rr') this.#shutUnlessQueued();
      else this.#unshut();
    }
  }

  /** With `rr`: accepts what is queued now, and leaves later connections to the worker whose turn it is. */
  #shutUnlessQueued(): void {
    const { turns } = this.#own;
    // The first of these runs before the loop checks the queue again.
    setImmediate(() =>
      setImmediate(() => {
        if (this.#own.state !== 'open' || this.#own.turns !== turns) return;
        const view = this.#board.look();
        if (betterOff(view.policy, this.#own, this.#trusted(this.#now()), this.#now()).length > 0) this.#shut(view);
      }),
    );
  }

  #trusted(now: number): Entry[] {
    return this.#others.filter(entry => this.#distrust.trusts(entry, now));
  }

  #shut(view: View): void {
    if (this.#own.state === 'shut') return;
    this.#door?.hold();
    this.#report('shut');
    this.#hasAsked = false;
    this.#probeAfter(SOONEST_PROBE_MS, view);
  }

  #unshut(): void {
    if (this.#own.state !== 'shut') return;
    clearTimeout(this.#timer);
    this.#report('open');
    this.#door?.release();
  }

  /** They look at the board by themselves only when something happens to them. */
  #tellWorse(): void {
    const now = this.#now();
    if (this.#own.state !== 'open' || now - this.#toldAt < TELL_EVERY_MS) return;
    this.#toldAt = now;
    const { policy, entries } = this.#board.look();
    for (const entry of entries) {
      if (entry.id === this.#own.id || entry.state !== 'open') continue;
      const others = entries.filter(({ id }) => id !== entry.id);
      if (betterOff(policy, entry, others, now).some(({ id }) => id === this.#own.id)) this.#ring(entry, now);
    }
  }

  #ring(best: Entry, now: number): void {
    const last = this.#rung.get(best.id);
    if (last !== undefined && now - last.at < RING_EVERY_MS && last.sequence === best.sequence) return;
    this.#rung.set(best.id, { at: now, sequence: best.sequence });
    wakeUp(best.pid);
  }

  #probeAfter(ms: number, { entries }: View): void {
    clearTimeout(this.#timer);
    this.#probeMs = ms;
    this.#distrust.remember(entries);
    this.#timer = setTimeout(() => this.#probe(), ms).unref();
  }

  #probe(): void {
    const view = this.#board.look();
    this.#decide(view);
    if (this.#own.state !== 'shut' || this.#door === undefined) return;
    const now = this.#now();
    const asked = betterOff(view.policy, this.#own, this.#trusted(now), now).slice(0, MOST_ASKED);
    const silent = this.#distrust.silentAmong(asked);
    if (silent.length < asked.length) {
      const isQuiet = this.#hasAsked;
      this.#hasAsked = false;
      this.#probeAfter(isQuiet ? Math.min(LATEST_PROBE_MS, this.#probeMs * 2) : SOONEST_PROBE_MS, view);
    } else if (this.#hasAsked) {
      for (const entry of silent) this.#distrust.add(entry, now);
      this.#hasAsked = false;
      this.#probeAfter(SOONEST_PROBE_MS, view);
      this.#decide(view);
    } else {
      for (const { pid } of asked) wakeUp(pid);
      this.#hasAsked = true;
      this.#timer = setTimeout(() => this.#probe(), ANSWER_MS).unref();
    }
  }

  /** All workers' clock. */
  #now(): number {
    return performance.now() + this.#clockOffset;
  }
}

/**
 * How one worker wakes another to look at the board: SIGURG, which means nothing to a process that does not ask for it, so that a
 * number on the board which has come to be another process's does no harm. It costs 10 µs, and no descriptor.
 */

const BELL = 'SIGURG';

export function wakeWhenRung(listener: () => void): void {
  process.on(BELL, listener);
}

/** Without effect where there is no such process (any more), or this platform has no such signal. */
export function wakeUp(pid: number): void {
  // 0 and below mean groups of processes, and 1 may be anybody's.
  if (!(Number.isSafeInteger(pid) && pid > 1)) return;
  try {
    process.kill(pid, BELL);
  } catch {
    /* gone meanwhile: it has left the pool, or will be cleared from the board by the primary */
  }
}

/**
 * Whom not to wait for: a worker that was rung for and says nothing, though it looks better off on the board.
 */

/** How long it is not waited for; doubled while it says nothing. */
const SHORTEST_MS = 50;
const LONGEST_MS = 2000;

interface Distrusted {
  sequence: number;
  forMs: number;
  until: number;
}

export class Distrust {
  readonly #distrusted = new Map<number, Distrusted>();
  /** Of the last look: who had said what. */
  #seen = new Map<number, number>();

  remember(entries: readonly Entry[]): void {
    this.#seen = new Map(entries.map(({ id, sequence }) => [id, sequence]));
  }

  /** Those that have said nothing since the last look. */
  silentAmong(entries: readonly Entry[]): Entry[] {
    return entries.filter(({ id, sequence }) => this.#seen.get(id) === sequence);
  }

  add({ id, sequence }: Entry, now: number): void {
    const before = this.#distrusted.get(id);
    const forMs = before?.sequence === sequence ? Math.min(LONGEST_MS, before.forMs * 2) : SHORTEST_MS;
    this.#distrusted.set(id, { sequence, forMs, until: now + forMs });
  }

  trusts({ id, sequence }: Entry, now: number): boolean {
    const distrusted = this.#distrusted.get(id);
    return distrusted === undefined || distrusted.sequence !== sequence || now >= distrusted.until;
  }
}
