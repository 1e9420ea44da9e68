/**
 * What goes into the pool's state machine (state.ts), and what comes out of it: data only. An operator's request is a number; one
 * `answer` follows each.
 */
import type { Config } from '../config/config.ts';
import type { LifecycleEvent } from '../protocol/events.ts';
import type { ExitReason } from '../protocol/exit.ts';
import type { ToPrimary, ToWorker } from '../protocol/messages.ts';
import type { Sizing } from '../protocol/sizing.ts';
import type { Heap } from '../resources/heap.ts';
import type { Headroom, ProcessMemory } from '../resources/usage.ts';
import type { GiveUpReason } from './failures.ts';
import type { ProcessExit, WorkerRecord } from './worker-state.ts';

/** What concerns the workers one by one. */
export type WorkerEvent =
  | { type: 'forked'; worker: WorkerRecord; pid: number; isInspected: boolean }
  | { type: 'message'; worker: WorkerRecord; message: ToPrimary }
  | { type: 'exited'; worker: WorkerRecord; how: ProcessExit }
  | { type: 'cordon'; worker: WorkerRecord; wantsCordon: boolean }
  /** A diagnosis of this worker has begun, or ended. */
  | { type: 'diagnosis'; worker: WorkerRecord; isRunning: boolean }
  /** Its inspector has opened: the pool or a user has requested it. */
  | { type: 'inspector-opened'; worker: WorkerRecord }
  /** The stack of a hung worker was read, or is unavailable. */
  | { type: 'inspected'; worker: WorkerRecord; stack: string[] | undefined }
  /** The shutdown: no worker starts from now on, and those that do not serve yet are killed. */
  | { type: 'stop' }
  /** Kills those that do not serve yet: what they load has changed. */
  | { type: 'abandon-starts' }
  | { type: 'drain-all'; timeoutMs: number }
  /** Kills those that do not answer: they would only delay the exit. */
  | { type: 'kill-silent' }
  /** Kills those that have not reported a drain. */
  | { type: 'kill-undrained' };

/** What an operator requests, or a change of the limits. A `request` is answered. */
export type RequestEvent =
  | { type: 'scale'; wanted: number }
  /** As `scale`; answered when all workers are up, or when one has failed and the pool returns to its previous size. */
  | { type: 'enlarge'; wanted: number; request: number }
  | { type: 'restart'; worker: WorkerRecord; request: number }
  /** A rolling restart of all workers, or of those with another heap than `exceptHeap`. */
  | { type: 'roll'; request?: number; exceptHeap?: Heap }
  /** A restart was refused before it began. */
  | { type: 'refused'; why: string };

export type PoolEvent =
  | WorkerEvent
  | RequestEvent
  /** Something may be due. It comes after the messages that have arrived: one of them may be the worker's that is overdue. */
  | { type: 'tick' }
  /** The listening sockets have the port that the app has named. */
  | { type: 'bound' }
  | { type: 'measured'; worker: WorkerRecord; memory: ProcessMemory }
  | { type: 'configure'; config?: Config; sizing: Sizing };

/** To be carried out in order. */
export type Effect =
  | { type: 'fork'; worker: WorkerRecord }
  | { type: 'drain'; worker: WorkerRecord; reason: ExitReason; timeoutMs: number }
  | { type: 'send'; worker: WorkerRecord; message: ToWorker }
  | { type: 'kill'; worker: WorkerRecord }
  /** Read the stack of this hung worker; `inspected` follows. */
  | { type: 'inspect'; worker: WorkerRecord }
  | { type: 'emit'; event: LifecycleEvent }
  /** Pass a worker's message on to the primary. */
  | { type: 'forward'; worker: WorkerRecord; message: ToPrimary }
  /** Take this port for the listening sockets; `bound` follows. No worker starts in between. */
  | { type: 'bind'; port: number }
  | { type: 'progress'; request: number; text: string }
  | { type: 'answer'; request: number; error: Error | undefined }
  /** The pool cannot go on; `last` is the worker that failed last. */
  | { type: 'give-up'; why: GiveUpReason; last: WorkerRecord }
  /** Tick at this time at the latest. */
  | { type: 'wake'; at: number };

/** What the rules read besides events. */
export interface Sensors {
  /** Of the container; undefined without a limit. */
  headroom: () => Headroom | undefined;
  /** From 0 to 1. */
  random: () => number;
}
