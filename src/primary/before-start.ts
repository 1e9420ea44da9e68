/**
 * BEFORE_START: a module that runs once before the first worker of a pod, in a process of its own, since the primary runs no code of the app.
 * What it throws ends the start. It is not run again by a rolling restart.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Pool } from '../pool/pool.ts';
import type { SpawnOptions } from '../pool/spawn.ts';
import { guardChannel, WorkerOutput } from '../pool/worker-io.ts';
import { describeSummary } from '../protocol/audience.ts';
import { ExitCode } from '../protocol/exit.ts';
import type { ToPrimary } from '../protocol/messages.ts';
import type { Shutdown } from './shutdown.ts';

/** SIGTERM comes first, and SIGKILL after this. */
const KILL_AFTER_MS = 5000;

/** The start ends. The message has text of the app; `openMessage` has none. */
export class BeforeStartError extends Error {
  readonly openMessage: string;

  constructor(message: string, openMessage = message) {
    super(message);
    this.name = 'BeforeStartError';
    this.openMessage = openMessage;
  }
}

type Loader = Extract<ToPrimary, { type: 'load-again' }>['loader'];

export class BeforeStart {
  readonly #pool: Pool;
  readonly #shutdown: Shutdown;
  #startedAt: number | undefined;
  #child: ChildProcess | undefined;
  #exited: Promise<unknown> | undefined;
  #hasEnded = false;
  #isStopped = false;

  /** `pool` has `processBefore`. */
  constructor(pool: Pool, shutdown: Shutdown) {
    this.#pool = pool;
    this.#shutdown = shutdown;
  }

  /** Why the pod is not ready; undefined once it has ended. */
  get whyNotReady(): string | undefined {
    if (this.#hasEnded) return undefined;
    const seconds = this.#startedAt === undefined ? 0 : Math.floor((performance.now() - this.#startedAt) / 1000);
    return `starting: BEFORE_START has been running for ${seconds} s`;
  }

  /** Starts the pool once the module has done its work, or ends the start. */
  async run(): Promise<void> {
    try {
      await this.#runAll();
      if (!this.#isStopped && !this.#shutdown.hasBegun) this.#pool.supervisor.start();
    } catch (error) {
      if (!(error instanceof BeforeStartError)) throw error;
      this.#shutdown.abort(ExitCode.failed, error.message, error.openMessage);
    }
  }

  /** @throws BeforeStartError */
  async #runAll(): Promise<void> {
    const { log } = this.#pool;
    this.#startedAt = performance.now();
    const module = this.#process().environment.APP_MODULE ?? '';
    log().info({ event: 'before-start.begins', module });
    let result = await this.#runOnce();
    if (result?.type === 'load-again') {
      log().info({ event: 'app.typescript-loader', loader: result.loader ?? 'tsx', why: result.why });
      result = await this.#runOnce(result.loader);
    }
    if (this.#isStopped) return;
    this.#hasEnded = true;
    log().info({ event: 'before-start.ended', ms: Math.round(performance.now() - this.#startedAt) });
  }

  /** Ends its process, if it still runs. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), KILL_AFTER_MS);
    await this.#exited;
    clearTimeout(timer);
  }

  #process(loader?: Loader): SpawnOptions {
    const { processBefore } = this.#pool;
    if (processBefore === undefined) throw new Error('BEFORE_START is not set');
    return processBefore(loader);
  }

  get #timeoutMs(): number {
    return this.#pool.settings.config.startTimeoutMs;
  }

  async #runOnce(loader?: Loader): Promise<ToPrimary | undefined> {
    if (this.#isStopped || this.#shutdown.hasBegun) return undefined;
    const outputs = this.#pool.outputs.sinksOf();
    const { execPath, cluster, environment } = this.#process(loader);
    const child = spawn(execPath, [...cluster.execArgv, cluster.exec], {
      cwd: cluster.cwd,
      env: { ...process.env, ...environment },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    this.#child = child;
    let result: ToPrimary | undefined;
    guardChannel(child, {
      onMessage: (message, connection) => {
        connection?.close(); // it has none to move
        if (message.type === 'failed' || message.type === 'load-again') result ??= message;
      },
      onMalformed: () => undefined,
    });
    const written = [
      ...(child.stdout ? [new WorkerOutput(child.stdout, outputs.stdout)] : []),
      ...(child.stderr ? [new WorkerOutput(child.stderr, outputs.stderr)] : []),
    ];
    const exited = once(child, 'exit');
    this.#exited = exited.catch(() => undefined);
    const timer = setTimeout(
      () => child.kill('SIGKILL'),
      Math.max(0, (this.#startedAt ?? 0) + this.#timeoutMs - performance.now()),
    );
    let code: number | null;
    let signal: string | null;
    try {
      [code, signal] = await exited;
    } catch (error) {
      throw new BeforeStartError(`BEFORE_START cannot be started: ${(error as Error).message}`);
    } finally {
      clearTimeout(timer);
    }
    await Promise.all(written.map(output => output.settle()));
    if (this.#isStopped) return undefined;
    if (code === 0) return result;
    throw this.#failed(result, code, signal);
  }

  #failed(result: ToPrimary | undefined, code: number | null, signal: string | null): BeforeStartError {
    const { log } = this.#pool;
    const timeoutMs = this.#timeoutMs;
    const ms = performance.now() - (this.#startedAt ?? 0);
    if (result?.type === 'failed') {
      log().error({ event: 'before-start.failed', error: result.message, stack: result.stack });
      return new BeforeStartError(result.message, `BEFORE_START failed: ${describeSummary(result.summary)}`);
    }
    const why =
      ms >= timeoutMs
        ? `BEFORE_START has not ended within ${timeoutMs} ms (START_TIMEOUT_MS)`
        : `BEFORE_START has ended with ${signal ?? `exit code ${code}`}`;
    log().error({ event: 'before-start.failed', error: why });
    return new BeforeStartError(why);
  }
}
