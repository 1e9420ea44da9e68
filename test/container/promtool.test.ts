import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { request } from '../process/clients.ts';
import { ROOT, startKit } from '../process/kit.ts';
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

const OVERLAY_RULES = 'k8s/overlays/monitoring/rules.yaml';

test('promtool accepts /metrics without a remark', withEngine, async () => {
  const kit = await startKit();
  const { port } = await kit.ready();
  await request(port, '/');
  await request(port, '/nothing-there');
  await kit.statusWhere(({ workers }) => workers.reduce((sum, { requests }) => sum + requests, 0) >= 2);
  const { body } = await kit.probe('/metrics');
  assert.match(body, /^http_request_duration_seconds_count\{.*status="404"/m);
  assert.deepEqual(await promtool(['check', 'metrics'], body), { code: 0, said: '' });
});

test('promtool accepts the configuration and alert rules of the compose profile', withEngine, async () => {
  const mounts = ['prometheus.yml', 'alerts.yml'].map(file => `${join(ROOT, 'docker', file)}:/etc/prometheus/${file}:ro`);
  const { code, said } = await promtool(['check', 'config', '/etc/prometheus/prometheus.yml'], '', mounts);
  assert.equal(code, 0, said);
  assert.match(said, /SUCCESS: 8 rules found/);
});

test('promtool accepts the alert rules of the monitoring overlay', withEngine, async () => {
  const { spec } = parse(readFileSync(join(ROOT, OVERLAY_RULES), 'utf8'));
  const { code, said } = await promtool(['check', 'rules'], JSON.stringify(spec));
  assert.equal(code, 0, said);
  assert.match(said, /SUCCESS: 4 rules found/);
});

test('every metric that alerts and Grafana use is on /metrics', withEngine, async () => {
  const kit = await startKit();
  await kit.ready();
  const { body } = await kit.probe('/metrics');
  const requested = ['docker/alerts.yml', 'docker/grafana/dashboard.json', OVERLAY_RULES].flatMap(file =>
    [...readFileSync(join(ROOT, file), 'utf8').matchAll(/\b(?:bosun|http|nodejs|process)_[a-z_]+\b/g)].map(([name]) => name),
  );
  assert.ok(requested.length > 15);
  // Only where the container has such a limit.
  const limits = ['bosun_cpu_limit_cores', 'bosun_memory_limit_bytes', 'bosun_cpu_throttled_seconds_total'];
  for (const name of new Set(requested)) {
    if (limits.includes(name)) continue;
    assert.ok(body.includes(`# TYPE ${name.replace(/_(bucket|count|sum)$/, '')} `), name);
  }
});
