/**
 * The manifests and the chart that `bosun init` writes: rendered, they keep the rules and the schemas of the kit's own.
 */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import type { Choices } from '../../src/init/detect.ts';
import { COMPONENT_NAMES } from '../../src/init/kubernetes.ts';
import { plan } from '../../src/init/plan.ts';
import { steps, write } from '../../src/init/write.ts';
import { noRenderer, renderStrictly } from '../k8s/chart-render.ts';
import { at, containersOf, find, kustomize, type Manifest, noKubectl, ofKind, parse } from '../k8s/manifests.ts';
import { broken } from '../k8s/relations.ts';
import { problems } from '../k8s/schemas.ts';
import { temporaryFolder } from '../process/operator.ts';
import { filesOf, found, KOA } from './files.ts';

const SHOP = { 'package.json': { name: '@acme/shop', version: '2.0.0', dependencies: KOA }, 'server.js': 'app.use(kit.session)' };

/** The plan, written into a folder. */
function written(choices: Choices): string {
  const root = temporaryFolder();
  for (const step of steps(plan(found(SHOP, choices), filesOf(SHOP)), filesOf({}), { hashes: {} }, false)) {
    mkdirSync(dirname(join(root, step.planned.path)), { recursive: true });
    write(root, step.planned);
  }
  return root;
}

function faults(manifests: Manifest[]): string[] {
  return [
    ...broken(manifests),
    ...(['1.31', '1.36'] as const).flatMap(version => manifests.flatMap(one => problems(one, version))),
  ];
}

const imageOf = (manifests: Manifest[], name: string) => at(containersOf(find(manifests, 'Deployment', name))[0], 'image');

test('an overlay over the base has name, image, port and Redis of the app', { skip: noKubectl }, () => {
  const root = written({ image: 'registry/shop:2.0.0' });
  const manifests = parse(kustomize(join(root, 'k8s/overlays/shop')));
  assert.deepEqual(faults(manifests), []);
  assert.equal(imageOf(manifests, 'shop-app'), 'registry/shop:2.0.0');
  assert.deepEqual(
    ofKind(manifests, 'StatefulSet').map(({ metadata }) => at(metadata, 'name')),
    ['shop-redis'],
  );
  for (const name of ['apply.sh', 'delete.sh', 'load-image.sh'])
    assert.equal(statSync(join(root, 'k8s/make', name)).mode & 0o111, 0o111, name);
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  assert.equal(scripts['k8s-apply'], 'NAME=shop k8s/make/apply.sh');
  assert.match(readFileSync(join(root, 'k8s/overlays/shop/kustomization.yaml'), 'utf8'), /npm run k8s-apply applies it/);
});

test('the port of the app is the one that its Service and its policy name', { skip: noKubectl }, () => {
  const manifests = parse(kustomize(join(written({ port: 8080 }), 'k8s/overlays/shop')));
  const [map] = ofKind(manifests, 'ConfigMap').filter(({ metadata }) => String(at(metadata, 'name')).startsWith('shop-app'));
  assert.equal(at(map, 'data.PORT'), '8080');
  assert.equal(at(containersOf(find(manifests, 'Deployment', 'shop-app'))[0], 'ports.0.containerPort'), 8080);
});

test('an app without Redis has none in its manifests, one with other components has theirs', { skip: noKubectl }, () => {
  const without = parse(kustomize(join(written({ redis: false }), 'k8s/overlays/shop')));
  assert.deepEqual([faults(without), ofKind(without, 'StatefulSet')], [[], []]);
  const scaled = parse(
    kustomize(join(written({ components: ['redis', 'network-policy', 'hpa'], namespace: 'team' }), 'k8s/overlays/shop')),
  );
  assert.deepEqual([faults(scaled), ofKind(scaled, 'HorizontalPodAutoscaler').length], [[], 1]);
  assert.throws(() => written({ components: ['absent'] }), /COMPONENTS must be among .*, got "absent"/);
});

test('--helm writes the chart in place of the manifests, with the values of the app', { skip: noRenderer }, () => {
  const root = written({ image: 'registry:5000/shop:2.1.0', port: 8080, redis: false, chart: true });
  const manifests = renderStrictly({}, join(root, 'k8s/chart'));
  assert.deepEqual(faults(manifests), []);
  const [deployment] = ofKind(manifests, 'Deployment');
  const container = containersOf(deployment)[0];
  assert.deepEqual([at(container, 'image'), at(container, 'ports.0.containerPort')], ['registry:5000/shop:2.1.0', 8080]);
  assert.deepEqual(ofKind(manifests, 'StatefulSet'), []);
  assert.match(readFileSync(join(root, 'k8s/chart/Chart.yaml'), 'utf8'), /^name: shop$/m);
  assert.throws(() => statSync(join(root, 'k8s/base')), /ENOENT/);
  assert.ok(ofKind(manifests, 'NetworkPolicy').length > 0, 'by default init chooses the component network-policy');
});

test('no written file names a make target, or a page or a source of the kit that the repository lacks', () => {
  const choices = [
    { components: COMPONENT_NAMES.filter(name => !/^(redis-sentinel|external-redis|hpa.+|keda)$/.test(name)) },
    { chart: true },
  ];
  const texts = choices.flatMap(each => plan(found(SHOP, each), filesOf(SHOP)).flatMap(file => ('text' in file ? [file] : [])));
  for (const { path, text } of texts) {
    assert.doesNotMatch(text, /\bmake [a-z0-9]+-|(?<!\/blob\/main\/)docs\/|src\/init|overlays\/default/, path);
    for (const [, script = ''] of text.matchAll(/npm run (k8s-\w+)/g)) assert.match(script, /^k8s-(load|apply|delete)$/, path);
  }
});
