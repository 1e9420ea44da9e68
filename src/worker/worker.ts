/**
 * One worker: loads the app, serves it, says ready, reports, drains. It decides nothing by itself: the primary tells it when to go,
 * and it goes at once when the primary is gone.
 */
import type { RequestListener } from 'node:http';
import { PortError } from '../balancing/sockets.ts';
import { type Config, type Inherited, usesRedis } from '../config.ts';
import { createLog, type LogSource } from '../log.ts';
import {
  type Broadcast,
  type Diagnosis,
  type DiagnosisTarget,
  type DrainTimes,
  ExitCode,
  KEYS_EVENT,
  type ToPrimary,
  type ToWorker,
} from '../messages.ts';
import { messageOf, reportOf } from './error-report.ts';
import { WorkerKit } from './kit.ts';
import { AppError, listensItself, loadApp } from './load-app.ts';
import { letKernelPreferUs } from './oom-score.ts';
import { OwnListening } from './own-listening.ts';
import { dropAppMessages, listenToPrimary, sayByeAndExit, tell } from './primary-line.ts';
import type { WorkerRedis } from './redis.ts';
import { Serving } from './serving.ts';
import { reportEveryMs, Stats } from './stats.ts';

/** After an exception that nobody caught the process is in an unknown state: requests of others get this long to finish. */
const CRASH_DRAIN: DrainTimes = { timeoutMs: 5000, quietMs: 300 };

/** Only the primary decides: a Ctrl-C or a hang-up reaches the whole process group, workers included. */
const LEFT_TO_THE_PRIMARY = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGTTIN', 'SIGTTOU'] as const;

/** Runs this process as worker `id` until the primary ends it. */
export function runWorker(config: Config, id: number, inherited: Inherited): void {
  letKernelPreferUs();
  for (const signal of LEFT_TO_THE_PRIMARY) process.on(signal, () => undefined);
  process.on('SIGUSR2', () => worker.wantSnapshot());
  process.once('disconnect', () => process.exit(ExitCode.failed));
  const worker = new Worker(config, id, inherited);
  listenToPrimary(
    message => worker.receive(message),
    error => worker.warnOfMalformed(error),
  );
  dropAppMessages(() => worker.warnOfMessages());
  process.on('uncaughtException', error => worker.crash(error));
}

class Worker {
  readonly #config: Config;
  readonly #id: number;
  readonly #log: LogSource;
  readonly #stats = new Stats();
  /** The last event of each retained name, as JSON. */
  readonly #retained = new Map<string, string>();
  readonly #serving: Serving;
  readonly #ownListening: OwnListening;
  #kit: WorkerKit | undefined;
  #redis: WorkerRedis | undefined;
  /** Set where the app listens on PORT: it must not, and this worker leaves. */
  #listensItself: AppError | undefined;
  #leaving = false;
  readonly #closeHeard = Promise.withResolvers<void>();

  constructor(config: Config, id: number, inherited: Inherited) {
    this.#config = config;
    this.#id = id;
    this.#log = createLog(config.logLevel, { pid: process.pid, worker: id });
    this.#serving = new Serving(config, id, inherited, this.#stats, this.#log);
    this.#ownListening = new OwnListening(port => this.#appListens(port));
  }

  receive(message: ToWorker): void {
    switch (message.type) {
      case 'start':
        this.#serving.serve(message.slots);
        void this.#start(message.sessionKeys, message.retained);
        break;
      case 'serve':
        this.#serving.serve(message.slots);
        break;
      case 'soft':
        this.#serving.endConnections();
        break;
      case 'closed-heard':
        this.#closeHeard.resolve();
        break;
      case 'drain':
        void this.#leave(message, ExitCode.ok);
        break;
      case 'cordon':
        if (this.#leaving) break;
        this.#serving.pause();
        tell({ type: 'cordoned' });
        break;
      case 'uncordon':
        if (this.#leaving) break; // what it was out of the rotation for may end after its drain has begun
        void this.#serving.resume().then(() => tell({ type: 'uncordoned' }));
        break;
      case 'diagnose':
        void this.#diagnose(message.id, message.diagnosis, message.to);
        break;
      case 'broadcast':
        this.#hear(message);
        break;
      default:
        message satisfies never;
    }
  }

  #hear({ event, json }: Broadcast): void {
    if (event === KEYS_EVENT) {
      void this.#readKeysAgain(json);
      return;
    }
    // Also before the app is loaded: it may ask for it later.
    if (this.#config.broadcastRetained.includes(event)) this.#retained.set(event, json);
    this.#kit?.deliver(event, json);
  }

  async #readKeysAgain(change: string): Promise<void> {
    await this.#redis?.readKeysAgain();
    tell({ type: 'keys-read', change });
  }

  /** The app sends messages to its parent. */
  warnOfMessages(): void {
    const note = 'process.send reaches nobody here: kit.broadcast sends to all workers';
    this.#log().info({ event: 'app.sends-message', note });
  }

  warnOfMalformed({ message }: Error): void {
    this.#log().warn({ event: 'primary.malformed-message', error: message });
  }

  wantSnapshot(): void {
    tell({ type: 'snapshot-wanted' });
  }

  /** An exception that nobody caught: this worker is replaced, and the requests of others that it still holds are finished. */
  crash(error: unknown): void {
    // The app's `listen` fails, as it must: what is wrong has been told.
    if (this.#listensItself !== undefined && error !== this.#listensItself) return;
    this.#log().fatal({ event: 'worker.uncaught-exception', err: error });
    tell({ type: 'crashing', ...reportOf(error, error === this.#listensItself) });
    void this.#leave(CRASH_DRAIN, ExitCode.failed);
  }

  async #start(sessionKeys: string[], retained: Broadcast[]): Promise<void> {
    for (const { event, json } of retained) this.#retained.set(event, json);
    try {
      const kit = await this.#createKit(sessionKeys);
      const listener = await loadApp(this.#config.appModule, kit, app => {
        if (this.#config.trustProxy) app.proxy = true;
      });
      await kit.loaded();
      await this.#serve(listener);
    } catch (error) {
      this.#fail({ type: 'failed', stage: 'app', ...reportOf(error, error instanceof AppError && error.cause === undefined) });
    }
  }

  async #createKit(sessionKeys: string[]): Promise<WorkerKit> {
    const keys = { current: sessionKeys };
    if (usesRedis(this.#config)) {
      const { WorkerRedis } = await import('./redis.ts');
      this.#redis = new WorkerRedis(this.#config, this.#id, keys);
    }
    this.#kit = new WorkerKit({
      config: this.#config,
      log: this.#log,
      workerId: this.#id,
      redis: this.#redis?.client,
      sessionKeys: keys,
      retained: this.#retained,
      send: broadcast => tell({ type: 'broadcast', ...broadcast }),
      onStoreError: error => {
        this.#stats.sessionStoreFailed();
        this.#log().debug({ event: 'session.store-failed', err: error });
      },
    });
    return this.#kit;
  }

  async #serve(listener: RequestListener): Promise<void> {
    if (this.#leaving) return; // told to go while the app was loaded
    try {
      const port = await this.#serving.open(listener, this.#kit?.upgradeListener, http => this.#ownListening.ignore(http));
      tell({ type: 'ready', port });
    } catch (error) {
      if (!(error instanceof PortError)) throw error;
      return this.#fail({ type: 'failed', stage: 'listen', ...reportOf(error) });
    }
    void this.#report();
    setInterval(() => void this.#report(), reportEveryMs(this.#config)).unref();
  }

  #appListens(port: number): void {
    if (port !== this.#config.port || port === 0) {
      const warning = 'the app listens by itself: connections on this port are neither counted nor drained';
      this.#log().warn({ event: 'app.listens', port, warning });
      return;
    }
    const error = listensItself(this.#config.appModule, port);
    this.#listensItself = error;
    if (this.#serving.isOpen) this.crash(error);
    else this.#fail({ type: 'failed', stage: 'app', ...reportOf(error, true) });
  }

  async #report(): Promise<void> {
    const appMetrics = (await this.#kit?.metricsJson()) ?? [];
    const snapshot = this.#stats.snapshot(this.#serving.load, appMetrics);
    tell({
      type: 'stats',
      snapshot:
        this.#redis === undefined ? snapshot : { ...snapshot, redis: this.#redis.counters, redisRefusals: this.#redis.refusals },
    });
  }

  async #diagnose(id: number, diagnosis: Diagnosis, to: DiagnosisTarget): Promise<void> {
    try {
      const { diagnose } = await import('./diagnostics.ts');
      await diagnose(diagnosis, to);
      tell({ type: 'diagnosed', id });
    } catch (error) {
      tell({ type: 'diagnosed', id, error: messageOf(error) });
    }
  }

  /** Drains, then closes what the requests used, in the reverse order of opening, and exits. */
  async #leave(times: DrainTimes, code: ExitCode): Promise<void> {
    if (this.#leaving) return;
    this.#leaving = true;
    await this.#serving.close();
    this.#kit?.beginDrain();
    if (this.#serving.isHandedOver) {
      // What is handed over to a worker that is gone hangs for ever; what it refuses goes to another one.
      tell({ type: 'closed' });
      await this.#closeHeard.promise;
    }
    const drain = await this.#serving.drain(times, (open, oldest) => tell({ type: 'waiting', open, oldest }));
    if (drain !== undefined) {
      await this.#report();
      tell({ type: 'drained', drain });
    }
    await this.#kit?.close();
    await this.#redis?.close();
    sayByeAndExit(code);
  }

  #fail(message: ToPrimary): void {
    if (this.#leaving) return;
    this.#leaving = true;
    tell(message);
    sayByeAndExit(ExitCode.failed);
  }
}
