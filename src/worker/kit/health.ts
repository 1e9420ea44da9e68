/**
 * The app's health checks in this worker: what may be registered, and when they run. What runs them is loaded with the first one
 * (check-runs.ts).
 */
import type { HealthCheck, HealthOptions } from '../../index.ts';
import { CHECK_NAME, type HealthReport, MAX_CHECKS } from '../../protocol/health.ts';
import { checkFunction, checkOptions, shown, typeName } from './arguments.ts';
import type { ScheduledCheck } from './check-runs.ts';

const DEFAULT_INTERVAL_MS = 10_000;
const DEFAULT_TIMEOUT_MS = 5000;
const MIN_MS = { intervalMs: 100, timeoutMs: 1 };
const MAX_MS = 3_600_000;
const OPTIONS: Readonly<Record<keyof HealthOptions, true>> = { readiness: true, timeoutMs: true, intervalMs: true };

/** A check that was accepted. */
export interface RegisteredCheck extends Required<HealthOptions> {
  name: string;
  check: HealthCheck;
}

type Send = (report: HealthReport) => void;

export class HealthChecks {
  readonly #send: Send;
  readonly #names = new Set<string>();
  #runs: Promise<ScheduledCheck>[] = [];
  /** They run between `start` and `stop`. */
  #state: 'waiting' | 'running' | 'stopped' = 'waiting';

  constructor(send: Send) {
    this.#send = send;
  }

  /** @throws TypeError or RangeError for what cannot be registered, and for a name that is taken */
  add(name: string, check: HealthCheck, options: HealthOptions = {}): void {
    const accepted = { name: nameOf(name), check: functionOf(name, check), ...optionsOf(name, options) };
    if (this.#names.has(name)) throw new TypeError(`kit.health: there is a check "${name}" already; each needs its own name`);
    if (this.#names.size >= MAX_CHECKS) throw new RangeError(`kit.health: at most ${MAX_CHECKS} checks, "${name}" is one more`);
    this.#names.add(name);
    // Sent before the worker is ready, so that the pod is not ready before the first run.
    this.#send({ name, readiness: accepted.readiness, validMs: validMsOf(accepted) });
    const loading = import('./check-runs.ts').then(({ ScheduledCheck }) => new ScheduledCheck(accepted, this.#send));
    this.#runs.push(loading);
    if (this.#state === 'running') void loading.then(run => run.start());
  }

  /** The worker serves: runs all checks, and from now on each new one at once. */
  start(): void {
    if (this.#state !== 'waiting') return;
    this.#state = 'running';
    for (const run of this.#runs) void run.then(check => check.start());
  }

  /** The worker drains: no check runs again. */
  stop(): void {
    this.#state = 'stopped';
    for (const run of this.#runs) void run.then(check => check.stop());
  }
}

/** A run that begins late and times out is reported within this time. */
export const validMsOf = ({ intervalMs, timeoutMs }: Pick<RegisteredCheck, 'intervalMs' | 'timeoutMs'>): number =>
  2 * intervalMs + timeoutMs;

function nameOf(name: unknown): string {
  if (typeof name === 'string' && CHECK_NAME.test(name)) return name;
  throw new TypeError(
    `kit.health: the name must be 1 to 64 letters, digits, "_", "-" and ".", and begin with a letter or digit, got ${shown(name)}`,
  );
}

function functionOf(name: string, check: unknown): HealthCheck {
  checkFunction(`kit.health("${name}"): the check`, check);
  return check as HealthCheck;
}

function optionsOf(name: string, options: HealthOptions): Required<HealthOptions> {
  checkOptions(`kit.health("${name}")`, options, OPTIONS);
  const { readiness = false, intervalMs = DEFAULT_INTERVAL_MS, timeoutMs = DEFAULT_TIMEOUT_MS } = options;
  if (typeof readiness !== 'boolean')
    throw new TypeError(`kit.health("${name}"): readiness must be true or false, got ${typeName(readiness)}`);
  return { readiness, intervalMs: timeOf(name, 'intervalMs', intervalMs), timeoutMs: timeOf(name, 'timeoutMs', timeoutMs) };
}

function timeOf(name: string, option: keyof typeof MIN_MS, ms: unknown): number {
  const min = MIN_MS[option];
  if (typeof ms === 'number' && ms >= min && ms <= MAX_MS) return ms;
  const got = typeof ms === 'number' ? ms : shown(ms);
  throw new RangeError(`kit.health("${name}"): ${option} must be a number from ${min} to ${MAX_MS}, got ${got}`);
}
