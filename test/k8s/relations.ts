/**
 * Rules between manifests, and between fields of one: names that must meet, and times that must add up.
 */
import { brokenConnections, CONNECTION_RULES } from './connections.ts';
import {
  at,
  COMPONENT,
  containersOf,
  INSTANCE,
  labelsOf,
  listAt,
  type Manifest,
  type Manifests,
  ofKind,
  portsOf,
  selects,
  workloads,
} from './manifests.ts';
import { POLICY } from './policy.ts';

/** Time for close handlers, Redis and the exit. */
const EXIT_SECONDS = 5;

const nameOf = (manifest: Manifest) => `${manifest.kind} ${at(manifest, 'metadata.name')}`;
const isUnique = (names: readonly unknown[]) => new Set(names).size === names.length;

const podsOf = (selector: unknown, all: Manifests) => workloads(all).filter(workload => selects(selector, labelsOf(workload)));
const podOf = (selector: unknown, all: Manifests) => podsOf(selector, all)[0];

/**
 * Every selector for pods of this app, wherever it is. A peer of a NetworkPolicy counts if it names an instance of this rendering, but for a
 * Redis that is not in it.
 */
function selectorsOf(manifest: Manifest, all: Manifests): unknown[] {
  const { kind, spec } = manifest;
  const ours = new Set(workloads(all).map(workload => labelsOf(workload)?.[INSTANCE]));
  const peers = ['ingress', 'egress'].flatMap(direction =>
    listAt(spec, direction)
      .flatMap(rule => [...listAt(rule, 'from'), ...listAt(rule, 'to')])
      .map(peer => at(peer, 'podSelector.matchLabels'))
      .map(labels => Object(labels) as Manifest)
      .filter(labels => ours.has(labels[INSTANCE]))
      .filter(labels => podsOf(labels, all).length > 0 || labels[COMPONENT] !== 'sessions'),
  );
  if (kind === 'Service') return [at(spec, 'selector')];
  if (kind === 'NetworkPolicy') return [at(spec, 'podSelector.matchLabels'), ...peers];
  return at(spec, 'selector') === undefined || kind === 'Job' ? [] : [at(spec, 'selector.matchLabels')];
}

/** As the server writes it: a whole number with the largest unit that leaves one. Another apply would write 1000m again. */
function isCanonical(quantity: unknown): boolean {
  const [, digits = '', unit = ''] = /^([1-9]\d*)(m|k|M|G|Ki|Mi|Gi|Ti)?$/.exec(String(quantity)) ?? [];
  return digits !== '' && Number(digits) % (unit.endsWith('i') ? 1024 : 1000) !== 0;
}

const patienceOf = (probe: unknown) => Number(at(probe, 'periodSeconds')) * Number(at(probe, 'failureThreshold'));
const PROBES = ['startupProbe', 'readinessProbe', 'livenessProbe'];

/** Each returns the manifests that break it. */
const RELATIONS: Record<string, (all: Manifests) => Manifest[]> = {
  'no object is declared twice': all =>
    all.filter(one => all.filter(other => one.apiVersion === other.apiVersion && nameOf(one) === nameOf(other)).length > 1),
  'all objects are in one namespace': all => {
    const [first] = all.map(manifest => at(manifest, 'metadata.namespace')).filter(namespace => namespace !== undefined);
    return all.filter(manifest => {
      const namespace = at(manifest, manifest.kind === 'Namespace' ? 'metadata.name' : 'metadata.namespace');
      return namespace !== undefined && namespace !== first;
    });
  },
  // Without the instance, a selector takes the pods of another app in the namespace; without more, those of Redis.
  'a selector names its instance, and selects the pods of one workload': all =>
    all.filter(manifest =>
      selectorsOf(manifest, all).some(
        selector => !Object.hasOwn(Object(selector), INSTANCE) || podsOf(selector, all).length !== 1,
      ),
    ),
  'replicas are set where no autoscaler sets them, and only there': all =>
    ofKind(all, 'Deployment').filter(deployment => {
      const isScaled = all.some(({ spec }) => at(spec, 'scaleTargetRef.name') === at(deployment, 'metadata.name'));
      return isScaled === (at(deployment, 'spec.replicas') !== undefined);
    }),
  'service accounts and config maps exist': all => {
    const has = (kind: string, name: unknown) => ofKind(all, kind).some(({ metadata }) => at(metadata, 'name') === name);
    return workloads(all).filter(
      workload =>
        !has('ServiceAccount', at(workload, 'spec.template.spec.serviceAccountName')) ||
        containersOf(workload)
          .flatMap(container => listAt(container, 'envFrom'))
          .some(source => !has('ConfigMap', at(source, 'configMapRef.name'))),
    );
  },
  'quantities are canonical': all =>
    all.filter(manifest => {
      const found = JSON.stringify(manifest).matchAll(/"(?:requests|limits)":\{[^}]*\}|"(?:sizeLimit|averageValue)":"[^"]*"/g);
      return [...found].some(([text]) => [...text.matchAll(/":"([^"]*)"/g)].some(([, quantity]) => !isCanonical(quantity)));
    }),
  'names of ports and variables are unique': all =>
    workloads(all).filter(workload =>
      containersOf(workload).some(
        container =>
          !isUnique(listAt(container, 'ports').map(({ name }) => name)) ||
          !isUnique(listAt(container, 'env').map(({ name }) => name)),
      ),
    ),
  'readiness and liveness differ': all =>
    workloads(all).filter(workload =>
      containersOf(workload).some(({ readinessProbe: ready, livenessProbe: live }) => {
        const actionOf = (probe: unknown) => JSON.stringify(at(probe, 'httpGet') ?? at(probe, 'exec'));
        return ready !== undefined && actionOf(ready) === actionOf(live);
      }),
    ),
  // A restart is the last resort.
  'liveness waits three times as long as readiness': all =>
    workloads(all).filter(workload =>
      containersOf(workload).some(({ readinessProbe: ready, livenessProbe: live }) => patienceOf(live) < 3 * patienceOf(ready)),
    ),
  'probes name a port of their container': all =>
    workloads(all).filter(workload =>
      containersOf(workload).some(container =>
        PROBES.map(name => at(container, `${name}.httpGet.port`)).some(
          port => port !== undefined && !listAt(container, 'ports').some(({ name }) => name === port),
        ),
      ),
    ),
  'the grace period holds delay, timeout and exit, and bosun doctor knows it': all =>
    ofKind(all, 'Deployment').filter(deployment => {
      const env = containersOf(deployment).flatMap(container => listAt(container, 'env'));
      const variable = (name: string) => Number(env.find(one => one.name === name)?.value);
      const grace = Number(at(deployment, 'spec.template.spec.terminationGracePeriodSeconds'));
      const needed = (variable('SHUTDOWN_DELAY_MS') + variable('SHUTDOWN_TIMEOUT_MS')) / 1000 + EXIT_SECONDS;
      return !(needed < grace && variable('TERMINATION_GRACE_PERIOD_SECONDS') === grace);
    }),
  'pods are spread by their own labels': all =>
    ofKind(all, 'Deployment').filter(deployment => {
      const spec = at(deployment, 'spec.template.spec');
      const terms = listAt(spec, 'affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution');
      const selectors = [...listAt(spec, 'topologySpreadConstraints'), ...terms.map(term => at(term, 'podAffinityTerm'))];
      return !selectors.every(one => selects(at(one, 'labelSelector.matchLabels'), labelsOf(deployment)));
    }),
  'disruption budgets select pods': all =>
    ofKind(all, 'PodDisruptionBudget').filter(budget => podOf(at(budget, 'spec.selector.matchLabels'), all) === undefined),
  'autoscalers name a deployment': all =>
    ofKind(all, 'HorizontalPodAutoscaler').filter(
      scaler =>
        !ofKind(all, 'Deployment').some(({ metadata }) => at(metadata, 'name') === at(scaler, 'spec.scaleTargetRef.name')),
    ),
  'services select pods and name a port of theirs': all =>
    ofKind(all, 'Service').filter(service => {
      const ports = portsOf(podOf(at(service, 'spec.selector'), all));
      return !listAt(service, 'spec.ports').every(({ targetPort }) => ports.some(({ name }) => name === targetPort));
    }),
};

export const RULES: ReadonlySet<string> = new Set([...POLICY.rules, ...Object.keys(RELATIONS), ...CONNECTION_RULES]);

/** Every broken rule, as `rule: where`. */
export function broken(all: Manifests): string[] {
  return [
    ...all.flatMap(manifest =>
      ['anyKind', String(manifest.kind)].flatMap(name =>
        POLICY.faults(name, manifest).map(fault => `${fault} (${nameOf(manifest)})`),
      ),
    ),
    ...Object.entries(RELATIONS).flatMap(([rule, broken]) => broken(all).map(manifest => `${rule}: ${nameOf(manifest)}`)),
    ...brokenConnections(all),
  ];
}
