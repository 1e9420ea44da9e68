/**
 * One worker: loads the app, serves it, says ready, reports, drains. It decides nothing by itself: the primary tells it when to go,
 * and it goes at once when the primary is gone.
 */
import type { RequestListener } from 'node:http';
import { PortError } from '../balancing/listener.ts';
import { type Config, type Inherited, usesRedis } from '../config/config.ts';
import { createWorkerLog, type LogSource } from '../log/log.ts';
import { type Broadcast, type Diagnosis, type DiagnosisTarget, KEYS_EVENT, type ToWorker } from '../protocol/messages.ts';
import { monotonicMs } from '../protocol/monotonic.ts';
import { MalformedError } from '../protocol/shapes.ts';
import { Ending } from './ending.ts';
import { messageOf, reportOf } from './error-report.ts';
import { WorkerKit } from './kit.ts';
import { AppError, listensItself, loadApp } from './load-app.ts';
import { letKernelPreferUs } from './oom-score.ts';

import { OwnListening } from './own-listening.ts';
import { dropAppMessages, messageIn, tell } from './primary-line.ts';
import { interceptProcess } from './process-events.ts';
import type { WorkerRedis } from './redis.ts';
import { Serving } from './serving.ts';
import { reportEveryMs, Stats } from './stats.ts';

/** Runs this process as worker `id` until the primary ends it. */
export function runWorker(config: Config, id: number, inherited: Inherited): void {
  letKernelPreferUs();
  const worker = new Worker(config, id, inherited);
  interceptProcess(worker.ending, raw => worker.open(raw));
  dropAppMessages(() => worker.warnOfMessages());
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
  readonly ending: Ending;

  constructor(config: Config, id: number, inherited: Inherited) {
    this.#config = config;
    this.#id = id;
    this.#log = createWorkerLog(config.logLevel, id);
    this.#serving = new Serving(config, id, inherited, this.#stats, this.#log);
    this.#ownListening = new OwnListening(port => this.#appListens(port));
    this.ending = new Ending({
      log: this.#log,
      serving: this.#serving,
      kit: () => this.#kit,
      redis: () => this.#redis,
      report: () => this.#report(),
    });
  }

  /** What comes over the channel to the primary. */
  open(raw: unknown): void {
    try {
      const message = messageIn(raw);
      if (message !== undefined) this.#receive(message);
    } catch (error) {
      if (!(error instanceof MalformedError)) throw error;
      this.#log().warn({ event: 'primary.malformed-message', error: error.message });
    }
  }

  #receive(message: ToWorker): void {
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
        if (this.#serving.isOpen) void this.#report(); // what is open now, in case the shutdown ends at once
        break;
      case 'take-all':
        if (this.ending.hasBegun) break;
        void this.#serving.takeAll(message.slots).then(() => tell({ type: 'took-all' }));
        break;
      case 'drain':
        this.ending.drain({ ...message, timeoutMs: Math.max(0, message.timeoutMs - (monotonicMs() - message.sentAt)) });
        break;
      case 'cordon':
        if (this.ending.hasBegun) break;
        this.#serving.pause();
        tell({ type: 'cordoned' });
        break;
      case 'uncordon':
        if (this.ending.hasBegun) break; // the reason to leave the rotation may end after its drain has begun
        this.#serving.resume();
        tell({ type: 'uncordoned' });
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
    const note = 'process.send has no effect here; kit.broadcast sends to all workers';
    this.#log().info({ event: 'app.sends-message', note });
  }

  async #start(sessionKeys: string[], retained: Broadcast[]): Promise<void> {
    for (const { event, json } of retained) this.#retained.set(event, json);
    try {
      const kit = await this.#createKit(sessionKeys);
      const listener = await loadApp(this.#config.appModule, {
        kit,
        kitSettled: async () => this.#redis?.settled(),
        kitTrouble: () => this.#redis?.trouble,
        onKoa: app => {
          if (this.#config.trustProxy) app.proxy = true;
        },
      });
      await kit.loaded();
      await this.#serve(listener);
    } catch (error) {
      this.ending.fail({
        type: 'failed',
        stage: 'app',
        ...reportOf(error, error instanceof AppError && error.cause === undefined),
      });
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
    if (this.ending.hasBegun) return; // a drain was requested while the app was loaded
    try {
      const port = await this.#serving.open(listener, this.#kit?.upgradeListener, http => this.#ownListening.ignore(http));
      tell({ type: 'ready', port });
    } catch (error) {
      if (!(error instanceof PortError)) throw error;
      return this.ending.fail({ type: 'failed', stage: 'listen', ...reportOf(error) });
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
    this.ending.cause = error;
    if (this.#serving.isOpen) this.ending.onThrown(error);
    else this.ending.fail({ type: 'failed', stage: 'app', ...reportOf(error, true) });
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
}
