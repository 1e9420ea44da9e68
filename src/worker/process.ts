/**
 * The process of a worker: its channel to the primary, and the calls and events by which an app could end it or write to that channel. They
 * are intercepted before the app runs, and the kit decides what happens (shutdown.ts). The app's own listeners stay registered.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { SendHandle } from 'node:child_process';
import cluster from 'node:cluster';
import { EventEmitter } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { flushWorkerOutput } from '../log/log.ts';
import type { ExitCode } from '../protocol/exit.ts';
import type { ToPrimary } from '../protocol/messages.ts';
import { isInternal, isWatchReport, seal } from '../protocol/messages.ts';

/** Not imported: that loads all of util, which opens stderr and makes the app's own writes to it fail with EAGAIN when the pipe is full. */
const { getCallSites } = process.getBuiltinModule('node:util');

/** The primary handles these: Ctrl-C, a hang-up or an init without `-s` signals the whole process group, workers included. */
const OWNED_SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGTTIN', 'SIGTTOU'] as const;
export type OwnedSignal = (typeof OWNED_SIGNALS)[number];
/** The app may listen too. */
const SNAPSHOT_SIGNAL = 'SIGUSR2';
const KEPT_SIGNALS = [...OWNED_SIGNALS, SNAPSHOT_SIGNAL] as const;

/** Sent by the app to its own process, these end the worker, as they would end any process. */
const FATAL_SIGNALS = new Set<unknown>(['SIGTERM', 'SIGINT', 'SIGHUP', 15, 2, 1, undefined]);

/** Node.js itself uses these for listeners and for the channel: `removeAllListeners()` spares them. */
const KEPT_EVENTS = new Set<unknown>(['newListener', 'removeListener', 'internalMessage', 'message', 'disconnect']);

/** Apps that fork their own workers call these: in a worker of the kit, only a primary has them. */
const PRIMARY_CALLS = ['fork', 'setupPrimary', `setup${'Mas'}ter`, 'disconnect'];

const OOM_SCORE_RAISE = 300;
const MAX_OOM_SCORE = 1000;

/** The channel to the primary. */
export interface ChannelHandler {
  /** A message that Node.js does not pass to the app: the kit's, or its own. */
  onInternalMessage(message: unknown, handle: unknown): void;
  /** The app has called `process.send` for the first time. */
  onAppMessage(): void;
}

/** The ways in which the process may end. */
export interface ExitHandler {
  /** The channel to the primary is closed: the primary has ended. */
  onDisconnect(): void;
  onSignal(signal: OwnedSignal): void;
  onSnapshotSignal(): void;
  /** `thrown` was not caught; `origin` is `uncaughtException` or `unhandledRejection`. */
  onThrown(thrown: unknown, origin: unknown): void;
  /** The app ends this worker: `call` is what it called. */
  onLeave(call: string): void;
  /** A listener of rejections calls `process.exit`. Returns false if it may exit now. */
  onExitCall(code: unknown): boolean;
  /** Whether the process may end for lack of work, as its listeners of `beforeExit` would take it. */
  readonly mayExit: boolean;
  /** The process exits now, and nothing can stop it: open requests are lost. */
  onExit(code: unknown): void;
  /** A listener of the app threw where that would end the process at once or block its exit. */
  onListenerFailed(event: string, error: unknown): void;
}

/** Thrown by `process.exit` while it may not end the process yet: the app's code after it must not run. */
const EXIT_HELD = new Error('this worker exits once its open requests are answered');

/** The async context of the app's rejection listeners and everything that they start. */
const rejectionListeners = new AsyncLocalStorage<true>();

/** The kit's listener for each of its signals: without one, the signal's default action would end the process. */
const keepSignal = () => undefined;

/** In the emitter's form: a listener added with `once` removes itself when called. */
export type Listener = (...args: unknown[]) => unknown;

/** The app's listeners of an event of `process`. */
export function appListeners(event: string): Listener[] {
  return process.rawListeners(event).filter(listener => listener !== keepSignal) as Listener[];
}

const idleListeners = new Set<() => void>();

/**
 * Calls `listener` once when nothing is left that keeps the process alive. Returns a function that cancels it. The app's own listeners of
 * `beforeExit` get the event only at the worker's end: before, that of OpenTelemetry would end its exports.
 */
export function onceIdle(listener: () => void): () => void {
  const onIdle = () => {
    cancel();
    listener();
  };
  const cancel = () => {
    idleListeners.delete(onIdle);
    process.off('beforeExit', onIdle);
  };
  idleListeners.add(onIdle);
  process.on('beforeExit', onIdle);
  return cancel;
}

const send = process.send?.bind(process);

/** Sends a message to the primary. `onWritten` is called once it is in the pipe, or when there is no primary any more. */
export function sendToPrimary(message: ToPrimary, onWritten: () => void = () => undefined): void {
  // Without a primary there is no receiver, and this process is about to end.
  if (process.connected && send !== undefined) send(seal(message), undefined, undefined, onWritten);
  else onWritten();
}

/** Sends a connection to the primary, for another worker. This process keeps its own copy. */
export function sendMove(id: number, handle: object, onFailed: () => void): void {
  const message: Extract<ToPrimary, { type: 'move' }> = { type: 'move', id };
  const onWritten = (error: Error | null) => void (error !== null && onFailed());
  if (process.connected && send !== undefined) send(seal(message), handle as SendHandle, undefined, onWritten);
  else onFailed();
}

/** Exits once all messages and log lines are in the pipes. It waits for log lines for at most `timeoutMs`, by default 1 s. */
export function exitAfterOutput(code: ExitCode, timeoutMs?: number): void {
  sendToPrimary({ type: 'exiting' }, () => void flushWorkerOutput(timeoutMs).then(() => process.exit(code)));
}

/**
 * Exits if the primary died before the parent-death signal was set: the parent is another process then. Removes the mark from the
 * environment, so that the app's child processes do not look like workers.
 */
export function exitWithoutPrimary(environment: NodeJS.ProcessEnv): void {
  const primary = Number.parseInt(environment.BOSUN_PRIMARY ?? '', 10);
  delete environment.BOSUN_PRIMARY;
  if (primary !== process.ppid) process.exit(1);
}

/** Raises the out-of-memory score: the kernel should kill a worker and spare the primary, which replaces it and logs the cause. */
export function raiseOomScore(): void {
  const file = '/proc/self/oom_score_adj';
  try {
    writeFileSync(file, String(Math.min(MAX_OOM_SCORE, Number(readFileSync(file, 'utf8')) + OOM_SCORE_RAISE)));
  } catch {
    /* no such file, or no permission: the kernel chooses by size alone */
  }
}

/** From now on the handlers are called first. Call it before the app is loaded. */
export function interceptProcess(exits: ExitHandler, channel: ChannelHandler): void {
  interceptEvents(exits, channel);
  keepSignals();
  interceptCalls(exits);
  dropAppMessages(channel);
}

/** Overrides `emit` instead of adding listeners: the app's may run first, and `removeAllListeners` would remove ours. */
function interceptEvents(exits: ExitHandler, channel: ChannelHandler): void {
  const emit = process.emit;
  const pass = (event: string | symbol, args: unknown[]): boolean => Reflect.apply(emit, process, [event, ...args]);
  /** Each returns whether the app's listeners get the event too. */
  const interceptors: Record<string, (...args: unknown[]) => boolean> = {
    uncaughtException: (thrown, origin) => {
      if (thrown !== EXIT_HELD) exits.onThrown(thrown, origin);
      return false;
    },
    // Not held: an app with a listener has handled it, and its worker continues.
    unhandledRejection: reason => reason !== EXIT_HELD,
    internalMessage: (message, handle) => {
      channel.onInternalMessage(message, handle);
      return true;
    },
    disconnect: () => {
      exits.onDisconnect();
      return false;
    },
    beforeExit: () => {
      if (!exits.mayExit) for (const listener of idleListeners) listener();
      return exits.mayExit;
    },
    exit: code => {
      exits.onExit(code);
      return true;
    },
    [SNAPSHOT_SIGNAL]: () => {
      exits.onSnapshotSignal();
      return true;
    },
  };
  for (const signal of OWNED_SIGNALS) {
    interceptors[signal] = () => {
      exits.onSignal(signal);
      return false;
    };
  }
  process.emit = (event: string | symbol, ...args: unknown[]): boolean => {
    const intercept = typeof event === 'string' && Object.hasOwn(interceptors, event) ? interceptors[event] : undefined;
    if (intercept !== undefined && !intercept(...args)) return true;
    try {
      return event === 'unhandledRejection' ? rejectionListeners.run(true, pass, event, args) : pass(event, args);
    } catch (error) {
      if (error === EXIT_HELD) return true;
      if (event !== 'exit' && event !== 'uncaughtExceptionMonitor') throw error;
      exits.onListenerFailed(event, error);
      return true;
    }
  };
}

/** Node.js calls the `emit` that existed when a signal got its first listener: listeners of a preloaded module are added again after ours. */
function keepSignals(): void {
  for (const signal of KEPT_SIGNALS) {
    const before = process.rawListeners(signal);
    process.removeAllListeners(signal);
    process.on(signal, keepSignal);
    for (const each of before) process.on(signal, each as NodeJS.SignalsListener);
  }
  const removeAll = process.removeAllListeners;
  process.removeAllListeners = (...names: (string | symbol)[]) => {
    const all = process.eventNames().filter(name => !KEPT_EVENTS.has(name));
    for (const name of names.length === 0 ? all : names) Reflect.apply(removeAll, process, [name]);
    return process;
  };
  process.on('removeListener', name => {
    const signal = KEPT_SIGNALS.find(each => each === name);
    if (signal !== undefined && process.listenerCount(signal) === 0) process.on(signal, keepSignal);
  });
}

function interceptCalls(exits: ExitHandler): void {
  const kill = process.kill;
  process.kill = (pid, signal) => {
    if (pid !== process.pid || !FATAL_SIGNALS.has(signal)) return kill.call(process, pid, signal);
    exits.onLeave(`process.kill(process.pid, ${JSON.stringify(signal ?? 'SIGTERM')})`);
    return true;
  };
  const exit = process.exit;
  process.exit = code => {
    const isHeld = rejectionListeners.getStore() === true && exits.onExitCall(code);
    if (isHeld) throw EXIT_HELD;
    return exit.call(process, code);
  };
  const disconnect = process.disconnect;
  process.disconnect = () => {
    // Node.js also calls it when the primary has closed the channel.
    const [, caller] = getCallSites(2);
    if (caller?.scriptName === 'node:internal/child_process') disconnect?.call(process);
    else exits.onLeave('process.disconnect()');
  };
  const { worker } = cluster;
  if (worker === undefined) return;
  worker.disconnect = () => {
    exits.onLeave('cluster.worker.disconnect()');
    return worker;
  };
  worker.kill = () => exits.onLeave('cluster.worker.kill()');
  worker.destroy = () => exits.onLeave('cluster.worker.destroy()');
}

/**
 * Disables the app's own `process.send`: the primary would only parse and drop the messages. A message with a handle is still sent, because
 * the sender relies on the handle being taken; the primary closes it.
 */
function dropAppMessages(channel: ChannelHandler): void {
  if (send === undefined) return;
  let isFirst = true;
  process.send = (message: unknown, ...rest: unknown[]) => {
    const [handle] = rest;
    if (isInternal(message) || isWatchReport(message) || (typeof handle === 'object' && handle !== null))
      return Reflect.apply(send, process, [message, ...rest]);
    const isReported = !isFirst;
    isFirst = false; // the report may load modules, which send messages under node --watch
    if (!isReported) channel.onAppMessage();
    const callback = rest.find(argument => typeof argument === 'function');
    if (callback !== undefined) process.nextTick(callback, null);
    return true;
  };
}

/**
 * The calls that only a primary has do nothing from now on, where Node.js would fail with "not a function". `onCall` gets the name of each, the
 * first time. Call it before the app is loaded.
 */
export function disableClusterCalls(onCall: (call: string) => void): void {
  const called = new Set<string>();
  for (const name of PRIMARY_CALLS) {
    Reflect.set(cluster, name, () => {
      if (!called.has(name)) onCall(`cluster.${name}()`);
      called.add(name);
      return name === 'fork' ? workerThatNeverStarts() : undefined;
    });
  }
}

/** What `cluster.fork` returns, without a process. */
function workerThatNeverStarts(): EventEmitter {
  const process = Object.assign(new EventEmitter(), { pid: undefined, connected: false, kill: () => false });
  const nothing = () => false;
  const worker = { id: 0, process, send: nothing, kill: nothing, destroy: nothing, disconnect: nothing };
  return Object.assign(new EventEmitter(), worker, { isConnected: nothing, isDead: () => true });
}
