/**
 * Maps each signal to a command. Handlers only queue commands; `execute` runs them. main.ts imports this file first, because PID 1 of a
 * container ignores SIGTERM until it has a handler. This file imports only types, to be loaded fast.
 */
import type { Diagnostics } from '../control/diagnostics.ts';
import type { Resizer, RollingRestart } from '../pool/resizer.ts';
import type { Supervisor } from '../pool/supervisor.ts';
import type { Shutdown } from './shutdown.ts';

export type Command =
  | 'shutdown'
  | 'quick-shutdown'
  | 'exit-now'
  | 'restart'
  | 'one-more'
  | 'one-fewer'
  | 'heap-snapshot'
  | 'ignore';

/** What each signal to the primary does (docs/reference/signals.md). */
export const SIGNALS = {
  SIGTERM: { command: 'shutdown', effect: 'drain and exit; a second SIGTERM or SIGINT exits at once with code 1' },
  SIGINT: { command: 'shutdown', effect: 'as SIGTERM (Ctrl-C)' },
  SIGHUP: { command: 'restart', effect: 'rolling restart: reads `.env`, the secret files and the app again' },
  SIGTTIN: { command: 'one-more', effect: 'one more worker; refused, with a log line, if memory is short' },
  SIGTTOU: { command: 'one-fewer', effect: 'one worker fewer, at least one stays' },
  SIGUSR2: {
    command: 'heap-snapshot',
    effect:
      'a heap snapshot of every worker, one at a time, into `DIAGNOSTICS_DIR`; outside production, without that variable: drain for at most 1 s and exit (nodemon)',
  },
  // Without a handler Node.js opens its inspector on a fixed port, where any local user can run code in the primary.
  SIGUSR1: { command: 'ignore', effect: "ignored: it would open Node.js' inspector, through which any local user can run code" },
} as const satisfies Partial<Record<NodeJS.Signals, { command: Command; effect: string }>>;

/**
 * Two shutdown signals within this time count as one: npm forwards Ctrl-C to a process that the terminal has already signalled. On a busy
 * machine such a pair was 50 ms apart. A person's second Ctrl-C comes later.
 */
const SAME_SIGNAL_MS = 100;

/** A tool that restarts a program on a save waits for its end; an open event stream would delay that for SHUTDOWN_TIMEOUT_MS. */
const QUICK_SHUTDOWN_MS = 1000;

/** Calls back after `ms`, and after the signals that the process has received by then: timers run before the event loop reads them. */
function afterSignals(ms: number, callback: () => void): void {
  setTimeout(() => setImmediate(callback), ms).unref();
}

/** Collects commands until `open`, then passes each one on in its own turn of the event loop. */
export class SignalQueue {
  readonly #waiting: Command[] = [];
  readonly #after: typeof afterSignals;
  #execute: ((command: Command) => void) | undefined;
  /** What the next shutdown signal means; undefined for nothing. */
  #next: Command | undefined = 'shutdown';

  /** Tests replace `after`. */
  constructor(source: Pick<NodeJS.Process, 'on'> = process, after = afterSignals) {
    this.#after = after;
    for (const [signal, { command }] of Object.entries(SIGNALS)) source.on(signal, () => this.#received(command));
  }

  /** Commands go to `execute` from now on, the queued ones first. */
  open(execute: (command: Command) => void): void {
    this.#execute = execute;
    for (const command of this.#waiting.splice(0)) execute(command);
  }

  #received(command: Command): void {
    const actual = command === 'shutdown' ? this.#nextOfShutdown() : command;
    if (actual === undefined) return;
    if (this.#execute === undefined) this.#waiting.push(actual);
    else setImmediate(this.#execute, actual);
  }

  #nextOfShutdown(): Command | undefined {
    const next = this.#next;
    if (next !== 'shutdown') return next;
    this.#next = undefined;
    this.#after(SAME_SIGNAL_MS, () => {
      this.#next = 'exit-now';
    });
    return next;
  }
}

/** What commands act on. */
export interface CommandContext {
  supervisor: Supervisor;
  resizer: Resizer;
  restarts: RollingRestart;
  diagnostics: Diagnostics;
  shutdown: Shutdown;
}

/** Starts `command`. Failures are logged where they occur: a signal has no caller. */
export function execute(command: Command, { supervisor, resizer, restarts, diagnostics, shutdown }: CommandContext): void {
  const scale = (count: number) =>
    void resizer.scale({ kind: 'count', count: Math.max(1, count) }, false, supervisor).catch(() => undefined);
  switch (command) {
    case 'shutdown':
      shutdown.begin();
      break;
    case 'quick-shutdown':
      shutdown.begin(QUICK_SHUTDOWN_MS);
      break;
    case 'exit-now':
      shutdown.exitAtOnce();
      break;
    case 'restart':
      restarts.request(() => undefined).catch(() => undefined);
      break;
    case 'heap-snapshot':
      void diagnostics.snapshotAll(supervisor.serving);
      break;
    case 'one-more':
      scale(supervisor.wanted + 1);
      break;
    case 'one-fewer':
      scale(supervisor.wanted - 1);
      break;
    case 'ignore':
      break;
    default:
      command satisfies never;
  }
}
