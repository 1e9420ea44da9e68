/**
 * An App made from an export, served in the test's own process, with the log lines of its errors.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { after } from 'node:test';
import { readConfig } from '../src/config/config.ts';
import type { Kit } from '../src/index.ts';
import type { App } from '../src/worker/app.ts';
import { appOf } from '../src/worker/exports.ts';
import { logRequestErrors } from '../src/worker/request-errors.ts';

export interface Line {
  level: string;
  event: string;
  method: string;
  path: string;
  status?: number;
  err: { message: string; stack: string };
}

export interface Served {
  app: App;
  url: string;
  port: number;
  /** What was logged. */
  lines: Line[];
}

/** What `appOf` gets beside the export. */
export function options(env: Record<string, string> = {}) {
  const lines: Line[] = [];
  const levels = ['debug', 'info', 'warn', 'error', 'fatal'];
  const log = Object.fromEntries(levels.map(level => [level, (line: Line) => void lines.push({ ...line, level })]));
  const kit = { config: readConfig({ PORT: '0', ...env }), log, workerId: 1 } as unknown as Kit;
  return {
    lines,
    log: () => log as never,
    kit,
    redisSettled: async () => undefined,
    redisError: () => undefined,
    onKoa: () => undefined,
  };
}

/** Serves what a module exports. */
export async function serve(exported: unknown, env?: Record<string, string>): Promise<Served> {
  const all = options(env);
  const app = (await appOf(exported, import.meta.filename, all)) ?? assert.fail('the export is no app');
  logRequestErrors(app.serve, all.log);
  const server = 'server' in app.serve ? app.serve.server : http.createServer(app.serve.listener);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { app, lines: all.lines, port, url: `http://127.0.0.1:${port}` };
}
