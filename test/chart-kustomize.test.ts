import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { CHART, nested, noRenderer, readChart, renderAll, type Values } from './k8s/chart.ts';
import { sharedFiles } from './k8s/chart-files.ts';
import { applied, at, containersOf, listAt, type Manifest } from './k8s/manifests.ts';

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

const PREFIX = 'app.kubernetes.io/';

/** `app` or `redis` for a selector of one of them, else the value. */
function withoutSelectors(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutSelectors);
  if (typeof value !== 'object' || value === null) return value;
  const labels = value as Manifest;
  const who = labels[`${PREFIX}component`] ?? labels[`${PREFIX}name`];
  if (labels[`${PREFIX}instance`] !== undefined) return who === 'app' || who === 'koa-bosun' ? 'app' : 'redis';
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

/** What both say in their own way: how Redis is reached, and that PORT is 3000. */
const OWN_VARIABLES = /^(REDIS_|PORT$)/;

/** Objects by kind and name, without what a chart and kustomize write differently. */
function comparable(all: readonly Manifest[]): Record<string, unknown> {
  const found: Record<string, Manifest> = {};
  for (const { metadata, kind, ...manifest } of structuredClone(all)) {
    if (kind === 'Namespace' || kind === 'ConfigMap' || kind === 'Pod' || kind === 'HorizontalPodAutoscaler') continue;
    const template = at(manifest, 'spec.template') as Manifest | undefined;
    delete template?.metadata;
    for (const container of containersOf(manifest)) {
      const environment = Object.entries(environmentOf(container, all)).filter(([name]) => !OWN_VARIABLES.test(name));
      container.env = Object.fromEntries(environment);
      delete container.envFrom;
    }
    const text = JSON.stringify(withoutSelectors(manifest)).replaceAll('app-redis', 'redis').replaceAll(',"optional":true', '');
    const name = String(at(metadata, 'name')).replace('app-redis', 'redis').replace('app-admin', 'app');
    const before = found[`${kind} ${name}`];
    const one = JSON.parse(text) as Manifest;
    // Policies of the same pods add up.
    if (before !== undefined) (at(before, 'spec.ingress') as unknown[]).push(...(at(one, 'spec.ingress') as unknown[]));
    else found[`${kind} ${name}`] = one;
  }
  return found;
}

const order = (all: Record<string, unknown>) => Object.fromEntries(Object.entries(all).sort(([a], [b]) => a.localeCompare(b)));

test('the chart renders what kubectl apply -f k8s applies', { skip: noRenderer }, () => {
  const [chart = []] = renderAll([{ values: nested(LIKE_DEFAULT), namespace: 'koa-bosun', release: 'koa-bosun' }]);
  assert.ok(applied().length >= 10);
  assert.deepEqual(order(comparable(chart)), order(comparable(applied())));
});

test('what the chart shares with the components is the same text', () => {
  assert.deepEqual(readdirSync(join(CHART, 'files')).sort(), [...sharedFiles().keys()].sort());
  for (const [name, text] of sharedFiles())
    assert.equal(readChart(`files/${name}`), text, `make k8s-render writes files/${name}`);
});
