import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { ask } from '../process/clients.ts';
import { startKit } from '../process/kit.ts';
import { withEngine } from './engine.ts';

const PROMETHEUS = 'prom/prometheus:v2';

/** Runs promtool in a container of its own, without a network; what it says where it objects. */
async function promtool(args: string[], input = '', mounts: string[] = []): Promise<{ code: number; said: string }> {
  const volumes = mounts.flatMap(mount => ['-v', mount]);
  const run = ['run', '--rm', '-i', '--network', 'none', ...volumes, '--entrypoint', 'promtool', PROMETHEUS, ...args];
  const child = spawn('docker', run, { stdio: ['pipe', 'pipe', 'pipe'] });
  let said = '';
  for (const output of [child.stdout, child.stderr]) output.on('data', chunk => (said += chunk));
  child.stdin.end(input);
  const [code] = await once(child, 'close');
  return { code, said };
}

test('promtool has nothing to say against /metrics', withEngine, async () => {
  const kit = await startKit();
  const { port } = await kit.ready();
  await ask(port, '/');
  await ask(port, '/nothing-there');
  await kit.statusWhere(({ workers }) => workers.reduce((sum, { requests }) => sum + requests, 0) >= 2);
  const { body } = await kit.probe('/metrics');
  assert.match(body, /^http_request_duration_seconds_count\{.*status="404"/m);
  assert.deepEqual(await promtool(['check', 'metrics'], body), { code: 0, said: '' });
});
