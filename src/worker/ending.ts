/**
 * The end of a worker, requested by the primary, an uncaught error, or the app through Node.js. Open requests get
 * their time, the primary gets the result, and only then the app's own listeners run.
 */
import type { LogSource } from '../log/log.ts';
import { type DrainTimes, ExitCode, type ToPrimary } from '../protocol/messages.ts';
import { loggable, reportOf } from './error-report.ts';
import { HeldEvents, idle } from './held-events.ts';
import type { WorkerKit } from './kit.ts';
import { sayByeAndExit, tell } from './primary-line.ts';
import type { EndListener, OwnedSignal } from './process-events.ts';
import type { WorkerRedis } from './redis.ts';
import type { Serving } from './serving.ts';

/** After an uncaught exception the process is in an unknown state: its other requests get this long to finish. */
const CRASH_DRAIN: DrainTimes = { timeoutMs: 5000, quietMs: 300, endStalled: false };
/** After the drain, the app's listeners of signals and errors may take this long (EXIT_SLACK_MS). */
const LISTENERS_TIMEOUT_MS = 2000;
/** Likewise for work that they started without a promise. */
const IDLE_TIMEOUT_MS = 500;
/** An app may go on throwing while its worker drains. */
const MAX_LOGGED_EXCEPTIONS = 10;

interface Parts {
  log: LogSource;
  serving: Serving;
  kit: () => WorkerKit | undefined;
  redis: () => WorkerRedis | undefined;
  /** Tells the primary the last figures. */
  report: () => Promise<void>;
}

export class Ending implements EndListener {
  /** The app's fault, already reported: other errors only follow from it. */
  cause: Error | undefined;
  readonly #parts: Parts;
  readonly #signals = new Set<OwnedSignal>();
  readonly #held = new HeldEvents((event, error) => this.onListenerFailed(event, error));
  #hasBegun = false;
  /** The primary knows all requests that an exit would lose. */
  #mayExit = false;
  #exceptions = 0;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  get hasBegun(): boolean {
    return this.#hasBegun;
  }

  /** The primary ends this worker. The app's own signal listeners run as under plain Node.js. */
  drain(times: DrainTimes): void {
    this.#holdSignals();
    void this.#leave(times, ExitCode.ok);
  }

  /** This worker can't start. */
  fail(message: Extract<ToPrimary, { type: 'failed' }>): void {
    if (this.#hasBegun) return;
    this.#hasBegun = true;
    this.#mayExit = true;
    tell(message);
    sayByeAndExit(ExitCode.failed);
  }

  /** An uncaught error: this worker is replaced, and its open requests are finished. */
  onThrown(thrown: unknown, origin: unknown = 'uncaughtException'): void {
    if (this.cause !== undefined && thrown !== this.cause) return;
    this.#exceptions++;
    if (this.#exceptions <= MAX_LOGGED_EXCEPTIONS) {
      this.#parts.log().fatal({ event: 'worker.uncaught-exception', err: loggable(thrown) });
    }
    this.#held.hold('uncaughtException', thrown, origin);
    // The first error is the reason, even if the worker was already ending: later ones may follow from it.
    if (this.#exceptions === 1) tell({ type: 'crashing', ...reportOf(thrown, thrown === this.cause) });
    void this.#leave(CRASH_DRAIN, ExitCode.failed);
  }

  onLeave(call: string): void {
    // A signal listener of the app has done its work and signals the process again to end it.
    if (this.#mayExit) process.exit(ExitCode.ok);
    this.#parts.log().error({ event: 'worker.leaves', call });
    if (call.startsWith('process.kill')) this.#holdSignals();
    if (!this.#hasBegun) tell({ type: 'crashing', ...reportOf(new Error(`the app called ${call}`)) });
    void this.#leave(CRASH_DRAIN, ExitCode.failed);
  }

  onHeldExit(code: unknown): boolean {
    if (this.#mayExit) return false;
    this.onLeave(`process.exit(${code}) after an unhandled rejection`);
    return true;
  }

  /** The primary handles it: it gets the signal too if the process group does. */
  onSignal(signal: OwnedSignal): void {
    this.#signals.add(signal);
  }

  onSnapshotSignal(): void {
    tell({ type: 'snapshot-wanted' });
  }

  onExit(code: unknown): void {
    if (this.#mayExit) return;
    const { open, oldest } = this.#parts.serving.waiting;
    const requests = open === 1 ? '1 open request' : `${open} open requests`;
    tell({ type: 'exiting', message: `the app called process.exit(${code}) with ${requests}`, open, oldest });
  }

  onListenerFailed(name: string, error: unknown): void {
    this.#parts.log().error({ event: 'app.listener-failed', name, err: loggable(error) });
  }

  onDisconnect(): void {
    if (process.connected) this.onLeave("process.emit('disconnect')");
    else process.exit(ExitCode.failed);
  }

  #holdSignals(): void {
    this.#held.holdSignal(this.#signals.has('SIGINT') ? 'SIGINT' : 'SIGTERM');
    if (this.#signals.has('SIGHUP')) this.#held.holdSignal('SIGHUP');
  }

  /** Drains, then closes what the requests used, in the reverse order of opening, and exits. */
  async #leave(times: DrainTimes, code: ExitCode): Promise<void> {
    if (this.#hasBegun) return;
    this.#hasBegun = true;
    const { serving, kit, redis, report } = this.#parts;
    process.channel?.ref(); // the app may have unreferenced it, but the last messages must be sent
    const startedAt = performance.now();
    await serving.close(times.timeoutMs, code === ExitCode.ok);
    kit()?.beginDrain();
    const timeoutMs = Math.max(0, times.timeoutMs - (performance.now() - startedAt));
    const drain = await serving.drain({ ...times, timeoutMs }, (open, oldest) => tell({ type: 'waiting', open, oldest }));
    if (drain !== undefined) {
      await report();
      tell({ type: 'drained', drain });
    }
    this.#mayExit = true;
    await kit()?.close();
    const mayBeAtWork = await this.#held.release(LISTENERS_TIMEOUT_MS);
    await redis()?.close();
    if (mayBeAtWork) await idle(IDLE_TIMEOUT_MS);
    sayByeAndExit(code);
  }
}
