import assert from 'node:assert/strict';
import { globSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { CHART, nested, readChart, type Values } from './k8s/chart.ts';
import { sharedFiles } from './k8s/chart-files.ts';
import { noRenderer, renderAll } from './k8s/chart-render.ts';
import { CHOICES, renderTogether } from './k8s/compositions.ts';
import { applied, at, containersOf, listAt, type Manifest, noKubectl } from './k8s/manifests.ts';

/** The values under which the chart is what k8s/overlays/default is. The Secrets are optional there; a Secret that a value names must exist. */
const LIKE_DEFAULT: Values = {
  fullnameOverride: 'app',
  'redis.existingSecret': 'redis',
  'sessions.keysSecret': 'session-keys',
  'admin.tokenSecret': 'admin-token',
  'autoscaling.mode': 'cpu',
  'networkPolicy.enabled': true,
  'networkPolicy.adminFrom': [{ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'monitoring' } } }],
};

const OVERLAYS = [
  {
    name: 'a',
    namespace: 'a',
    image: 'registry/files:2.0.0',
    port: 8080,
    host: 'a.example.com',
    components: [
      'redis-sentinel',
      'network-policy',
      'ingress',
      'httproute',
      'image-volume',
      'topology',
      'user-namespaces',
      'ipv6',
      'hpa-utilization',
    ],
  },
  {
    name: 'b',
    namespace: 'b',
    image: 'registry/b:2.0.0',
    components: ['network-policy', 'external-redis', 'redis-ca', 'keda', 'monitoring'],
  },
];

const SECRETS: Values = {
  'sessions.keysSecret': 'session-keys',
  'admin.tokenSecret': 'admin-token',
  'redis.existingSecret': 'redis',
};

/** The values under which the chart is what each overlay is. */
const LIKE_OVERLAYS: Values[] = [
  {
    ...SECRETS,
    fullnameOverride: 'a-app',
    'app.imageVolume.reference': 'registry/files:2.0.0',
    'app.port': 8080,
    'redis.mode': 'sentinel',
    'networkPolicy.enabled': true,
    'networkPolicy.adminFrom': [{ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'monitoring' } } }],
    'ingress.enabled': true,
    'ingress.hosts': [{ host: 'a.example.com' }],
    'httpRoute.enabled': true,
    'httpRoute.parentRefs': [{ group: 'gateway.networking.k8s.io', kind: 'Gateway', name: 'gateway' }],
    'httpRoute.hostnames': ['a.example.com'],
    topologySpreadConstraints: ['kubernetes.io/hostname', 'topology.kubernetes.io/zone'].map(topologyKey => {
      return { maxSkew: 1, topologyKey, whenUnsatisfiable: 'DoNotSchedule', matchLabelKeys: ['pod-template-hash'] };
    }),
    'service.trafficDistribution': 'PreferClose',
    hostUsers: false,
    ipFamily: 'DualStack',
    'autoscaling.mode': 'custom',
  },
  {
    ...SECRETS,
    fullnameOverride: 'b-app',
    'image.repository': 'registry/b',
    'image.tag': '2.0.0',
    'redis.mode': 'external',
    'redis.ca.secret': 'redis',
    'networkPolicy.enabled': true,
    'networkPolicy.adminFrom': [{ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'monitoring' } } }],
    'autoscaling.mode': 'keda',
    'monitoring.podMonitor': true,
    'monitoring.rules': true,
    'monitoring.dashboard': true,
  },
];

const PREFIX = 'app.kubernetes.io/';

/** `app` or `redis` for a selector of one of them, else the value. */
function withoutSelectors(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutSelectors);
  if (typeof value !== 'object' || value === null) return value;
  const labels = value as Manifest;
  const { [`${PREFIX}instance`]: instance, 'apps.kubernetes.io/pod-index': pod } = labels;
  const who = labels[`${PREFIX}component`] ?? labels[`${PREFIX}name`];
  if (instance !== undefined) return `${who === 'app' || who === 'koa-bosun' ? 'app' : 'redis'} ${pod ?? ''}`;
  return Object.fromEntries(Object.entries(labels).map(([key, inner]) => [key, withoutSelectors(inner)]));
}

/** The environment of a container as the app sees it, by name: a ConfigMap's data is part of it. */
function environmentOf(container: Manifest, all: readonly Manifest[]): Manifest {
  const maps = listAt(container, 'envFrom').map(source =>
    all.find(one => at(one, 'metadata.name') === at(source, 'configMapRef.name')),
  );
  const plain = maps.flatMap(map => Object.entries((map?.data ?? {}) as Manifest).map(([name, value]) => [name, { value }]));
  const listed = listAt(container, 'env').map(({ name, ...source }) => [name, source]);
  return Object.fromEntries([...plain, ...listed]) as Manifest;
}

/** How Redis is reached is said in other variables; PORT, if it is 3000, is said by the chart alone. */
const OWN_VARIABLES = /^(REDIS_(URL|HOST|GROUP|SENTINELS|PASSWORD)|PORT)$/;

const byName = (one: Manifest, other: Manifest) => String(one.name).localeCompare(String(other.name));

/** Objects by kind and name, without what a chart and kustomize write differently: names, labels, the ConfigMap of the environment. */
function comparable(all: readonly Manifest[]): Record<string, unknown> {
  const found: Record<string, Manifest> = {};
  const name = (text: string) =>
    text
      .replace(/\b([ab]-)?app-redis/g, '$1redis')
      .replace(/redis-sentinel-[a-z0-9]{10}(?=")/g, 'redis-sentinel')
      .replaceAll(',"optional":true', '')
      .replaceAll(',"optional":false', '');
  for (const { metadata, kind, ...manifest } of structuredClone(all)) {
    const own = name(String(at(metadata, 'name')))
      .replace(/app-(admin|egress)$/, 'app')
      .replace('app-dashboard', 'dashboard');
    if (kind === 'Namespace' || kind === 'Pod' || /^ConfigMap (.*-)?app/.test(`${kind} ${own}`)) continue;
    const template = at(manifest, 'spec.template') as Manifest | undefined;
    delete template?.metadata;
    for (const container of containersOf(manifest)) {
      const environment = Object.entries(environmentOf(container, all)).filter(([name]) => !OWN_VARIABLES.test(name));
      container.env = Object.fromEntries(environment);
      delete container.envFrom;
      listAt(container, 'volumeMounts').sort(byName);
    }
    listAt(template, 'spec.volumes').sort(byName);
    // The chart knows when the app has an ADMIN_TOKEN.
    for (const endpoint of listAt(manifest, 'spec.podMetricsEndpoints')) delete endpoint.authorization;
    for (const claim of listAt(manifest, 'spec.volumeClaimTemplates')) delete (claim.metadata as Manifest).labels;
    const one = JSON.parse(name(JSON.stringify(withoutSelectors(manifest)))) as Manifest;
    const key = `${kind} ${own.replace(/-[a-z0-9]{10}$/, '')}`;
    const before = found[key];
    if (before === undefined) found[key] = one;
    // Policies of the same pods add up.
    else
      for (const direction of ['ingress', 'egress'])
        listAt(before, `spec.${direction}`).push(...listAt(one, `spec.${direction}`));
  }
  const hasRedis = all.some(({ kind }) => kind === 'StatefulSet');
  for (const policy of Object.values(found).filter(one => Array.isArray(at(one, 'spec.egress')))) {
    // Without a Redis of its own, the component lets the app reach pods that do not exist.
    const rules = listAt(policy, 'spec.egress').filter(rule => hasRedis || at(rule, 'to.0.podSelector.matchLabels') !== 'redis ');
    (policy.spec as Manifest).egress = rules.map(rule => JSON.stringify(rule)).sort();
  }
  return Object.fromEntries(Object.entries(found).sort(([a], [b]) => a.localeCompare(b)));
}

test('the chart renders what kubectl apply -f k8s applies', { skip: noRenderer }, () => {
  const [chart = []] = renderAll([{ values: nested(LIKE_DEFAULT), namespace: 'koa-bosun', release: 'koa-bosun' }]);
  assert.ok(applied().length >= 10);
  assert.deepEqual(comparable(chart), comparable(applied()));
});

test('the chart renders what overlays with each component render', { skip: noRenderer || noKubectl }, () => {
  const charts = renderAll(
    LIKE_OVERLAYS.map((values, index) => ({ values: nested(values), namespace: OVERLAYS[index]?.namespace ?? '' })),
  );
  const rendered = renderTogether(OVERLAYS);
  for (const [index, { namespace }] of OVERLAYS.entries())
    assert.deepEqual(comparable(charts[index] ?? []), comparable(rendered.get(namespace) ?? []), namespace);
  const missing = CHOICES.filter(
    component => !['redis', 'namespace', 'hpa', 'vpa', ...OVERLAYS.flatMap(({ components }) => components)].includes(component),
  );
  assert.deepEqual(missing, [], 'components without values that render the same');
});

test('what the chart shares with the components is the same text', () => {
  assert.deepEqual(globSync('**/*.*', { cwd: join(CHART, 'files') }).sort(), [...sharedFiles().keys()].sort());
  for (const [name, text] of sharedFiles())
    assert.equal(readChart(`files/${name}`), text, `make k8s-render writes files/${name}`);
});
