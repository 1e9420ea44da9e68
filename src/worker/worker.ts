/**
 * One worker: loads the app, serves it, says ready, reports, drains. It decides nothing by itself: the primary tells it when to go,
 * and it goes at once when the primary is gone.
 */
import type { IncomingMessage, RequestListener } from 'node:http';
import { Board } from '../balancing/board.ts';
import { Gate } from '../balancing/gate.ts';
import { type Intake, IntakeFromPrimary, IntakeFromSockets } from '../balancing/intake.ts';
import { PortError } from '../balancing/sockets.ts';
import { type Config, type Inherited, usesRedis } from '../config.ts';
import { createLog, type LogSource } from '../log.ts';
import {
  type Broadcast,
  type Diagnosis,
  type DiagnosisTarget,
  ExitCode,
  KEYS_EVENT,
  type ToPrimary,
  type ToWorker,
} from '../messages.ts';
import { WorkerKit } from './kit.ts';
import { loadApp } from './load-app.ts';
import { letKernelPreferUs } from './oom-score.ts';
import { sayByeAndExit, tell } from './primary-line.ts';
import type { WorkerRedis } from './redis.ts';
import { AppServer } from './server.ts';
import { sheddingWhenLate } from './shedding.ts';
import { reportEveryMs, Stats } from './stats.ts';

const REBALANCE_EVERY_MS = 1000;
/** After an exception that nobody caught the process is in an unknown state: requests of others get this long to finish. */
const CRASH_DRAIN_MS = 5000;

/** Only the primary decides: a Ctrl-C or a hang-up reaches the whole process group, workers included. */
const LEFT_TO_THE_PRIMARY = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGTTIN', 'SIGTTOU'] as const;

/** Runs this process as worker `id` until the primary ends it. */
export function runWorker(config: Config, id: number, inherited: Inherited): void {
  letKernelPreferUs();
  for (const signal of LEFT_TO_THE_PRIMARY) process.on(signal, () => undefined);
  process.on('SIGUSR2', () => worker.wantSnapshot());
  process.once('disconnect', () => process.exit(ExitCode.failed));
  const worker = new Worker(config, id, inherited);
  process.on('message', (message: ToWorker) => worker.receive(message));
  process.on('uncaughtException', error => worker.crash(error));
}

class Worker {
  readonly #config: Config;
  readonly #id: number;
  readonly #log: LogSource;
  readonly #stats = new Stats();
  /** The last event of each retained name, as JSON. */
  readonly #retained = new Map<string, string>();
  #kit: WorkerKit | undefined;
  #server: AppServer | undefined;
  #intake: Intake | undefined;
  readonly #sockets: number[];
  /** Which of the sockets to serve. */
  #slots: number[] = [];
  #redis: WorkerRedis | undefined;
  /** Undefined with `rr`, where the primary hands connections out, and `reuseport`, where the kernel does. */
  readonly #gate: Gate | undefined;
  #accepted = 0;
  #leaving = false;

  constructor(config: Config, id: number, { board, sockets }: Inherited) {
    this.#config = config;
    this.#id = id;
    this.#gate = board === undefined ? undefined : new Gate(id, new Board(board));
    this.#sockets = sockets;
    this.#log = createLog(config.logLevel, { pid: process.pid, worker: id });
  }

  receive(message: ToWorker): void {
    switch (message.type) {
      case 'start':
        this.#slots = message.slots;
        void this.#start(message.sessionKeys, message.retained);
        break;
      case 'serve':
        this.#slots = message.slots;
        if (this.#intake instanceof IntakeFromSockets) this.#intake.serve(message.slots);
        break;
      case 'soft':
        this.#server?.endConnections();
        break;
      case 'drain':
        void this.#leave(message.timeoutMs, ExitCode.ok);
        break;
      case 'cordon':
        this.#gate?.retire();
        this.#intake?.pause();
        tell({ type: 'cordoned' });
        break;
      case 'uncordon':
        void this.#uncordon();
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
      this.#redis?.readKeysAgain();
      return;
    }
    // Also before the app is loaded: it may ask for it later.
    if (this.#config.broadcastRetained.includes(event)) this.#retained.set(event, json);
    this.#kit?.deliver(event, json);
  }

  wantSnapshot(): void {
    tell({ type: 'snapshot-wanted' });
  }

  /** An exception that nobody caught: this worker is replaced, and the requests of others that it still holds are finished. */
  crash(error: unknown): void {
    const message = describe(error);
    this.#log().fatal({ event: 'worker.uncaught-exception', err: error });
    tell({ type: 'crashing', message });
    void this.#leave(CRASH_DRAIN_MS, ExitCode.failed);
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
      this.#fail({ type: 'failed', stage: 'app', message: describe(error) });
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
    const { maxEventLoopDelayMs, logRequests } = this.#config;
    const guarded =
      maxEventLoopDelayMs > 0 ? sheddingWhenLate(listener, maxEventLoopDelayMs, () => this.#stats.shedOne()) : listener;
    const server = new AppServer(guarded, this.#config, (request, status, ms) => {
      this.#stats.answered(request.method ?? '', status, ms);
      if (logRequests > 0 && Math.random() < logRequests) this.#logRequest(request, status, ms);
      this.#gate?.answered(ms);
    });
    server.http.on('connection', socket => {
      this.#accepted++;
      this.#gate?.accepted(socket);
    });
    const { upgradeListener } = this.#kit ?? {};
    if (upgradeListener !== undefined) server.upgradeWith(upgradeListener);
    const port = await this.#open(server.http);
    if (port === undefined) return;
    this.#server = server;
    tell({ type: 'ready', port });
    void this.#report();
    setInterval(() => void this.#report(), reportEveryMs(this.#config)).unref();
    if (this.#config.rebalanceKeepalive && this.#gate !== undefined)
      setInterval(() => server.giveAway(this.#gate?.surplus ?? 0), REBALANCE_EVERY_MS).unref();
  }

  /** @returns the port; undefined where it can't be listened on */
  async #open(http: AppServer['http']): Promise<number | undefined> {
    const { host, port } = this.#config;
    try {
      if (this.#sockets.length === 0) {
        this.#intake = new IntakeFromPrimary(http, host, port);
        return await this.#intake.open();
      }
      const intake = new IntakeFromSockets(http, this.#sockets, this.#slots);
      this.#intake = intake;
      const real = await intake.open();
      if (!intake.canPause) this.#log().warn({ event: 'balancing.no-gate', node: process.version });
      this.#gate?.open(intake);
      return real;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      const { message } = new PortError(host, port, error);
      this.#fail({ type: 'failed', stage: 'listen', message, ...(code && { code }) });
      return undefined;
    }
  }

  async #uncordon(): Promise<void> {
    await this.#intake?.resume();
    if (this.#intake instanceof IntakeFromSockets) this.#gate?.open(this.#intake);
    tell({ type: 'uncordoned' });
  }

  #logRequest({ method, url = '' }: IncomingMessage, status: number, ms: number): void {
    const path = url.split('?', 1)[0]; // the query may hold secrets
    this.#log().info({ event: 'request', method, path, status, ms: Math.round(ms * 10) / 10 });
  }

  async #report(): Promise<void> {
    const { connections = 0, inFlight = 0 } = this.#server ?? {};
    const load = this.#gate?.load ?? connections;
    const appMetrics = (await this.#kit?.metricsJson()) ?? [];
    const snapshot = this.#stats.snapshot({ connections, accepted: this.#accepted, load, inFlight }, appMetrics);
    tell({ type: 'stats', snapshot: this.#redis === undefined ? snapshot : { ...snapshot, redis: this.#redis.counters } });
  }

  async #diagnose(id: number, diagnosis: Diagnosis, to: DiagnosisTarget): Promise<void> {
    try {
      const { diagnose } = await import('./diagnostics.ts');
      await diagnose(diagnosis, to);
      tell({ type: 'diagnosed', id });
    } catch (error) {
      tell({ type: 'diagnosed', id, error: describe(error) });
    }
  }

  /** Drains, then closes what the requests used, in the reverse order of opening, and exits. */
  async #leave(timeoutMs: number, code: ExitCode): Promise<void> {
    if (this.#leaving) return;
    this.#leaving = true;
    if (this.#server !== undefined) {
      // What waits in the kernel's queue is taken first: this message may have overtaken it while the loop was blocked.
      await new Promise(resolve => setImmediate(resolve));
      this.#gate?.retire();
      this.#intake?.close();
      this.#kit?.beginDrain();
      const drain = await this.#server.drain(timeoutMs, requests => tell({ type: 'waiting', requests }));
      await this.#report();
      tell({ type: 'drained', drain });
    }
    await this.#kit?.close();
    await this.#redis?.close();
    sayByeAndExit(code);
  }

  #fail(message: ToPrimary): void {
    tell(message);
    sayByeAndExit(ExitCode.failed);
  }
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
