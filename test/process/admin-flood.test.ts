/**
 * Many clients on the admin port, and the descriptors that the pool needs.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { RawClient, requestText } from './clients.ts';
import { CLEAN, ROOT } from './kit.ts';
import { startOperated } from './operator.ts';

/** Fewer than the connections and streams together. */
const OPEN_FILES = 300;
const IDLE = 300;
const STREAMS = 100;

test('with hundreds of idle connections and event streams the admin port answers probes, and workers can be forked', async () => {
  const limited = `ulimit -n ${OPEN_FILES}; exec "${process.execPath}" "${join(ROOT, 'src', 'main.ts')}"`;
  const { kit, bosun, socket } = await startOperated({ app: 'koa.mjs', command: ['/bin/sh', '-c', limited] });
  const streams = await Promise.all(Array.from({ length: STREAMS }, () => RawClient.open(kit.adminPort)));
  for (const stream of streams) stream.write(requestText('/events'));
  await Promise.all(streams.map(stream => stream.received(/^HTTP\/1.1 (200|503) /).catch(() => undefined)));
  assert.ok(streams.some(({ unread }) => unread.startsWith('HTTP/1.1 200 ')));
  assert.ok(streams.some(({ unread }) => unread.startsWith('HTTP/1.1 503 ')));
  await Promise.all(Array.from({ length: IDLE }, () => RawClient.open(kit.adminPort)));
  assert.equal((await kit.probe('/livez')).status, 200);
  const idle = Array.from({ length: IDLE }, () => connect(socket).on('error', () => undefined));
  after(() => idle.forEach(each => void each.destroy()));
  await Promise.race(idle.map(each => once(each, 'close')));
  const { code, stderr } = await bosun('restart');
  assert.equal(code, 0, `${stderr}${kit.transcript()}`);
  assert.equal((await kit.probe('/readyz')).status, 200);
  assert.deepEqual(
    (await kit.status()).workers.map(({ generation, state }) => [generation, state]),
    [
      [2, 'ready'],
      [2, 'ready'],
    ],
  );
  assert.deepEqual(
    kit.all('worker.exit').map(({ reason }) => reason),
    ['restart', 'restart'],
  );
  assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
});
