import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { request } from '../process/clients.ts';
import { ROOT, startKit } from '../process/kit.ts';
import { temporaryFolder } from '../process/operator.ts';
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

const OPERATOR_RULES = 'k8s/components/monitoring/rules.yaml';

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

test('the alerts of the component monitoring fire for the app that they name, and for no other', withEngine, async () => {
  const { spec } = parse(readFileSync(join(ROOT, OPERATOR_RULES), 'utf8'));
  const folder = temporaryFolder();
  chmodSync(folder, 0o755); // promtool is nobody there
  writeFileSync(join(folder, 'rules.json'), JSON.stringify(spec));
  writeFileSync(
    join(folder, 'test.json'),
    JSON.stringify({ rule_files: ['rules.json'], evaluation_interval: '1m', tests: FIRES }),
  );
  const { code, said } = await promtool(['test', 'rules', '/rules/test.json'], '', [`${folder}:/rules:ro`]);
  assert.equal(code, 0, said);
  const { said: checked } = await promtool(['check', 'rules'], JSON.stringify(spec));
  assert.match(checked, /SUCCESS: 7 rules found/);
});

const SHOP = 'namespace="team",job="team/shop-app",instance="shop-app-1-a"';
const CART = 'namespace="team",job="team/cart-app",instance="cart-app-1-a"';
const series = (metric: string, labels: string, values: string) => ({ series: `${metric}{${labels}}`, values });
const fires = (alertname: string, at: string, labels: Record<string, string> | undefined, summary = '') => ({
  alertname,
  eval_time: at,
  exp_alerts: labels ? [{ exp_labels: { namespace: 'team', ...labels }, exp_annotations: { summary } }] : [],
});
const NOBODY = (job: string) => `no worker of ${job} is ready, or Prometheus finds no pod of it`;
const CRITICAL = { severity: 'critical' };

/** Minutes of two apps. The series of a pod that is gone end. */
const FIRES = [
  {
    name: 'all pods of shop are gone after five minutes, cart serves',
    interval: '1m',
    input_series: [
      series('bosun_workers', `${SHOP},state="ready"`, '2x5 stale'),
      series('bosun_workers_wanted', SHOP, '2x5 stale'),
      series('bosun_workers', `${CART},state="ready"`, '2x30'),
      series('bosun_workers_wanted', CART, '2x30'),
    ],
    alert_rule_test: [
      fires('BosunNobodyServes', '4m', undefined),
      fires('BosunNobodyServes', '10m', { ...CRITICAL, job: 'team/shop-app' }, NOBODY('team/shop-app')),
    ],
  },
  {
    name: 'cart never becomes ready',
    interval: '1m',
    input_series: [series('bosun_workers', `${CART},state="ready"`, '0x30'), series('bosun_workers_wanted', CART, '2x30')],
    alert_rule_test: [fires('BosunNobodyServes', '5m', { ...CRITICAL, job: 'team/cart-app' }, NOBODY('team/cart-app'))],
  },
  {
    name: 'server errors of shop, and of a program that is not ours',
    interval: '1m',
    input_series: [
      series('bosun_workers_wanted', SHOP, '2x30'),
      series('http_request_duration_seconds_count', `${SHOP},status="200"`, '0+95x30'),
      series('http_request_duration_seconds_count', `${SHOP},status="503"`, '0+5x30'),
      series('http_request_duration_seconds_count', 'namespace="team",job="other",status="500"', '0+100x30'),
    ],
    alert_rule_test: [
      fires(
        'BosunServerErrors',
        '15m',
        { ...CRITICAL, job: 'team/shop-app' },
        '5% of the answers of team/shop-app are server errors',
      ),
    ],
  },
  {
    name: 'shop is full',
    interval: '1m',
    input_series: [series('bosun_utilization', SHOP, '0.95x30'), series('bosun_utilization', CART, '0.5x30')],
    alert_rule_test: [
      fires('BosunFull', '8m', undefined),
      fires(
        'BosunFull',
        '20m',
        { severity: 'warning', job: 'team/shop-app' },
        'team/shop-app is full: more pods than maxReplicas, or larger ones, are needed',
      ),
    ],
  },
];

test('every metric that alerts and Grafana use is on /metrics', withEngine, async () => {
  const kit = await startKit();
  await kit.ready();
  const { body } = await kit.probe('/metrics');
  const requested = ['docker/alerts.yml', 'docker/grafana/dashboard.json', OPERATOR_RULES].flatMap(file =>
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
