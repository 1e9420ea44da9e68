/**
 * One worker, from start to exit: it loads the app, serves it, reports to the primary every second, and drains when the primary or the app
 * ends it (shutdown.ts).
 */
import { PortError } from '../balancing/listener.ts';
import { type Config, isSet, readWorkerConfig } from '../config/config.ts';
import { type Inherited, type InspectorAddress, inheritedOf, workerIdOf } from '../config/inherited.ts';
import { socketPathOf } from '../config/parse.ts';
import { nameProcess } from '../config/process-name.ts';
import { createWorkerLog, type Log } from '../log/log.ts';
import { closeHandle, isConnection, messageWithoutHandle } from '../protocol/handles.ts';
import { parseToWorker } from '../protocol/message-shapes.ts';
import { type Diagnosis, type DiagnosisTarget, isEnvelope, monotonicMs, type ToWorker } from '../protocol/messages.ts';
import { MalformedError } from '../protocol/shapes.ts';
import { Adoption } from './adopt.ts';
import type { App } from './app.ts';
import { adoptedOf, onAppListens } from './app-listens.ts';
import { takeErrors } from './error-list.ts';
import { AppError, messageOf, reportOf } from './error-report.ts';
import { KitHost } from './kit/host.ts';
import { LoadAgain, loadApp } from './load-app.ts';
import { Moves } from './moves.ts';
import {
  type ChannelHandler,
  disableClusterCalls,
  exitWithoutPrimary,
  interceptProcess,
  raiseOomScore,
  sendMove,
  sendToPrimary,
} from './process.ts';
import { noteFastifyErrors } from './request-errors.ts';
import { Serving } from './serving.ts';
import { Shutdown } from './shutdown.ts';
import { reportEveryMs, Stats } from './stats.ts';

/** Runs this process as the worker that its environment describes, until the primary ends it. @throws ConfigError */
export function runWorker(environment: NodeJS.ProcessEnv): void {
  const config = readWorkerConfig(environment);
  const [id, inherited] = [workerIdOf(environment), inheritedOf(environment)];
  exitWithoutPrimary(environment);
  raiseOomScore();
  nameProcess(id);
  const worker = new Worker(config, id, inherited);
  interceptProcess(worker.shutdown, worker);
  disableClusterCalls(call => worker.onClusterCall(call));
}

class Worker implements ChannelHandler {
  readonly #config: Config;
  readonly #inherited: Inherited;
  readonly #log: () => Log;
  readonly #stats: Stats;
  /** Undefined where connections do not move (MOVE_CONNECTIONS). */
  readonly #moves: Moves | undefined;
  readonly #serving: Serving;
  readonly #adoption: Adoption;
  readonly #host: KitHost;
  #app: App | undefined;
  readonly shutdown: Shutdown;

  constructor(config: Config, id: number, inherited: Inherited) {
    this.#config = config;
    this.#stats = new Stats(config.metricsBuckets);
    this.#inherited = inherited;
    this.#log = createWorkerLog(config.logLevel, id);
    if (config.moveConnections) this.#moves = new Moves(sendMove, this.#log);
    this.#serving = new Serving(config, id, inherited, this.#stats, this.#log, this.#moves);
    this.#adoption = new Adoption({
      port: inherited.namedPort ?? config.port,
      isPortKnown: inherited.namedPort !== undefined || isSet(process.env, 'port') || socketPathOf(config.host) !== undefined,
      isPortHeld: inherited.sockets.length > 0,
      adminPort: config.adminPort,
      passTo: handle => this.#serving.passTo(handle),
      onEvent: (event, listening) =>
        onAppListens(event, listening, {
          config,
          module: inherited.loading.module,
          log: this.#log,
          serving: this.#serving,
          shutdown: this.shutdown,
        }),
    });
    this.#host = new KitHost(config, id, inherited, this.#stats, this.#log);
    this.shutdown = new Shutdown({
      log: this.#log,
      serving: this.#serving,
      kit: () => this.#host.kit,
      app: () => this.#app,
      isMain: inherited.loading.asMain,
      redis: () => this.#host.redis,
      report: () => this.#report(),
    });
  }

  onInternalMessage(message: unknown, handle: unknown): void {
    const raw = messageWithoutHandle(message, handle) ?? message;
    if (!isEnvelope(raw)) return;
    try {
      this.#receive(parseToWorker(raw.message), handle);
    } catch (error) {
      if (!(error instanceof MalformedError)) throw error;
      this.#log().warn({ event: 'primary.malformed-message', error: error.message });
    }
  }

  #receive(message: ToWorker, handle: unknown): void {
    switch (message.type) {
      case 'start':
        this.#serving.serve(message.listeners);
        void this.#start(message);
        break;
      case 'inspector':
        void import('./inspector.ts').then(({ setInspector }) => setInspector(message.at, this.#log));
        break;
      case 'serve':
        this.#serving.serve(message.listeners);
        break;
      case 'disable-keepalive':
        this.#serving.disableKeepAlive();
        if (this.#serving.isOpen) void this.#report(); // the requests open now, in case the shutdown ends at once
        break;
      case 'take-all':
        if (this.shutdown.hasBegun) break;
        void this.#serving.takeAll(message.listeners).then(() => sendToPrimary({ type: 'took-all' }));
        break;
      case 'drain':
        // Under `bosun dev` nothing waits for an idle connection or a stream: its client may get the old code on it.
        if (this.#config.dev !== undefined) Object.assign(message, { quietMs: 0, appMs: 0 });
        this.shutdown.drain({ ...message, timeoutMs: Math.max(0, message.timeoutMs - (monotonicMs() - message.sentAt)) });
        break;
      case 'cordon':
        if (this.shutdown.hasBegun) break;
        this.#serving.pause();
        sendToPrimary({ type: 'cordoned' });
        break;
      case 'uncordon':
        if (this.shutdown.hasBegun) break; // the reason to leave the rotation may end after its drain has begun
        this.#serving.resume();
        sendToPrimary({ type: 'uncordoned' });
        break;
      case 'take':
        this.#take(message.id, handle);
        break;
      case 'moved':
        this.#moves?.onMoved(message.id, message.isTaken);
        break;
      case 'rebalance':
        if (!this.shutdown.hasBegun) void this.#serving.rebalance(message.count);
        break;
      case 'diagnose':
        void this.#diagnose(message.id, message.diagnosis, message.to);
        break;
      case 'leader':
        this.#host.kit?.leaders.onMessage(message.name, message.token);
        break;
      case 'broadcast':
        this.#host.onBroadcast(message);
        break;
      default:
        message satisfies never;
    }
  }

  /** A connection of another worker. If this worker dies before it has answered, the primary passes it on to the next one. */
  #take(id: number, handle: unknown): void {
    if (!isConnection(handle) || !this.#serving.canTake || this.shutdown.hasBegun) {
      closeHandle(handle);
      sendToPrimary({ type: 'taken', id, isTaken: false });
      return;
    }
    // Not before the answer is in the pipe: once something was read from it, no other worker could serve it.
    sendToPrimary({ type: 'taken', id, isTaken: true }, () => this.#serving.take(handle));
  }

  async #start({ sessionKeys, retained, inspector }: Extract<ToWorker, { type: 'start' }>): Promise<void> {
    if (this.#config.dev !== undefined) await this.#prepareForDevelopment(inspector);
    try {
      const kit = await this.#host.open(sessionKeys, retained);
      const { logRequests, metricsRoutes } = this.#config;
      const routes = logRequests > 0 || metricsRoutes ? await import('./follow-routes.ts') : undefined;
      noteFastifyErrors();
      routes?.followFastify();
      const app = await loadApp(this.#inherited.loading, {
        kit,
        redisSettled: async () => this.#host.redis?.settled(),
        redisError: () => this.#host.redis?.error,
        adoption: this.#adoption,
        onFailed: cause => this.shutdown.loadingFailed(cause),
        onKoa: app => {
          if (this.#config.trustProxy) app.proxy = true;
        },
      });
      routes?.followKoa();
      await kit.loaded();
      await this.#serve(app);
    } catch (error) {
      if (error instanceof LoadAgain)
        return this.shutdown.loadAgain({ type: 'load-again', ...this.#inherited.loading, ...error.change, why: error.message });
      const isPermanent = error instanceof AppError && error.isPermanent;
      this.shutdown.fail({ type: 'failed', stage: 'app', ...reportOf(error, isPermanent) });
    }
  }

  /** Nothing of the app is loaded before. */
  async #prepareForDevelopment(inspector: InspectorAddress | undefined): Promise<void> {
    const { reportLoadedFiles } = await import('./loaded-files.ts');
    reportLoadedFiles(files => sendToPrimary({ type: 'loaded', files }));
    if (inspector === undefined) return;
    const { openBeforeLoading } = await import('./inspector.ts');
    await openBeforeLoading(inspector, this.#log);
  }

  async #serve(app: App): Promise<void> {
    if (this.shutdown.hasBegun) return; // a drain was requested while the app was loaded
    this.#app = app;
    try {
      const address = await this.#serving.open(app, this.#host.kit?.upgradeListener, http => this.#adoption.serve(http));
      const { served } = this.#adoption;
      sendToPrimary({ type: 'ready', port: address.port, ...(served && { adopted: adoptedOf(served) }) });
      this.#host.kit?.beginServing();
      void app.onListening?.(address);
    } catch (error) {
      if (!(error instanceof PortError)) throw error;
      return this.shutdown.fail({ type: 'failed', stage: 'listen', ...reportOf(error) });
    }
    void this.#report();
    setInterval(() => void this.#report(), reportEveryMs(this.#config)).unref();
  }

  /** Sends a snapshot to the primary, which considers a silent worker hung. */
  async #report(): Promise<void> {
    const errors = await takeErrors();
    if (errors.length > 0) sendToPrimary({ type: 'errors', errors });
    const { appMetrics, ...redis } = await this.#host.snapshot();
    const snapshot = this.#stats.snapshot(this.#serving.load, appMetrics);
    sendToPrimary({ type: 'stats', snapshot: { ...snapshot, ...redis } });
  }

  onClusterCall(call: string): void {
    const warning =
      'the kit forks the workers, and this is one of them: the call does nothing. Fork only where cluster.isPrimary is true, and listen otherwise';
    this.#log().warn({ event: 'app.forks', call, warning });
  }

  onAppMessage(): void {
    const note = 'process.send has no effect here; kit.broadcast sends to all workers';
    this.#log().info({ event: 'app.sends-message', note });
  }

  async #diagnose(id: number, diagnosis: Diagnosis, to: DiagnosisTarget): Promise<void> {
    try {
      const { diagnose } = await import('./diagnostics.ts');
      await diagnose(diagnosis, to);
      sendToPrimary({ type: 'diagnosed', id });
    } catch (error) {
      sendToPrimary({ type: 'diagnosed', id, error: messageOf(error) });
    }
  }
}
