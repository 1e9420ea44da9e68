import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { resolveLimits } from '../src/resources/cgroup.ts';
import { size } from '../src/resources/sizing.ts';
import {
  applied,
  at,
  change,
  FILES,
  find,
  K8S,
  labelsOf,
  listAt,
  type Manifest,
  noKubectl,
  OVERLAYS,
  parse,
  read,
  render,
  selects,
} from './k8s/manifests.ts';
import { MUTATIONS } from './k8s/mutations.ts';
import { broken, RULES } from './k8s/relations.ts';
import { topLevel } from './k8s/top-level.ts';

const ROOT = join(import.meta.dirname, '..');
const PAGE = readFileSync(join(ROOT, 'docs', 'guide', 'kubernetes.md'), 'utf8');
const NO_CLUSTER = { ...process.env, KUBECONFIG: '/dev/null', KUBERNETES_SERVICE_HOST: '' };

/** The manifests, with the load of make k8s-rollout. */
const all = () => [...applied(), ...read('load/load.yaml')];

test('the manifests keep every rule of test/k8s', () => {
  assert.ok(applied().length >= 13);
  assert.deepEqual(broken(all()), []);
});

test('each rule about the manifests reports a fault that it is for', () => {
  const reported = new Set<string>();
  for (const { where, path, value } of MUTATIONS) {
    const manifests = all();
    const [kind = '', name = 'app'] = where.split('/');
    change(find(manifests, kind, name), path, value);
    const faults = broken(manifests);
    assert.notDeepEqual(faults, [], `${where} ${path} = ${JSON.stringify(value)} must break a rule`);
    for (const fault of faults) reported.add(fault.split(': ')[0] ?? '');
  }
  assert.deepEqual(
    [...RULES].filter(rule => !reported.has(rule)),
    [],
  );
});

test('kubectl apply -f k8s works on a stock cluster: no Secret, no custom resource, the namespace first', () => {
  assert.equal(FILES[0], '00-namespace.yaml');
  assert.ok(!FILES.some(file => file.startsWith('kustomization')));
  const foreign = applied().filter(({ kind, apiVersion }) => kind === 'Secret' || /\.(io|com)\//.test(String(apiVersion)));
  assert.deepEqual(
    foreign.map(({ apiVersion }) => apiVersion).filter(version => version !== 'networking.k8s.io/v1'),
    [],
  );
});

test('a cluster of one node runs all pods of kubectl apply -f k8s', () => {
  const constraints = listAt(find(applied(), 'Deployment'), 'spec.template.spec.topologySpreadConstraints');
  assert.deepEqual(
    constraints.map(({ whenUnsatisfiable }) => whenUnsatisfiable),
    ['ScheduleAnyway', 'ScheduleAnyway'],
  );
});

test('kubectl reads k8s/ in the same order as these tests', { skip: noKubectl }, () => {
  const args = ['annotate', '--local', '-f', 'k8s', 'read=true', '-o', 'name'];
  const { stdout, stderr } = spawnSync('kubectl', args, { cwd: ROOT, env: NO_CLUSTER, encoding: 'utf8' });
  const names = applied().map(({ kind, metadata }) => `${String(kind).toLowerCase()}/${at(metadata, 'name')}`);
  assert.deepEqual(
    stdout
      .trim()
      .split('\n')
      .map(line => line.replace(/\.[^/]+/, '')),
    names,
    stderr,
  );
});

test('k8s/*.yaml are what make k8s-render writes from k8s/overlays/default', { skip: noKubectl }, () => {
  const written = topLevel();
  assert.deepEqual([...written.keys()], FILES);
  // Compared as data: kubectl of another version may format it differently.
  for (const [name, text] of written) assert.deepEqual(read(name), parse(text), `${name}: run make k8s-render`);
  for (const name of FILES)
    assert.match(readFileSync(join(K8S, name), 'utf8'), /^# Written by `make k8s-render`.*\n# .*(?:delete|Deleting)/);
});

for (const overlay of OVERLAYS.filter(overlay => overlay !== 'monitoring')) {
  test(`overlay ${overlay} keeps every rule of test/k8s`, { skip: noKubectl }, () => {
    assert.deepEqual(broken(render(`overlays/${overlay}`)), []);
  });
}

test('overlay monitoring selects the pods and their admin port', { skip: noKubectl }, () => {
  const monitor = find(render('overlays/monitoring'), 'PodMonitor');
  const deployment = find(applied(), 'Deployment');
  assert.ok(selects(at(monitor, 'spec.selector.matchLabels'), labelsOf(deployment)));
  assert.equal(at(monitor, 'spec.podMetricsEndpoints.0.port'), at(deployment, 'spec.template.spec.containers.0.ports.1.name'));
});

test('docs/guide/kubernetes.md adds up the grace period of the Deployment', () => {
  const deployment = find(applied(), 'Deployment');
  const env = at(deployment, 'spec.template.spec.containers.0.env') as { name: string; value?: string }[];
  const seconds = (name: string) => Number(env.find(variable => variable.name === name)?.value) / 1000;
  const [delay, timeout] = [seconds('SHUTDOWN_DELAY_MS'), seconds('SHUTDOWN_TIMEOUT_MS')];
  const grace = at(deployment, 'spec.template.spec.terminationGracePeriodSeconds');
  const sum = `${delay} s delay + ${timeout} s timeout + 5 s = ${delay + timeout + 5} s, below the ${grace} s of the manifest`;
  assert.ok(PAGE.replace(/\s+/g, ' ').includes(sum), `docs/guide/kubernetes.md must say: ${sum}`);
});

test('Kubernetes accepts the resize of docs/guide/kubernetes.md, and the pool gets the size that the page names', () => {
  const [, patch = '', says = ''] = /--subresource resize -p '([^']+)'[\s\S]*?bosun sizing +# (.+)/.exec(PAGE) ?? [];
  const container = at(find(applied(), 'Deployment'), 'spec.template.spec.containers.0') as Manifest;
  const resized = at(JSON.parse(patch), 'spec.containers.0') as Manifest;
  assert.equal(resized.name, container.name);
  const { requests, limits } = Object.fromEntries(
    ['requests', 'limits'].map(kind => [
      kind,
      { ...(at(container, `resources.${kind}`) as Manifest), ...(at(resized, `resources.${kind}`) as Manifest) },
    ]),
  );
  assert.equal(requests?.memory, limits?.memory);
  assert.notEqual(requests?.cpu, limits?.cpu, 'the QoS class cannot change: it stays Burstable');
  const gibibytes = Number(/^(\d+)Gi$/.exec(String(limits?.memory))?.[1]);
  const limitsThen = {
    ...resolveLimits(() => undefined),
    quota: { value: Number(limits?.cpu), file: '/sys/fs/cgroup/cpu.max' },
    memory: { value: gibibytes * 2 ** 30, file: '/sys/fs/cgroup/memory.max' },
  };
  assert.equal(size(limitsThen, { kind: 'auto' }, { cpus: 8, totalMemoryBytes: 2 ** 36 }).reason, says);
});

test('kubectl apply -f k8s can be applied over 0.1.0: what cannot be changed is as it was', () => {
  const labels = (name: string) => ({ 'app.kubernetes.io/name': name, 'app.kubernetes.io/instance': 'koa-bosun' });
  const redis = find(applied(), 'StatefulSet', 'redis');
  assert.deepEqual(at(find(applied(), 'Deployment'), 'spec.selector'), { matchLabels: labels('koa-bosun') });
  assert.deepEqual(at(redis, 'spec.selector'), { matchLabels: labels('redis') });
  assert.equal(at(redis, 'spec.serviceName'), 'redis');
  const spec = { accessModes: ['ReadWriteOnce'], volumeMode: 'Filesystem', resources: { requests: { storage: '1Gi' } } };
  assert.deepEqual(at(redis, 'spec.volumeClaimTemplates'), [
    { apiVersion: 'v1', kind: 'PersistentVolumeClaim', metadata: { name: 'data' }, spec, status: { phase: 'Pending' } },
  ]);
});

test('kubectl apply -f k8s fits on 2 CPUs, with the surge of a rollout and Redis', () => {
  const millis = (workload: Manifest | undefined) => {
    const cpu = String(at(workload, 'spec.template.spec.containers.0.resources.requests.cpu'));
    return cpu.endsWith('m') ? Number.parseInt(cpu, 10) : Number(cpu) * 1000;
  };
  const manifests = applied();
  const pods = Number(at(find(manifests, 'HorizontalPodAutoscaler'), 'spec.minReplicas')) + 1;
  const sum = pods * millis(find(manifests, 'Deployment')) + millis(find(manifests, 'StatefulSet', 'redis'));
  assert.ok(sum <= 2000, `${sum}m`);
});

test('make k8s-load says what else there is for a context that it cannot load an image into', { skip: noKubectl }, () => {
  const load = (args: string[]) =>
    spawnSync('make', ['-s', 'k8s-load', ...args], { cwd: ROOT, env: NO_CLUSTER, encoding: 'utf8' });
  assert.match(load([]).stderr, /^k8s-load: there is no current context: name one by CONTEXT\n/);
  assert.match(
    load(['CONTEXT=arn:aws:eks/shop']).stderr,
    /must be one of kind, .*, got "arn:aws:eks\/shop"[\s\S]*registry[\s\S]* IMPORT=/,
  );
  assert.match(load(['CONTEXT=docker-desktop']).stdout, /nothing to do/);
});

test('make k8s-rollout, k8s-apply and k8s-delete report that no cluster answers', { skip: noKubectl }, () => {
  for (const target of ['k8s-rollout', 'k8s-apply', 'k8s-delete']) {
    const { status, stderr } = spawnSync('make', ['-s', target], { cwd: ROOT, env: NO_CLUSTER, encoding: 'utf8' });
    assert.notEqual(status, 0);
    assert.match(stderr, new RegExp(`^${target}: no cluster answers kubectl`));
  }
});
