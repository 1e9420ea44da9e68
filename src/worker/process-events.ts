/**
 * The ways in which a worker's process may end, caught before the app sees them: signals, what nobody caught, exits, and what node:cluster
 * offers in a worker. The kit decides what becomes of each (ending.ts); the app's own listeners stay where the app has put them, and are
 * called when the kit says so (held-events.ts).
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import cluster from 'node:cluster';
import { getCallSites } from 'node:util';

/** The primary decides on these: a Ctrl-C, a hang-up or an init without `-s` signals the whole process group, workers included. */
const OWNED_SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGTTIN', 'SIGTTOU'] as const;
export type OwnedSignal = (typeof OWNED_SIGNALS)[number];
/** The app may listen too. */
const SNAPSHOT_SIGNAL = 'SIGUSR2';
const KEPT_SIGNALS = [...OWNED_SIGNALS, SNAPSHOT_SIGNAL] as const;

/** Sent by the app to its own process, these end the worker, as they would end any process. */
const ENDING = new Set<unknown>(['SIGTERM', 'SIGINT', 'SIGHUP', 15, 2, 1, undefined]);

export interface EndListener {
  /** Nobody caught `thrown`; `origin` is `uncaughtException` or `unhandledRejection`. */
  onThrown(thrown: unknown, origin: unknown): void;
  onSignal(signal: OwnedSignal): void;
  onSnapshotSignal(): void;
  /** The app wants this worker to go: `call` is what it called. */
  onLeave(call: string): void;
  /** A listener of rejections wants to exit. False where it may. */
  onHeldExit(code: unknown): boolean;
  /** The process exits now, and nothing can hold it: what is open is lost. */
  onExit(code: unknown): void;
  /** One of the app's listeners threw where that would end the process at once, or hold its exit. */
  onListenerFailed(event: string, error: unknown): void;
  /** The channel to the primary is closed, and so the primary gone. */
  onDisconnect(): void;
}

/** Thrown by `process.exit` where it may not end the process yet: what comes after it in the app must not run. */
const EXIT_HELD = new Error('this worker exits once its open requests are answered');

/** Around the app's listeners of rejections, and all that follows from them. */
const rejectionListeners = new AsyncLocalStorage<true>();

/** The kit's listener of each of its signals: without any, Node.js gives the signal back to the system, which ends the process. */
const keepSignal = () => undefined;

/** Whether `listener` is the kit's. */
export const isOwnListener = (listener: unknown) => listener === keepSignal;

/** From now on `listener` is asked first, and `onInternalMessage` hears what comes over the channel. Call it before the app is loaded. */
export function interceptProcess(listener: EndListener, onInternalMessage: (message: unknown) => void): void {
  interceptEvents(listener, onInternalMessage);
  takeSignals();
  interceptCalls(listener);
}

/** `emit` and not listeners: those of an app may come first, and `removeAllListeners` would take ours. */
function interceptEvents(listener: EndListener, onInternalMessage: (message: unknown) => void): void {
  const emit = process.emit;
  const pass = (event: string | symbol, args: unknown[]): boolean => Reflect.apply(emit, process, [event, ...args]);
  /** Each returns whether the app's listeners get it too. */
  const asked: Record<string, (...args: unknown[]) => boolean> = {
    uncaughtException: (thrown, origin) => {
      if (thrown !== EXIT_HELD) listener.onThrown(thrown, origin);
      return false;
    },
    // Not held: an app that listens has handled it, and its worker goes on.
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

/** By these Node.js itself hears of listeners, and of the primary. */
const KEPT_EVENTS = new Set<unknown>(['newListener', 'removeListener', 'internalMessage', 'message', 'disconnect']);

/** Node.js calls the `emit` that was there when a signal got its first listener: those of a preloaded module are put back behind ours. */
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
    // Node.js calls it, too, when the primary has closed the channel.
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
