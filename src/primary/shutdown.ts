/**
 * The way out: not ready → delay with open doors → drain → everybody gone → exit code. It begins once, whoever asks first.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Totals } from '../admin/totals.ts';
import type { Balancing } from '../balancing/balancing.ts';
import { sendQueues, untilAcknowledged } from '../balancing/tcp-table.ts';
import type { LogSource } from '../log/log.ts';
import type { LogOutputs } from '../log/output.ts';
import type { Settings } from '../pool/settings.ts';
import type { Supervisor } from '../pool/supervisor.ts';
import { EXIT_SLACK_MS, ExitCode } from '../protocol/messages.ts';
import { emptyAcceptQueues } from './accept-queues.ts';
import { leaveLastWords } from './termination-message.ts';

/** The share of SHUTDOWN_TIMEOUT_MS during which other workers go on accepting while one is blocked. The rest is for open requests. */
const BLOCKED_PART = 0.5;

/** From the deadline until just before workers are killed: by then those that are not blocked have accepted and counted what was queued. */
const BLOCKED_SLACK_MS = EXIT_SLACK_MS - 50;

interface Parts {
  settings: Settings;
  balancing: Balancing;
  supervisor: Supervisor;
  totals: Totals;
  log: LogSource;
  /** Ends what would still change the pool. */
  freeze: () => void;
  /** Leaves the other pods, after the last worker. */
  disconnect: () => Promise<void>;
  /** Before the exit. */
  close: () => void;
  /** Flushed last. */
  outputs: LogOutputs;
}

/** The exit does not wait longer for a log reader that reads nothing; a slow one gets five times as long. */
const FLUSH_STALL_MS = 1000;
const FLUSH_STALL_AT_ONCE_MS = 100;

export class Shutdown {
  readonly #parts: Parts;
  /** Resolves with what drains and exits: terminus on the admin server, or this class itself where there is none. */
  readonly #conductor = Promise.withResolvers<() => void>();
  #hasBegun = false;
  #code: ExitCode = ExitCode.ok;
  #delayMs = 0;
  #cutBefore = 0;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  get hasBegun(): boolean {
    return this.#hasBegun;
  }

  /** Says who conducts: calls `drain`, then `exit`. */
  conductedBy(conductor: () => void): void {
    this.#conductor.resolve(conductor);
  }

  conductedByItself(): void {
    this.conductedBy(() => void this.drain().then(() => this.exit()));
  }

  /** In good order; SHUTDOWN_DELAY_MS is the time to stay open meanwhile. */
  begin(): void {
    this.#begin(ExitCode.ok, this.#parts.settings.config.shutdownDelayMs);
  }

  /**
   * Exits with an error for the operator. The termination message is visible to anyone who can read the pod: `openMessage` has no
   * text of the app.
   */
  abort(code: ExitCode, message: string, openMessage = message): void {
    if (this.#hasBegun) return;
    this.#parts.log().fatal({ event: 'primary.abort', code, error: message });
    leaveLastWords(openMessage);
    this.#begin(code, 0);
  }

  /** Something was lost on the way: the exit code will say so. */
  hasLost(): void {
    if (this.#code === ExitCode.ok) this.#code = ExitCode.failed;
  }

  /** Ends all workers; resolves when the last one has exited. */
  async drain(): Promise<void> {
    const { settings, supervisor, log, freeze, balancing, disconnect } = this.#parts;
    const { shutdownTimeoutMs } = settings.config;
    freeze();
    supervisor.stop();
    for (const handle of supervisor.handles) handle.send({ type: 'soft' });
    if (this.#delayMs > 0) {
      log().info({ event: 'shutdown.delay', ms: this.#delayMs });
      await Promise.race([new Promise(resolve => setTimeout(resolve, this.#delayMs)), supervisor.empty()]);
    }
    log().info({ event: 'shutdown.drain', workers: supervisor.handles.length, timeoutMs: shutdownTimeoutMs });
    supervisor.endSilent();
    const deadline = performance.now() + shutdownTimeoutMs;
    await emptyAcceptQueues(supervisor, balancing, shutdownTimeoutMs * BLOCKED_PART);
    if (supervisor.handles.length === 0) this.#countUnserved();
    balancing.close();
    const timeoutMs = Math.max(0, Math.round(deadline - performance.now()));
    for (const handle of supervisor.handles) if (handle.isActive) handle.beginDrain('shutdown', timeoutMs);
    const counting = setTimeout(() => this.#endBlocked(), timeoutMs + BLOCKED_SLACK_MS);
    await supervisor.empty();
    clearTimeout(counting);
    await Promise.all([this.#untilAcknowledged(deadline), disconnect()]);
    this.#reportCut();
  }

  /** In the log and the exit code: what was cut since the shutdown began, and `open` requests that end with this process. */
  #reportCut(open = 0): void {
    const { totals, log } = this.#parts;
    const requests = totals.drains.cutRequests - this.#cutBefore + open;
    if (requests === 0) return;
    log().warn({ event: 'shutdown.cut', requests });
    this.hasLost();
  }

  /** Kills blocked workers once their queued connections are counted. */
  #endBlocked(): void {
    this.#countUnserved();
    for (const handle of this.#parts.supervisor.handles)
      if (handle.drain === undefined) handle.giveUp('shutdown', 'drain not finished at the deadline, killed');
  }

  /** Queued connections that no worker will accept: they are reset with the last listener. */
  #countUnserved(): void {
    const { balancing, totals, log } = this.#parts;
    const connections = balancing.waiting ?? 0;
    if (connections === 0) return;
    log().warn({ event: 'shutdown.unserved', connections });
    totals.unserved(connections);
  }

  /**
   * A container's network ends with this process, and with it undelivered data. Clients that acknowledge nothing do not
   * change the exit code: otherwise any client could.
   */
  async #untilAcknowledged(deadline: number): Promise<void> {
    const { balancing, totals, log } = this.#parts;
    const timeoutMs = Math.max(0, deadline - performance.now());
    const world = { look: () => sendQueues(balancing.port), now: () => performance.now(), sleep };
    const left = await untilAcknowledged(world, timeoutMs);
    if (left.size === 0) return;
    const bytes = [...left.values()].reduce((sum, each) => sum + each, 0);
    log().warn({ event: 'shutdown.unacknowledged', connections: left.size, bytes });
    totals.drains.unacknowledgedConnections += left.size;
  }

  /** Never resolves: the process ends once its last lines are written. */
  async exit(): Promise<void> {
    await this.#exit(this.#code, FLUSH_STALL_MS);
  }

  /** Without a drain: the workers exit when they lose their primary. */
  exitAtOnce(): void {
    this.#countUnserved();
    const draining = this.#parts.supervisor.handles.filter(({ drain }) => drain === undefined);
    this.#reportCut(draining.reduce((sum, { openRequests }) => sum + openRequests, 0));
    void this.#exit(ExitCode.failed, FLUSH_STALL_AT_ONCE_MS);
  }

  async #exit(code: ExitCode, stallMs: number): Promise<void> {
    this.#parts.close();
    this.#parts.log().info({ event: 'primary.exit', code });
    await this.#parts.outputs.flush(stallMs);
    process.exit(code);
  }

  #begin(code: ExitCode, delayMs: number): void {
    if (this.#hasBegun) return;
    this.#hasBegun = true;
    this.#cutBefore = this.#parts.totals.drains.cutRequests;
    this.#code = code;
    this.#delayMs = delayMs;
    void this.#conductor.promise.then(conductor => conductor());
  }
}
