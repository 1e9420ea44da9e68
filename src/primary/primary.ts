/**
 * The primary: sizes the pool, starts and supervises the workers, answers the admin port, and ends it all in good order.
 * It runs no code of the app. Forking comes first: whatever the primary needs besides is loaded while the workers start.
 */
import cluster from 'node:cluster';
import manifest from '../../package.json' with { type: 'json' };
import { type Config, describeRedis, type Environment, readConfig, readEnvironment, usesRedis } from '../config.ts';
import { createLog, type LogSource } from '../log.ts';
import { ExitCode, type ToPrimary } from '../messages.ts';
import { detect } from '../resources/detect.ts';
import type { Sizing } from '../resources/sizing.ts';
import { generateSessionKey } from '../state/session-keys.ts';
import { leaveLastWords } from './last-words.ts';
import { drainAll } from './shutdown.ts';
import type { Command, SignalQueue } from './signals.ts';
import type { Pod, PodState } from './status.ts';
import { Supervisor, type SupervisorEvents } from './supervisor.ts';
import { Totals } from './totals.ts';
import { WorkerHandle, type WorkerListener } from './worker-handle.ts';

/** What main.ts knows of this installation. */
export interface Installation {
  /** The file that a worker runs. */
  entry: string;
  /** Folder of compiled code: a worker then starts without stripping types (see main.ts). */
  compileCache: string;
}

/**
 * Runs this process as the primary until a signal or its workers end it.
 * @throws ConfigError
 */
export async function runPrimary(installation: Installation, signals: SignalQueue): Promise<void> {
  const { environment, fromDotenv } = readEnvironment();
  const config = readConfig(environment, fromDotenv);
  const { sizing, nodeOptions } = detect(config.workers, environment.NODE_OPTIONS ?? '');
  const forWorkers = { NODE_COMPILE_CACHE: installation.compileCache, ...environment, NODE_OPTIONS: nodeOptions };
  const primary = new Primary(config, sizing, forWorkers, installation.entry);
  primary.start();
  signals.open(command => primary.carryOut(command));
  await primary.openAdmin();
}

class Primary implements SupervisorEvents {
  readonly #config: Config;
  readonly #sizing: Sizing;
  readonly #environment: Environment;
  readonly #log: LogSource;
  readonly #totals = new Totals();
  readonly #supervisor: Supervisor;
  #sessionKeys: string[] | undefined;
  /** False where there is no admin port. */
  readonly #adminOpened = Promise.withResolvers<boolean>();
  #state: PodState = 'starting';
  #isListening = false;
  #exitCode: ExitCode = ExitCode.ok;
  #delayMs = 0;

  constructor(config: Config, sizing: Sizing, environment: Environment, entry: string) {
    this.#config = config;
    this.#sizing = sizing;
    this.#environment = environment;
    this.#log = createLog(config.logLevel, { pid: process.pid });
    this.#supervisor = new Supervisor(
      config,
      this.#log,
      sizing.workers,
      (id, generation, listener) => this.#fork(id, generation, listener),
      this,
    );
    const heap = sizing.memory.heapPerWorkerMb;
    cluster.setupPrimary({
      exec: entry,
      execArgv: [...process.execArgv, ...(heap === null ? [] : [`--max-old-space-size=${heap}`])],
    });
    cluster.schedulingPolicy = config.policy === 'none' ? cluster.SCHED_NONE : cluster.SCHED_RR;
  }

  start(): void {
    this.#supervisor.tick();
    const { workers, reason, memory, warnings } = this.#sizing;
    this.#log().info({
      event: 'primary.start',
      version: manifest.version,
      node: process.version,
      workers,
      reason,
      heapPerWorkerMb: memory.heapPerWorkerMb,
      policy: this.#config.policy,
    });
    for (const warning of warnings) this.#log().warn({ event: 'sizing.warning', warning });
    if (this.#config.sessionKeys === undefined && !usesRedis(this.#config)) {
      this.#log().warn({
        event: 'session.keys-generated',
        warning: 'SESSION_KEYS is not set and there is no Redis: sessions end with this start, and other pods do not know them',
      });
    }
  }

  carryOut(command: Command): void {
    this.#log().info({ event: 'signal', command });
    switch (command) {
      case 'shutdown':
        void this.#end(ExitCode.ok, this.#config.shutdownDelayMs);
        break;
      case 'exit-now':
        process.exit(ExitCode.failed); // the workers exit when they lose their primary
        break;
      case 'one-more':
        this.#supervisor.scale(this.#supervisor.wanted + 1);
        break;
      case 'one-fewer':
        this.#supervisor.scale(Math.max(1, this.#supervisor.wanted - 1));
        break;
      default:
        command satisfies never;
    }
  }

  async openAdmin(): Promise<void> {
    const { adminHost: host, adminPort: port } = this.#config;
    if (port === 0) return this.#adminOpened.resolve(false);
    const [{ openAdmin }, { statusOf }] = await Promise.all([import('./admin.ts'), import('./status.ts')]);
    try {
      await openAdmin({
        host,
        port,
        probes: { '/livez': () => undefined, '/readyz': () => this.#notReady(), '/startupz': () => this.#notStarted() },
        routes: {
          '/status': () => ({ contentType: 'application/json', text: JSON.stringify(statusOf(this.#pod())) }),
          '/metrics': async () => (await import('./metrics.ts')).metricsText(this.#pod()),
        },
        beforeShutdown: () => this.#drain(),
        onShutdown: async () => this.#exit(),
      });
      this.#log().info({ event: 'admin.listening', host, port });
      this.#adminOpened.resolve(true);
    } catch (error) {
      this.#adminOpened.resolve(false);
      this.#abort(
        ExitCode.failed,
        `admin port: ${host}:${port} can't be listened on: ${(error as Error).message} (ADMIN_HOST, ADMIN_PORT)`,
      );
    }
  }

  changed(): void {
    if (this.#state === 'starting' && this.#notStarted() === undefined) {
      this.#state = 'ready';
      this.#log().info({
        event: 'pool.ready',
        workers: this.#supervisor.serving.length,
        ms: Math.round(process.uptime() * 1000),
      });
    }
  }

  said(handle: WorkerHandle, message: ToPrimary): void {
    switch (message.type) {
      case 'ready':
        if (!this.#isListening) this.#log().info({ event: 'app.listening', url: `http://${this.#config.host}:${message.port}` });
        this.#isListening = true;
        break;
      case 'failed':
        this.#log().error({ event: 'worker.failed', worker: handle.id, stage: message.stage, error: message.message });
        if (message.stage === 'listen' && this.#state === 'starting')
          this.#abort(ExitCode.failed, `${message.message} (HOST, PORT)`);
        break;
      case 'redis':
        this.#log()[message.state === 'ready' ? 'info' : 'warn']({
          event: `redis.${message.state}`,
          worker: handle.id,
          message: message.message,
        });
        if (message.state === 'refused' && this.#state === 'starting') this.#abort(ExitCode.badConfig, message.message);
        break;
      case 'broadcast':
        for (const other of this.#supervisor.handles) if (other.isActive) other.send(message);
        break;
    }
  }

  exited(handle: WorkerHandle): void {
    this.#totals.exited(handle);
    // What it had open is lost, and nobody can say how much: its last report knows no request that blocked its loop.
    if (this.#state === 'draining' && handle.missedDeadline && this.#exitCode === ExitCode.ok) this.#exitCode = ExitCode.failed;
    for (const { method, path, ageMs } of handle.drain?.cut ?? []) {
      this.#log().warn({ event: 'request.cut', worker: handle.id, method, path, ageMs });
    }
  }

  gaveUp(message: string): void {
    const { restartIntensity, restartPeriodMs } = this.#config;
    this.#abort(
      ExitCode.crashLoop,
      `workers keep crashing: more than ${restartIntensity} times within ${restartPeriodMs} ms (RESTART_INTENSITY, RESTART_PERIOD_MS); the last: ${message}`,
    );
  }

  #fork(id: number, generation: number, listener: WorkerListener): WorkerHandle {
    const environment = { ...this.#environment, BOSUN_WORKER_ID: String(id) };
    return new WorkerHandle({ id, generation, environment, sessionKeys: () => this.#keys() }, listener);
  }

  /** Empty with Redis: the workers share keys through it. */
  #keys(): string[] {
    this.#sessionKeys ??= this.#config.sessionKeys ?? (usesRedis(this.#config) ? [] : [generateSessionKey()]);
    return this.#sessionKeys;
  }

  #pod(): Pod {
    return {
      version: manifest.version,
      policy: this.#config.policy,
      sizing: this.#sizing,
      state: this.#state,
      supervisor: this.#supervisor,
      totals: this.#totals,
    };
  }

  /** The body of a /readyz that says no. */
  #notReady(): string | undefined {
    if (this.#state === 'draining') return 'draining';
    if (this.#state === 'starting') return this.#notStarted();
    return this.#supervisor.serving.length > 0 ? undefined : 'no worker serves';
  }

  #notStarted(): string | undefined {
    if (this.#state === 'ready') return undefined;
    if (this.#state === 'draining') return 'draining';
    const { serving, wanted, allServedOnce } = this.#supervisor;
    if (!allServedOnce) return `starting: ${serving.length} of ${wanted} workers serve`;
    const waiting = usesRedis(this.#config) ? serving.find(({ redis }) => redis?.state !== 'ready') : undefined;
    return waiting && `waiting for Redis: ${waiting.redis?.message ?? `no answer from ${describeRedis(this.#config)} yet`}`;
  }

  /** Ends with an error that an operator must see. */
  #abort(code: ExitCode, message: string): void {
    if (this.#state === 'draining') return;
    this.#log().fatal({ event: 'primary.abort', code, error: message });
    leaveLastWords(message);
    void this.#end(code, 0);
  }

  async #end(code: ExitCode, delayMs: number): Promise<void> {
    if (this.#state === 'draining') return;
    this.#state = 'draining';
    this.#exitCode = code;
    this.#delayMs = delayMs;
    if (await this.#adminOpened.promise) {
      process.emit((await import('./admin.ts')).SHUTDOWN);
    } else {
      await this.#drain();
      this.#exit();
    }
  }

  async #drain(): Promise<void> {
    const cutBefore = this.#totals.drains.cutRequests;
    await drainAll(this.#supervisor, this.#config, this.#delayMs, this.#log);
    const cut = this.#totals.drains.cutRequests - cutBefore;
    if (cut > 0) this.#log().warn({ event: 'shutdown.cut', requests: cut });
    if (cut > 0 && this.#exitCode === ExitCode.ok) this.#exitCode = ExitCode.failed;
  }

  #exit(): void {
    this.#log().info({ event: 'primary.exit', code: this.#exitCode });
    process.exit(this.#exitCode);
  }
}
