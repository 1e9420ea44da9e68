import assert from 'node:assert/strict';
import { test } from 'node:test';
import { applied, change, find, type Manifest, noKubectl, OVERLAYS, read, render } from './k8s/manifests.ts';
import { CUSTOM_KINDS, problems, VERSIONS } from './k8s/schemas.ts';

for (const version of VERSIONS) {
  test(`Kubernetes ${version} knows every field of the manifests`, () => {
    assert.deepEqual(
      [...applied(), ...read('load/load.yaml')].flatMap(manifest => problems(manifest, version)),
      [],
    );
  });

  test(`Kubernetes ${version} knows every field of the overlays`, { skip: noKubectl }, () => {
    assert.deepEqual(
      OVERLAYS.flatMap(overlay => render(`overlays/${overlay}`)).flatMap(manifest => problems(manifest, version)),
      [],
    );
  });

  test(`Kubernetes ${version} refuses unknown fields, wrong types and missing fields`, () => {
    for (const { kind, path, value, says } of FAULTS) {
      const manifest = find(applied(), kind) ?? {};
      change(manifest, path, value);
      const [problem = 'none'] = problems(manifest, version);
      assert.match(problem, says, `${kind} ${path} = ${value}`);
    }
  });
}

const CONTAINER = 'spec.template.spec.containers.0';
const FAULTS: { kind: string; path: string; value: unknown; says: RegExp }[] = [
  { kind: 'Deployment', path: 'spec.minReadySecond', value: 5, says: /additional properties.*"minReadySecond"/ },
  { kind: 'Deployment', path: 'spec.minReadySeconds', value: '5', says: /minReadySeconds must be integer/ },
  { kind: 'Deployment', path: `${CONTAINER}.livenessProbe.httpget`, value: {}, says: /additional properties.*"httpget"/ },
  { kind: 'Deployment', path: `${CONTAINER}.env.0.value`, value: 10000, says: /value must be string/ },
  { kind: 'Deployment', path: `${CONTAINER}.ports.0.containerPort`, value: undefined, says: /required property 'containerPort'/ },
  { kind: 'Deployment', path: 'spec.selector', value: undefined, says: /required property 'selector'/ },
  { kind: 'ConfigMap', path: 'data.PORT', value: 3000, says: /PORT must be string/ },
  { kind: 'Service', path: 'spec.ports.0.targetport', value: 'http', says: /additional properties.*"targetport"/ },
  { kind: 'HorizontalPodAutoscaler', path: 'spec.metrics.0.containerResource.target.type', value: undefined, says: /'type'/ },
  { kind: 'NetworkPolicy', path: 'spec.ingress.0.from', value: {}, says: /from must be array/ },
  { kind: 'PodDisruptionBudget', path: 'spec.maxUnavailable', value: true, says: /maxUnavailable must be/ },
];

test('each Kubernetes version has its own schemas', () => {
  const wanting = (field: string, value: unknown) => {
    const deployment = find(applied(), 'Deployment') ?? {};
    change(deployment, `spec.template.spec.${field}`, value);
    return VERSIONS.filter(version => problems(deployment, version).length === 0);
  };
  const since = (first: string) => VERSIONS.filter(version => version >= first);
  assert.deepEqual(wanting('hostUsers', false), since('1.31'));
  assert.deepEqual(wanting('securityContext.supplementalGroupsPolicy', 'Strict'), since('1.31'));
  assert.deepEqual(wanting('volumes.1', { name: 'app', image: { reference: 'registry/shop:2.0.0' } }), since('1.31'));
  assert.deepEqual(wanting('resources', { limits: { cpu: '2' } }), since('1.32'));
  assert.deepEqual(wanting('hostnameOverride', 'app'), since('1.34'));
  assert.deepEqual(wanting('schedulingGroup', { podGroupName: 'app' }), since('1.36'));
});

test('a custom resource has a schema of its own, which refuses unknown fields, wrong types and values, and missing fields', () => {
  assert.deepEqual(Object.keys(CUSTOM_KINDS).sort(), CUSTOM.map(({ apiVersion, kind }) => `${apiVersion} ${kind}`).sort());
  for (const { wrong, says, ...right } of structuredClone(CUSTOM)) {
    const manifest: Manifest = { ...right, metadata: { name: 'app' } };
    for (const version of VERSIONS) assert.deepEqual(problems(manifest, version), [], `${right.kind}`);
    for (const [path, value] of Object.entries(wrong)) change(manifest, path, value);
    const all = problems(manifest, '1.36');
    for (const expected of says)
      assert.ok(
        all.some(problem => expected.test(problem)),
        `${right.kind}: ${expected}\n${all.join('\n')}`,
      );
  }
});

const TARGET = { apiVersion: 'apps/v1', kind: 'Deployment', name: 'app' };
const CUSTOM: { apiVersion: string; kind: string; spec: Manifest; wrong: Record<string, unknown>; says: RegExp[] }[] = [
  {
    apiVersion: 'gateway.networking.k8s.io/v1',
    kind: 'HTTPRoute',
    spec: {
      hostnames: ['shop.example.com'],
      parentRefs: [{ name: 'gateway', namespace: 'gateways', sectionName: 'https' }],
      rules: [{ matches: [{ path: { type: 'PathPrefix', value: '/' } }], backendRefs: [{ name: 'app', port: 80 }] }],
    },
    wrong: {
      'spec.hosts': ['shop.example.com'],
      'spec.rules.0.matches.0.path.type': 'Prefix',
      'spec.rules.0.backendRefs.0.port': 'http',
      'spec.parentRefs.0.name': undefined,
    },
    says: [/"hosts"/, /path\/type must be equal/, /port must be integer/, /property 'name'/],
  },
  {
    apiVersion: 'gateway.networking.k8s.io/v1',
    kind: 'Gateway',
    spec: { gatewayClassName: 'nginx', listeners: [{ name: 'http', port: 80, protocol: 'HTTP' }] },
    wrong: { 'spec.listeners.0.port': '80', 'spec.gatewayClassName': undefined },
    says: [/port must be integer/, /'gatewayClassName'/],
  },
  {
    apiVersion: 'keda.sh/v1alpha1',
    kind: 'ScaledObject',
    spec: {
      scaleTargetRef: TARGET,
      minReplicaCount: 3,
      triggers: [{ type: 'prometheus', metricType: 'AverageValue', metadata: { serverAddress: 'http://prometheus:9090' } }],
      advanced: { horizontalPodAutoscalerConfig: { behavior: { scaleDown: { stabilizationWindowSeconds: 300 } } } },
    },
    wrong: {
      'spec.minReplicas': 3,
      'spec.triggers.0.metadata.threshold': 1,
      'spec.triggers.0.type': undefined,
      'spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.stabilizationWindowSeconds': '300',
    },
    says: [/"minReplicas"/, /threshold must be string/, /property 'type'/, /stabilizationWindowSeconds must be integer/],
  },
  {
    apiVersion: 'keda.sh/v1alpha1',
    kind: 'TriggerAuthentication',
    spec: { secretTargetRef: [{ parameter: 'bearerToken', name: 'prometheus', key: 'token' }] },
    wrong: { 'spec.secretTargetRef.0.key': undefined, 'spec.secrets': [] },
    says: [/property 'key'/, /"secrets"/],
  },
  {
    apiVersion: 'monitoring.coreos.com/v1',
    kind: 'PodMonitor',
    spec: { selector: { matchLabels: { a: 'b' } }, podMetricsEndpoints: [{ port: 'admin', path: '/metrics', interval: '15s' }] },
    wrong: { 'spec.selector.matchLabel': {}, 'spec.podMetricsEndpoints.0.port': 9090, 'spec.endpoints': [] },
    says: [/"matchLabel"/, /port must be string/, /"endpoints"/],
  },
  {
    apiVersion: 'monitoring.coreos.com/v1',
    kind: 'ServiceMonitor',
    spec: { selector: {}, endpoints: [{ port: 'admin' }] },
    wrong: { 'spec.endpoints': undefined, 'spec.podMetricsEndpoints': [] },
    says: [/'endpoints'/, /"podMetricsEndpoints"/],
  },
  {
    apiVersion: 'monitoring.coreos.com/v1',
    kind: 'PrometheusRule',
    spec: { groups: [{ name: 'app', rules: [{ alert: 'Down', expr: 'up == 0', for: '1m', labels: { severity: 'critical' } }] }] },
    wrong: { 'spec.groups.0.rules.0.expr': undefined, 'spec.groups.0.rules.0.lables': {}, 'spec.groups.0.name': 1 },
    says: [/'expr'/, /"lables"/, /name must be string/],
  },
  {
    apiVersion: 'autoscaling.k8s.io/v1',
    kind: 'VerticalPodAutoscaler',
    spec: {
      targetRef: TARGET,
      updatePolicy: { updateMode: 'InPlaceOrRecreate' },
      resourcePolicy: { containerPolicies: [{ containerName: 'app', maxAllowed: { cpu: '4' } }] },
    },
    wrong: { 'spec.updatePolicy.updateMode': 'InPlace', 'spec.targetRef': undefined, 'spec.resourcePolicy.policies': [] },
    says: [/updateMode must be equal/, /'targetRef'/, /"policies"/],
  },
];

test('unknown kinds, and other versions of known ones, are refused', () => {
  for (const manifest of [
    { apiVersion: 'apps/v1', kind: 'Deploymen' },
    { apiVersion: 'autoscaling/v1', kind: 'HorizontalPodAutoscaler' },
  ]) {
    assert.match(problems(manifest, '1.36')[0] ?? 'none', /not a kind that this project uses/);
  }
});
