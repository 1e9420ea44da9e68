/**
 * Signals become commands in a queue; nothing is done in a handler. Imported before everything else: as PID 1 of a container,
 * a process without a handler ignores SIGTERM.
 */

export type Command = 'shutdown' | 'exit-now' | 'restart' | 'one-more' | 'one-fewer' | 'heap-snapshot' | 'ignore';

const COMMANDS = {
  SIGTERM: 'shutdown',
  SIGINT: 'shutdown',
  SIGHUP: 'restart',
  SIGTTIN: 'one-more',
  SIGTTOU: 'one-fewer',
  SIGUSR2: 'heap-snapshot',
  // Without a handler Node.js opens its inspector on a fixed port, where any local user can run code in the primary.
  SIGUSR1: 'ignore',
} as const satisfies Partial<Record<NodeJS.Signals, Command>>;

/**
 * npm passes a Ctrl-C on to a process that the terminal has told already: within this time it is one and the same. Busy CPUs have
 * put 50 ms between two signals of one moment; a person's second Ctrl-C takes longer than this.
 */
const SAME_SIGNAL_MS = 100;

export class SignalQueue {
  readonly #waiting: Command[] = [];
  #carryOut: ((command: Command) => void) | undefined;
  #shutdownAt: number | undefined;

  constructor() {
    for (const [signal, command] of Object.entries(COMMANDS)) process.on(signal, () => this.#received(command));
  }

  /** Commands go to `carryOut` from now on, those that came before first. */
  open(carryOut: (command: Command) => void): void {
    this.#carryOut = carryOut;
    for (const command of this.#waiting.splice(0)) carryOut(command);
  }

  #received(command: Command): void {
    const named = command === 'shutdown' ? this.#firstOrSecond() : command;
    if (named === undefined) return;
    if (this.#carryOut === undefined) this.#waiting.push(named);
    else setImmediate(this.#carryOut, named);
  }

  #firstOrSecond(): Command | undefined {
    const now = performance.now();
    if (this.#shutdownAt === undefined) {
      this.#shutdownAt = now;
      return 'shutdown';
    }
    return now - this.#shutdownAt > SAME_SIGNAL_MS ? 'exit-now' : undefined;
  }
}
