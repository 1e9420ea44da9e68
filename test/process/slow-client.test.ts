/**
 * The last exit in a network namespace discards data that clients have not acknowledged: the primary waits for it.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { requestText } from './clients.ts';
import { CLEAN, startKit } from './kit.ts';
import { ANSWER_BYTES, LARGE_ANSWER, SlowReader } from './slow-reader.ts';
import { writtenApp } from './written-app.ts';

const options = { skip: process.platform !== 'linux' && 'needs /proc/net/tcp' };

test(
  'a shutdown waits for clients that read, and counts one that acknowledges nothing for 5 s, exit code 0',
  options,
  async () => {
    const kit = await startKit({ env: { APP_MODULE: writtenApp(LARGE_ANSWER), NODE_CLUSTER_WORKERS: '1' } });
    const { port } = await kit.ready();
    const requests = [requestText('/'), 'GET / HTTP/1.0\r\n\r\n'];
    const slow = await Promise.all(requests.map(request => SlowReader.request(port, '127.0.0.1', request)));
    const dead = await SlowReader.request(port);
    await kit.statusWhere(({ workers }) => workers[0]?.requests === 3);
    kit.signal('SIGTERM');
    await kit.event('worker.exit');
    for (const client of slow) assert.ok((await client.readAll()) > ANSWER_BYTES);
    assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
    const { connections, bytes } = await kit.event('shutdown.unacknowledged');
    assert.equal(connections, 1);
    assert.ok(Number(bytes) > 0 && Number(bytes) <= ANSWER_BYTES, String(bytes));
    dead.close();
  },
);

test(
  'a shutdown does not wait for a client that takes nothing of a response larger than the send buffer, and aborts nothing, exit code 0',
  options,
  async () => {
    const bytes = 32 << 20;
    const env = {
      APP_MODULE: writtenApp(`return (req, res) => res.end(Buffer.alloc(${bytes}, 'x'));`),
      NODE_CLUSTER_WORKERS: '1',
    };
    const kit = await startKit({ env });
    const { port } = await kit.ready();
    const [late, dead] = [await SlowReader.request(port), await SlowReader.request(port)];
    await kit.statusWhere(({ workers }) => workers[0]?.inFlight === 2);
    kit.signal('SIGTERM');
    await kit.event('shutdown.drain');
    await pause(2000); // less than the 5 s after which a client counts as stalled
    assert.ok((await late.readAll()) > bytes, 'a client that reads after a pause gets its whole response');
    assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
    assert.deepEqual(kit.all('request.cut'), []);
    assert.equal((await kit.event('shutdown.unacknowledged')).connections, 1);
    dead.close();
  },
);
