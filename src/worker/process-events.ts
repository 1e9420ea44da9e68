/**
 * The ways in which a worker's process may end, intercepted before the app sees them: signals, uncaught errors, exits, and what node:cluster
 * offers in a worker. The kit decides how to handle each (ending.ts); the app's own listeners stay registered, and are
 * called later (held-events.ts).
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import cluster from 'node:cluster';

/** Not imported: that loads all of util, which opens stderr and makes the app's own writes to it fail with EAGAIN when the pipe is full. */
const { getCallSites } = process.getBuiltinModule('node:util');

/** The primary handles these: Ctrl-C, a hang-up or an init without `-s` signals the whole process group, workers included. */
const OWNED_SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGTTIN', 'SIGTTOU'] as const;
export type OwnedSignal = (typeof OWNED_SIGNALS)[number];
/** The app may listen too. */
const SNAPSHOT_SIGNAL = 'SIGUSR2';
const KEPT_SIGNALS = [...OWNED_SIGNALS, SNAPSHOT_SIGNAL] as const;

/** Sent by the app to its own process, these end the worker, as they would end any process. */
const ENDING = new Set<unknown>(['SIGTERM', 'SIGINT', 'SIGHUP', 15, 2, 1, undefined]);

export interface EndListener {
  /** `thrown` was not caught; `origin` is `uncaughtException` or `unhandledRejection`. */
  onThrown(thrown: unknown, origin: unknown): void;
  onSignal(signal: OwnedSignal): void;
  onSnapshotSignal(): void;
  /** The app ends this worker: `call` is what it called. */
  onLeave(call: string): void;
  /** A listener of rejections calls `process.exit`. False if it may exit now. */
  onHeldExit(code: unknown): boolean;
  /** The process exits now, unstoppably: open requests are lost. */
  onExit(code: unknown): void;
  /** A listener of the app threw where that would end the process at once or block its exit. */
  onListenerFailed(event: string, error: unknown): void;
  /** The channel to the primary is closed: the primary has ended. */
  onDisconnect(): void;
}

/** Thrown by `process.exit` while it may not end the process yet: the app's code after it must not run. */
const EXIT_HELD = new Error('this worker exits once its open requests are answered');

/** The async context of the app's rejection listeners and everything that they start. */
const rejectionListeners = new AsyncLocalStorage<true>();

/** The kit's listener for each of its signals: without one, the signal's default action would end the process. */
const keepSignal = () => undefined;

/** Whether `listener` is the kit's. */
export const isOwnListener = (listener: unknown) => listener === keepSignal;

/** From now on `listener` is called first, and `onInternalMessage` gets the messages of the channel. Call it before the app is loaded. */
export function interceptProcess(listener: EndListener, onInternalMessage: (message: unknown) => void): void {
  interceptEvents(listener, onInternalMessage);
  takeSignals();
  interceptCalls(listener);
}

/** Overrides `emit` instead of adding listeners: the app's may run first, and `removeAllListeners` would remove ours. */
function interceptEvents(listener: EndListener, onInternalMessage: (message: unknown) => void): void {
  const emit = process.emit;
  const pass = (event: string | symbol, args: unknown[]): boolean => Reflect.apply(emit, process, [event, ...args]);
  /** Each returns whether the app's listeners also get the event. */
  const asked: Record<string, (...args: unknown[]) => boolean> = {
    uncaughtException: (thrown, origin) => {
      if (thrown !== EXIT_HELD) listener.onThrown(thrown, origin);
      return false;
    },
    // Not held back: an app with a listener has handled it, and its worker goes on.
    unhandledRejection: reason => reason !== EXIT_HELD,
    internalMessage: message => {
      onInternalMessage(message);
      return true;
    },
    disconnect: () => {
      listener.onDisconnect();
      return false;
    },
    exit: code => {
      listener.onExit(code);
      return true;
    },
  };
  asked[SNAPSHOT_SIGNAL] = () => {
    listener.onSnapshotSignal();
    return true;
  };
  for (const signal of OWNED_SIGNALS) {
    asked[signal] = () => {
      listener.onSignal(signal);
      return false;
    };
  }
  process.emit = (event: string | symbol, ...args: unknown[]): boolean => {
    const ask = typeof event === 'string' && Object.hasOwn(asked, event) ? asked[event] : undefined;
    if (ask !== undefined && !ask(...args)) return true;
    try {
      return event === 'unhandledRejection' ? rejectionListeners.run(true, pass, event, args) : pass(event, args);
    } catch (error) {
      if (error === EXIT_HELD) return true;
      if (event !== 'exit' && event !== 'uncaughtExceptionMonitor') throw error;
      listener.onListenerFailed(event, error);
      return true;
    }
  };
}

/** Node.js itself uses these for listeners and for the channel. */
const KEPT_EVENTS = new Set<unknown>(['newListener', 'removeListener', 'internalMessage', 'message', 'disconnect']);

/** Node.js calls the `emit` that existed when a signal got its first listener: listeners of a preloaded module are added again after ours. */
function takeSignals(): void {
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

function interceptCalls(listener: EndListener): void {
  const kill = process.kill;
  process.kill = (pid, signal) => {
    if (pid !== process.pid || !ENDING.has(signal)) return kill.call(process, pid, signal);
    listener.onLeave(`process.kill(process.pid, ${JSON.stringify(signal ?? 'SIGTERM')})`);
    return true;
  };
  const exit = process.exit;
  process.exit = code => {
    const isHeld = rejectionListeners.getStore() === true && listener.onHeldExit(code);
    if (isHeld) throw EXIT_HELD;
    return exit.call(process, code);
  };
  const disconnect = process.disconnect;
  process.disconnect = () => {
    // Node.js also calls it when the primary has closed the channel.
    const [, caller] = getCallSites(2);
    if (caller?.scriptName === 'node:internal/child_process') disconnect?.call(process);
    else listener.onLeave('process.disconnect()');
  };
  const { worker } = cluster;
  if (worker === undefined) return;
  worker.disconnect = () => {
    listener.onLeave('cluster.worker.disconnect()');
    return worker;
  };
  worker.kill = () => listener.onLeave('cluster.worker.kill()');
  worker.destroy = () => listener.onLeave('cluster.worker.destroy()');
}
