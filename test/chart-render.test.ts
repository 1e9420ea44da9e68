import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isServiceName } from '../src/config/service-name.ts';
import { nested, type Values } from './k8s/chart.ts';
import {
  type Case,
  env,
  nameOf,
  noRenderer,
  notes,
  refusal,
  render,
  renderAll,
  renderStrictly,
  valueAt,
} from './k8s/chart-render.ts';
import { SAMPLES } from './k8s/chart-samples.ts';
import { at, find, listAt, type Manifest } from './k8s/manifests.ts';
import { problems, VERSIONS } from './k8s/schemas.ts';

const skip = noRenderer;
const APP = 'spec.template.spec.containers.0';

const selectorOf = (manifest: unknown) => at(manifest, 'spec.selector.matchLabels');

/** Every sample on and off, rendered once. */
const RENDERED = new Map<string, Manifest[]>();
function rendered(values: Values): Manifest[] {
  if (RENDERED.size === 0) {
    const all = Object.entries(SAMPLES).flatMap(([path, { value, needs = {} }]) => [needs, { ...needs, [path]: value }]);
    const distinct = [...new Map(all.map(one => [JSON.stringify(one), nested(one)]))];
    const found = renderAll(distinct.map(([, values]) => ({ values })));
    for (const [index, [key]] of distinct.entries()) RENDERED.set(key, found[index] ?? []);
  }
  return RENDERED.get(JSON.stringify(values)) ?? [];
}

test('every value has its effect on what is rendered, and none without it', { skip }, () => {
  for (const [path, sample] of Object.entries(SAMPLES)) {
    const { value, where, needs = {} } = sample;
    const expected = 'becomes' in sample ? sample.becomes : value;
    assert.deepEqual(valueAt(rendered({ ...needs, [path]: value }), where), expected, `${path}: ${where}`);
    assert.notDeepEqual(valueAt(rendered(needs), where), expected, `${path}: ${where} without the value`);
  }
});

test('Kubernetes knows every field that the chart renders', { skip }, () => {
  const seen = new Set<string>();
  for (const [path, { value, needs = {} }] of Object.entries(SAMPLES)) {
    for (const manifest of [needs, { ...needs, [path]: value }].flatMap(rendered)) {
      const text = JSON.stringify(manifest);
      if (seen.has(text)) continue;
      seen.add(text);
      for (const version of VERSIONS.filter(version => version >= (SINCE[path] ?? '')))
        assert.deepEqual(problems(manifest, version), [], path);
    }
  }
  assert.ok(seen.size > Object.keys(SAMPLES).length);
});

/** Values that need a newer Kubernetes than the chart. */
const SINCE: Record<string, string> = { podResources: '1.32' };

test('values that YAML would take for something else stay text', { skip }, () => {
  const values = {
    BOOL: true,
    NUMBER: 1_000_000,
    FLOAT: 0.5,
    TEXT: 'true',
    OCTAL: '0644',
    EMPTY: '',
    LINES: 'a: b\n- c\n',
    HASH: 'a #b',
    QUOTES: `"'`,
  };
  const manifests = renderStrictly({
    app: { env: { ...values, NONE: null, SOURCE: { valueFrom: { secretKeyRef: { name: 'a', key: 'b' } } } } },
    podAnnotations: { a: 'true', b: '1.0', n: 9090 },
    podLabels: { c: '007' },
    commonLabels: { v: 2 },
    nodeSelector: { d: '1e3', gpu: true },
  });
  const found = listAt(find(manifests, 'Deployment', 'shop-koa-bosun'), `${APP}.env`);
  for (const [name, value] of Object.entries(values))
    assert.deepEqual(
      found.find(one => one.name === name),
      { name, value: String(value) },
    );
  assert.equal(
    found.some(one => one.name === 'NONE'),
    false,
  );
  assert.deepEqual(env(manifests, 'SOURCE'), { valueFrom: { secretKeyRef: { name: 'a', key: 'b' } } });
  assert.deepEqual(valueAt(manifests, 'Deployment spec.template.metadata.annotations'), { a: 'true', b: '1.0', n: '9090' });
  assert.equal(at(valueAt(manifests, 'Deployment spec.template.metadata.labels'), 'c'), '007');
  assert.deepEqual(valueAt(manifests, 'Deployment spec.template.spec.nodeSelector'), { d: '1e3', gpu: 'true' });
  for (const manifest of manifests) assert.equal(at(manifest, 'metadata.labels.v'), '2', nameOf(manifest));
  assert.equal(valueAt(manifests, 'StatefulSet/shop-koa-bosun-redis spec.template.metadata.labels.v'), '2');
});

test('names are valid, short enough, and different for different releases', { skip }, () => {
  const long = 'a-release-with-a-name-of-exactly-fifty-three-characte';
  const full = `${'x'.repeat(70)}-`;
  const releases = ['shop', 'my-koa-bosun', 'koa-bosun', '2048', 'true', 'a.b', `${long}1`, `${long}2`];
  const cases: Case[] = [
    ...releases.map(release => ({ release })),
    { values: { fullnameOverride: `${full}1` } },
    { values: { fullnameOverride: `${full}2` } },
    { values: { nameOverride: 'web' } },
  ];
  const names = renderAll(cases).map(manifests => {
    for (const manifest of manifests) {
      const [name, labels] = [nameOf(manifest), Object.values(at(manifest, 'metadata.labels') as Values)];
      assert.match(name, /^[a-z]([-a-z0-9]*[a-z0-9])?$/);
      assert.ok(name.length <= (manifest.kind === 'StatefulSet' ? 52 : 63), name);
      for (const label of labels) assert.ok(typeof label === 'string' && label.length <= 63, String(label));
    }
    return manifests
      .filter(({ kind }) => kind === 'Service')
      .map(nameOf)
      .sort();
  });
  assert.deepEqual(names.slice(0, 6), [
    ['shop-koa-bosun', 'shop-koa-bosun-redis'],
    ['my-koa-bosun', 'my-koa-bosun-redis'],
    ['koa-bosun', 'koa-bosun-redis'],
    ['app-2048-koa-bosun', 'app-2048-koa-bosun-redis'],
    ['true-koa-bosun', 'true-koa-bosun-redis'],
    ['a-b-koa-bosun', 'a-b-koa-bosun-redis'],
  ]);
  assert.deepEqual(names.at(-1), ['shop-web', 'shop-web-redis']);
  assert.equal(new Set(names.flat()).size, 2 * cases.length);
});

test('objects that refer to each other carry the same names', { skip }, () => {
  const on = nested({
    fullnameOverride: 'web',
    'ingress.enabled': true,
    'httpRoute.enabled': true,
    'httpRoute.parentRefs': [{ name: 'g' }],
    'autoscaling.mode': 'cpu',
  });
  const manifests = render(on);
  assert.equal(valueAt(manifests, 'HorizontalPodAutoscaler spec.scaleTargetRef.name'), 'web');
  assert.equal(valueAt(manifests, 'Ingress spec.rules.0.http.paths.0.backend.service.name'), 'web');
  assert.equal(valueAt(manifests, 'HTTPRoute spec.rules.0.backendRefs.0.name'), 'web');
  assert.deepEqual(env(manifests, 'REDIS_URL'), { value: 'redis://web-redis:6379' });
  assert.equal(valueAt(manifests, 'StatefulSet/web-redis spec.serviceName'), 'web-redis');
  assert.equal(valueAt(manifests, 'Deployment spec.replicas'), undefined, 'the autoscaler sets them');
  assert.ok(manifests.every(one => at(one, 'metadata.namespace') === 'team'));
});

test('selectors of two releases in a namespace, and of two charts in a release, do not overlap', { skip }, () => {
  const pods = renderAll([{}, { release: 'other' }, { values: { nameOverride: 'redis' } }, { values: { nameOverride: 'web' } }])
    .flat()
    .filter(({ kind }) => kind === 'Deployment' || kind === 'StatefulSet');
  assert.equal(pods.length, 8);
  for (const one of pods) {
    const selected = pods.filter(other => {
      const labels = at(other, 'spec.template.metadata.labels') as Values;
      return Object.entries(selectorOf(one) as Values).every(([key, value]) => labels[key] === value);
    });
    assert.deepEqual(selected.map(nameOf), [nameOf(one)]);
  }
});

test('labels of yours do not change what selectors match', { skip }, () => {
  const own = { 'app.kubernetes.io/name': 'x', 'app.kubernetes.io/instance': 'y' };
  const manifests = render({ podLabels: own, commonLabels: { ...own, team: 'a' } });
  const deployment = find(manifests, 'Deployment', 'shop-koa-bosun');
  const labels = at(deployment, 'spec.template.metadata.labels') as Values;
  for (const [key, value] of Object.entries(selectorOf(deployment) as Values)) assert.equal(labels[key], value);
  for (const manifest of manifests) assert.equal(at(manifest, 'metadata.labels.team'), 'a', nameOf(manifest));
});

test('the same values render to the same text: an upgrade keeps keys, and changes only what was changed', { skip }, () => {
  const [first, second, changed] = renderAll([{}, {}, { values: { app: { env: { LOG_LEVEL: 'warn' } } } }]);
  assert.deepEqual(first, second);
  assert.equal(
    first?.some(({ kind }) => kind === 'Secret'),
    false,
  );
  const different = first?.filter((one, index) => JSON.stringify(one) !== JSON.stringify(changed?.[index]));
  assert.deepEqual(
    different?.map(({ kind }) => kind),
    ['Deployment'],
    'a variable alone replaces the pods',
  );
});

test('the name of the release is the name of the service, which the kit accepts', { skip }, () => {
  const [shop = [], none = []] = renderAll([{}, { release: 'none' }]);
  assert.equal(at(env(shop, 'SERVICE_NAME'), 'valueFrom.fieldRef.fieldPath'), "metadata.labels['app.kubernetes.io/instance']");
  const name = String(at(env(none, 'SERVICE_NAME'), 'value'));
  assert.equal(name, 'none-koa-bosun');
  assert.ok(isServiceName(name));
});

test('two charts of a release, by an alias, have two service names', { skip }, () => {
  const [shop = [], web = []] = renderAll([{ values: { nameOverride: 'shop' } }, { values: { nameOverride: 'web' } }]);
  assert.deepEqual(env(shop, 'SERVICE_NAME'), { value: 'shop' });
  assert.deepEqual(env(web, 'SERVICE_NAME'), { value: 'shop-web' });
});

test('null removes a default of a list or a map', { skip }, () => {
  const cases = ['app.env', 'topologySpreadConstraints', 'tolerations', 'redis.url', 'ingress.hosts', 'monitoring.labels'];
  const of = (path: string) => ({ values: nested({ 'ingress.enabled': true, 'monitoring.podMonitor': true, [path]: null }) });
  for (const [index, manifests] of renderAll([...cases, 'podSecurityContext', 'securityContext'].map(of)).entries()) {
    assert.ok(find(manifests, 'Deployment', 'shop-koa-bosun'), String(cases[index]));
    assert.doesNotMatch(JSON.stringify(manifests), /"(?:securityContext|tolerations|labels)":null/);
  }
});

test('what the schema cannot see, a template refuses, and says what to set', { skip }, () => {
  const refused: [Values, RegExp][] = [
    [
      { 'app.env': { SHUTDOWN_TIMEOUT_MS: 1 } },
      /app\.env\.SHUTDOWN_TIMEOUT_MS: the chart sets it; use the value shutdown\.timeoutSeconds/,
    ],
    [{ 'app.env': { TERMINATION_GRACE_PERIOD_SECONDS: 9 } }, /the chart sets it; it cannot be changed/],
    [{ 'app.env': { REDIS_URL: 'redis://r' } }, /app\.env\.REDIS_URL: the chart sets it; use the value redis/],
    [{ 'redis.mode': 'external' }, /redis\.mode: external needs redis\.url or redis\.existingSecret/],
    [{ 'redis.mode': 'cluster' }, /redis\.mode: cluster needs redis\.cluster\.nodes/],
    [{ 'redis.mode': 'other' }, /redis\.mode must be none, bundled, external, sentinel or cluster, got "other"/],
    [
      { 'autoscaling.mode': 'cpu', 'autoscaling.maxReplicas': 1 },
      /autoscaling\.maxReplicas must be at least autoscaling\.minReplicas \(3\), got 1/,
    ],
    [{ 'autoscaling.mode': 'other' }, /autoscaling\.mode must be none, cpu, custom or keda, got "other"/],
    [{ pdb: { maxUnavailable: null } }, /pdb\.enabled needs pdb\.maxUnavailable or pdb\.minAvailable/],
    [{ 'httpRoute.enabled': true }, /httpRoute\.enabled needs httpRoute\.parentRefs/],
    [{ workers: 'fromRequest', 'resources.requests': { cpu: null } }, /workers: fromRequest needs resources\.requests\.cpu/],
  ];
  for (const [values, message] of refused) assert.match(refusal(nested(values)), message);
});

test('the notes name the commands for these values, and warn', { skip }, () => {
  const plain = notes({});
  assert.match(plain, /kubectl -n team exec deployment\/shop-koa-bosun -c app -- bosun doctor/);
  assert.match(plain, /kubectl -n team port-forward deployment\/shop-koa-bosun 9090/);
  assert.doesNotMatch(plain, /WARNING/);
  const warned = notes(
    nested({ 'redis.mode': 'none', trustProxy: false, 'ingress.enabled': true, 'ingress.hosts': [{ host: 'a.example.com' }] }),
  );
  assert.match(warned, /http:\/\/a\.example\.com/);
  assert.match(warned, /WARNING: trustProxy is false/);
  assert.match(warned, /WARNING: no Redis and no sessions\.keysSecret/);
});
