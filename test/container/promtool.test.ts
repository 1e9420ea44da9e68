import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { CASES, type Series } from '../alert-cases.ts';
import { ALERTS, alertRules } from '../alert-rules.ts';
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
  assert.match(said, new RegExp(`SUCCESS: ${alertRules().length} rules found`));
});

test('each alert rule fires with the series that it is for, and not with similar ones', withEngine, async () => {
  const folder = temporaryFolder();
  chmodSync(folder, 0o755); // promtool is nobody there
  writeFileSync(
    join(folder, 'test.json'),
    JSON.stringify({ rule_files: ['alerts.yml'], evaluation_interval: INTERVAL, tests: expectations() }),
  );
  copyFileSync(ALERTS, join(folder, 'alerts.yml'));
  const { code, said } = await promtool(['test', 'rules', '/rules/test.json'], '', [`${folder}:/rules:ro`]);
  assert.equal(code, 0, said);
});

const INTERVAL = '15s';

/** When a case without an alert is looked at. */
const ALWAYS = ['615s', '630s', '11m', '12m', '13m', '14m', '15m'];

/** What promtool expects of one alert over some series: `alerts` at each of these times. */
const expectation = (name: string, series: Series, alertname: string, at: readonly string[], alerts: object[]) => ({
  name,
  interval: INTERVAL,
  input_series: Object.entries(series).map(([labels, values]) => ({ series: labels, values })),
  alert_rule_test: at.map(eval_time => ({ eval_time, alertname, exp_alerts: alerts })),
});

/** All cases, as promtool reads them. */
function expectations(): object[] {
  return alertRules().flatMap(({ alert, labels: { severity }, annotations: { runbook_url } }) => {
    const { fires, alsoFires = {}, quiet } = CASES[alert] ?? assert.fail(`no cases of ${alert}`);
    return [
      ...Object.entries({ fires, ...alsoFires }).map(([why, { series, at, labels, summary }]) =>
        expectation(
          `${alert}, ${why}`,
          series,
          alert,
          [at],
          [{ exp_labels: { severity, ...labels }, exp_annotations: { summary, runbook_url } }],
        ),
      ),
      ...Object.entries(quiet).map(([why, series]) => expectation(`${alert}, ${why}`, series, alert, ALWAYS, [])),
    ];
  });
}

test('every metric that alerts and Grafana use is on /metrics', withEngine, async () => {
  const kit = await startKit({ env: { ADAPTIVE_CONCURRENCY: 'true' } });
  await kit.ready();
  const { body } = await kit.probe('/metrics');
  const requested = ['docker/alerts.yml', 'docker/grafana/dashboard.json'].flatMap(file =>
    [...readFileSync(join(ROOT, file), 'utf8').matchAll(/\b(?:bosun|http|nodejs|process)_[a-z_]+\b/g)].map(([name]) => name),
  );
  assert.ok(requested.length > 15);
  // Only where the container has such a limit, Redis, or an app with health checks.
  const others = [
    'bosun_memory_limit_bytes',
    'bosun_cpu_throttled_seconds_total',
    'bosun_pressure_memory_stalled_seconds_total',
    'bosun_pressure_cpu_waiting_seconds_total',
    'bosun_pressure_memory_waiting_seconds_total',
    'bosun_pressure_io_waiting_seconds_total',
    'bosun_redis_refusals',
    'bosun_health_check_failing',
  ];
  for (const name of new Set(requested)) {
    if (others.includes(name)) continue;
    assert.ok(body.includes(`# TYPE ${name.replace(/_(bucket|count|sum)$/, '')} `), name);
  }
});
