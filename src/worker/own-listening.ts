/**
 * Notices an app that listens by itself. On PORT that is the kit's to do, and whoever comes second fails with an error that explains
 * nothing; on another port nobody counts or drains what comes. Node.js tells of every `listen` before it begins.
 */
import { subscribe } from 'node:diagnostics_channel';
import type { Server } from 'node:net';

export class OwnListening {
  readonly #kits = new WeakSet<object>();

  /** `onListen` is told the port of every server of the app from now on. */
  constructor(onListen: (port: number) => void) {
    subscribe('tracing:net.server.listen:asyncStart', message => {
      const { server, options } = message as { server: object; options: { port?: number | string } };
      if (options.port !== undefined && !this.#kits.has(server)) onListen(Number(options.port));
    });
  }

  /** This one is not the app's. */
  ignore(server: Server): void {
    this.#kits.add(server);
  }
}
