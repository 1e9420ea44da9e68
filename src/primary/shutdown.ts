/**
 * The shutdown, in the order of `drain`: not ready → keep-alive off → SHUTDOWN_DELAY_MS → drain → SHUTDOWN_TIMEOUT_MS → abort, count and
 * name the rest → Redis closes → exit code 0 or 1. It begins once, with the first signal or failure; docs/draining.md has the numbers.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { setImmediate as loopTurn, setTimeout as sleep } from 'node:timers/promises';
import type { Totals } from '../admin/totals.ts';
import { type SendQueues, sendQueues, untilAcknowledged } from '../balancing/tcp-table.ts';
import type { Config } from '../config/config.ts';
import type { GiveUpReason } from '../pool/failures.ts';
import type { Pool } from '../pool/pool.ts';
import { ExitCode } from '../protocol/exit.ts';
import { EXIT_SLACK_MS } from '../protocol/messages.ts';

/** The share of SHUTDOWN_TIMEOUT_MS that emptying the accept queues may take while a worker is blocked. The rest is for open requests. */
const ACCEPT_SHARE = 0.5;
/** With a socket per worker: after this time the other workers accept from a queue that is not empty. */
const OWN_SOCKET_MS = 100;
/** From the deadline until just before workers are killed: by then those that are not blocked have accepted and counted what was queued. */
const BLOCKED_SLACK_MS = EXIT_SLACK_MS - 50;
/** The exit waits this long for a log reader that reads nothing, and five times as long for a slow one. */
const FLUSH_STALL_MS = 1000;
const FLUSH_STALL_AT_ONCE_MS = 100;

export interface ShutdownHooks {
  /** Leaves the other pods, closes Redis, and ends BEFORE_START. */
  closeResources: () => Promise<void>;
  closeControl: () => void;
}

/** Tests replace it. */
export interface ShutdownEnvironment {
  /** A monotonic clock in milliseconds. */
  now: () => number;
  /** Resolves after `ms`, or when `signal` aborts. */
  sleep: (ms: number, signal?: AbortSignal) => Promise<unknown>;
  /** Closed connections to the app's port whose clients have not acknowledged all data. */
  sendQueues: (port: number) => SendQueues;
  exit: (code: ExitCode) => void;
  writeTerminationMessage: (message: string) => void;
}

const ENVIRONMENT: ShutdownEnvironment = {
  now: () => performance.now(),
  // Timers run before the event loop reads messages: a drain that was reported in time must count.
  sleep: (ms, signal) =>
    sleep(ms, undefined, signal && { signal }).then(
      () => loopTurn(),
      () => undefined,
    ),
  sendQueues,
  exit: code => process.exit(code),
  writeTerminationMessage: message => writeTerminationMessage(message),
};

export class Shutdown {
  readonly #pool: Pool;
  readonly #totals: Pick<Totals, 'drains'>;
  readonly #hooks: ShutdownHooks;
  readonly #environment: ShutdownEnvironment;
  /** Runs `drain`, then `exit`; known once the admin port is open, or turned off. */
  readonly #runner = Promise.withResolvers<() => void>();
  #hasBegun = false;
  #code: ExitCode = ExitCode.ok;
  #delayMs = 0;
  #maxDrainMs = Number.POSITIVE_INFINITY;
  #abortedBefore = 0;

  constructor(pool: Pool, totals: Pick<Totals, 'drains'>, hooks: ShutdownHooks, environment = ENVIRONMENT) {
    this.#pool = pool;
    this.#totals = totals;
    this.#hooks = hooks;
    this.#environment = environment;
  }

  get hasBegun(): boolean {
    return this.#hasBegun;
  }

  /** Sets who runs the shutdown: terminus on the admin server, which calls `drain` and then `exit`, or without it this class itself. */
  runBy(runner: () => void = () => void this.drain().then(() => this.exit())): void {
    this.#runner.resolve(runner);
  }

  /** Ends the pool in good order. Open requests get SHUTDOWN_TIMEOUT_MS, and at most `maxDrainMs`. */
  begin(maxDrainMs = Number.POSITIVE_INFINITY): void {
    if (!this.#hasBegun) this.#maxDrainMs = maxDrainMs;
    this.#begin(ExitCode.ok, this.#pool.settings.config.shutdownDelayMs);
  }

  /**
   * Ends the pool because of a failure, without the delay. Anyone who can read the pod's status sees the termination message, so
   * `openMessage` must have no text of the app.
   */
  abort(code: ExitCode, message: string, openMessage = message): void {
    if (this.#hasBegun) return;
    this.#pool.emit({ event: 'primary.abort', code, error: message });
    this.#environment.writeTerminationMessage(openMessage);
    this.#begin(code, 0);
  }

  /** The supervisor has given up; `last` is the worker that failed last. */
  giveUp(reason: GiveUpReason, last: { id: number; failure: string | undefined; openFailure: string | undefined }): void {
    const { config } = this.#pool.settings;
    const { code, message } = explain(reason, last, config);
    const named = config.appModule === undefined ? '' : ` (APP_MODULE ${config.appModule})`;
    const open = explain(reason, { id: last.id, failure: `${last.openFailure}${named}` }, config);
    this.abort(code, message, open.message);
  }

  /** A request or connection was lost: the exit code becomes 1. */
  markLost(): void {
    if (this.#code === ExitCode.ok) this.#code = ExitCode.failed;
  }

  /** Ends all workers; resolves when the last one has exited and Redis is closed. */
  async drain(): Promise<void> {
    const { settings, resizer, supervisor, balancing, emit } = this.#pool;
    resizer.close();
    supervisor.stop();
    for (const handle of supervisor.handles) handle.send({ type: 'disable-keepalive' });
    await this.#delay();

    const shutdownTimeoutMs = Math.min(settings.config.shutdownTimeoutMs, this.#maxDrainMs);
    const deadline = this.#environment.now() + shutdownTimeoutMs;
    emit({ event: 'shutdown.drain', workers: supervisor.handles.length, timeoutMs: shutdownTimeoutMs });
    supervisor.killSilent();
    await this.#emptyAcceptQueues(shutdownTimeoutMs * ACCEPT_SHARE);
    if (supervisor.handles.length === 0) this.#countUnserved();
    balancing.close();
    await this.#drainWorkers(Math.max(0, Math.round(deadline - this.#environment.now())));

    await Promise.all([this.#untilAcknowledged(deadline), this.#hooks.closeResources()]);
    this.#reportAborted();
  }

  /** Never resolves: the process ends once its last log lines are written. */
  async exit(): Promise<void> {
    await this.#exit(this.#code, FLUSH_STALL_MS);
  }

  /** Without a drain: the workers exit when they lose their primary. */
  exitAtOnce(): void {
    this.#countUnserved();
    const open = this.#pool.supervisor.handles.filter(({ drain }) => drain === undefined);
    this.#reportAborted(open.reduce((sum, { openRequests }) => sum + openRequests, 0));
    void this.#exit(ExitCode.failed, FLUSH_STALL_AT_ONCE_MS);
  }

  #begin(code: ExitCode, delayMs: number): void {
    if (this.#hasBegun) return;
    this.#hasBegun = true;
    this.#abortedBefore = this.#totals.drains.cutRequests;
    this.#code = code;
    this.#delayMs = delayMs;
    void this.#runner.promise.then(run => run());
  }

  /** Still accepting: load balancers need this time to stop sending new connections. */
  async #delay(): Promise<void> {
    if (this.#delayMs === 0) return;
    const { supervisor, emit } = this.#pool;
    emit({ event: 'shutdown.delay', ms: this.#delayMs });
    await Promise.race([this.#environment.sleep(this.#delayMs), supervisor.empty()]);
  }

  /**
   * Before the listeners close, the workers accept what is queued, each its share. Connections that arrive later are accepted until the
   * listeners close, by any worker that is not blocked.
   */
  async #emptyAcceptQueues(timeoutMs: number): Promise<void> {
    const { balancing } = this.#pool;
    balancing.balanceByConnections();
    const { listeners } = balancing;
    if (listeners.length > 1) await this.#takeAll(undefined, OWN_SOCKET_MS);
    await this.#takeAll(listeners, timeoutMs);
  }

  /** Resolves when every worker has seen the queues empty, or after `timeoutMs`, since a worker may be blocked. */
  async #takeAll(listeners: number[] | undefined, timeoutMs: number): Promise<void> {
    const done = new AbortController();
    const taken = Promise.all(this.#pool.supervisor.handles.map(handle => handle.takeAll(listeners)));
    await Promise.race([taken, this.#environment.sleep(timeoutMs, done.signal)]);
    done.abort();
  }

  /** Each worker aborts what is open at the deadline, and is killed soon after. */
  async #drainWorkers(timeoutMs: number): Promise<void> {
    const { supervisor } = this.#pool;
    supervisor.drainAll(timeoutMs);
    const done = new AbortController();
    void this.#environment.sleep(timeoutMs + BLOCKED_SLACK_MS, done.signal).then(() => {
      if (!done.signal.aborted) this.#endBlocked();
    });
    await supervisor.empty();
    done.abort();
  }

  /** Kills blocked workers once their queued connections are counted. */
  #endBlocked(): void {
    this.#countUnserved();
    this.#pool.supervisor.killUndrained();
  }

  /** Counts queued connections that no worker will accept: closing the last listener resets them. */
  #countUnserved(): void {
    const { balancing, emit } = this.#pool;
    const connections = balancing.waiting ?? 0;
    if (connections === 0) return;
    emit({ event: 'shutdown.unserved', connections });
  }

  /**
   * A container's network ends with this process, and with it undelivered data. Clients that acknowledge nothing do not change the exit
   * code: otherwise any client could.
   */
  async #untilAcknowledged(deadline: number): Promise<void> {
    const { balancing, emit } = this.#pool;
    const { now, sleep, sendQueues } = this.#environment;
    const left = await untilAcknowledged({ poll: () => sendQueues(balancing.port), now, sleep }, Math.max(0, deadline - now()));
    if (left.size === 0) return;
    const bytes = [...left.values()].reduce((sum, each) => sum + each, 0);
    emit({ event: 'shutdown.unacknowledged', connections: left.size, bytes });
  }

  /** Reports the requests aborted since the shutdown began, and `open` ones that end with this process, in the log and the exit code. */
  #reportAborted(open = 0): void {
    const requests = this.#totals.drains.cutRequests - this.#abortedBefore + open;
    if (requests === 0) return;
    this.#pool.emit({ event: 'shutdown.cut', requests });
    this.markLost();
  }

  async #exit(code: ExitCode, stallMs: number): Promise<void> {
    this.#hooks.closeControl();
    this.#pool.emit({ event: 'primary.exit', code });
    await this.#pool.outputs.flush(stallMs);
    this.#environment.exit(code);
  }
}

/** The exit code and the message for the log when the supervisor gives up. */
function explain(
  reason: GiveUpReason,
  last: { id: number; failure: string | undefined },
  limits: Pick<Config, 'startTimeoutMs' | 'restartIntensity' | 'restartPeriodMs'>,
): { code: ExitCode; message: string } {
  const failure = `worker ${last.id}: ${last.failure}`;
  switch (reason) {
    case 'permanent':
      return { code: ExitCode.failed, message: last.failure ?? failure };
    case 'start-timeout': {
      const message = `no worker became ready within ${limits.startTimeoutMs} ms (START_TIMEOUT_MS); last failure: ${failure}`;
      return { code: ExitCode.failed, message };
    }
    case 'crash-loop': {
      const budget = `more than ${limits.restartIntensity} times within ${limits.restartPeriodMs} ms (RESTART_INTENSITY, RESTART_PERIOD_MS)`;
      return { code: ExitCode.crashLoop, message: `workers keep crashing: ${budget}, and none serves; last failure: ${failure}` };
    }
    default:
      return reason satisfies never;
  }
}

/** Kubernetes shows this file in the pod's status. */
const TERMINATION_LOG = '/dev/termination-log';
/** Kubernetes reads no more. */
const MAX_TERMINATION_BYTES = 4096;

/** Writes the reason of the exit for the container's platform, if the file exists. */
export function writeTerminationMessage(message: string, file: string = TERMINATION_LOG): void {
  if (!existsSync(file)) return;
  try {
    writeFileSync(file, Buffer.from(message).subarray(0, MAX_TERMINATION_BYTES));
  } catch {
    /* The platform gave us a file that we may not write; the log has the message too. */
  }
}
