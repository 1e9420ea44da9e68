/**
 * The profile `observability` at work: a real Prometheus with the files of docker/ finds two app containers by DNS, scrapes them, evaluates
 * the alert rules, and answers every query of the Grafana dashboard.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type StartedNetwork, Wait } from 'testcontainers';
import { parse } from 'yaml';
import { alertRules } from '../alert-rules.ts';
import { request, requestJson } from '../process/clients.ts';
import { ROOT } from '../process/kit.ts';
import { until } from '../until.ts';
import { type App, AppContainer, startApp } from './app.ts';
import { removeContainerAtEnd, startNetwork, uniqueName, withEngine } from './engine.ts';

const PROMETHEUS_PORT = 9090;
/** How often is scraped, evaluated and looked up: 5 to 15 s, for which no test needs to wait. */
const INTERVALS = /((?:scrape|evaluation|refresh)_interval:) \d+s/g;
/** Two scrapes and an evaluation, and a busy machine. */
const SCRAPED_TIMEOUT_MS = 90_000;
const READY_TIMEOUT_MS = 30_000;
const LOAD_EVERY_MS = 50;
const TRACE = '0af7651916cd43dd8448eb211c80319c';
const TRACED = { traceparent: `00-${TRACE}-b7ad6b7169203331-01` };

interface Series {
  metric: Record<string, string>;
  value: [at: number, value: string];
}

interface Exemplars {
  seriesLabels: Record<string, string>;
  exemplars: { labels: Record<string, string>; value: string; timestamp: number }[];
}

interface Rule {
  name: string;
  labels: Record<string, string>;
  health: 'ok' | 'err' | 'unknown';
  lastError?: string;
  state: 'inactive' | 'pending' | 'firing';
}

/** What of a service of compose.yaml Prometheus has. */
interface Service {
  image: string;
  command: string[];
  volumes: string[];
}

interface Target {
  scrapeUrl: string;
  health: string;
  lastError: string;
}

let apps: App[];
let port: number;

const docker = (file: string) => join(ROOT, 'docker', file);

/** What Prometheus' HTTP API answers; a refusal is an error in its own words. */
async function api<T>(path: string, parameters: Record<string, string> = {}): Promise<T> {
  const answer = await requestJson<{ status: string; data: T; error?: string }>(
    port,
    `/api/v1/${path}?${new URLSearchParams(parameters)}`,
  );
  assert.equal(answer.status, 'success', `${path} ${JSON.stringify(parameters)}: ${answer.error}`);
  return answer.data;
}

async function query(expression: string): Promise<Series[]> {
  return (await api<{ result: Series[] }>('query', { query: expression })).result;
}

async function rules(): Promise<Rule[]> {
  const { groups } = await api<{ groups: { rules: Rule[] }[] }>('rules');
  return groups.flatMap(group => group.rules);
}

/** As compose.yaml starts it, but in a hurry. */
async function startPrometheus(network: StartedNetwork): Promise<number> {
  const name = uniqueName();
  removeContainerAtEnd(name);
  const { image, command, volumes } = parse(readFileSync(join(ROOT, 'compose.yaml'), 'utf8')).services.prometheus as Service;
  const files = volumes.map(volume => {
    const [source = '', target = ''] = volume.split(':');
    return { content: readFileSync(join(ROOT, source), 'utf8').replace(INTERVALS, '$1 1s'), target };
  });
  const container = await new AppContainer(image)
    .withName(name)
    .withNetwork(network)
    .withCopyContentToContainer(files)
    .withCommand(command)
    .withPortsOnLoopback(PROMETHEUS_PORT)
    .withWaitStrategy(Wait.forHttp('/-/ready', PROMETHEUS_PORT).withStartupTimeout(READY_TIMEOUT_MS))
    .start();
  return container.getMappedPort(PROMETHEUS_PORT);
}

test('Prometheus', withEngine, async t => {
  const network = await startNetwork();
  const limited = {
    network,
    alias: 'app',
    cpus: 1,
    memoryMb: 256,
    env: { NODE_CLUSTER_WORKERS: '2', NODE_ENV: 'development', METRICS_ROUTES: 'true', ADAPTIVE_CONCURRENCY: 'true' },
  };
  apps = await Promise.all([startApp(limited), startApp(limited)]);
  [port] = await Promise.all([startPrometheus(network), ...apps.map(crashOnce)]);
  const load = setInterval(() => {
    for (const app of apps) for (const path of ['/', '/nothing-there']) void request(app.port, path, { headers: TRACED });
  }, LOAD_EVERY_MS);
  await until(
    async () => {
      const scraped = await query(
        'count by (instance) (rate(http_request_duration_seconds_count[1m]) > 0) and on (instance) rate(bosun_worker_exits_total[1m])',
      );
      const evaluated = (await rules()).every(({ health }) => health !== 'unknown');
      return (scraped.length === 2 && evaluated) || undefined;
    },
    () => `two pods scraped twice expected; ${apps.map(app => app.transcript()).join('\n')}`,
    SCRAPED_TIMEOUT_MS,
  ).finally(() => clearInterval(load));

  await t.test('Prometheus finds both containers by one name and scrapes them without an error', async () => {
    const { activeTargets } = await api<{ activeTargets: Target[] }>('targets', { state: 'active' });
    const addresses = await Promise.all(
      apps.map(async app => (await app.inspect()).NetworkSettings.Networks[network.getName()]?.IPAddress),
    );
    const expected = addresses.map(address => ({ url: `http://${address}:9090/metrics`, health: 'up', lastError: '' }));
    const found = activeTargets.map(({ scrapeUrl: url, health, lastError }) => ({ url, health, lastError }));
    const byUrl = (a: { url: string }, b: { url: string }) => a.url.localeCompare(b.url);
    assert.deepEqual(found.sort(byUrl), expected.sort(byUrl));
    assert.deepEqual(
      (await query('up{job="koa-bosun"}')).map(({ value }) => value[1]),
      ['1', '1'],
    );
  });

  await t.test(
    'Prometheus, which requests OpenMetrics, finds the trace of a slow request: the exemplar of its bucket',
    async () => {
      const now = Date.now() / 1000;
      const range = { start: String(now - 3600), end: String(now + 3600) };
      let found: Exemplars[] = [];
      await until(
        async () => {
          found = await api<Exemplars[]>('query_exemplars', { query: 'http_request_duration_seconds_bucket', ...range });
          const series = new Set(found.map(({ seriesLabels: { instance, status } }) => `${instance} ${status}`));
          return series.size === 4 || undefined;
        },
        () => `exemplars of two pods with two statuses expected, got ${JSON.stringify(found)}`,
      );
      for (const { seriesLabels, exemplars } of found)
        for (const { labels, value, timestamp } of exemplars) {
          assert.deepEqual(labels, { trace_id: TRACE });
          assert.ok(Number(value) <= Number(seriesLabels.le?.replace('+Inf', 'Infinity')));
          assert.ok(Math.abs(timestamp - now) < 3600);
        }
    },
  );

  await t.test('Prometheus loads every alert rule and evaluates them without an error', async () => {
    const loaded = await rules();
    assert.deepEqual(
      loaded.map(({ name, health, lastError }) => ({ name, health, lastError })),
      alertRules().map(({ alert }) => ({ name: alert, health: 'ok', lastError: undefined })),
    );
    const critical = loaded.filter(({ labels }) => labels.severity === 'critical');
    assert.ok(critical.length >= 3);
    assert.deepEqual(new Set(critical.map(({ state }) => state)), new Set(['inactive']), 'two pods serve');
  });

  await t.test('Prometheus answers every expression of the Grafana dashboard', async () => {
    const { panels } = JSON.parse(readFileSync(docker('grafana/dashboard.json'), 'utf8')) as {
      panels: { title: string; targets?: { expr: string }[] }[];
    };
    const requested = panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => ({ title, expr })));
    assert.ok(requested.length > 15);
    for (const { title, expr } of requested) {
      const expression = expr.replaceAll('$instance', '.*').replaceAll('$__range', '15m');
      assert.doesNotMatch(expression, /\$/, `${title}: a variable that this test does not know`);
      const found = await query(expression);
      // Only where the kernel reports it.
      if (found.length > 0 || !expression.includes('bosun_pressure_')) assertFinite(found, `${title}: ${expression}`);
    }
    assert.equal((await api<string[]>('label/instance/values', { 'match[]': 'bosun_workers_wanted' })).length, 2);
  });
});

/** So that every series is there, exits among them. Resolves when the pool is whole again. */
async function crashOnce(app: App): Promise<void> {
  await app.ready();
  await request(app.port, '/crash');
  await until(
    async () => {
      const { restarts, workers } = await app.status();
      return (restarts.byReason.crash === 1 && workers.every(({ state }) => state === 'ready')) || undefined;
    },
    () => app.transcript(),
    READY_TIMEOUT_MS,
  );
}

function assertFinite(series: readonly Series[], what: string): void {
  assert.ok(series.length > 0, `${what} gives nothing`);
  for (const { value } of series) assert.ok(Number.isFinite(Number(value[1])), `${what} gives ${value[1]}`);
}
