/**
 * The end of a worker, requested by the primary, an uncaught error, or the app through Node.js: open requests finish, the primary gets the
 * result, and only then the app's own listeners run. They close databases and exit, which would break open requests.
 */
import { constants } from 'node:os';
import type { LogSource } from '../log/log.ts';
import { endTelemetry } from '../log/telemetry.ts';
import { ExitCode } from '../protocol/exit.ts';
import { APP_MS, type DrainTimes, type OpenRequest, type ToPrimary } from '../protocol/messages.ts';
import type { App } from './app.ts';
import { PROGRESS_EVERY_MS } from './connection-drain.ts';
import { loggable, reportOf } from './error-report.ts';
import type { WorkerKit } from './kit/kit.ts';
import {
  appListeners,
  type ExitHandler,
  exitAfterOutput,
  type Listener,
  type OwnedSignal,
  onceIdle,
  sendToPrimary,
} from './process.ts';
import type { WorkerRedis } from './redis.ts';
import type { Serving } from './serving.ts';

/** After an uncaught exception the process is in an unknown state: its other requests get this long to finish. */
const CRASH_DRAIN: DrainTimes = { timeoutMs: 5000, quietMs: 300, appMs: APP_MS, endStalled: false, moves: true };
/** After the drain, the app's listeners of signals and errors may take this long (EXIT_SLACK_MS). */
const LISTENERS_TIMEOUT_MS = 2000;
/** Likewise for work that they started without a promise. */
const IDLE_TIMEOUT_MS = 500;
/** A collector that does not answer holds up the exit no longer; nor than the drain may take. */
const TELEMETRY_TIMEOUT_MS = 5000;
/** Where the drain has used all its time: of LISTENERS_TIMEOUT_MS. */
const LATE_TELEMETRY_MS = 1000;
/** An app may go on throwing while its worker drains. */
const MAX_LOGGED_EXCEPTIONS = 10;
/** If an app keeps throwing while its worker drains, its listeners get only the first errors. */
const MAX_HELD_EVENTS = 10;

/** What a worker closes before it exits. */
export interface Resources {
  log: LogSource;
  serving: Serving;
  kit: () => WorkerKit | undefined;
  /** Once it serves. */
  app: () => App | undefined;
  /** The app is loaded as main. */
  isMain: boolean;
  redis: () => WorkerRedis | undefined;
  /** Sends the last snapshot to the primary. */
  report: () => Promise<void>;
}

export class Shutdown implements ExitHandler {
  /** The app's fault, already reported: other errors only follow from it. */
  cause: Error | undefined;
  #loadingError: { thrown: unknown } | undefined;
  readonly #resources: Resources;
  readonly #signals = new Set<OwnedSignal>();
  readonly #held = new HeldEvents((event, error) => this.onListenerFailed(event, error));
  #hasBegun = false;
  /** The primary knows all requests that an exit would lose. */
  #mayExit = false;
  #exceptions = 0;

  constructor(resources: Resources) {
    this.#resources = resources;
  }

  get hasBegun(): boolean {
    return this.#hasBegun;
  }

  get mayExit(): boolean {
    return this.#mayExit;
  }

  /** The primary ends this worker. The app's own signal listeners run as under plain Node.js. */
  drain(times: DrainTimes): void {
    this.#holdSignals();
    void this.#leave(times, ExitCode.ok);
  }

  /** This worker cannot start. */
  fail(message: Extract<ToPrimary, { type: 'failed' }>): void {
    this.#leaveAtOnce(message, ExitCode.failed);
  }

  /** This worker can't load the app, but the next one can. */
  loadAgain(message: Extract<ToPrimary, { type: 'load-again' }>): void {
    this.#leaveAtOnce(message, ExitCode.ok);
  }

  /** The primary takes `port`, and starts another worker with it. */
  namePort(port: number): void {
    if (this.#hasBegun) return;
    this.#hasBegun = true;
    this.#mayExit = true;
    sendToPrimary({ type: 'named-port', port });
    exitAfterOutput(ExitCode.ok);
  }

  /** An uncaught error: this worker is replaced, and its open requests finish. */
  onThrown(thrown: unknown, origin: unknown = 'uncaughtException'): void {
    const { isMain, serving } = this.#resources;
    // Node.js throws what a main module fails to load with just before its loading fails here, and that is reported.
    if (isMain && !serving.isOpen) setImmediate(() => this.#handleThrown(thrown, origin));
    else this.#handleThrown(thrown, origin);
  }

  /** The app's module failed to load with this. */
  loadingFailed(thrown: unknown): void {
    this.#loadingError = { thrown };
  }

  #handleThrown(thrown: unknown, origin: unknown): void {
    if (this.#loadingError !== undefined && this.#loadingError.thrown === thrown) return;
    if (this.cause !== undefined && thrown !== this.cause) return;
    this.#exceptions++;
    if (this.#exceptions <= MAX_LOGGED_EXCEPTIONS) {
      this.#resources.log().fatal({ event: 'worker.uncaught-exception', err: loggable(thrown) });
    }
    this.#held.add('uncaughtException', thrown, origin);
    // The first error is the reason, even if the worker was already ending: later ones may follow from it.
    if (this.#exceptions === 1) sendToPrimary({ type: 'crashing', ...reportOf(thrown, thrown === this.cause) });
    void this.#leave(CRASH_DRAIN, ExitCode.failed);
  }

  onLeave(call: string): void {
    // A signal listener of the app has done its work and signals the process again to end it.
    if (this.#mayExit) process.exit(ExitCode.ok);
    this.#resources.log().error({ event: 'worker.leaves', call });
    if (call.startsWith('process.kill')) this.#holdSignals();
    if (!this.#hasBegun) sendToPrimary({ type: 'crashing', ...reportOf(new Error(`the app called ${call}`)) });
    void this.#leave(CRASH_DRAIN, ExitCode.failed);
  }

  onExitCall(code: unknown): boolean {
    if (this.#mayExit) return false;
    this.onLeave(`process.exit(${code}) after an unhandled rejection`);
    return true;
  }

  /** The primary handles it: it gets the signal too if the process group does. */
  onSignal(signal: OwnedSignal): void {
    this.#signals.add(signal);
  }

  onSnapshotSignal(): void {
    sendToPrimary({ type: 'snapshot-wanted' });
  }

  onExit(code: unknown): void {
    if (this.#mayExit) return;
    const { open, oldest } = this.#resources.serving.waiting;
    const requests = open === 1 ? '1 open request' : `${open} open requests`;
    const tasks = this.#resources.kit()?.openTasks ?? 0;
    const lost = tasks === 0 ? requests : `${requests} and ${tasks} open tasks`;
    sendToPrimary({ type: 'app-exit', message: `the app called process.exit(${code}) with ${lost}`, open, oldest });
  }

  onListenerFailed(name: string, error: unknown): void {
    this.#resources.log().error({ event: 'app.listener-failed', name, err: loggable(error) });
  }

  onDisconnect(): void {
    if (process.connected) this.onLeave("process.emit('disconnect')");
    else process.exit(ExitCode.failed);
  }

  #holdSignals(): void {
    this.#held.addSignal(this.#signals.has('SIGINT') ? 'SIGINT' : 'SIGTERM');
    if (this.#signals.has('SIGHUP')) this.#held.addSignal('SIGHUP');
  }

  #leaveAtOnce(message: ToPrimary, code: ExitCode): void {
    if (this.#hasBegun) return;
    this.#hasBegun = true;
    this.#mayExit = true;
    sendToPrimary(message);
    exitAfterOutput(code);
  }

  /** Drains, then closes what the requests used, in the reverse order of opening, and exits. */
  async #leave(times: DrainTimes, code: ExitCode): Promise<void> {
    if (this.#hasBegun) return;
    this.#hasBegun = true;
    const { serving, kit, redis, report } = this.#resources;
    process.channel?.ref(); // the app may have unreferenced it, but the last messages must be sent
    const startedAt = performance.now();
    await serving.close(times.timeoutMs, code === ExitCode.ok);
    kit()?.beginDrain();
    const timeoutMs = Math.max(0, times.timeoutMs - (performance.now() - startedAt));
    const deadline = startedAt + times.timeoutMs;
    const waiting = (open: number, oldest: OpenRequest[]) =>
      sendToPrimary({ type: 'waiting', open, oldest, tasks: kit()?.openTasks ?? 0 });
    const leadingEnded = kit()?.leaders.end(timeoutMs);
    const drain = await serving.drain({ ...times, timeoutMs }, waiting);
    await leadingEnded;
    if (drain !== undefined) {
      await report();
      sendToPrimary({ type: 'drained', drain });
    }
    await this.#close(deadline, () => waiting(0, []));
    const lateMs = await this.#endTelemetry(deadline);
    const mayHaveWork = await this.#held.release(LISTENERS_TIMEOUT_MS - lateMs);
    await redis()?.close();
    if (mayHaveWork) await untilIdle(IDLE_TIMEOUT_MS);
    exitAfterOutput(code);
  }

  /** Waits for the app's tasks until `deadline`, then runs its close handlers, and reports both. */
  async #close(deadline: number, onWaiting: () => void): Promise<void> {
    const { kit, app } = this.#resources;
    const progress = setInterval(onWaiting, PROGRESS_EVERY_MS);
    const tasks = await kit()?.tasksSettled(deadline);
    clearInterval(progress);
    this.#mayExit = true;
    const handlers = await kit()?.close(deadline, app()?.close);
    if (tasks === undefined || handlers === undefined) return;
    const { finished, failed, timedOut } = tasks;
    if (finished + failed + timedOut + handlers.count > 0) sendToPrimary({ type: 'closed', closing: { tasks, handlers } });
  }

  /**
   * Before the app's own listeners, which may exit. Uses what is left of the drain until the monotonic time `deadline`, and a second more where
   * that has passed. Resolves with how much of that it has used.
   */
  async #endTelemetry(deadline: number): Promise<number> {
    const startedAt = performance.now();
    const leftMs = Math.min(TELEMETRY_TIMEOUT_MS, Math.max(LATE_TELEMETRY_MS, deadline - startedAt));
    const error = await endTelemetry(leftMs);
    if (error !== undefined) this.#resources.log().warn({ event: 'telemetry.not-exported', error });
    return Math.max(0, performance.now() - Math.max(deadline, startedAt));
  }
}

/** Events of `process` for the app's own listeners, held until the worker has no open requests or its drain deadline has passed. */
class HeldEvents {
  readonly #held: { event: string; args: unknown[] }[] = [];
  readonly #onFailed: (event: string, error: unknown) => void;

  /** `onFailed` is called for a listener that throws or rejects. */
  constructor(onFailed: (event: string, error: unknown) => void) {
    this.#onFailed = onFailed;
  }

  add(event: string, ...args: unknown[]): void {
    if (this.#held.length < MAX_HELD_EVENTS) this.#held.push({ event, args });
  }

  /** A signal that ends the app: if it has no listeners, those of SIGTERM are used. */
  addSignal(signal: NodeJS.Signals): void {
    const event = appListeners(signal).length > 0 ? signal : 'SIGTERM';
    if (!this.#held.some(held => held.event === event)) this.add(event, event, constants.signals[event]);
  }

  /**
   * Calls the listeners of each event, in order. Resolves when those that return a promise are done, or after `timeoutMs`.
   * @returns whether one of them has returned no promise, and so may still have work in progress
   */
  async release(timeoutMs: number): Promise<boolean> {
    const results = this.#held
      .splice(0)
      .flatMap(({ event, args }) => appListeners(event).map(listener => this.#call(event, listener, args)));
    const pending = results.filter(result => result instanceof Promise);
    const late = Promise.withResolvers<void>();
    const timer = setTimeout(late.resolve, timeoutMs);
    await Promise.race([Promise.all(pending), late.promise]);
    clearTimeout(timer); // the worker waits then until nothing keeps it alive
    return pending.length < results.length;
  }

  #call(event: string, listener: Listener, args: unknown[]): unknown {
    const failed = (error: unknown) => this.#onFailed(event, error);
    try {
      const result = Reflect.apply(listener, process, args);
      return result instanceof Promise ? result.catch(failed) : undefined;
    } catch (error) {
      failed(error);
      return undefined;
    }
  }
}

/** Resolves when nothing keeps this process alive, or after `timeoutMs`. */
async function untilIdle(timeoutMs: number): Promise<void> {
  process.channel?.unref();
  await new Promise<void>(resolve => {
    onceIdle(resolve);
    setTimeout(resolve, timeoutMs).unref();
  });
}
