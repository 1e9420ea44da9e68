import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nested, type Values } from './k8s/chart.ts';
import { env, noRenderer, render, renderAll, valueAt } from './k8s/chart-render.ts';
import { find, listAt, type Manifest } from './k8s/manifests.ts';

const skip = noRenderer;
const APP = 'spec.template.spec.containers.0';

test('fromRequest takes the CPU request, of the container or of the pod', { skip }, () => {
  const pod = (cpu: unknown) =>
    nested({ workers: 'fromRequest', 'resources.requests': { cpu: null }, 'podResources.requests': { cpu } });
  const [container = [], ...pods] = renderAll([
    { values: { workers: 'fromRequest' } },
    ...[2, '1500m', '200m', '2.5'].map(cpu => ({ values: pod(cpu) })),
  ]);
  assert.deepEqual(env(container, 'NODE_CLUSTER_WORKERS'), {
    valueFrom: { resourceFieldRef: { containerName: 'app', resource: 'requests.cpu', divisor: '1' } },
  });
  assert.deepEqual(
    pods.map(manifests => env(manifests, 'NODE_CLUSTER_WORKERS')),
    ['2', '2', '1', '3'].map(value => ({ value })),
  );
});

test('the app trusts the headers of an Ingress or a Gateway, unless a value decides', { skip }, () => {
  const cases: [Values, boolean][] = [
    [{}, false],
    [{ 'ingress.enabled': true }, true],
    [{ 'httpRoute.enabled': true, 'httpRoute.parentRefs': [{ name: 'g' }] }, true],
    [{ 'ingress.enabled': true, trustProxy: false }, false],
    [{ trustProxy: true }, true],
  ];
  const rendered = renderAll(cases.map(([values]) => ({ values: nested(values) })));
  for (const [index, [values, trusts]] of cases.entries())
    assert.deepEqual(env(rendered[index] ?? [], 'TRUST_PROXY'), trusts ? { value: 'true' } : undefined, JSON.stringify(values));
});

test('sessions wait for a replica of the three pods of Redis, unless a value decides', { skip }, () => {
  const cases: [Values, string | undefined][] = [
    [{ 'redis.mode': 'sentinel' }, '1'],
    [{ 'redis.mode': 'sentinel', 'sessions.waitReplicas': 0 }, undefined],
    [{ 'redis.mode': 'sentinel', 'redis.sentinel.nodes': ['s:26379'], 'redis.sentinel.name': 'm' }, undefined],
    [{ 'redis.mode': 'bundled' }, undefined],
  ];
  const rendered = renderAll(cases.map(([values]) => ({ values: nested(values) })));
  for (const [index, [values, value]] of cases.entries())
    assert.deepEqual(env(rendered[index] ?? [], 'SESSION_WAIT_REPLICAS'), value && { value }, JSON.stringify(values));
});

test('Prometheus gets the token that the admin port requires', { skip }, () => {
  const manifests = render(nested({ 'admin.tokenSecret': 't', 'monitoring.podMonitor': true }));
  assert.deepEqual(valueAt(manifests, 'PodMonitor spec.podMetricsEndpoints.0.authorization'), {
    credentials: { name: 't', key: 'token' },
  });
});

test('each form of Redis sets its variables and no others', { skip }, () => {
  const login = { 'redis.existingSecret': 'r' };
  const cases: [Values, string[]][] = [
    [{ 'redis.mode': 'none', ...login }, []],
    [{}, ['REDIS_URL']],
    [login, ['REDIS_PASSWORD', 'REDIS_URL']],
    [{ 'redis.mode': 'external', ...login }, ['REDIS_PASSWORD', 'REDIS_URL']],
    [
      { 'redis.mode': 'external', 'redis.url': 'rediss://r', 'redis.tls': true, 'redis.ca.secret': 'c' },
      ['REDIS_CA_FILE', 'REDIS_URL'],
    ],
    [
      { 'redis.mode': 'sentinel', 'redis.sentinel.nodes': ['a:1'], 'redis.username': 'u', ...login },
      ['REDIS_PASSWORD', 'REDIS_SENTINELS', 'REDIS_SENTINEL_NAME', 'REDIS_SENTINEL_PASSWORD', 'REDIS_USERNAME'],
    ],
    [
      { 'redis.mode': 'sentinel', ...login },
      ['REDIS_PASSWORD', 'REDIS_SENTINELS', 'REDIS_SENTINEL_NAME', 'REDIS_SENTINEL_PASSWORD'],
    ],
    [{ 'redis.mode': 'cluster', 'redis.cluster.nodes': ['a:1'], 'redis.tls': true }, ['REDIS_CLUSTER_NODES', 'REDIS_TLS']],
  ];
  const rendered = renderAll(cases.map(([values]) => ({ values: nested(values) })));
  for (const [index, [values, expected]] of cases.entries()) {
    const names = listAt(find(rendered[index] ?? [], 'Deployment', 'shop-koa-bosun'), `${APP}.env`).map(({ name }) =>
      String(name),
    );
    assert.deepEqual(names.filter(name => name.startsWith('REDIS_')).sort(), expected, JSON.stringify(values));
  }
});

test('the network policy lets the app reach its Redis, whichever it is', { skip }, () => {
  const portsOf = (values: Values) =>
    (valueAt(render(nested({ 'networkPolicy.enabled': true, ...values })), 'NetworkPolicy spec.egress') as Manifest[])
      .flatMap(rule => listAt(rule, 'ports'))
      .map(({ port }) => port)
      .filter(port => port !== 53);
  assert.deepEqual(portsOf({ 'redis.mode': 'none' }), []);
  assert.deepEqual(portsOf({}), [6379, 26379]);
  assert.deepEqual(portsOf({ 'redis.mode': 'external', 'redis.url': 'redis://r' }), [6379]);
  assert.deepEqual(portsOf({ 'redis.mode': 'external', 'redis.url': 'rediss://[::1]:6390/0' }), [6390]);
  assert.deepEqual(portsOf({ 'redis.mode': 'external', 'redis.existingSecret': 'r' }), [6379, 6380]);
  assert.deepEqual(portsOf({ 'redis.mode': 'cluster', 'redis.cluster.nodes': ['a:7000', 'b:7001'] }), [7000, 7001]);
});
