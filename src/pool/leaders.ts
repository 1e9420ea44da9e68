/**
 * Who leads, as this primary knows it from its workers. In the scope `pod` it decides; in the scope `fleet` it frees the lock of a worker that
 * has died, and sends a notice to the other candidates when a lead begins and ends. Loaded when the first worker of the app calls `kit.leader`.
 */
import { hostname } from 'node:os';
import type { Emit } from '../protocol/events.ts';
import {
  type LeaderEnd,
  type LeaderHolder,
  type LeaderNotice,
  type LeaderReport,
  type LeaderStatus,
  MAX_LEADERS,
} from '../protocol/leader.ts';
import type { ToWorker } from '../protocol/messages.ts';

/** A worker that leads or waits. */
export interface CandidateWorker {
  readonly id: number;
  /** Neither ending nor exited. */
  readonly isActive: boolean;
  readonly state: string;
  send(message: ToWorker): void;
}

export interface LeadersOptions {
  emit: Emit;
  /** To every worker of every pod. */
  notify: (notice: LeaderNotice) => void;
  /** Frees the lock in Redis if `owner` has it. */
  freeLock: (name: string, owner: string) => Promise<void>;
  epochNow?: () => number;
}

/** What a worker does under one name. */
interface Entry {
  scope: LeaderReport['scope'];
  /** In the scope `pod`: it has requested the lead. */
  isWaiting: boolean;
  /** In the scope `pod`: the token that it was given. */
  given: number | undefined;
  term: { token: number; owner: string | undefined; since: number } | undefined;
}

export class Leaders {
  readonly #emit: Emit;
  readonly #notify: LeadersOptions['notify'];
  readonly #freeLock: LeadersOptions['freeLock'];
  readonly #epochNow: () => number;
  readonly #entries = new Map<CandidateWorker, Map<string, Entry>>();
  /** The last holder that a worker has read in Redis. */
  readonly #elsewhere = new Map<string, LeaderHolder>();
  /** The highest token of our own workers, also of ended terms. */
  readonly #highest = new Map<string, number>();
  #lastToken = 0;

  constructor({ emit, notify, freeLock, epochNow = Date.now }: LeadersOptions) {
    this.#emit = emit;
    this.#notify = notify;
    this.#freeLock = freeLock;
    this.#epochNow = epochNow;
  }

  onReport(worker: CandidateWorker, report: LeaderReport): void {
    if (worker.state === 'exited') return; // its exit was handled before this message arrived
    const entry = this.#entryOf(worker, report);
    if (entry === undefined) return;
    switch (report.step) {
      case 'waits':
        if (entry.term !== undefined) break;
        if (report.scope === 'fleet') this.#noteHolder(report.name, report.holder);
        else entry.isWaiting = true;
        break;
      case 'leads':
        if (entry.term !== undefined || (entry.scope === 'pod' && entry.given !== report.token)) break;
        entry.isWaiting = false;
        if ((this.#elsewhere.get(report.name)?.token ?? 0) <= report.token) this.#elsewhere.delete(report.name);
        this.#highest.set(report.name, Math.max(report.token, this.#highest.get(report.name) ?? 0));
        entry.term = { token: report.token, owner: report.owner, since: this.#epochNow() };
        this.#emit({ event: 'leader.acquired', name: report.name, worker: worker.id, scope: entry.scope, term: report.token });
        if (entry.scope === 'fleet') this.#notify({ type: 'seen', name: report.name, token: report.token, isFree: false });
        break;
      case 'released':
      case 'lost':
        this.#end(worker, report.name, entry, report);
        break;
      default:
        report satisfies never;
    }
    this.#give(report.name);
  }

  onExit(id: number): void {
    for (const [worker, entries] of this.#entries) {
      if (worker.id !== id) continue;
      this.#entries.delete(worker);
      for (const [name, entry] of entries) {
        const { term, scope } = entry;
        this.#end(worker, name, entry, { step: 'lost', why: 'exit' });
        if (scope === 'pod') this.#give(name);
        else if (term?.owner !== undefined) void this.#free(name, term.token, term.owner);
      }
    }
    for (const map of [this.#elsewhere, this.#highest])
      for (const name of map.keys()) if (!this.#names.has(name)) map.delete(name);
  }

  /** By name. */
  get view(): Record<string, LeaderStatus> {
    const views = [...this.#names].sort().map(([name, scope]) => [name, { scope, holder: this.#holderOf(name) }] as const);
    return Object.fromEntries(views);
  }

  /** Requests that the holder gives up. @returns false if nobody leads, as far as is known */
  release(name: string): boolean {
    const holder = this.#holderOf(name);
    if (holder === null) return false;
    if (this.#names.get(name) === 'fleet') this.#notify({ type: 'give-up', name, token: holder.token });
    else this.#leaderHere(name)?.worker.send({ type: 'leader', name });
    return true;
  }

  /** The names of the workers, with their scopes. */
  get #names(): Map<string, LeaderReport['scope']> {
    return new Map(
      [...this.#entries.values()].flatMap(entries => [...entries].map(([name, { scope }]) => [name, scope] as const)),
    );
  }

  #entryOf(worker: CandidateWorker, { name, scope }: LeaderReport): Entry | undefined {
    const entries = this.#entries.get(worker) ?? new Map<string, Entry>();
    this.#entries.set(worker, entries);
    const known = entries.get(name);
    if (known !== undefined) return known;
    if (entries.size >= MAX_LEADERS) return undefined; // kit.leader refuses that; a forged message must not use up our memory
    const entry: Entry = { scope, isWaiting: false, given: undefined, term: undefined };
    entries.set(name, entry);
    return entry;
  }

  /** The last one: a worker that is blocked does not report that its term has ended. */
  #leaderHere(name: string): { worker: CandidateWorker; term: NonNullable<Entry['term']> } | undefined {
    const leading = [...this.#entries].flatMap(([worker, entries]) => {
      const term = entries.get(name)?.term;
      return term === undefined ? [] : [{ worker, term }];
    });
    return leading.sort((a, b) => b.term.token - a.term.token)[0];
  }

  #holderOf(name: string): LeaderStatus['holder'] {
    const here = this.#leaderHere(name);
    const elsewhere = this.#elsewhere.get(name);
    if (elsewhere !== undefined && elsewhere.token > (here?.term.token ?? 0)) return { ...elsewhere, isSelf: false };
    if (here === undefined) return null;
    const { worker, term } = here;
    return { pod: hostname(), worker: worker.id, token: term.token, since: term.since, isSelf: true };
  }

  #noteHolder(name: string, holder: LeaderHolder | undefined): void {
    const known = this.#elsewhere.get(name);
    // Terms of our own workers, also ended ones, are known better from those.
    const own = this.#highest.get(name) ?? 0;
    if (holder !== undefined && holder.token > Math.max(own, known?.token ?? 0)) this.#elsewhere.set(name, holder);
  }

  #end(worker: CandidateWorker, name: string, entry: Entry, { step, why }: { step: 'released' | 'lost'; why: LeaderEnd }): void {
    const { term } = entry;
    entry.isWaiting = false;
    entry.given = undefined;
    entry.term = undefined;
    if (term === undefined) return;
    const ended = { name, worker: worker.id, term: term.token, why };
    this.#emit(step === 'lost' ? { event: 'leader.lost', ...ended } : { event: 'leader.released', ...ended });
    if (entry.scope === 'fleet' && step === 'released') this.#notify({ type: 'seen', name, token: term.token, isFree: true });
  }

  /** The process is gone, so it cannot use the lock. If Redis does not answer, the lock expires. */
  async #free(name: string, token: number, owner: string): Promise<void> {
    await this.#freeLock(name, owner).catch(() => undefined);
    this.#notify({ type: 'seen', name, token, isFree: true });
  }

  /** In the scope `pod`: to the first worker that waits, if nobody has it. */
  #give(name: string): void {
    const all = [...this.#entries].flatMap(([worker, entries]) => {
      const entry = entries.get(name);
      return entry?.scope === 'pod' ? [{ worker, entry }] : [];
    });
    if (all.some(({ entry }) => entry.given !== undefined)) return;
    const next = all.find(({ worker, entry }) => entry.isWaiting && worker.isActive);
    if (next === undefined) return;
    // Grows also over restarts of this primary.
    this.#lastToken = Math.max(this.#lastToken + 1, this.#epochNow() * 1000);
    next.entry.given = this.#lastToken;
    next.worker.send({ type: 'leader', name, token: this.#lastToken });
  }
}
