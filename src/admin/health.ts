/**
 * The app's health checks in this pod, by name: what the workers report goes in, and whether a check keeps the pod out of rotation comes
 * out. A check outlives the workers that report it. Nothing here has a timer: a reader calls `update` first.
 */
import type { CheckStatus } from '../protocol/api.ts';
import type { Audience } from '../protocol/audience.ts';
import type { Emit } from '../protocol/events.ts';
import { type HealthReport, MAX_CHECKS } from '../protocol/health.ts';
import { PodCheck, type Received } from './pod-check.ts';

/** Of all workers together: those of two versions of the app may have different checks. */
const MAX_POD_CHECKS = 100;
/** A check that no worker has is kept for this long: a new worker may register it late. */
const FORGET_AFTER_MS = 60_000;

/** The part of a WorkerProcess that is read here. */
export interface CheckingWorker {
  readonly isServing: boolean;
  /** Neither ending nor exited. */
  readonly isActive: boolean;
}

export interface HealthContext {
  workers: () => readonly CheckingWorker[];
  /** The pod has not been ready yet. */
  isStarting: () => boolean;
  emit: Emit;
  /** Monotonic, in milliseconds. */
  now: () => number;
}

export class Health {
  readonly #context: HealthContext;
  readonly #reports = new WeakMap<CheckingWorker, Map<string, Received>>();
  readonly #checks = new Map<string, { check: PodCheck; seenAt: number }>();

  constructor(context: HealthContext) {
    this.#context = context;
  }

  /** A worker reports a check. Those beyond the limits are ignored. */
  receive(worker: CheckingWorker, { name, readiness, validMs, result }: HealthReport): void {
    const now = this.#context.now();
    const reports = this.#reports.get(worker) ?? new Map<string, Received>();
    if (!reports.has(name) && reports.size >= MAX_CHECKS) return;
    if (!this.#checks.has(name)) {
      if (this.#checks.size >= MAX_POD_CHECKS) return;
      const mustPass = readiness && this.#context.isStarting();
      this.#checks.set(name, { check: new PodCheck(name, mustPass, now), seenAt: now });
    }
    reports.set(name, { name, readiness, validMs, ...(result && { result }), receivedAt: now });
    this.#reports.set(worker, reports);
    this.update();
  }

  /** Decides each check again, from the last reports of the workers that serve now. */
  update(): void {
    if (this.#checks.size === 0) return;
    const now = this.#context.now();
    const active = this.#context.workers().filter(({ isActive }) => isActive);
    const serving = active.filter(({ isServing }) => isServing);
    const events = [...this.#checks.values()].flatMap(entry => {
      const { check } = entry;
      const isPresent = active.some(worker => this.#reports.get(worker)?.has(check.name));
      // While no worker serves, it is unknown whether the app still has the check.
      if (isPresent || serving.length === 0) entry.seenAt = now;
      if (now - entry.seenAt > FORGET_AFTER_MS) {
        this.#checks.delete(check.name);
        return check.remove(now);
      }
      return check.update(
        serving.flatMap(worker => this.#reports.get(worker)?.get(check.name) ?? []),
        now,
      );
    });
    // Last: their listeners read the new state.
    for (const event of events) this.#context.emit(event);
  }

  /** The checks that keep the pod out of rotation, and how they fail, without text of the app; undefined where none does. */
  get whyNotReady(): string | undefined {
    return this.#describe(({ isUnready }) => isUnready);
  }

  /** The checks that fail, likewise. */
  get whatFails(): string | undefined {
    return this.#describe(({ isFailing }) => isFailing);
  }

  /** By name; undefined where there are no checks. */
  status(audience: Audience): Record<string, CheckStatus> | undefined {
    if (this.#checks.size === 0) return undefined;
    const now = this.#context.now();
    return Object.fromEntries([...this.#checks].map(([name, { check }]) => [name, check.status(audience, now)]));
  }

  #describe(isSelected: (check: PodCheck) => boolean): string | undefined {
    const selected = [...this.#checks.values()].flatMap(({ check }) => (isSelected(check) ? [check.describe()] : []));
    return selected.length === 0 ? undefined : selected.join('; ');
  }
}
