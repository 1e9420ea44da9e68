import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { requestText } from '../process/clients.ts';
import { ANSWER_BYTES, LARGE_ANSWER, SlowReader } from '../process/slow-reader.ts';
import { writtenApp } from '../process/written-app.ts';
import { startApp } from './app.ts';
import { withEngine } from './engine.ts';

const READS_AFTER_MS = 2000;
const APP = '/app/src/slow/app.mjs';

for (const init of [false, true]) {
  test(
    `docker stop returns once clients on slow lines have their responses, ${init ? 'behind an init' : 'as PID 1'}`,
    withEngine,
    async () => {
      const env = { NODE_CLUSTER_WORKERS: '1', APP_MODULE: APP };
      const app = await startApp({ init, env, mounts: { [APP]: writtenApp(LARGE_ANSWER) } });
      await app.ready();
      // Not over the published port: a proxy before it would read the answers.
      const { NetworkSettings } = await app.inspect();
      const host = Object.values(NetworkSettings.Networks)[0]?.IPAddress ?? '';
      const requests = [requestText('/'), 'GET / HTTP/1.0\r\n\r\n', requestText('/')];
      const clients = await Promise.all(requests.map(request => SlowReader.request(3000, host, request)));
      const stopped = app.stop(40);
      await app.event('worker.exit');
      // A primary that does not wait has ended by then, and the network with it.
      await Promise.race([stopped, pause(READS_AFTER_MS)]);
      for (const client of clients) assert.ok((await client.readAll()) > ANSWER_BYTES);
      assert.equal((await stopped).code, 0, app.transcript());
      assert.deepEqual(app.all('shutdown.unacknowledged'), []);
    },
  );
}
