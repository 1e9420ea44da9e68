/**
 * The kit as on macOS, as far as Linux can be made to look like it: `darwin` as platform, and neither /proc, /sys nor /dev/shm.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { request } from './clients.ts';
import { CLEAN, ROOT, startKit } from './kit.ts';

const HIDE = 'for folder in /sys /dev/shm /proc; do mount -t tmpfs none $folder; done; exec "$@"';
const hidden = (...command: string[]): [string, ...string[]] => ['unshare', '--mount', 'sh', '-ec', HIDE, 'sh', ...command];
const [unshare, ...args] = hidden('sh', '-c', '! test -e /proc/self');
const skip = spawnSync(unshare, args).status === 0 ? false : 'needs root, and unshare to hide folders';

/** The names of systems that Node.js has; a preload of every process. */
const DARWIN = `data:text/javascript,${encodeURIComponent("Object.defineProperty(process, 'platform', { value: 'darwin' })")}`;

test('as on macOS the kit sizes a pool, serves, restarts it and drains', { skip }, async () => {
  const kit = await startKit({
    command: hidden(process.execPath, join(ROOT, 'src', 'main.ts')),
    env: { NODE_OPTIONS: `--import=${DARWIN}`, NODE_CLUSTER_WORKERS: '2' },
  });
  const { port } = await kit.ready();
  assert.equal((await request(port, '/')).status, 200);
  const { workers, sizing } = await kit.status();
  assert.equal(workers.length, 2);
  assert.doesNotMatch(JSON.stringify(sizing), /\/(proc|sys)\b/);
  kit.signal('SIGHUP');
  await kit.event('pool.restarted');
  assert.equal((await request(port, '/')).status, 200);
  assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
});
