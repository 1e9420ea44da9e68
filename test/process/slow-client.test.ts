/**
 * The last exit in a network namespace discards data that clients have not acknowledged: the primary waits for it.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { requestText } from './clients.ts';
import { CLEAN, startKit } from './kit.ts';
import { ANSWER_BYTES, LARGE_ANSWER, SlowReader } from './slow-reader.ts';
import { writtenApp } from './written-app.ts';

const options = { skip: process.platform !== 'linux' && 'needs /proc/net/tcp' };

test('the primary waits for reading clients and counts one that acknowledges nothing for 5 s, exit code 0', options, async () => {
  const kit = await startKit({ env: { APP_MODULE: writtenApp(LARGE_ANSWER), NODE_CLUSTER_WORKERS: '1' } });
  const { port } = await kit.ready();
  const requests = [requestText('/'), 'GET / HTTP/1.0\r\n\r\n'];
  const slow = await Promise.all(requests.map(request => SlowReader.ask(port, '127.0.0.1', request)));
  const dead = await SlowReader.ask(port);
  await kit.statusWhere(({ workers }) => workers[0]?.requests === 3);
  kit.signal('SIGTERM');
  await kit.event('worker.exit');
  for (const client of slow) assert.ok((await client.readAll()) > ANSWER_BYTES);
  assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
  const { connections, bytes } = await kit.event('shutdown.unacknowledged');
  assert.equal(connections, 1);
  assert.ok(Number(bytes) > 0 && Number(bytes) <= ANSWER_BYTES, String(bytes));
  dead.close();
});
