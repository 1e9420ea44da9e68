import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AggregatorRegistry, Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { type NamedMetric, withoutCollisions } from '../src/admin/metric-names.ts';
import type { AppMetric } from '../src/protocol/snapshot.ts';

const KITS = [
  { name: 'http_request_duration_seconds', type: 'histogram' },
  { name: 'nodejs_eventloop_lag_seconds', type: 'gauge' },
  { name: 'process_cpu_user_seconds_total', type: 'counter' },
] satisfies NamedMetric[];

const metricsOf = async (register: (registers: Registry[]) => void): Promise<AppMetric[]> => {
  const registry = new Registry();
  register([registry]);
  return registry.getMetricsAsJSON();
};

const textOf = async (byWorker: AppMetric[][]) => AggregatorRegistry.aggregate(byWorker).metrics();

test('an app metric whose name the kit uses is shown with the prefix app_, summed over the workers', async () => {
  const worker = await metricsOf(registers => {
    const name = 'http_request_duration_seconds';
    new Histogram({ name, help: 'h', labelNames: ['route'], buckets: [1], registers }).observe({ route: '/a' }, 0.5);
    new Gauge({ name: 'bosun_anything', help: 'h', registers }).set(1);
    new Counter({ name: 'jobs_total', help: 'h', registers }).inc();
  });
  const { byWorker, renamed } = withoutCollisions([worker, worker], KITS);
  assert.deepEqual(renamed, ['http_request_duration_seconds', 'bosun_anything']);
  const text = await textOf(byWorker);
  assert.match(text, /^app_http_request_duration_seconds_bucket\{le="1",route="\/a"\} 2$/m);
  assert.match(text, /^app_http_request_duration_seconds_count\{route="\/a"\} 2$/m);
  assert.match(text, /^app_bosun_anything 2$/m);
  assert.match(text, /^jobs_total 2$/m);
  assert.doesNotMatch(text, /^(http_request|bosun_)/m);
});

test('an app metric with the name of a sample of the kit is renamed, and dropped if the new name exists too', async () => {
  const worker = await metricsOf(registers => {
    new Counter({ name: 'http_request_duration_seconds_count', help: 'h', registers }).inc();
    new Gauge({ name: 'nodejs_eventloop_lag_seconds', help: 'h', registers }).set(1);
    new Gauge({ name: 'app_nodejs_eventloop_lag_seconds', help: 'h', registers }).set(7);
  });
  const text = await textOf(withoutCollisions([worker], KITS).byWorker);
  assert.match(text, /^app_http_request_duration_seconds_count 1$/m);
  assert.deepEqual(text.match(/^\w*nodejs_eventloop_lag_seconds .*$/gm), ['app_nodejs_eventloop_lag_seconds 7']);
});

test("prom-client's default metrics of an app are listed beside the kit's", async () => {
  const worker = await metricsOf(([register]) => register && collectDefaultMetrics({ register }));
  const { byWorker, renamed } = withoutCollisions([worker], KITS);
  assert.deepEqual(renamed, ['process_cpu_user_seconds_total', 'nodejs_eventloop_lag_seconds']);
  const names = byWorker.flat().map(({ name }) => name);
  assert.equal(new Set(names).size, worker.length);
  assert.ok(names.includes('app_process_cpu_user_seconds_total') && names.includes('nodejs_gc_duration_seconds'));
});
