/**
 * The components that scale and watch an app, in an overlay of somebody else: another namespace, a prefix, an instance.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { test } from 'node:test';
import { stringify } from 'yaml';
import {
  at,
  containersOf,
  find,
  K8S,
  kustomize,
  labelsOf,
  listAt,
  type Manifest,
  noKubectl,
  ofKind,
  parse,
  portsOf,
  read,
  selects,
} from './k8s/manifests.ts';
import { problems, VERSIONS } from './k8s/schemas.ts';
import { DASHBOARD, DASHBOARD_COPY } from './k8s/top-level.ts';

/** What the team's overlay renders to with these components. */
function rendered(components: string[], more: Manifest = {}): Manifest[] {
  return renderedText(
    stringify({
      namespace: 'team',
      namePrefix: 'shop-',
      resources: ['../../base'],
      components: components.map(name => `../../components/${name}`),
      labels: [{ pairs: { 'app.kubernetes.io/instance': 'shop' }, includeSelectors: true }],
      ...more,
    }),
  );
}

/** Of a kustomization in a folder of k8s/overlays. */
function renderedText(text: string): Manifest[] {
  const folder = mkdtempSync(join(tmpdir(), 'k8s-overlay-'));
  try {
    writeFileSync(join(folder, 'kustomization.yaml'), text.replaceAll('../..', relative(folder, K8S)));
    return parse(kustomize(folder));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const refused = (manifests: Manifest[]) => VERSIONS.flatMap(version => manifests.flatMap(one => problems(one, version)));

test('keda, vpa and monitoring follow the namespace, prefix and instance of an overlay', { skip: noKubectl }, () => {
  // As the comment in components/monitoring/kustomization.yaml has it.
  const comment = readFileSync(join(K8S, 'components', 'monitoring', 'kustomization.yaml'), 'utf8').replaceAll(/^# ?/gm, '');
  const [, patches = ''] = /^ {2}patches:\n([\s\S]*?)^apiVersion/m.exec(comment) ?? [];
  const [patch] = parse(`patches:\n${patches.replace('NAME', 'metrics')}`);
  const manifests = rendered(['keda', 'vpa', 'monitoring'], patch);
  assert.deepEqual(refused(manifests), []);
  assert.deepEqual([...new Set(manifests.map(one => at(one, 'metadata.namespace')))], ['team']);
  const deployment = find(manifests, 'Deployment', 'shop-app');
  assert.equal(at(deployment, 'spec.replicas'), undefined, 'they are the autoscaler’s');

  const scaled = at(find(manifests, 'ScaledObject', 'shop-app'), 'spec');
  assert.equal(at(scaled, 'scaleTargetRef.name'), 'shop-app');
  const { query, threshold } = at(scaled, 'triggers.0.metadata') as Record<string, string>;
  const [, namespace, pod = ''] = /^sum\(bosun_utilization\{namespace="(.+?)",pod=~"(.+?)"\}\)$/.exec(query ?? '') ?? [];
  assert.equal(namespace, 'team');
  assert.match('shop-app-9f69d8455-fhmp4', new RegExp(`^(?:${pod})$`));
  for (const other of ['shop-redis-0', 'app-9f69d8455-fhmp4', 'shop-app-two-9f69d8455-fhmp4'])
    assert.doesNotMatch(other, new RegExp(`^(?:${pod})$`));
  assert.equal(threshold, '0.6');

  const vertical = at(find(manifests, 'VerticalPodAutoscaler', 'shop-app'), 'spec');
  assert.equal(at(vertical, 'targetRef.name'), 'shop-app');
  assert.equal(at(vertical, 'updatePolicy.updateMode'), 'InPlaceOrRecreate');
  const [container] = containersOf(deployment);
  assert.equal(at(vertical, 'resourcePolicy.containerPolicies.0.containerName'), container?.name);
  assert.deepEqual(
    listAt(container, 'resizePolicy').map(({ restartPolicy }) => restartPolicy),
    ['NotRequired', 'NotRequired'],
  );

  const monitor = find(manifests, 'PodMonitor', 'shop-app');
  const selector = at(monitor, 'spec.selector.matchLabels');
  assert.ok(selects(selector, labelsOf(deployment)));
  assert.ok(
    !selects(selector, { ...labelsOf(deployment), 'app.kubernetes.io/instance': 'cart' }),
    'the neighbour has one of its own',
  );
  assert.ok(portsOf(deployment).some(({ name }) => name === at(monitor, 'spec.podMetricsEndpoints.0.port')));
  for (const one of manifests.filter(({ apiVersion }) => apiVersion === 'monitoring.coreos.com/v1'))
    assert.equal(at(one, 'metadata.labels.release'), 'metrics');
  const [dashboard] = ofKind(manifests, 'ConfigMap').filter(one => at(one, 'metadata.labels.grafana_dashboard') === '1');
  assert.equal(JSON.parse(Object.values(dashboard?.data as Record<string, string>)[0] ?? '').uid, 'koa-bosun');
});

test('an autoscaler by utilization follows them, too, and the adapter serves its metric', { skip: noKubectl }, () => {
  const manifests = rendered(['hpa-utilization']);
  assert.deepEqual(refused(manifests), []);
  const spec = at(find(manifests, 'HorizontalPodAutoscaler', 'shop-app'), 'spec');
  assert.equal(at(spec, 'scaleTargetRef.name'), 'shop-app');
  assert.equal(at(find(manifests, 'Deployment', 'shop-app'), 'spec.replicas'), undefined);
  const rule = at(read('components/hpa-utilization/prometheus-adapter.yaml')[0], 'rules.custom.0.seriesQuery');
  assert.match(String(rule), new RegExp(`^${at(spec, 'metrics.0.pods.metric.name')}\\{`));
});

test('the overlay of docs/guide/autoscaling.md scales its own pods', { skip: noKubectl }, () => {
  const page = readFileSync(join(K8S, '..', 'docs', 'guide', 'autoscaling.md'), 'utf8');
  const manifests = renderedText(/^```yaml\n([\s\S]*?)^```/m.exec(page)?.[1] ?? '');
  assert.deepEqual(refused(manifests), []);
  const { query, threshold } = at(find(manifests, 'ScaledObject', 'shop-app'), 'spec.triggers.0.metadata') as Record<
    string,
    string
  >;
  assert.match(query ?? '', /\{namespace="team",pod=~"shop-app-\.\+"\}/);
  assert.equal(threshold, '200');
});

test('the dashboard of the component is the one of docker/grafana', () => {
  assert.equal(readFileSync(DASHBOARD_COPY, 'utf8'), readFileSync(DASHBOARD, 'utf8'), 'run make k8s-render');
});

test('the autoscalers scale alike', () => {
  const hpa = at(read('components/hpa/autoscaler.yaml')[0], 'spec') as Manifest;
  const other = at(read('components/hpa-utilization/autoscaler.yaml')[0], 'spec') as Manifest;
  const scaled = at(read('components/keda/scaled-object.yaml')[0], 'spec') as Manifest;
  assert.deepEqual(other.behavior, hpa.behavior);
  assert.deepEqual(at(scaled, 'advanced.horizontalPodAutoscalerConfig.behavior'), hpa.behavior);
  assert.deepEqual([scaled.minReplicaCount, scaled.maxReplicaCount], [hpa.minReplicas, hpa.maxReplicas]);
  assert.deepEqual([other.minReplicas, other.maxReplicas], [hpa.minReplicas, hpa.maxReplicas]);
});

test('make k8s-apply lets kubectl forget replicas that the manifests have left to an autoscaler, and no others', () => {
  const folder = mkdtempSync(join(tmpdir(), 'k8s-apply-'));
  // Notes how it is called, and ends at the apply.
  const fake = `#!/bin/sh
echo "$*" >> ${folder}/calls
case "$*" in
version*) ;;
create*) echo "ConfigMap team app "; echo "Deployment team app $REPLICAS" ;;
*'get namespace'*) echo "$FOUND" ;;
*'get deployment'*) echo "$LAST" ;;
apply*) exit 3 ;;
esac
`;
  writeFileSync(join(folder, 'kubectl'), fake, { mode: 0o755 });
  const calls = (given: { REPLICAS: string; LAST: string }) => {
    const env = { FOUND: 'namespace/team', ...given };
    writeFileSync(join(folder, 'calls'), '');
    const PATH = `${folder}:${process.env.PATH}`;
    const { status } = spawnSync('sh', [join(K8S, 'make', 'apply.sh')], { env: { ...process.env, ...env, PATH, NAME: '' } });
    assert.equal(status, 3);
    return readFileSync(join(folder, 'calls'), 'utf8');
  };
  try {
    const LAST = '{"kind":"Deployment","spec":{"minReadySeconds":5,"replicas":3,"revisionHistoryLimit":5}}';
    assert.match(
      calls({ REPLICAS: '', LAST }),
      /annotate deployment app --overwrite \S+last-applied-configuration=\{"kind":"Deployment","spec":\{"minReadySeconds":5,"revisionHistoryLimit":5\}\}\napply -f \.\n$/,
    );
    assert.doesNotMatch(calls({ REPLICAS: '3', LAST }), /annotate/, 'the manifests still have them');
    assert.doesNotMatch(calls({ REPLICAS: '', LAST: '{"kind":"Deployment","spec":{}}' }), /annotate/, 'never had them');
    assert.doesNotMatch(calls({ REPLICAS: '', LAST: '' }), /annotate/, 'the first apply');
  } finally {
    rmSync(folder, { recursive: true });
  }
});
