/**
 * What a worker serves, whichever way the module provides it: by its export (exports.ts), or by a server that listens.
 */
import type { RequestListener, Server } from 'node:http';
import type { AddressInfo } from 'node:net';

export type App = {
  /** The kit creates the http server around a listener; an http.Server of the app gets the connections that the kit accepts. */
  serve: { listener: RequestListener } | { server: Server };
  /** Runs once this worker serves. */
  onListening?: (address: AddressInfo) => void | Promise<void>;
  /** Runs after the last answer of this worker's drain. */
  close?: () => void | Promise<void>;
  /** For the log: "a Koa app", "an http.Server that listens on 8080". */
  description: string;
};

/** The app module is missing, throws, or has a wrong export. The message names the file and what was expected. */
export class AppError extends Error {
  override readonly name = 'AppError';
  /** A retry would fail in the same way: by default where there is no cause, because then the module itself is wrong. */
  readonly isPermanent: boolean;
  readonly #isOwn = true;

  /** Runs no code of `thrown`, which may be any value. */
  static is(thrown: unknown): thrown is AppError {
    return typeof thrown === 'object' && thrown !== null && #isOwn in thrown && thrown.#isOwn;
  }

  /** The stack has no frames: they would be the kit's, and those of the app are in the cause. */
  constructor(message: string, options: ErrorOptions & { isPermanent?: boolean } = {}) {
    super(message, options);
    this.isPermanent = options.isPermanent ?? options.cause === undefined;
    this.stack = `AppError: ${message}`;
  }
}
