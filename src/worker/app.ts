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
