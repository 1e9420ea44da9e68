import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import packageJson from '../package.json' with { type: 'json' };
import { applied, FILES, find, noKubectl, render } from './k8s/manifests.ts';
import { at, broken, type Manifest, RULES } from './k8s/rules.ts';

test('the manifests keep every rule', () => {
  assert.ok(applied().length >= 13);
  assert.deepEqual(broken(applied()), []);
});

/** Where a manifest is broken, with which value, and the rule that says so. */
const MUTATIONS: [kind: string, path: string, value: unknown, rule: string][] = [
  ['Namespace', 'kind', 'Pod', 'namespace-first'],
  ['Service', 'metadata.namespace', undefined, 'namespace-field'],
  ['Namespace', 'metadata.labels', {}, 'pod-security'],
  ['Deployment', 'spec.template.spec.automountServiceAccountToken', true, 'no-token'],
  ['Deployment', 'spec.template.spec.enableServiceLinks', undefined, 'no-service-links'],
  ['Deployment', 'spec.template.spec.securityContext.runAsNonRoot', false, 'non-root'],
  ['Deployment', 'spec.template.spec.securityContext.seccompProfile', undefined, 'seccomp'],
  ['Deployment', 'spec.template.spec.containers.0.securityContext.allowPrivilegeEscalation', true, 'no-escalation'],
  ['Deployment', 'spec.template.spec.containers.0.securityContext.capabilities.drop', [], 'no-capabilities'],
  ['Deployment', 'spec.template.spec.containers.0.securityContext.readOnlyRootFilesystem', false, 'read-only-root'],
  ['Deployment', 'spec.template.spec.containers.0.resources.limits.cpu', undefined, 'limits'],
  ['Deployment', 'spec.template.spec.containers.0.resources.requests.memory', '1Gi', 'memory-request'],
  ['Deployment', 'spec.template.spec.containers.0.image', 'koa-bosun:latest', 'image-fixed'],
  ['Deployment', 'spec.template.spec.containers.0.startupProbe', undefined, 'three-probes'],
  ['Deployment', 'spec.template.spec.containers.0.readinessProbe.httpGet.path', '/livez', 'probes-differ'],
  ['Deployment', 'spec.template.spec.containers.0.livenessProbe.httpGet.port', 'admn', 'probe-port'],
  ['Deployment', 'spec.template.spec.containers.0.startupProbe.httpGet.path', '/startupz', 'start-without-redis'],
  ['Deployment', 'spec.template.spec.terminationGracePeriodSeconds', 38, 'grace-period'],
  ['Deployment', 'spec.template.spec.containers.0.lifecycle', { preStop: {} }, 'no-pre-stop'],
  ['Deployment', 'spec.strategy.rollingUpdate.maxUnavailable', 1, 'surge-first'],
  ['Deployment', 'spec.replicas', 3, 'replicas-or-autoscaler'],
  ['Deployment', 'spec.template.spec.containers.0.resizePolicy', [], 'resize-in-place'],
  ['PodDisruptionBudget', 'spec.unhealthyPodEvictionPolicy', undefined, 'drain-goes-on'],
  ['PodDisruptionBudget', 'spec.selector.matchLabels', { a: 'b' }, 'budget-target'],
  ['HorizontalPodAutoscaler', 'spec.scaleTargetRef.name', 'ap', 'autoscaler-target'],
  ['HorizontalPodAutoscaler', 'spec.minReplicas', 1, 'autoscaler-minimum'],
  ['Service', 'spec.ports.0.targetPort', 'htp', 'service-target'],
  ['Service', 'spec.ports.0.targetPort', 'admin', 'admin-inside'],
  ['NetworkPolicy', 'spec.podSelector', { matchLabels: { a: 'b' } }, 'default-deny'],
  ['Deployment', 'spec.template.spec.serviceAccountName', 'ap', 'references'],
];

test('each rule sees the fault that it is for', () => {
  for (const [kind, path, value, rule] of MUTATIONS) {
    const manifests = applied();
    const name = { Namespace: 'koa-bosun', NetworkPolicy: 'default-deny' }[kind];
    const keys = path.split('.');
    const last = keys.pop() ?? '';
    const manifest = find(manifests, kind, name);
    const parent = keys.length > 0 ? at(manifest, keys.join('.')) : manifest;
    assert.ok(parent, path);
    (parent as Manifest)[last] = value;
    const seen = broken(manifests).map(fault => fault.split(':')[0]);
    assert.ok(seen.includes(rule), `${kind} ${path} = ${value} must break ${rule}, broken: ${seen}`);
  }
  assert.deepEqual(new Set(MUTATIONS.map(([, , , rule]) => rule)), new Set(RULES.map(({ id }) => id)));
});

test('only kinds of a stock cluster, no Secret, and no kustomization in the folder', () => {
  assert.equal(FILES[0], '00-namespace.yaml');
  assert.ok(!FILES.some(file => file.startsWith('kustomization')));
  const foreign = applied().filter(({ kind, apiVersion }) => kind === 'Secret' || /\.(io|com)\//.test(String(apiVersion)));
  assert.deepEqual(
    foreign.map(({ apiVersion }) => apiVersion).filter(version => version !== 'networking.k8s.io/v1'),
    [],
  );
});

test('the image is the one of this version', () => {
  assert.equal(at(find(applied(), 'Deployment'), 'spec.template.spec.containers.0.image'), `koa-bosun:${packageJson.version}`);
});

test('a change of the ConfigMap rolls the pods', () => {
  const manifests = applied();
  const data = JSON.stringify(at(find(manifests, 'ConfigMap'), 'data'));
  const hash = createHash('sha256').update(data).digest('hex').slice(0, 16);
  const annotations = at(find(manifests, 'Deployment'), 'spec.template.metadata.annotations') as Manifest;
  assert.equal(annotations['koa-bosun/config-hash'], hash, 'write it into k8s/base/30-app.yaml');
});

for (const overlay of ['local', 'production'] as const) {
  test(`the overlay ${overlay} renders, and keeps every rule`, { skip: noKubectl }, () => {
    const manifests = render(overlay);
    assert.deepEqual(broken(manifests), []);
    assert.equal(find(manifests, 'StatefulSet', 'redis') === undefined, overlay === 'production');
  });
}

test('the overlay monitoring selects the pods and a port of theirs', { skip: noKubectl }, () => {
  const monitor = find(render('monitoring'), 'PodMonitor');
  const deployment = find(applied(), 'Deployment');
  assert.deepEqual(at(monitor, 'spec.selector'), at(deployment, 'spec.selector'));
  assert.equal(at(monitor, 'spec.podMetricsEndpoints.0.port'), at(deployment, 'spec.template.spec.containers.0.ports.1.name'));
});
