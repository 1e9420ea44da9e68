/**
 * The process of a worker as the primary sees it: its channel, its output, its inspector and its end, and what is known of it. It decides
 * nothing: it reports events to the pool, which writes the record that is read here.
 */
import type { Worker } from 'node:cluster';
import { connectionsHeldBy } from '../balancing/tcp-table.ts';
import type { InspectorAddress } from '../config/inherited.ts';
import type { Sinks } from '../log/output.ts';
import type { EventOf } from '../protocol/events.ts';
import type { ExitReason } from '../protocol/exit.ts';
import type { ConnectionHandle } from '../protocol/handles.ts';
import type { Broadcast, Drain, ErrorReport, ToWorker } from '../protocol/messages.ts';
import { monotonicMs } from '../protocol/messages.ts';
import type { Snapshot } from '../protocol/snapshot.ts';
import type { WorkerEvent } from './effects.ts';
import type { Moves } from './moves.ts';
import { Acknowledgements } from './pending.ts';
import { InspectorLines, WorkerChannel, WorkerOutput } from './worker-io.ts';
import { isActive, isServing, type OpenRequests, openFailureOf, type WorkerRecord, type WorkerState } from './worker-state.ts';
import { drainTimesFor } from './workers.ts';

/** Limit of events that wait for a worker to read them, about 10,000 of 1 KB. Later ones are dropped: a stalled worker must not use up the memory. */
const MAX_UNREAD_BYTES = 16 << 20;

export interface WorkerListener {
  onEvent(event: WorkerEvent): void;
  /** Called for every malformed message, which is dropped. */
  onMalformed(event: EventOf<'worker.malformed-message'>): void;
  /** Who has sent the SIGKILL that was not ours. */
  whoKilled(): 'oom' | 'killed';
}

export interface WorkerOptions {
  /** @throws the system's error, for some errors; others are emitted by the worker */
  fork: () => Worker;
  /** Called after the fork: making keys takes as long as the fork itself. */
  sessionKeys: () => string[];
  /** Likewise: the last event of each retained name. */
  retained: () => Broadcast[];
  /** The listening sockets that it serves at first. */
  listeners: number[];
  /** Where its lines go. */
  outputs: Sinks;
  moves: Pick<Moves, 'request' | 'answered' | 'left' | 'reported'>;
  /** The user has opened its inspector. */
  isInspected: boolean;
  /** Where it opens its inspector before it loads the app. */
  inspector?: InspectorAddress | undefined;
}

export class WorkerProcess {
  readonly #record: Readonly<WorkerRecord>;
  readonly #listener: WorkerListener;
  /** Both undefined where the system refused the fork at once. */
  readonly #worker: Worker | undefined;
  readonly #channel: WorkerChannel | undefined;
  readonly isInspectedAtStart: boolean;
  /** Requests that it has not acknowledged yet, in order. */
  readonly #unacknowledged = new Acknowledgements();
  readonly #exitListeners = new Set<() => void>();
  #unreadBytes = 0;
  readonly #inspector = Promise.withResolvers<string | undefined>();
  #lost: OpenRequests | undefined;
  #hasSentMalformed = false;

  constructor(record: WorkerRecord, options: WorkerOptions, listener: WorkerListener) {
    const { fork, sessionKeys, retained, listeners, outputs, isInspected, inspector, moves } = options;
    this.#record = record;
    this.#listener = listener;
    this.isInspectedAtStart = isInspected;
    let worker: Worker;
    try {
      worker = fork();
    } catch (error) {
      setImmediate(() => this.#notStarted(error)); // after the caller has noted this worker
      return;
    }
    this.#worker = worker;
    this.#channel = new WorkerChannel(worker, {
      onMessage: (message, handle) => {
        if (message.type === 'move') return moves.request(this, message.id, handle);
        if (message.type === 'taken') return moves.answered(this, message.id, message.isTaken);
        if (message.type === 'cordoned' || message.type === 'uncordoned' || message.type === 'took-all')
          this.#unacknowledged.acknowledge();
        listener.onEvent({ type: 'message', worker: record, message });
        if (message.type === 'stats') moves.reported();
        if (!this.isActive) this.#unacknowledged.giveUp();
      },
      onMalformed: error => this.#malformed(error),
    });
    const { stdout, stderr } = worker.process;
    const errors = isInspected ? outputs.stderr : new InspectorLines(outputs.stderr, address => this.#inspectorOpened(address));
    const written = [
      ...(stdout ? [new WorkerOutput(stdout, outputs.stdout)] : []),
      ...(stderr ? [new WorkerOutput(stderr, errors)] : []),
    ];
    const onExit = async (code: number | null, signal: string | null) => {
      const isForeign = signal === 'SIGKILL' && !record.isKilled;
      await Promise.all(written.map(output => output.settle())); // its output is passed on before its exit is reported
      moves.left(this); // not at 'disconnect', which Node.js does not emit while a connection is under way
      const killer = isForeign ? listener.whoKilled() : undefined;
      this.#exited({ type: 'exited', worker: record, how: { code, signal, killer, lost: this.#lost } });
    };
    const { exitCode, signalCode } = worker.process;
    if (exitCode === null && signalCode === null) worker.process.once('exit', onExit);
    else setImmediate(onExit, exitCode, signalCode); // forked ahead (spawn.ts), and has ended already
    worker.on('error', error => {
      // A worker that exits during a write is handled at its exit. One that the system did not start has no exit, and no process id.
      if (this.pid === 0) this.#notStarted(error);
    });
    this.send({ type: 'start', sessionKeys: sessionKeys(), retained: retained(), listeners, ...(inspector && { inspector }) });
  }

  get record(): Readonly<WorkerRecord> {
    return this.#record;
  }

  get id(): number {
    return this.#record.id;
  }

  get pid(): number {
    return this.#worker?.process.pid ?? 0;
  }

  get generation(): number {
    return this.#record.generation;
  }

  get state(): WorkerState {
    return this.#record.state;
  }

  get isServing(): boolean {
    return isServing(this.#record);
  }

  /** Neither ending nor exited. */
  get isActive(): boolean {
    return isActive(this.#record);
  }

  get startedAt(): number {
    return this.#record.startedAt;
  }

  get uptimeSeconds(): number {
    return Math.round(performance.now() - this.#record.startedAt) / 1000;
  }

  get reason(): ExitReason | undefined {
    return this.#record.reason;
  }

  /** Why it failed; may contain text of the app. */
  get failure(): string | undefined {
    return this.#record.failure;
  }

  /** `failure` for those who may not see the text of the app. */
  get openFailure(): string | undefined {
    return openFailureOf(this.#record);
  }

  get error(): ErrorReport | undefined {
    return this.#record.error;
  }

  get snapshot(): Snapshot | undefined {
    return this.#record.snapshot;
  }

  /** When the snapshot arrived, by the monotonic clock; the start of the worker before. */
  get reportedAt(): number {
    return this.#record.reportedAt;
  }

  get redis(): WorkerRecord['redis'] {
    return this.#record.redis;
  }

  /** The last change of the session keys that it has read. */
  get keysRead(): string | undefined {
    return this.#record.keysRead;
  }

  get drain(): Drain | undefined {
    return this.#record.drain;
  }

  /** What its drain waits for, by its last report. */
  get waitingFor(): OpenRequests {
    return this.#record.waitingFor;
  }

  /** An estimate for a worker that does not answer: its last report, or the one request that blocks it, and the requests it has not read. */
  get openRequests(): number {
    const { snapshot, waitingFor, port } = this.#record;
    const { connections, unread } = connectionsHeldBy(this.pid, port);
    const reported = Math.max(snapshot?.inFlight ?? 0, waitingFor.open);
    return unread + Math.max(reported, Math.min(1, Math.max(0, connections - unread)));
  }

  /** Sends a message, and with it a connection, of which this process keeps its own copy. */
  send(message: ToWorker, connection?: ConnectionHandle): void {
    this.#channel?.send(message, undefined, connection);
  }

  /** Passes an event on; false where it is dropped, because too much waits for this worker to read. */
  deliver(broadcast: Broadcast): boolean {
    const bytes = broadcast.event.length + broadcast.json.length;
    if (!this.#channel?.isOpen) return true; // it has ended, so nothing of it waits
    if (this.#unreadBytes + bytes > MAX_UNREAD_BYTES) return false;
    this.#unreadBytes += bytes;
    this.#channel.send({ type: 'broadcast', ...broadcast }, () => {
      this.#unreadBytes -= bytes;
    });
    return true;
  }

  /** Takes the worker out of rotation, or back in; resolves when done, or when the worker is ending. */
  async setCordoned(wantsCordon: boolean): Promise<void> {
    if (!this.isActive) return;
    this.#listener.onEvent({ type: 'cordon', worker: this.record, wantsCordon });
    await this.#unacknowledged.next();
  }

  /** Makes it accept what is queued at these listeners, or at its own; resolves when the queues are empty, or when it is ending. */
  async takeAll(listeners: number[] | undefined): Promise<void> {
    if (!this.isActive) return;
    this.send({ type: 'take-all', ...(listeners && { listeners }) });
    await this.#unacknowledged.next();
  }

  /** While it is diagnosed, its silence is no sign of a hang. */
  setDiagnosed(isRunning: boolean): void {
    this.#listener.onEvent({ type: 'diagnosis', worker: this.record, isRunning });
  }

  /** Calls back when the worker has exited and the reason is known. The returned function unsubscribes. */
  onExit(callback: () => void): () => void {
    this.#exitListeners.add(callback);
    return () => this.#exitListeners.delete(callback);
  }

  /** Lets it finish its open requests within `timeoutMs`, then exit. */
  beginDrain(reason: ExitReason, timeoutMs: number): void {
    this.#unacknowledged.giveUp();
    this.send({ type: 'drain', sentAt: monotonicMs(), ...drainTimesFor(reason, timeoutMs) });
  }

  kill(): void {
    const { drain, waitingFor } = this.#record;
    if (drain === undefined) this.#lost ??= { open: this.openRequests, oldest: waitingFor.oldest };
    this.#worker?.process.kill('SIGKILL');
  }

  /**
   * Opens its inspector, whose address only this process learns, and reads where its event loop is blocked. From then on the worker can
   * only end. Each of the two steps may take `timeoutMs`.
   * @returns undefined if it does not open, or does not answer
   */
  async readStack(timeoutMs: number): Promise<string[] | undefined> {
    this.#unacknowledged.giveUp();
    this.#worker?.process.kill('SIGUSR1');
    const timer = setTimeout(this.#inspector.resolve, timeoutMs, undefined);
    const address = await this.#inspector.promise.finally(() => clearTimeout(timer));
    // Needs no file to load, so it works while the kit is being reinstalled.
    const loaded = await import('./hung-stack.ts').catch(() => undefined);
    return address === undefined ? undefined : loaded?.stackAt(address, this.pid, timeoutMs);
  }

  #inspectorOpened(address: string): void {
    this.#listener.onEvent({ type: 'inspector-opened', worker: this.record });
    this.#inspector.resolve(address);
  }

  #malformed({ message: error }: Error): void {
    const isFirst = !this.#hasSentMalformed;
    this.#hasSentMalformed = true;
    this.#listener.onMalformed({ event: 'worker.malformed-message', worker: this.id, workerPid: this.pid, error, isFirst });
  }

  /** Node.js emits some errors of a fork (EAGAIN, EMFILE, ENOENT) and throws others (ENOMEM, EPERM): both are a worker that has failed to start. */
  #notStarted(error: unknown): void {
    this.#exited({ type: 'exited', worker: this.record, how: { error: (error as Error).message } });
  }

  #exited(event: WorkerEvent): void {
    if (this.state === 'exited') return;
    this.#unacknowledged.giveUp();
    this.#listener.onEvent(event);
    for (const onExit of this.#exitListeners) onExit();
  }
}
