/**
 * A worker's accept gate before the shared listener: late binding. The gate is closed while another worker is better off and accepts, so that
 * new connections stay in the kernel's queue for that worker. It opens again when this worker's own load falls, when a more loaded worker sends
 * the wake-up signal, and when the better workers are silent: a blocked, dead or frozen worker looks idle on the scoreboard. So a closed gate
 * wakes them every 10 to 100 ms; a worker that does not answer is suspected, and left out of the comparison until it reports again.
 */
import type { Socket } from 'node:net';
import { BriefConnections } from './brief-connections.ts';
import type { Listeners } from './listener.ts';
import { averageWith, betterOff, FEW, faded, type GatedPolicy, lastTurn, RULES, turnsAfter } from './policy.ts';
import type { Entry, GateState, Scoreboard, View } from './scoreboard.ts';
import { Suspects, sendWakeUp, WAKE_UP_SIGNAL, wakeUpThread } from './wake-up.ts';

const MIN_CHECK_MS = 10;
/** While only answers to wake-ups change the scoreboard. */
const MAX_CHECK_MS = 100;
/** An idle worker answers within a millisecond if a CPU is free, and later if it has to wait for one. */
const ANSWER_MS = 10;
/** Workers woken per check. One answer is enough. */
const MAX_WOKEN = 4;
/** A changed response time is reported at most this often; a report takes 2 µs. */
const REPORT_EVERY_MS = 10;
/** A woken worker that has not reported since may be busy: it is not woken again this soon. */
const WAKE_EVERY_MS = 1;
/** A worker that has lost connections wakes more loaded workers at most this often. */
const WAKE_MORE_LOADED_EVERY_MS = 5;
/** While connections are brief, this worker reports and decides at most this often. */
const BRIEF_EVERY_MS = 1;

export class AcceptGate {
  readonly #scoreboard: Scoreboard;
  readonly #now: () => number;
  readonly #own: Entry;
  readonly #suspects = new Suspects();
  readonly #recent = new BriefConnections();
  /** By worker id: when it was last woken, and the number of its last report then. */
  readonly #woken = new Map<number, { at: number; sequence: number }>();
  /** Undefined while this worker accepts nothing at all. */
  #listeners: Pick<Listeners, 'hold' | 'release' | 'acceptMany'> | undefined;
  /** At the last decision. */
  #others: Entry[] = [];
  #policy: GatedPolicy = 'none';
  #decidedAt = 0;
  #decidesLater = false;
  #awaitsAnswer = false;
  #reportedAt = 0;
  #wokeMoreLoadedAt = 0;
  #timer: NodeJS.Timeout | undefined;
  #checkMs = MIN_CHECK_MS;

  /** @param now the machine's monotonic clock in ms, the same for all workers */
  constructor(id: number, scoreboard: Scoreboard, now: () => number = machineClock()) {
    this.#scoreboard = scoreboard;
    this.#now = now;
    const nothing = { sequence: 0, connections: 0, responseMs: 0, averagedAt: 0, takenAt: 0, turns: 0 };
    this.#own = { id, thread: process.pid, state: 'stopped', ...nothing };
    // Not at start, where it would cost a millisecond.
    process.once(WAKE_UP_SIGNAL, () => {
      this.#own.thread = wakeUpThread();
    });
    process.on(WAKE_UP_SIGNAL, () => {
      this.#report(); // shows that this worker runs, even if nothing else follows
      this.#decide();
    });
  }

  /** This worker begins to accept. */
  start(listeners: Pick<Listeners, 'hold' | 'release' | 'acceptMany'>): void {
    this.#listeners = listeners;
    listeners.release();
    const { entries } = this.#scoreboard.read();
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

  /** Call it before this worker stops accepting, so that no other worker waits for it. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#listeners = undefined;
    this.#report('stopped');
  }

  get isClosed(): boolean {
    return this.#own.state === 'closed';
  }

  /** This worker has accepted a connection, or taken it over from another worker, which is no turn of its own. */
  onConnection(socket: Socket, isTaken = false): void {
    this.#own.connections++;
    const now = this.#now();
    if (!isTaken) {
      this.#own.turns = turnsAfter(this.#own, this.#others);
      this.#own.takenAt = now;
    }
    socket.once('close', () => this.#onClose(now));
    if (this.#ignoresLead(now)) {
      this.#decideSoon(now);
    } else {
      this.#report();
      this.#decide();
    }
  }

  #onClose(acceptedAt: number): void {
    const now = this.#now();
    this.#own.connections--;
    this.#recent.add(now - acceptedAt, now);
    if (this.#ignoresLead(now) && !this.isClosed) {
      this.#decideSoon(now);
    } else {
      this.#report();
      if (this.isClosed) this.#decide();
      this.#wakeMoreLoaded();
    }
  }

  /** While connections are brief, a lead of a few ends by itself sooner than a gate can close and open for it. */
  #ignoresLead(now: number): boolean {
    return RULES[this.#policy].ignoresBriefLead && this.#recent.areBrief(now);
  }

  /** Reports and decides for all connections that come and go within a millisecond. */
  #decideSoon(now: number): void {
    if (this.#decidesLater) return;
    this.#decidesLater = true;
    const decide = () => {
      this.#decidesLater = false;
      this.#report();
      this.#decide();
    };
    if (now - this.#decidedAt >= BRIEF_EVERY_MS) decide();
    else setTimeout(decide, BRIEF_EVERY_MS).unref();
  }

  /** This worker has responded to a request after so many milliseconds. */
  onResponse(responseMs: number): void {
    const now = this.#now();
    this.#own.responseMs = averageWith(this.#own, responseMs, now);
    this.#own.averagedAt = now;
    if (now - this.#reportedAt >= REPORT_EVERY_MS) this.#report();
  }

  /** Connections as the policy counts them: with `response-time`, those of a slow worker count several times. */
  get load(): number {
    const { policy, entries } = this.#scoreboard.read();
    const weight = RULES[policy].weigh(entries, this.#now())(this.#own);
    return Math.round((weight * this.#own.connections) / (this.#own.connections + 1));
  }

  #except(entries: readonly Entry[], id = this.#own.id): Entry[] {
    return entries.filter(entry => entry.id !== id);
  }

  #report(state: GateState = this.#own.state): void {
    this.#own.state = state;
    this.#own.sequence++;
    this.#reportedAt = this.#now();
    this.#scoreboard.report(this.#own);
  }

  #decide(view = this.#scoreboard.read()): void {
    this.#others = this.#except(view.entries);
    this.#policy = view.policy;
    this.#decidedAt = this.#now();
    if (this.#listeners === undefined) return;
    const ignoresLead = this.#ignoresLead(this.#decidedAt);
    this.#listeners.acceptMany(ignoresLead);
    const margins = ignoresLead ? FEW : 1;
    const better = this.#betterOff(view, margins);
    const [best] = better;
    if (best === undefined) {
      this.#open();
    } else if (better.some(({ state }) => state === 'open')) {
      this.#close(view);
    } else {
      // The best one has a closed gate and has not seen the change yet. Until then this one accepts, unless the difference is large.
      this.#wake(best);
      if (this.#betterOff(view, margins + 1).length > 0) this.#close(view);
      else if (RULES[view.policy].whileWaking === 'queued') this.#closeOnceQueueIsEmpty();
      else this.#open();
    }
  }

  #betterOff({ policy, entries }: View, margins = 1): Entry[] {
    const now = this.#now();
    const answering = this.#except(entries).filter(entry => !this.#suspects.has(entry, now));
    return betterOff(policy, this.#own, answering, now, margins);
  }

  /** Accepts what is queued now, and leaves later connections to the worker whose turn it is. */
  #closeOnceQueueIsEmpty(): void {
    const { turns } = this.#own;
    // The first of these runs before the loop checks the queue again.
    setImmediate(() =>
      setImmediate(() => {
        if (this.#own.state !== 'open' || this.#own.turns !== turns) return;
        const view = this.#scoreboard.read();
        if (this.#betterOff(view).length > 0) this.#close(view);
      }),
    );
  }

  #close(view: View): void {
    if (this.isClosed) return;
    this.#listeners?.hold();
    this.#report('closed');
    this.#awaitsAnswer = false;
    this.#checkAfter(MIN_CHECK_MS, view);
  }

  #open(): void {
    if (!this.isClosed) return;
    clearTimeout(this.#timer);
    this.#report('open');
    this.#listeners?.release();
  }

  /** Without this, a worker with an open gate would read the scoreboard only when its own load changes. */
  #wakeMoreLoaded(): void {
    const now = this.#now();
    if (this.#own.state !== 'open' || now - this.#wokeMoreLoadedAt < WAKE_MORE_LOADED_EVERY_MS) return;
    this.#wokeMoreLoadedAt = now;
    const { policy, entries } = this.#scoreboard.read();
    for (const entry of this.#except(entries)) {
      if (entry.state !== 'open') continue;
      const better = betterOff(policy, entry, this.#except(entries, entry.id), now);
      if (better.some(({ id }) => id === this.#own.id)) this.#wake(entry);
    }
  }

  #wake({ id, thread, sequence }: Entry): void {
    const now = this.#now();
    const last = this.#woken.get(id);
    if (last !== undefined && now - last.at < WAKE_EVERY_MS && last.sequence === sequence) return;
    this.#woken.set(id, { at: now, sequence });
    sendWakeUp(thread);
  }

  #checkAfter(ms: number, { entries }: View): void {
    clearTimeout(this.#timer);
    this.#checkMs = ms;
    this.#suspects.remember(entries);
    this.#timer = setTimeout(() => this.#check(), ms).unref();
  }

  /** While the gate is closed: checks that the better workers still run. */
  #check(): void {
    const view = this.#scoreboard.read();
    this.#decide(view);
    if (!this.isClosed || this.#listeners === undefined) return;
    const better = this.#betterOff(view).slice(0, MAX_WOKEN);
    const silent = this.#suspects.silentAmong(better);
    if (silent.length < better.length) {
      const isQuiet = this.#awaitsAnswer; // they reported only because they were woken
      this.#awaitsAnswer = false;
      this.#checkAfter(isQuiet ? Math.min(MAX_CHECK_MS, this.#checkMs * 2) : MIN_CHECK_MS, view);
    } else if (this.#awaitsAnswer) {
      for (const entry of silent) this.#suspects.add(entry, this.#now());
      this.#awaitsAnswer = false;
      this.#checkAfter(MIN_CHECK_MS, view);
      this.#decide(view);
    } else {
      for (const { thread } of better) sendWakeUp(thread);
      this.#awaitsAnswer = true;
      this.#timer = setTimeout(() => this.#check(), ANSWER_MS).unref();
    }
  }
}

function machineClock(): () => number {
  const offset = Number(process.hrtime.bigint()) / 1e6 - performance.now();
  return () => performance.now() + offset;
}
