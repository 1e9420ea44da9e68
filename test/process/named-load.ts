/**
 * A load that knows whose connections it lost: each answer names its worker.
 */
import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { RawClient } from './clients.ts';

/** Between two requests of a client: eight of them send about half of what two workers can answer. */
const THINK_MS = 4;

/** What one client has lost: its connection's worker, where an answer has named it. */
export interface Loss {
  pid: number | undefined;
  why: string;
}

export interface NamedLoad {
  answered: number;
  losses: Loss[];
  stop(): Promise<void>;
}

/** Keep-alive clients: each answer names the worker that the connection belongs to. */
export function namedLoad(port: number, clientCount: number): NamedLoad {
  let goesOn = true;
  const load = { answered: 0, losses: [] as Loss[] };
  const client = async () => {
    let connection: RawClient | undefined;
    let pid: number | undefined;
    while (goesOn) {
      try {
        connection ??= await RawClient.open(port);
        const { status, body, headers } = await connection.request('/');
        assert.equal(status, 200);
        load.answered++;
        pid = (JSON.parse(body) as { pid: number }).pid;
        if (headers.connection !== 'close') await pause(THINK_MS);
        else connection = close(connection);
      } catch (error) {
        load.losses.push({ pid, why: (error as Error).message });
        connection = close(connection);
        pid = undefined;
      }
    }
    close(connection);
  };
  const clients = Array.from({ length: clientCount }, client);
  return Object.assign(load, {
    stop: async () => {
      goesOn = false;
      await Promise.all(clients);
    },
  });
}

function close(connection: RawClient | undefined): undefined {
  connection?.close();
}
