/**
 * The primary: sizes the pool, starts and supervises the workers, answers the admin port, and ends it all in good order.
 * It runs no code of the app. The first worker is forked before this file is loaded (pool.ts).
 */
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Balancing } from '../balancing/balancing.ts';
import type { LogSource } from '../log.ts';
import { ExitCode, type RedisState, type ToPrimary } from '../messages.ts';
import { readerBelow } from '../resources/cgroup.ts';
import { readUsage } from '../resources/usage.ts';
import type { ControlSocket } from './control.ts';
import { Diagnostics } from './diagnostics.ts';
import type { History } from './history.ts';
import { OomWatch } from './oom.ts';
import type { Pool } from './pool.ts';
import { type View, whyNotReady, whyNotStarted } from './readiness.ts';
import { Relay } from './relay.ts';
import type { Resizer } from './resizer.ts';
import { RollingRestart } from './rolling-restart.ts';
import type { Settings } from './settings.ts';
import { Shutdown } from './shutdown.ts';
import type { Command, SignalQueue } from './signals.ts';
import type { Pod, PodState } from './status.ts';
import type { Supervisor, SupervisorEvents } from './supervisor.ts';
import { Totals } from './totals.ts';
import type { WorkerHandle } from './worker-handle.ts';

// Not imported: it lies outside of what the package compiles.
const manifest = createRequire(import.meta.url)('../../package.json') as { version: string };

/** Runs this process as the primary of a pool that has begun to start, until a signal or its workers end it. */
export async function runPrimary(pool: Pool, signals: SignalQueue): Promise<void> {
  const primary = new Primary(pool);
  pool.supervisor.attach(primary);
  primary.logStart();
  signals.open(command => primary.carryOut(command));
  await primary.openAdmin();
  await primary.follow();
  await primary.openControl();
  await primary.openRelay();
}

class Primary implements SupervisorEvents {
  readonly #settings: Settings;
  readonly #log: LogSource;
  readonly #resizer: Resizer;
  readonly #supervisor: Supervisor;
  readonly #balancing: Balancing;
  readonly #totals = new Totals();
  readonly #diagnostics: Diagnostics;
  readonly #restarts: RollingRestart;
  readonly #shutdown: Shutdown;
  readonly #oom: OomWatch;
  readonly #relay: Relay;
  #control: ControlSocket | undefined;
  /** What happened to the pool since the admin port was opened. */
  #history: History | undefined;
  /** Resolves with the app's real port. */
  readonly #port = Promise.withResolvers<number>();
  #isListening = false;
  #hasBeenReady = false;

  constructor({ settings, resizer, supervisor, balancing, retained, log }: Pool) {
    this.#settings = settings;
    this.#resizer = resizer;
    this.#supervisor = supervisor;
    this.#balancing = balancing;
    this.#log = log;
    this.#diagnostics = new Diagnostics({
      root: settings.config.sizingRoot,
      limits: () => resizer.limits,
      folder: settings.config.diagnosticsDir,
      serving: () => supervisor.serving,
      log,
    });
    this.#restarts = new RollingRestart({ settings, resizer, supervisor, log });
    this.#shutdown = new Shutdown({
      settings,
      supervisor,
      totals: this.#totals,
      log,
      freeze: () => resizer.close(),
      disconnect: () => this.#relay.close(),
      stopListening: () => balancing.close(),
      close: () => this.#control?.close(),
    });
    this.#oom = new OomWatch(readerBelow(), resizer.limits.usage);
    this.#relay = new Relay({
      config: () => settings.config,
      retained,
      pod: () => this.#pod(),
      workers: () => supervisor.handles,
      onState: (state, message) => this.#redisChanged(state, message, { connection: 'primary' }),
      onConnected: () => this.changed(),
    });
  }

  logStart(): void {
    const { workers, reason, memory, warnings } = this.#resizer.sizing;
    this.#log().info({
      event: 'primary.start',
      version: manifest.version,
      node: process.version,
      workers,
      reason,
      heapPerWorkerMb: memory.heapPerWorkerMb,
      policy: this.#balancing.policy,
    });
    const { warning: fallback } = this.#balancing;
    if (fallback !== undefined) this.#log().warn({ event: 'balancing.fallback', warning: fallback });
    for (const warning of warnings) this.#log().warn({ event: 'sizing.warning', warning });
    for (const { file, why } of this.#resizer.limits.skipped) this.#log().debug({ event: 'sizing.skipped', file, why });
    if (this.#settings.areSessionKeysGenerated) {
      const warning =
        'SESSION_KEYS is not set and there is no Redis: sessions end with this start, and other pods do not know them';
      this.#log().warn({ event: 'session.keys-generated', warning });
    }
  }

  /** Follows the limits of the container while it runs. */
  async follow(): Promise<void> {
    await this.#resizer.follow(this.#supervisor);
  }

  carryOut(command: Command): void {
    this.#log().info({ event: 'signal', command });
    switch (command) {
      case 'shutdown':
        this.#shutdown.begin();
        break;
      case 'exit-now':
        this.#control?.close();
        process.exit(ExitCode.failed); // the workers exit when they lose their primary
        break;
      case 'restart':
        // What fails has been logged, and there is nobody to tell.
        this.#restarts.ask(() => undefined).catch(() => undefined);
        break;
      case 'heap-snapshot':
        void this.#diagnostics.snapshotAll(this.#supervisor.serving);
        break;
      case 'one-more':
        this.#resizer.ask({ kind: 'count', count: this.#supervisor.wanted + 1 }, this.#supervisor);
        break;
      case 'one-fewer':
        this.#resizer.ask({ kind: 'count', count: Math.max(1, this.#supervisor.wanted - 1) }, this.#supervisor);
        break;
      default:
        command satisfies never;
    }
  }

  async openAdmin(): Promise<void> {
    const { adminHost: host, adminPort: port } = this.#settings.config;
    if (port === 0) return this.#shutdown.conductedByItself();
    const [{ openAdmin, SHUTDOWN }, { EventStream }, { History }] = await Promise.all([
      import('./admin.ts'),
      import('./event-stream.ts'),
      import('./history.ts'),
    ]);
    const history = new History(() => this.#pod());
    this.#history = history;
    const events = new EventStream(history, () => this.#relay.members);
    try {
      await openAdmin({
        host,
        port,
        probes: { '/livez': () => undefined, '/readyz': () => this.#notReady(), '/startupz': () => this.#notStarted() },
        routes: {
          '/status': () => ({ contentType: 'application/json', text: JSON.stringify(history.status()) }),
          '/metrics': async () => (await import('./metrics.ts')).metricsText(this.#pod()),
          '/': async () => (await import('./dashboard.ts')).dashboardPage(),
        },
        streams: { '/events': response => events.serve(response) },
        beforeShutdown: () => this.#shutdown.drain().finally(() => events.close()),
        onShutdown: async () => this.#shutdown.exit(),
      });
      this.#shutdown.conductedBy(() => process.emit(SHUTDOWN));
      this.#log().info({ event: 'admin.listening', host, port });
    } catch (error) {
      this.#shutdown.conductedByItself();
      const why = `admin port: ${host}:${port} can't be listened on: ${(error as Error).message} (ADMIN_HOST, ADMIN_PORT)`;
      this.#shutdown.abort(ExitCode.failed, why);
    }
  }

  /** Opens the control socket; without one the server runs on, and says so. */
  async openControl(): Promise<void> {
    const { config } = this.#settings;
    const path = config.controlSocket ?? join(tmpdir(), `bosun-${config.port || (await this.#port.promise)}.sock`);
    const [{ ControlSocket }, { operations }] = await Promise.all([import('./control.ts'), import('./operations.ts')]);
    const socket = new ControlSocket(
      path,
      operations(
        {
          pod: () => this.#pod(),
          settings: this.#settings,
          balancing: this.#balancing,
          supervisor: this.#supervisor,
          resizer: this.#resizer,
          diagnostics: this.#diagnostics,
          restarts: this.#restarts,
          relay: this.#relay,
        },
        () => socket,
      ),
    );
    try {
      await socket.open();
      this.#control = socket;
      this.#log().info({ event: 'control.listening', path });
    } catch (error) {
      this.#log().warn({ event: 'control.unavailable', path, error: (error as Error).message });
    }
  }

  /** Joins the other pods, where there is a Redis. */
  async openRelay(): Promise<void> {
    await this.#relay.open();
  }

  changed(): void {
    this.#history?.changed();
    if (this.#state !== 'starting' || this.#notStarted() !== undefined) return;
    this.#hasBeenReady = true;
    const ms = Math.round(process.uptime() * 1000);
    this.#log().info({ event: 'pool.ready', workers: this.#supervisor.serving.length, ms });
  }

  said(handle: WorkerHandle, message: ToPrimary): void {
    switch (message.type) {
      case 'ready':
        if (!this.#isListening)
          this.#log().info({ event: 'app.listening', url: `http://${this.#settings.config.host}:${message.port}` });
        this.#isListening = true;
        this.#port.resolve(message.port);
        break;
      case 'failed':
        this.#log().error({ event: 'worker.failed', worker: handle.id, stage: message.stage, error: message.message });
        if (message.stage === 'listen' && this.#state === 'starting') this.#shutdown.abort(ExitCode.failed, message.message);
        break;
      case 'redis':
        this.#redisChanged(message.state, message.message, { worker: handle.id });
        break;
      case 'broadcast':
        this.#relay.broadcast({ event: message.event, json: message.json }, handle.id);
        break;
      case 'waiting':
        this.#log().info({ event: 'drain.waiting', worker: handle.id, requests: message.requests });
        break;
      case 'diagnosed':
        this.#diagnostics.said(message);
        break;
      case 'snapshot-wanted':
        void this.#diagnostics.snapshotAll([handle]);
        break;
    }
  }

  exited(handle: WorkerHandle): void {
    this.#totals.exited(handle);
    this.#history?.exited(handle);
    if (!this.#supervisor.handles.some(({ id }) => id === handle.id)) this.#balancing.clear(handle.id);
    // What it had open is lost, and nobody can say how much: its last report knows no request that blocked its loop.
    if (this.#shutdown.hasBegun && handle.missedDeadline) this.#shutdown.hasLost();
    for (const { method, path, ageMs } of handle.drain?.cut ?? []) {
      this.#log().warn({ event: 'request.cut', worker: handle.id, method, path, ageMs });
    }
  }

  whoKilled(): 'oom' | 'killed' {
    return this.#oom.whoKilled();
  }

  gaveUp(message: string): void {
    const { restartIntensity, restartPeriodMs } = this.#settings.config;
    this.#shutdown.abort(
      ExitCode.crashLoop,
      `workers keep crashing: more than ${restartIntensity} times within ${restartPeriodMs} ms (RESTART_INTENSITY, RESTART_PERIOD_MS); the last: ${message}`,
    );
  }

  /** Where it is bad configuration, waiting does not help a pod that starts. */
  #redisChanged(state: RedisState, message: string, whose: { worker: number } | { connection: string }): void {
    this.#log()[state === 'ready' ? 'info' : 'warn']({ event: `redis.${state}`, ...whose, message });
    if (state === 'refused' && this.#state === 'starting') this.#shutdown.abort(ExitCode.badConfig, message);
  }

  get #state(): PodState {
    if (this.#shutdown.hasBegun) return 'draining';
    return this.#hasBeenReady ? 'ready' : 'starting';
  }

  #pod(): Pod {
    return {
      version: manifest.version,
      policy: this.#balancing.policy,
      sizing: this.#resizer.sizing,
      state: this.#state,
      supervisor: this.#supervisor,
      totals: this.#totals,
      resizes: this.#resizer.resizes,
      broadcasts: this.#relay.counts,
      redis: this.#relay.redisCounters,
      throttledSeconds: readUsage(readerBelow(), this.#resizer.limits.usage).throttledSeconds,
    };
  }

  #notReady(): string | undefined {
    return whyNotReady(this.#view());
  }

  #notStarted(): string | undefined {
    return whyNotStarted(this.#view());
  }

  #view(): View {
    const { config } = this.#settings;
    return { state: this.#state, pool: this.#supervisor, config, isJoined: this.#relay.hasBeenConnected };
  }
}
