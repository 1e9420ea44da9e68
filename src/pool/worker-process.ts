/**
 * A worker as the primary sees it: starting → ready → draining → exited. It passes on what the worker says, enforces the deadline
 * of its drain with SIGKILL, and knows at the end why it ended.
 */
import type { Worker } from 'node:cluster';
import { connectionsHeldBy } from '../balancing/tcp-table.ts';
import type { LogOutputs } from '../log/output.ts';
import { describeOpenly } from '../protocol/audience.ts';
import type { Emit } from '../protocol/events.ts';
import type { ExitReason } from '../protocol/exit.ts';
import {
  type Broadcast,
  type Drain,
  type ErrorReport,
  EXIT_SLACK_MS,
  type OpenRequest,
  type RedisState,
  type Snapshot,
  type ToPrimary,
  type ToWorker,
} from '../protocol/messages.ts';
import { monotonicMs } from '../protocol/monotonic.ts';
import { InspectorLines } from './inspector-lines.ts';
import { forkWorker } from './spawn.ts';
import { WorkerChannel } from './worker-channel.ts';
import { WorkerOutput } from './worker-output.ts';

export type WorkerState = 'starting' | 'ready' | 'cordoned' | 'draining' | 'exited';

/**
 * A kept connection without a request goes when it was quiet for this long. Its client may send the next one at that very moment, and loses
 * it: the longer the wait, the fewer connections end that are still in use (300 clients with a request a second each: 1.5 requests a roll lost
 * after 0.3 s, 0.8 after 1 s, none of 22,771 after 3 s).
 */
const QUIET_MS = 3000;
/** After the delay of a shutdown the load balancer has gone elsewhere: what is still on its way has come by then. */
const QUIET_AT_SHUTDOWN_MS = 300;

/** Events that wait for a worker to read them: 10,000 of 1 KB and some. What is more is dropped, so that one that stands still takes no memory from the others. */
const MOST_UNREAD_BYTES = 16 << 20;

/** The exit codes of Node.js if it rejects an option or a debugger port before it runs any code. */
const REJECTED_BY_NODE: ReadonlySet<number | null> = new Set([9, 12]);

const NOTHING = { open: 0, oldest: [] };

/** Told to the supervisor, once for each message and once at the end. */
export interface WorkerListener {
  said(handle: WorkerProcess, message: ToPrimary): void;
  /** Called for every malformed message, which is dropped. */
  malformed(handle: WorkerProcess, error: Error): void;
  /** Who has sent the SIGKILL that was not ours. */
  whoKilled(): 'oom' | 'killed';
  exited(handle: WorkerProcess): void;
  /** Its changes of state, but for `ready` and `exited`. */
  emit: Emit;
}

export interface WorkerStart {
  id: number;
  generation: number;
  heapMb: number | null;
  /** Added to the primary's environment. */
  environment: NodeJS.ProcessEnv;
  /** Asked for after the fork: making keys takes as long as the fork itself. */
  sessionKeys: () => string[];
  /** Likewise: the last event of each retained name. */
  retained: () => Broadcast[];
  /** The listening sockets that it serves at first. */
  listeners: number[];
  /** Where its lines go. */
  outputs: LogOutputs;
  /** The user has opened its inspector. */
  isInspected: boolean;
}

export class WorkerProcess {
  readonly id: number;
  readonly generation: number;
  /** --max-old-space-size in MiB; null for V8's default. */
  readonly heapMb: number | null;
  readonly startedAt = performance.now();
  state: WorkerState = 'starting';
  readyAt: number | undefined;
  snapshot: Snapshot | undefined;
  /** When the snapshot came, by the monotonic clock; the start of the worker before. */
  heardAt = this.startedAt;
  redis: { state: RedisState; message: string; evictionPolicy: string | undefined } | undefined;
  /** The last change of the session keys by which it goes. */
  keysRead: string | undefined;
  drain: Drain | undefined;
  /** What its drain waits for, as last told: how many requests, and the oldest of them. */
  waitingFor: { open: number; oldest: OpenRequest[] } = NOTHING;
  /** The requests lost when its app ended the process, or the primary killed it. */
  lost: { open: number; oldest: OpenRequest[] } | undefined;
  /** While it is looked into, its silence is no sign of a hang. */
  isDiagnosed = false;
  /** A debugger may pause it: its silence does not mean that it hangs. */
  isInspected: boolean;
  /** Why it failed, as reported by the worker or the primary. */
  failure: string | undefined;
  /** The worker's report, where it made one. */
  error: ErrorReport | undefined;
  /** Since its last message, in the time that the primary was awake for. */
  silentMs = 0;
  /** Told to go, it did not, and was killed: it never said what it had open. */
  missedDeadline = false;
  #port = 0;
  #isAppError = false;
  #hasSpoken = false;
  #isRejectedByNode = false;
  #reason: ExitReason | undefined;
  /** By the primary itself. */
  #isKilled = false;
  #deadline: NodeJS.Timeout | undefined;
  #wantsCordon = false;
  /** Requests that it has not acknowledged yet, in order. */
  #requests: PromiseWithResolvers<void>[] = [];
  readonly #exitListeners = new Set<() => void>();
  #unreadBytes = 0;
  readonly #inspector = Promise.withResolvers<string | undefined>();
  /** Both undefined where the system refused the fork at once. */
  readonly #worker: Worker | undefined;
  readonly #channel: WorkerChannel | undefined;
  readonly #emit: Emit;

  constructor(start: WorkerStart, listener: WorkerListener) {
    const { id, generation, heapMb, environment, sessionKeys, retained, listeners, outputs, isInspected } = start;
    this.id = id;
    this.generation = generation;
    this.heapMb = heapMb;
    this.isInspected = isInspected;
    this.#emit = listener.emit;
    const ended = (reason: () => ExitReason, failure: string) => {
      if (this.state === 'exited') return;
      this.state = 'exited';
      clearTimeout(this.#deadline);
      this.#settleRequests();
      this.#reason ??= reason();
      this.failure ??= failure;
      listener.exited(this);
      for (const onExit of this.#exitListeners) onExit();
    };
    // Node.js emits some errors of a fork (EAGAIN, EMFILE, ENOENT) and throws others (ENOMEM, EPERM): both are a worker that has failed to start.
    const notStarted = (error: unknown) => ended(() => 'crash', `cannot be started: ${(error as Error).message}`);
    let worker: Worker;
    try {
      worker = forkWorker(environment);
    } catch (error) {
      setImmediate(notStarted, error); // after the caller has noted this worker
      return;
    }
    this.#worker = worker;
    this.#emit({ event: 'worker.starting', ...this.#fields, generation });
    this.#channel = new WorkerChannel(worker, {
      onMessage: message => {
        this.silentMs = 0;
        this.#hasSpoken = true;
        this.#heard(message);
        listener.said(this, message);
      },
      onMalformed: error => listener.malformed(this, error),
    });
    const { stdout, stderr } = worker.process;
    const errors = isInspected ? outputs.stderr : new InspectorLines(outputs.stderr, address => this.#inspectorOpened(address));
    const written = [
      ...(stdout ? [new WorkerOutput(stdout, outputs.stdout)] : []),
      ...(stderr ? [new WorkerOutput(stderr, errors)] : []),
    ];
    worker.process.once('exit', async (code, signal) => {
      const isForeign = signal === 'SIGKILL' && !this.#isKilled;
      await Promise.all(written.map(output => output.settle())); // its output is passed on before its exit is reported
      // Overrides earlier requests: the kill is final.
      if (isForeign) this.#reason = listener.whoKilled();
      if (isForeign && this.#reason === 'oom') this.failure = 'killed by the kernel for lack of memory';
      const reason = () => (signal === 'SIGTERM' ? 'killed' : 'crash');
      this.#isRejectedByNode = REJECTED_BY_NODE.has(code) && !this.#hasSpoken;
      const options = this.#isRejectedByNode
        ? ': Node.js rejects its options, see the log (NODE_OPTIONS, WORKER_NODE_OPTIONS)'
        : '';
      ended(reason, signal === null ? `exit code ${code}${options}` : `signal ${signal}`);
    });
    worker.on('error', error => {
      // A worker that dies while we write to it: its exit is what counts. One that the system did not start has none, and no process id.
      if (this.pid === 0) notStarted(error);
    });
    this.send({ type: 'start', sessionKeys: sessionKeys(), retained: retained(), listeners });
  }

  get pid(): number {
    return this.#worker?.process.pid ?? 0;
  }

  get #fields() {
    return { worker: this.id, workerPid: this.pid };
  }

  get isPermanent(): boolean {
    return this.#isRejectedByNode || (this.error?.isPermanent ?? false);
  }

  /** Undefined while nothing has decided on its end. */
  get reason(): ExitReason | undefined {
    return this.#reason;
  }

  /** `failure` for those who may not see the app's text. */
  get openFailure(): string | undefined {
    return this.#isAppError && this.error !== undefined ? describeOpenly(this.error) : this.failure;
  }

  get isServing(): boolean {
    return this.state === 'ready';
  }

  /** Neither on its way out nor gone. */
  get isActive(): boolean {
    return this.state !== 'draining' && this.state !== 'exited';
  }

  get uptimeSeconds(): number {
    return Math.round(performance.now() - this.startedAt) / 1000;
  }

  send(message: ToWorker): void {
    this.#channel?.send(message);
  }

  /** Passes an event on; false where it is dropped, because too much waits for this worker to read. */
  deliver(broadcast: Broadcast): boolean {
    const bytes = broadcast.event.length + broadcast.json.length;
    if (!this.#channel?.isOpen) return true; // it has ended, so nothing of it waits
    if (this.#unreadBytes + bytes > MOST_UNREAD_BYTES) return false;
    this.#unreadBytes += bytes;
    this.#channel.send({ type: 'broadcast', ...broadcast }, () => {
      this.#unreadBytes -= bytes;
    });
    return true;
  }

  /**
   * Opens its inspector, whose address only this process learns. From now on the worker can only end.
   * @returns the address; undefined if it does not open within `timeoutMs`
   */
  async openInspector(reason: ExitReason, timeoutMs: number): Promise<string | undefined> {
    this.#leaving(reason, 2 * timeoutMs + EXIT_SLACK_MS);
    this.#worker?.process.kill('SIGUSR1');
    const timer = setTimeout(this.#inspector.resolve, timeoutMs, undefined);
    return await this.#inspector.promise.finally(() => clearTimeout(timer));
  }

  /** Asks the worker to finish what is open within `timeoutMs` and to exit; kills it where it does not. */
  beginDrain(reason: ExitReason, timeoutMs: number): void {
    this.#leaving(reason, timeoutMs + EXIT_SLACK_MS);
    this.send({
      type: 'drain',
      sentAt: monotonicMs(),
      timeoutMs,
      quietMs: reason === 'shutdown' ? QUIET_AT_SHUTDOWN_MS : QUIET_MS,
      endStalled: reason === 'shutdown',
    });
  }

  /**
   * Takes the worker out of rotation, or back in; resolves when done, or when the worker is ending. A leaving worker counts
   * as out from the request on, a returning one as in from its acknowledgement on, so concurrent requests never take out every worker.
   */
  async setCordoned(cordoned: boolean): Promise<void> {
    if (!this.isActive) return;
    this.#wantsCordon = cordoned;
    if (cordoned && this.state === 'ready') {
      this.state = 'cordoned';
      this.#emit({ event: 'worker.cordoned', ...this.#fields });
    }
    this.send({ type: cordoned ? 'cordon' : 'uncordon' });
    await this.#acknowledged();
  }

  /** Makes it accept what is queued at these listeners, or at its own; resolves when the queues are empty, or when it is ending. */
  async takeAll(listeners: number[] | undefined): Promise<void> {
    if (!this.isActive) return;
    this.send({ type: 'take-all', ...(listeners && { listeners }) });
    await this.#acknowledged();
  }

  async #acknowledged(): Promise<void> {
    const acknowledged = Promise.withResolvers<void>();
    this.#requests.push(acknowledged);
    await acknowledged.promise;
  }

  /** Calls back when the worker has exited and the reason is known. The returned function unsubscribes. */
  onExit(callback: () => void): () => void {
    this.#exitListeners.add(callback);
    return () => this.#exitListeners.delete(callback);
  }

  /** Kills it instead of waiting any longer. Unless it has reported its drain, its open requests are lost. */
  giveUp(reason: ExitReason, failure: string): void {
    this.missedDeadline = this.drain === undefined;
    this.failure ??= failure;
    this.kill(reason);
  }

  kill(reason: ExitReason): void {
    this.#reason ??= reason;
    if (this.drain === undefined) this.lost ??= { open: this.openRequests, oldest: this.waitingFor.oldest };
    this.#isKilled = true;
    this.#worker?.process.kill('SIGKILL');
  }

  /** If this primary did not open it, someone sent SIGUSR1, or the app opened it. */
  #inspectorOpened(address: string): void {
    if (this.isActive) this.isInspected = true;
    this.#inspector.resolve(address);
  }

  /** Pending requests will not be acknowledged. */
  #settleRequests(): void {
    for (const { resolve } of this.#requests.splice(0)) resolve();
  }

  #leaving(reason: ExitReason, deadlineMs: number): void {
    this.#reason ??= reason;
    if (this.state !== 'draining') {
      this.state = 'draining';
      this.#emit({ event: 'worker.draining', ...this.#fields, reason: this.#reason });
    }
    this.#settleRequests();
    clearTimeout(this.#deadline);
    this.#deadline = setTimeout(() => this.giveUp(reason, `not gone after ${deadlineMs} ms, killed`), deadlineMs);
  }

  /** An estimate for a worker that does not answer: its last report, or the one request that blocks it, and the requests it has not read. */
  get openRequests(): number {
    const { connections, unread } = connectionsHeldBy(this.pid, this.#port);
    const told = Math.max(this.snapshot?.inFlight ?? 0, this.waitingFor.open);
    return unread + Math.max(told, Math.min(1, Math.max(0, connections - unread)));
  }

  #heard(message: ToPrimary): void {
    switch (message.type) {
      case 'ready':
        if (this.state !== 'starting') break;
        this.state = 'ready';
        this.readyAt = performance.now();
        this.#port = message.port;
        break;
      case 'failed':
        this.failure = message.message;
        this.error = message;
        this.#isAppError = message.stage === 'app'; // a listen error has the kit's own text
        break;
      case 'crashing':
        this.failure = message.message;
        this.error = message;
        this.#isAppError = true;
        // One that drains goes on with it, and with its time.
        if (this.isActive) this.#leaving('crash', CRASH_DEADLINE_MS);
        break;
      case 'app-exit':
        this.failure = message.message;
        this.lost = { open: message.open, oldest: message.oldest };
        break;
      case 'stats':
        this.snapshot = message.snapshot;
        this.heardAt = performance.now();
        break;
      case 'redis':
        this.redis = { state: message.state, message: message.message, evictionPolicy: message.evictionPolicy };
        break;
      case 'keys-read':
        this.keysRead = message.change;
        break;
      case 'waiting':
        this.waitingFor = message;
        break;
      case 'drained':
        this.drain = message.drain;
        this.waitingFor = NOTHING;
        break;
      case 'cordoned':
      case 'took-all':
        this.#requests.shift()?.resolve();
        break;
      case 'uncordoned':
        if (this.state === 'cordoned' && !this.#wantsCordon) {
          this.state = 'ready';
          this.#emit({ event: 'worker.uncordoned', ...this.#fields });
        }
        this.#requests.shift()?.resolve();
        break;
      case 'diagnosed':
      case 'snapshot-wanted':
      case 'broadcast':
      case 'exiting':
        break;
      default:
        message satisfies never;
    }
  }
}

/** A crashing worker gives itself 5 seconds (worker.ts). */
const CRASH_DEADLINE_MS = 5000 + EXIT_SLACK_MS;
