import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { COMPONENTS, compositions, renderTogether } from './k8s/compositions.ts';
import {
  applied,
  at,
  find,
  K8S,
  labelsOf,
  type Manifest,
  NAME,
  noKubectl,
  ofKind,
  parse,
  render,
  workloads,
} from './k8s/manifests.ts';
import { broken } from './k8s/relations.ts';
import { problems } from './k8s/schemas.ts';

const folder = mkdtempSync(join(tmpdir(), 'bosun-k8s-'));
after(() => rmSync(folder, { recursive: true }));

const shop = {
  name: 'shop',
  image: 'registry/shop:2.0.0',
  namespace: 'both',
  components: ['redis', 'network-policy', 'hpa', 'ingress'],
};
const crm = { ...shop, name: 'crm', image: 'registry/crm@sha256:'.padEnd(84, '0'), host: 'crm.example.com' };
const odd = { name: 'null', image: 'null:1.10', namespace: '1e3', components: ['httproute'], host: 'null', port: 8080 };
const combined = compositions();
const rendered = noKubectl === false ? renderTogether([...combined, shop, crm, odd]) : new Map<string, Manifest[]>();
const inNamespace = (namespace: string) => rendered.get(namespace) ?? [];
const skip = noKubectl;

test('every component alone, and every two that go together, keep the rules and the schemas', { skip }, () => {
  assert.ok(combined.length > COMPONENTS.length);
  for (const { namespace, components = [] } of combined) {
    const manifests = inNamespace(namespace);
    assert.ok(manifests.length >= 5);
    const faults = [...broken(manifests), ...manifests.flatMap(one => problems(one, '1.36'))];
    assert.deepEqual(faults, [], components.join(' '));
  }
});

test('two apps in one namespace select their own pods, and reach their own Redis', { skip }, () => {
  const both = inNamespace('both');
  assert.equal(ofKind(both, 'Deployment').length, 2);
  // Over both: a selector that takes pods of the other app breaks a rule.
  assert.deepEqual(broken(both), []);
  for (const { name } of [shop, crm]) {
    const map = find(both, 'ConfigMap', `${name}-app`);
    assert.equal(at(map, 'data.REDIS_HOST'), at(find(both, 'Service', `${name}-redis`), 'metadata.name'));
  }
});

test('an overlay takes nothing over: no namespace, and no object without its prefix', { skip }, () => {
  const both = inNamespace('both');
  assert.deepEqual(ofKind(both, 'Namespace'), []);
  assert.deepEqual(
    both.map(({ metadata }) => String(at(metadata, 'name'))).filter(name => !/^(shop|crm)-/.test(name)),
    [],
  );
});

test('the labels of the user’s app are its own, and those of Redis stay', { skip }, () => {
  const [app, redis] = [
    find(inNamespace('both'), 'Deployment', 'shop-app'),
    find(inNamespace('both'), 'StatefulSet', 'shop-redis'),
  ];
  assert.equal(labelsOf(app)?.[NAME], 'shop');
  assert.equal(labelsOf(redis)?.[NAME], 'redis');
  assert.equal(JSON.stringify(workloads(inNamespace('both'))).includes('/version"'), false);
});

test('names that YAML would read as something else, a port and a host arrive as they are', { skip }, () => {
  const manifests = inNamespace('1e3');
  assert.deepEqual(broken(manifests), []);
  const app = find(manifests, 'Deployment', 'null-app');
  assert.equal(at(app, 'spec.template.spec.containers.0.image'), 'null:1.10');
  assert.equal(at(app, 'spec.template.spec.containers.0.ports.0.containerPort'), 8080);
  assert.equal(at(find(manifests, 'ConfigMap', 'null-app'), 'data.PORT'), '8080');
  const route = find(manifests, 'HTTPRoute', 'null-app');
  assert.deepEqual(at(route, 'spec.hostnames'), ['null']);
  assert.equal(at(route, 'spec.rules.0.backendRefs.0.name'), 'null-app');
  assert.equal(at(find(inNamespace('both'), 'Ingress', 'crm-app'), 'spec.rules.0.host'), 'crm.example.com');
});

test('an overlay by hand, with a replacement and a merged ConfigMap, stands over base and components', { skip }, () => {
  symlinkSync(join(K8S, 'base'), join(folder, 'base'));
  symlinkSync(join(K8S, 'components', 'redis'), join(folder, 'redis'));
  const hashes = ['warn', 'error'].map(level => {
    mkdirSync(join(folder, level));
    writeFileSync(join(folder, level, 'kustomization.yaml'), BY_HAND.replace('LOG_LEVEL=warn', `LOG_LEVEL=${level}`));
    const manifests = render(join(folder, level));
    assert.deepEqual(broken(manifests), []);
    const map = find(manifests, 'ConfigMap', 'shop-app');
    assert.equal(at(map, 'data.REDIS_URL'), 'redis://shop-redis');
    assert.equal(at(map, 'data.LOG_LEVEL'), level);
    return at(find(manifests, 'Deployment', 'shop-app'), 'spec.template.spec.containers.0.envFrom.0.configMapRef.name');
  });
  assert.notEqual(hashes[0], hashes[1], 'a change of the ConfigMap alone replaces the pods');
});

test('a prefix alone, or a suffix, keeps two apps of one namespace apart', { skip }, () => {
  const parent = join(folder, 'prefixes');
  for (const name of ['shop', 'crm']) {
    mkdirSync(join(parent, name), { recursive: true });
    const own = { namespace: 'team', namePrefix: `${name}-`, resources: ['../../base'], components: ['../../redis'] };
    writeFileSync(join(parent, name, 'kustomization.yaml'), JSON.stringify(own));
  }
  writeFileSync(join(parent, 'kustomization.yaml'), JSON.stringify({ resources: ['shop', 'crm'], nameSuffix: '-eu' }));
  const both = render(parent);
  assert.equal(ofKind(both, 'Deployment').length, 2);
  assert.deepEqual(broken(both), []);
  assert.equal(at(find(both, 'ConfigMap', 'crm-app-eu'), 'data.REDIS_HOST'), 'crm-redis-eu');
});

test('a patch of the ConfigMap changes a setting that a component makes, and the hash', { skip }, () => {
  const data = ['redis://elsewhere', 'redis://'].map(url => {
    const own = join(folder, `patched-${url.length}`);
    mkdirSync(own);
    const patch = JSON.stringify([{ op: 'replace', path: '/data/REDIS_URL', value: url }]);
    const patches = [{ target: { kind: 'ConfigMap', name: 'app' }, patch }];
    writeFileSync(
      join(own, 'kustomization.yaml'),
      JSON.stringify({ namespace: 'team', resources: ['../base'], components: ['../redis'], patches }),
    );
    const map = find(render(own), 'ConfigMap');
    assert.equal(at(map, 'data.REDIS_URL'), url);
    return at(map, 'metadata.name');
  });
  assert.notEqual(data[0], data[1]);
});

const BY_HAND = `
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: shop
namePrefix: shop-
resources: [../base]
components: [../redis]
images: [{ name: koa-bosun, newName: registry/shop, newTag: 2.0.0 }]
labels: [{ pairs: { app.kubernetes.io/instance: shop }, includeSelectors: true }]
configMapGenerator: [{ name: app, behavior: merge, literals: [LOG_LEVEL=warn, SESSION_COOKIE=shop] }]
replacements:
  - source: { kind: Service, name: redis, fieldPath: metadata.name }
    targets:
      - select: { kind: ConfigMap, name: app }
        fieldPaths: [data.REDIS_URL]
        options: { delimiter: /, index: 2 }
`;

test('a rule reports a policy whose peer has got the label of this app from kustomize', { skip }, () => {
  const manifests = structuredClone(inNamespace('both').filter(({ metadata }) => /^shop-/.test(String(at(metadata, 'name')))));
  const policy = find(manifests, 'NetworkPolicy', 'shop-app-admin');
  const labels = { [NAME]: 'prometheus', 'app.kubernetes.io/instance': 'shop' };
  Object.assign(at(policy, 'spec.ingress.0') as Manifest, { from: [{ podSelector: { matchLabels: labels } }] });
  assert.match(String(broken(manifests)), /selects the pods of one workload: NetworkPolicy shop-app-admin/);
});

test('k8s/components/README.md has a row for every component', () => {
  const rows = [...readFileSync(join(K8S, 'components', 'README.md'), 'utf8').matchAll(/^\| `([^`]+)` \|/gm)].map(
    ([, name]) => name,
  );
  assert.deepEqual(rows.toSorted(), COMPONENTS.toSorted());
});

test('make k8s-delete passes every object of the manifests to kubectl but the namespace', () => {
  const script = '. k8s/make/common.sh; manifests | without_namespaces';
  const { stdout, stderr } = spawnSync('sh', ['-euc', script, 'k8s/make/delete.sh'], { cwd: join(K8S, '..'), encoding: 'utf8' });
  const kept = parse(stdout).filter(manifest => manifest !== null);
  assert.deepEqual(
    kept,
    applied().filter(({ kind }) => kind !== 'Namespace'),
    stderr,
  );
});

test('make k8s-new writes the overlay once, and refuses what Kubernetes would', () => {
  const clone = join(folder, 'clone');
  mkdirSync(join(clone, 'k8s', 'overlays'), { recursive: true });
  symlinkSync(join(K8S, 'components'), join(clone, 'k8s', 'components'));
  const run = (env: NodeJS.ProcessEnv) =>
    spawnSync(process.execPath, [join(import.meta.dirname, '..', 'src', 'init', 'new-overlay.ts')], {
      cwd: clone,
      env: { PATH: process.env.PATH, ...env },
      encoding: 'utf8',
    });
  const valid = { NAME: 'shop', IMAGE: 'registry/shop:2.0.0', NAMESPACE: 'team' };
  assert.equal(run(valid).status, 0);
  assert.deepEqual(readdirSync(join(clone, 'k8s', 'overlays', 'shop')), ['kustomization.yaml', 'network.yaml']);
  const again = run(valid);
  assert.deepEqual(
    [again.status, again.stderr],
    [1, 'k8s-new: k8s/overlays/shop is there already: remove it, or change it by hand\n'],
  );
  const wrong = run({ NAME: 'Shop', COMPONENTS: 'labels-0.1.0' });
  assert.equal(wrong.status, 1);
  assert.match(
    wrong.stderr,
    /^k8s-new: NAME must be .*\nk8s-new: NAMESPACE must be .*\nk8s-new: IMAGE must be .*\nk8s-new: COMPONENTS must be /,
  );
});
