/**
 * The control socket of this pod. It is named after the port, so it is opened again where the app names another one.
 */
import { controlSocketOf } from '../config/config.ts';
import type { ControlContext } from '../control/operations.ts';
import type { ControlSocket } from '../control/socket.ts';
import type { Pool } from '../pool/pool.ts';

export class PodControl {
  readonly #pool: Pool;
  readonly #context: ControlContext;
  /** Resolves with the app's actual port. */
  readonly #appPort = Promise.withResolvers<number>();
  #socket: ControlSocket | undefined;
  /** After which it is named; undefined while it has not begun to open. */
  #port: number | undefined;

  constructor(pool: Pool, context: ControlContext) {
    this.#pool = pool;
    this.#context = context;
  }

  /** Opened before a worker serves, for pools that do not start. With PORT=0 its path needs the actual port. */
  async open(): Promise<void> {
    const { settings, balancing } = this.#pool;
    const { config } = settings;
    const isPortNeeded = config.port === 0 && controlSocketOf(config, 0) !== controlSocketOf(config, 1);
    await this.#open(isPortNeeded ? await this.#appPort.promise : balancing.port || config.port);
  }

  /** A worker serves on this port. */
  onServing(port: number): void {
    this.#appPort.resolve(port);
  }

  /** The pool has bound its port. If the control socket is named after another one, it is opened again. */
  onBound(): void {
    const { settings, balancing } = this.#pool;
    if (this.#port === undefined || this.#port === balancing.port || settings.config.controlSocket) return;
    this.close();
    void this.#open(balancing.port);
  }

  close(): void {
    this.#socket?.close();
  }

  async #open(port: number): Promise<void> {
    this.#port = port;
    const { openControlSocket } = await import('../control/operations.ts');
    const socket = await openControlSocket(controlSocketOf(this.#pool.settings.config, port), this.#context);
    if (port === this.#port) this.#socket = socket;
    else socket?.close(); // the app has named another port meanwhile
  }
}
