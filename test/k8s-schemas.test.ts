import assert from 'node:assert/strict';
import { test } from 'node:test';
import { applied, change, find, noKubectl, OVERLAYS, read, render } from './k8s/manifests.ts';
import { FOREIGN, problems, VERSIONS } from './k8s/schemas.ts';

for (const version of VERSIONS) {
  test(`Kubernetes ${version} knows every field of the manifests`, () => {
    assert.deepEqual(
      [...applied(), ...read('load/load.yaml')].flatMap(manifest => problems(manifest, version)),
      [],
    );
  });

  test(`Kubernetes ${version} knows every field of the overlays`, { skip: noKubectl }, () => {
    const rendered = OVERLAYS.flatMap(render);
    assert.deepEqual(
      rendered.flatMap(manifest => problems(manifest, version)),
      [],
    );
    // The Prometheus operator's kinds have no schema here.
    const foreign = rendered.map(({ apiVersion, kind }) => `${apiVersion} ${kind}`).filter(kind => FOREIGN.includes(kind));
    assert.deepEqual(foreign, FOREIGN);
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
  { kind: 'HorizontalPodAutoscaler', path: 'spec.metrics.0.resource.target.type', value: undefined, says: /'type'/ },
  { kind: 'NetworkPolicy', path: 'spec.ingress.0.from', value: {}, says: /from must be array/ },
  { kind: 'PodDisruptionBudget', path: 'spec.maxUnavailable', value: true, says: /maxUnavailable must be/ },
];

test('each Kubernetes version has its own schemas', () => {
  const wanting = (field: string, value: unknown) => {
    const deployment = find(applied(), 'Deployment') ?? {};
    change(deployment, `spec.template.spec.${field}`, value);
    return VERSIONS.filter(version => problems(deployment, version).length === 0);
  };
  assert.deepEqual(wanting('securityContext.supplementalGroupsPolicy', 'Strict'), ['1.32', '1.33', '1.34', '1.36']);
  assert.deepEqual(wanting('resources', { limits: { cpu: '2' } }), ['1.32', '1.33', '1.34', '1.36']);
  assert.deepEqual(wanting('hostnameOverride', 'app'), ['1.34', '1.36']);
});

test('unknown kinds, and other versions of known ones, are refused', () => {
  for (const manifest of [
    { apiVersion: 'apps/v1', kind: 'Deploymen' },
    { apiVersion: 'autoscaling/v1', kind: 'HorizontalPodAutoscaler' },
  ]) {
    assert.match(problems(manifest, '1.36')[0] ?? 'none', /not a kind/);
  }
});
