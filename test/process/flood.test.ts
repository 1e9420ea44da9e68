/**
 * More connections than a process may have files open.
 */
import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { until } from '../until.ts';
import { requestJson } from './clients.ts';
import { CLEAN, ROOT, startKit } from './kit.ts';
import { ALL_POLICIES, SOAKS } from './policies.ts';

/** Less than the flood leaves to each of two workers. */
const OPEN_FILES = 150;
const CONNECTIONS = 500;
/** Workers report once a second: three times in the middle of it. */
const REPORTS_MS = 3000;

describe('a flood of connections', { concurrency: 2 }, () => {
  for (const policy of SOAKS ? ALL_POLICIES : ['least-connections', 'rr']) {
    test(`a flood of connections ends no worker, and all are served once it is over, policy ${policy}`, async () => {
      const limited = `ulimit -n ${OPEN_FILES}; exec "${process.execPath}" "${join(ROOT, 'src', 'main.ts')}"`;
      const env = { NODE_CLUSTER_SCHED_POLICY: policy };
      const kit = await startKit({ app: 'koa.mjs', command: ['/bin/sh', '-c', limited], env });
      const { port } = await kit.ready();
      const sockets = Array.from({ length: CONNECTIONS }, () => connect(port, '127.0.0.1').on('error', () => undefined));
      // Which worker runs out of files can't be seen; that one has can.
      await until(
        () => sockets.some(({ closed }) => closed) || undefined,
        () => kit.transcript(),
      );
      await pause(REPORTS_MS);
      await Promise.all(sockets.map(ended));
      await kit.statusWhere(({ workers }) => workers.every(({ connections }) => connections === 0));
      assert.ok((await requestJson<{ pid: number }>(port, '/')).pid > 0);
      assert.deepEqual(kit.all('worker.exit'), []);
      assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
    });
  }
});

async function ended(socket: Socket): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  if (socket.closed) return;
  socket.once('close', () => resolve()).destroy();
  return promise;
}
