/**
 * Connects the leaders of `kit.leader` (pool/leaders.ts) to the primary. They are loaded with the first message of a worker about them, and
 * each message and exit reaches them in order.
 */
import type { CandidateWorker, Leaders } from '../pool/leaders.ts';
import type { Emit } from '../protocol/events.ts';
import { LEADER_EVENT, type LeaderReport, type LeaderStatus } from '../protocol/leader.ts';
import { type EventBus, OPERATOR } from '../state/event-bus.ts';

export class LeaderMonitor {
  readonly #eventBus: EventBus;
  readonly #emit: Emit;
  #loading: Promise<Leaders> | undefined;
  #leaders: Leaders | undefined;

  constructor(eventBus: EventBus, emit: Emit) {
    this.#eventBus = eventBus;
    this.#emit = emit;
  }

  onReport(worker: CandidateWorker, report: LeaderReport): void {
    this.#loading ??= this.#load();
    void this.#loading.then(leaders => leaders.onReport(worker, report));
  }

  onExit(id: number): void {
    void this.#loading?.then(leaders => leaders.onExit(id));
  }

  /** By name; undefined while no worker has called `kit.leader`. */
  get view(): Record<string, LeaderStatus> | undefined {
    const view = this.#leaders?.view;
    return view && Object.keys(view).length > 0 ? view : undefined;
  }

  /** Requests that the holder gives up. @returns false if nobody leads, as far as is known */
  release(name: string): boolean {
    return this.#leaders?.release(name) === true;
  }

  async #load(): Promise<Leaders> {
    const { Leaders } = await import('../pool/leaders.ts');
    this.#leaders = new Leaders({
      emit: this.#emit,
      notify: notice => void this.#eventBus.broadcast({ event: LEADER_EVENT, json: JSON.stringify(notice) }, OPERATOR),
      freeLock: (name, owner) => this.#freeLock(name, owner),
    });
    return this.#leaders;
  }

  async #freeLock(name: string, owner: string): Promise<void> {
    const { redis, names } = this.#eventBus;
    if (redis === undefined || names === undefined) return;
    const { releaseLock } = await import('../state/leader-lock.ts');
    await releaseLock(redis, names.roots.root, name, owner);
  }
}
