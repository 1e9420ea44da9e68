/**
 * The primary: sizes the pool, starts and supervises the workers, answers the admin port, and ends it all in good order.
 * It runs no code of the app. The first worker is forked before this file is loaded (pool.ts).
 */

import { createRequire } from 'node:module';
import { History } from '../admin/history.ts';
import { MemorySum } from '../admin/memory-sum.ts';
import { readiness, type View, whyNotStarted } from '../admin/readiness.ts';
import { type MemoryFacts, type Pod, type PodState, slowestP99Ms } from '../admin/status.ts';
import { Totals } from '../admin/totals.ts';
import type { Balancing } from '../balancing/balancing.ts';
import { controlSocketOf } from '../config/config.ts';
import { hostAndPort } from '../config/parse.ts';
import { Diagnostics } from '../control/diagnostics.ts';
import type { ControlSocket } from '../control/socket.ts';
import type { LogSource } from '../log/log.ts';
import type { LogOutputs } from '../log/output.ts';
import type { GiveUpReason } from '../pool/failures.ts';
import { OomWatch } from '../pool/oom.ts';
import type { Pool } from '../pool/pool.ts';
import type { Resizer } from '../pool/resizer.ts';
import { RollingRestart } from '../pool/rolling-restart.ts';
import type { Settings } from '../pool/settings.ts';
import type { Supervisor, SupervisorListener } from '../pool/supervisor.ts';
import type { WorkerProcess } from '../pool/worker-process.ts';
import type { EventListener, WorkerExit } from '../protocol/events.ts';
import { ExitCode, type RedisState, type ToPrimary } from '../protocol/messages.ts';
import { readerBelow } from '../resources/cgroup.ts';
import { memoryUsage, readUsage } from '../resources/usage.ts';
import { EventBus } from '../state/event-bus.ts';
import type { OwnPod } from '../state/peers.ts';
import type { Events } from './events.ts';
import { type Owner, RedisHealth } from './redis-health.ts';
import { Shutdown } from './shutdown.ts';
import { type Command, execute, type SignalQueue } from './signals.ts';

// Not imported: it lies outside of what the package compiles.
const VERSION = (createRequire(import.meta.url)('../../package.json') as { version: string }).version;

/** Runs this process as the primary of a pool that has begun to start, until a signal or its workers end it. */
export async function runPrimary(pool: Pool, events: Events, signals: SignalQueue): Promise<void> {
  const primary = new Primary(pool, events);
  pool.supervisor.attach(primary);
  logStart(pool);
  signals.open(command => primary.execute(command));
  await primary.openAdmin();
  await primary.follow();
  await primary.openControl();
  await primary.openEventBus();
}

class Primary implements SupervisorListener {
  readonly #settings: Settings;
  readonly #log: LogSource;
  readonly #events: Events;
  readonly #resizer: Resizer;
  readonly #supervisor: Supervisor;
  readonly #balancing: Balancing;
  readonly #totals = new Totals();
  readonly #diagnostics: Diagnostics;
  readonly #restarts: RollingRestart;
  readonly #shutdown: Shutdown;
  readonly #oom: OomWatch;
  readonly #eventBus: EventBus;
  readonly #redis: RedisHealth;
  readonly #outputs: LogOutputs;
  #control: ControlSocket | undefined;
  readonly #history: History;
  readonly #memorySum = new MemorySum();
  /** Resolves with the app's real port. */
  readonly #port = Promise.withResolvers<number>();
  #isListening = false;
  #hasBeenReady = false;

  constructor(pool: Pool, events: Events) {
    const { settings, resizer, supervisor, balancing, retained, log, outputs } = pool;
    this.#settings = settings;
    this.#resizer = resizer;
    this.#supervisor = supervisor;
    this.#balancing = balancing;
    this.#log = log;
    this.#events = events;
    const { emit } = events;
    this.#outputs = outputs;
    this.#diagnostics = new Diagnostics({
      root: settings.config.sizingRoot,
      limits: () => resizer.limits,
      folder: settings.config.diagnosticsDir,
      mayLeave: handle => supervisor.mayLeave(handle),
      log,
    });
    this.#restarts = new RollingRestart({ settings, resizer, supervisor, emit });
    this.#shutdown = new Shutdown(pool, this.#totals, {
      closeRedis: () => this.#eventBus.close(),
      closeControl: () => this.#control?.close(),
    });
    this.#oom = new OomWatch(readerBelow(), resizer.limits.usage);
    this.#eventBus = new EventBus({
      config: () => settings.config,
      retained,
      ownPod: () => this.#ownPod(),
      workers: () => supervisor.handles,
      onState: (state, message) => this.#redisChanged(state, message, 'primary'),
      onConnected: () => this.#checkReady(),
    });
    this.#redis = new RedisHealth(log, () => [
      ...this.#eventBus.redisRefusals,
      ...supervisor.handles.flatMap(({ snapshot }) => snapshot?.redisRefusals ?? []),
    ]);
    this.#history = new History(() => this.#pod());
    for (const listener of [this.#totals.onEvent, this.#history.onEvent, this.#onEvent]) events.listen(listener);
    events.forgetPast();
  }

  /** Follows the limits of the container while it runs. */
  async follow(): Promise<void> {
    await this.#resizer.follow(this.#supervisor);
  }

  execute(command: Command): void {
    this.#events.emit({ event: 'signal', command });
    execute(command, {
      supervisor: this.#supervisor,
      resizer: this.#resizer,
      restarts: this.#restarts,
      diagnostics: this.#diagnostics,
      shutdown: this.#shutdown,
    });
  }

  async openAdmin(): Promise<void> {
    const { adminHost: host, adminPort: port } = this.#settings.config;
    if (port === 0) return this.#shutdown.runBy();
    const { openAdminPort } = await import('../admin/admin-port.ts');
    await openAdminPort({
      host,
      port,
      token: () => this.#settings.config.adminToken,
      log: this.#log,
      history: this.#history,
      shutdown: this.#shutdown,
      pod: () => this.#pod(),
      readiness: () => readiness(this.#view()),
      notStarted: () => whyNotStarted(this.#view()),
      peers: () => this.#eventBus.peers,
    });
  }

  async openControl(): Promise<void> {
    const { config } = this.#settings;
    // Before anybody serves, an operator asks why: only a path that is made of the port has to wait for one.
    const isPortNeeded = config.controlSocket === undefined && config.port === 0;
    const path = controlSocketOf(config, isPortNeeded ? await this.#port.promise : config.port);
    const { openControlSocket } = await import('../control/operations.ts');
    const context = {
      pod: () => this.#pod(),
      settings: this.#settings,
      balancing: this.#balancing,
      supervisor: this.#supervisor,
      resizer: this.#resizer,
      diagnostics: this.#diagnostics,
      restarts: this.#restarts,
      eventBus: this.#eventBus,
      redis: this.#redis,
      history: this.#history,
      emit: this.#events.emit,
    };
    this.#control = await openControlSocket(path, context, this.#log);
  }

  /** Joins the other pods, where there is a Redis. */
  async openEventBus(): Promise<void> {
    this.#redis.start();
    await this.#eventBus.open();
  }

  readonly #onEvent: EventListener = event => {
    if (event.event === 'worker.exit') this.#exited(event);
    this.#checkReady();
  };

  #checkReady(): void {
    if (this.#state !== 'starting' || whyNotStarted(this.#view()) !== undefined) return;
    this.#hasBeenReady = true;
    const ms = Math.round(process.uptime() * 1000);
    const { serving, wanted } = this.#supervisor;
    this.#events.emit({ event: 'pool.ready', workers: serving.length, wanted, ms });
  }

  onMessage(handle: WorkerProcess, message: ToPrimary): void {
    const { emit } = this.#events;
    switch (message.type) {
      case 'ready':
        if (!this.#isListening)
          emit({ event: 'app.listening', url: `http://${hostAndPort(this.#settings.config.host, message.port)}` });
        this.#isListening = true;
        this.#port.resolve(message.port);
        break;
      case 'failed':
        emit({
          event: 'worker.failed',
          worker: handle.id,
          stage: message.stage,
          error: message.message,
          stack: message.stack,
        });
        break;
      case 'redis':
        this.#redisChanged(message.state, message.message, handle.id);
        break;
      case 'broadcast':
        this.#eventBus.broadcast({ event: message.event, json: message.json }, handle.id);
        break;
      case 'waiting':
        emit({ event: 'drain.waiting', worker: handle.id, open: message.open, requests: message.oldest });
        break;
      case 'diagnosed':
        this.#diagnostics.onDiagnosed(message);
        break;
      case 'snapshot-wanted':
        void this.#diagnostics.snapshotAll([handle]);
        break;
    }
    this.#checkReady();
  }

  #exited({ worker, drain, lost, missedDeadline }: WorkerExit): void {
    this.#redis.forget(worker);
    if (!this.#supervisor.handles.some(({ id }) => id === worker)) this.#balancing.clear(worker);
    // What it had open is lost, and nobody can say how much: its last report knows no request that blocked its loop.
    if (this.#shutdown.hasBegun && missedDeadline) this.#shutdown.markLost();
    for (const { method, path, ageMs } of drain?.cut ?? lost?.oldest ?? [])
      this.#log().warn({ event: 'request.cut', worker, method, path, ageMs });
  }

  whoKilled(): 'oom' | 'killed' {
    return this.#oom.whoKilled();
  }

  gaveUp(why: GiveUpReason, last: WorkerProcess): void {
    this.#shutdown.giveUp(why, last);
  }

  /** Where it is bad configuration, waiting does not help a pod that starts. */
  #redisChanged(state: RedisState, message: string, owner: Owner): void {
    this.#redis.changed(state, message, owner);
    if (state === 'refused' && this.#state === 'starting') this.#shutdown.abort(ExitCode.badConfig, message);
  }

  get #state(): PodState {
    if (this.#shutdown.hasBegun) return 'draining';
    return this.#hasBeenReady ? 'ready' : 'starting';
  }

  #pod(): Pod {
    return {
      version: VERSION,
      policy: this.#balancing.policy,
      sizing: this.#resizer.sizing,
      state: this.#state,
      supervisor: this.#supervisor,
      totals: this.#totals,
      resizes: this.#resizer.resizes,
      broadcasts: this.#eventBus.counts,
      redis: this.#eventBus.redisCounters,
      redisRefusals: this.#redis.refusals,
      droppedLogLines: this.#outputs.droppedLines,
      memory: () => this.#memoryFacts(),
      throttledSeconds: readUsage(readerBelow(), this.#resizer.limits.usage).throttledSeconds,
    };
  }

  #ownPod(): OwnPod {
    const { generation, serving, wanted, handles } = this.#supervisor;
    const { requests } = this.#totals.countersWith(handles);
    const p99Ms = slowestP99Ms(handles);
    return { version: VERSION, state: this.#state, generation, workers: serving.length, wanted, requests, p99Ms };
  }

  #memoryFacts(): MemoryFacts {
    const { headroom, freshWorkerBytes, restart } = this.#supervisor.memoryView;
    const workers = this.#supervisor.handles.map(({ pid, snapshot }) => ({ pid, rssBytes: snapshot?.memory.rss ?? 0 }));
    const processes = [{ pid: process.pid, rssBytes: memoryUsage().rss }, ...workers];
    return {
      usedBytes: this.#memorySum.of(processes, performance.now()),
      headroomBytes: headroom?.bytes ?? null,
      freshWorkerBytes: freshWorkerBytes ?? null,
      restart: restart.kind,
    };
  }

  #view(): View {
    const { config } = this.#settings;
    const { failedStarts } = this.#totals;
    return { state: this.#state, pool: this.#supervisor, config, isJoined: this.#eventBus.hasBeenConnected, failedStarts };
  }
}

function logStart({ settings, resizer, balancing, log }: Pool): void {
  const { workers, reason, memory, warnings } = resizer.sizing;
  log().info({
    event: 'primary.start',
    version: VERSION,
    node: process.version,
    workers,
    reason,
    heapPerWorkerMb: memory.heapPerWorkerMb,
    policy: balancing.policy,
  });
  const { warning: fallback } = balancing;
  if (fallback !== undefined) log().warn({ event: 'balancing.fallback', warning: fallback });
  for (const warning of warnings) log().warn({ event: 'sizing.warning', warning });
  for (const { file, why } of resizer.limits.skipped) log().debug({ event: 'sizing.skipped', file, why });
  for (const warning of settings.nodeOptionWarnings) log().warn({ event: 'node-options.warning', warning });
  if (settings.areSessionKeysGenerated) {
    const warning =
      'SESSION_KEYS is not set and there is no Redis: sessions end with this start, and other pods do not know them';
    log().warn({ event: 'session.keys-generated', warning });
  }
}
