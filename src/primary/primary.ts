/**
 * The primary: connects the pool that pool.ts has started to its listeners, and opens the admin port, the limits' watcher, the control socket
 * and Redis, in this order. It runs no code of the app. The first worker is forked before this file is loaded.
 */
import { ErrorRates } from '../admin/error-rates.ts';
import { Health } from '../admin/health.ts';
import { History } from '../admin/history.ts';
import { RecentErrors } from '../admin/recent-errors.ts';
import { Totals } from '../admin/totals.ts';
import { Utilization } from '../admin/utilization.ts';
import { isSet } from '../config/config.ts';
import type { DevSettings } from '../config/inherited.ts';
import { nameProcess } from '../config/process-name.ts';
import { Diagnostics } from '../control/diagnostics.ts';
import type { DevLoop } from '../dev/dev-loop.ts';
import type { Pool } from '../pool/pool.ts';
import { RollingRestart } from '../pool/resizer.ts';
import type { WorkerProcess } from '../pool/worker-process.ts';
import type { DevStatus } from '../protocol/api.ts';
import type { LifecycleEvent, WorkerExit } from '../protocol/events.ts';
import { ExitCode } from '../protocol/exit.ts';
import type { RedisState, ToPrimary } from '../protocol/messages.ts';
import { EventBus } from '../state/event-bus.ts';
import type { BeforeStart } from './before-start.ts';
import type { Events } from './events.ts';
import { LeaderMonitor } from './leader-monitor.ts';
import { PodControl } from './pod-control.ts';
import { PodView } from './pod-view.ts';
import { type Owner, RedisMonitor } from './redis-monitor.ts';
import { ServiceMonitor } from './service-monitor.ts';
import { Shutdown } from './shutdown.ts';
import { type Command, execute, type SignalQueue } from './signals.ts';
import { logListening, logStart } from './start-log.ts';

/** Runs this process as the primary of a starting pool, until a signal or a failure ends it. */
export async function runPrimary(pool: Pool, events: Events, signals: SignalQueue): Promise<void> {
  nameProcess();
  const primary = new Primary(pool, events);
  logStart(pool);
  signals.open(command => primary.execute(command));
  void primary.runBeforeStart();
  await primary.openAdmin();
  await pool.resizer.follow(pool.supervisor);
  await primary.openControl();
  await primary.openEventBus();
}

class Primary {
  readonly #pool: Pool;
  readonly #totals = new Totals();
  readonly #recentErrors = new RecentErrors();
  readonly #view: PodView;
  readonly #history: History;
  readonly #eventBus: EventBus;
  readonly #redis: RedisMonitor;
  readonly #health: Health;
  readonly #leaders: LeaderMonitor;
  readonly #diagnostics: Diagnostics;
  readonly #restarts: RollingRestart;
  readonly #shutdown: Shutdown;
  readonly #control: PodControl;
  /** Only under `bosun dev`; loaded while the first worker starts. */
  readonly #dev: Promise<DevLoop> | undefined;
  #devStatus: () => DevStatus | undefined = () => undefined;
  #beforeStart: BeforeStart | undefined;
  #isListening = false;

  constructor(pool: Pool, events: Events) {
    this.#pool = pool;
    const { settings, resizer, supervisor, retained, log } = pool;
    this.#diagnostics = new Diagnostics({
      root: settings.config.sizingRoot,
      limits: () => resizer.limits,
      folder: settings.config.diagnosticsDir,
      mayLeave: handle => supervisor.mayLeave(handle),
      log,
    });
    this.#restarts = new RollingRestart(pool);
    this.#shutdown = new Shutdown(pool, this.#totals, {
      closeResources: async () => void (await Promise.all([this.#beforeStart?.stop(), this.#eventBus.close()])),
      closeControl: () => this.#control.close(),
    });
    this.#eventBus = new EventBus({
      config: () => settings.config,
      service: settings.service,
      retained,
      ownPod: () => this.#view.ownPod(),
      workers: () => supervisor.handles,
      onState: (state, message) => this.#onRedisState(state, message, 'primary'),
      onConnected: () => this.#view.checkReady(),
    });
    this.#redis = new RedisMonitor(log, () => [
      ...this.#eventBus.redisRefusals,
      ...supervisor.handles.flatMap(({ snapshot }) => snapshot?.redisRefusals ?? []),
    ]);
    this.#health = new Health({
      workers: () => supervisor.handles,
      isStarting: () => this.#view.state === 'starting',
      emit: pool.emit,
      now: () => performance.now(),
    });
    this.#leaders = new LeaderMonitor(this.#eventBus, pool.emit);
    const utilization = new Utilization();
    const errorRates = new ErrorRates();
    this.#view = new PodView({
      pool,
      totals: this.#totals,
      shutdown: this.#shutdown,
      eventBus: this.#eventBus,
      redis: this.#redis,
      health: this.#health,
      leaders: this.#leaders,
      utilization,
      errorRates,
      recentErrors: this.#recentErrors,
      lastSample: () => this.#history.samples.at(-1),
      dev: () => this.#devStatus(),
      beforeStart: () => this.#beforeStart?.whyNotReady,
    });
    this.#history = new History({ pod: () => this.#view.pod(), utilization, errorRates, peers: () => this.#eventBus.peers });
    this.#control = new PodControl(pool, {
      ...pool,
      pod: () => this.#view.pod(),
      diagnostics: this.#diagnostics,
      restarts: this.#restarts,
      eventBus: this.#eventBus,
      redis: this.#redis,
      leaders: this.#leaders,
      history: this.#history,
      recentErrors: this.#recentErrors,
    });

    const { dev } = settings.config;
    this.#dev = dev && this.#loadDevLoop(dev);
    events.listen(this.#totals.onEvent);
    events.listen(this.#recentErrors.onEvent);
    events.listen(this.#history.onEvent);
    events.listen(event => this.#onEvent(event));
    events.listen(event => void this.#dev?.then(loop => loop.onEvent(event)));
    events.forgetPast();
    supervisor.attach({
      onMessage: (handle, message) => this.#onMessage(handle, message),
      bound: error => this.#onBound(error),
      gaveUp: (reason, last) => this.#shutdown.giveUp(reason, last),
    });
  }

  execute(received: Command): void {
    const command = received === 'heap-snapshot' && this.#pool.settings.endsOnUsr2 ? 'quick-shutdown' : received;
    this.#pool.emit({ event: 'signal', command });
    execute(command, {
      ...this.#pool,
      restarts: this.#restarts,
      diagnostics: this.#diagnostics,
      shutdown: this.#shutdown,
    });
  }

  /** With BEFORE_START: the pool starts once that has ended. */
  async runBeforeStart(): Promise<void> {
    if (this.#pool.processBefore === undefined) return;
    this.#beforeStart = new (await import('./before-start.ts')).BeforeStart(this.#pool, this.#shutdown);
    await this.#beforeStart.run();
  }

  async openAdmin(): Promise<void> {
    const { settings, log } = this.#pool;
    const { adminHost: host, adminPort: port, production } = settings.config;
    if (port === 0) return this.#shutdown.runBy();
    const { openAdminPort } = await import('../admin/admin-port.ts');
    await openAdminPort({
      host,
      port,
      isDevelopment: !production,
      isOptional: !production && !isSet(settings.environment, 'adminPort'),
      token: () => settings.config.adminToken,
      allowedHosts: () => settings.config.adminAllowedHosts ?? [],
      log,
      history: this.#history,
      shutdown: this.#shutdown,
      pod: () => this.#view.pod(),
      readiness: () => this.#view.readiness(),
      whyNotStarted: () => this.#view.whyNotStarted(),
    });
  }

  async openControl(): Promise<void> {
    await this.#control.open();
  }

  /** Joins the other pods, if Redis is configured. */
  async openEventBus(): Promise<void> {
    this.#redis.start();
    const { settings, log } = this.#pool;
    new ServiceMonitor(settings.service, this.#eventBus, log).start();
    await this.#eventBus.open();
  }

  async #loadDevLoop(settings: DevSettings): Promise<DevLoop> {
    const { DevLoop } = await import('../dev/dev-loop.ts');
    const loop = new DevLoop({ ...this.#pool, settings, restarts: this.#restarts });
    this.#devStatus = () => loop.status;
    return loop;
  }

  #onEvent(event: LifecycleEvent): void {
    if (event.event === 'worker.exit') this.#onExit(event);
    this.#view.checkReady();
  }

  #onExit({ worker, drain, lost, missedDeadline }: WorkerExit): void {
    const { supervisor, balancing, log } = this.#pool;
    this.#redis.forget(worker);
    this.#leaders.onExit(worker);
    if (!supervisor.handles.some(({ id }) => id === worker)) balancing.clear(worker);
    // Its open requests are lost; their number is unknown, because a blocked event loop does not report.
    if (this.#shutdown.hasBegun && missedDeadline) this.#shutdown.markLost();
    for (const { bytesSent: _, ...request } of drain?.cut ?? lost?.oldest ?? [])
      log().warn({ event: 'request.cut', worker, ...request });
  }

  #onMessage(handle: WorkerProcess, message: ToPrimary): void {
    const { settings, emit } = this.#pool;
    const { id: worker } = handle;
    switch (message.type) {
      case 'ready':
        if (!this.#isListening) logListening(this.#pool, message);
        this.#isListening = true;
        this.#control.onServing(message.port);
        break;
      case 'failed':
        emit({ event: 'worker.failed', worker, stage: message.stage, error: message.message, stack: message.stack });
        break;
      case 'redis':
        this.#onRedisState(message.state, message.message, worker);
        break;
      case 'broadcast':
        this.#eventBus.broadcast({ event: message.event, json: message.json }, worker);
        break;
      case 'health':
        this.#health.receive(handle, message);
        break;
      case 'leader':
        this.#leaders.onReport(handle, message);
        break;
      case 'waiting':
        emit({ event: 'drain.waiting', worker, open: message.open, requests: message.oldest, tasks: message.tasks });
        break;
      case 'errors':
        this.#recentErrors.receive(worker, message.errors);
        break;
      case 'diagnosed':
        this.#diagnostics.onDiagnosed(message);
        break;
      case 'loaded':
        void this.#dev?.then(loop => loop.onLoaded(message.files));
        break;
      case 'snapshot-wanted':
        // nodemon signals the workers too.
        if (!settings.endsOnUsr2) void this.#diagnostics.snapshotAll([handle]);
        break;
      // The pool handles these.
      case 'load-again':
      case 'named-port':
      case 'crashing':
      case 'app-exit':
      case 'keys-read':
      case 'stats':
      case 'drained':
      case 'closed':
      case 'cordoned':
      case 'uncordoned':
      case 'took-all':
      case 'move':
      case 'taken':
      case 'exiting':
        break;
      default:
        message satisfies never;
    }
    this.#view.checkReady();
  }

  #onBound(error: Error | undefined): void {
    if (error !== undefined) this.#shutdown.abort(ExitCode.failed, error.message);
    else this.#control.onBound();
  }

  /** While the pod starts, a login that Redis refuses counts as bad configuration: waiting would not help. */
  #onRedisState(state: RedisState, message: string, owner: Owner): void {
    this.#redis.onState(state, message, owner);
    if (state === 'refused' && this.#view.state === 'starting') this.#shutdown.abort(ExitCode.badConfig, message);
  }
}
