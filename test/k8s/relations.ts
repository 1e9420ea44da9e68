/**
 * Rules between manifests, and between fields of one: names that must meet, times that must add up, and which connections the
 * NetworkPolicies let pass.
 */
import { at, containersOf, listAt, type Manifest } from './manifests.ts';
import { POLICY } from './policy.ts';

type Manifests = readonly Manifest[];

/** Time for close handlers, Redis and the exit. */
const EXIT_SECONDS = 5;

const nameOf = (manifest: Manifest) => `${manifest.kind} ${at(manifest, 'metadata.name')}`;
const ofKind = (all: Manifests, ...kinds: string[]) => all.filter(({ kind }) => kinds.includes(String(kind)));
const workloads = (all: Manifests) => ofKind(all, 'Deployment', 'StatefulSet', 'Job');
const portsOf = (workload: Manifest | undefined) => containersOf(workload).flatMap(container => listAt(container, 'ports'));
const isUnique = (names: readonly unknown[]) => new Set(names).size === names.length;

/** True if the selector is not empty and every label of it is among the labels. */
function selects(selector: unknown, labels: unknown): boolean {
  const wanted = Object.entries((selector ?? {}) as Manifest);
  return wanted.length > 0 && wanted.every(([key, value]) => (labels as Manifest | undefined)?.[key] === value);
}
const labelsOf = (workload: Manifest) => at(workload, 'spec.template.metadata.labels');
const podOf = (selector: unknown, all: Manifests) => workloads(all).find(workload => selects(selector, labelsOf(workload)));

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

/** Connections, as a network plug-in has to decide on them. `outside` is anything but these pods. */
const CONNECTIONS: [from: string, to: string, port: number, protocol: 'TCP' | 'UDP', passes: boolean][] = [
  // Ingress controllers, Prometheus, and with some plug-ins the probes of the kubelet.
  ['outside', 'app', 3000, 'TCP', true],
  ['outside', 'app', 9090, 'TCP', true],
  ['app', 'redis', 6379, 'TCP', true],
  ['load', 'app', 3000, 'TCP', true],
  // Responses above 512 bytes use TCP; a node-local DNS cache is not a pod.
  ['app', 'outside', 53, 'UDP', true],
  ['app', 'outside', 53, 'TCP', true],
  ['load', 'outside', 53, 'UDP', true],
  ['load', 'outside', 53, 'TCP', true],
  ['outside', 'redis', 6379, 'TCP', false],
  ['redis', 'outside', 53, 'UDP', false],
  ['app', 'outside', 443, 'TCP', false],
  ['load', 'app', 9090, 'TCP', false],
  ['outside', 'load', 3000, 'TCP', false],
];

function passes(all: Manifests, from: Manifest | undefined, to: Manifest | undefined, port: number, protocol: string): boolean {
  const target = portsOf(to).find(({ containerPort }) => containerPort === port);
  const isPort = (one: Manifest) =>
    one.protocol === protocol && (one.port === port || (one.port === target?.name && target !== undefined));
  const isAllowed = (own: Manifest | undefined, peer: Manifest | undefined, direction: 'ingress' | 'egress') => {
    if (own === undefined) return true;
    const type = direction === 'ingress' ? 'Ingress' : 'Egress';
    const policies = ofKind(all, 'NetworkPolicy').filter(policy => {
      const selector = at(policy, 'spec.podSelector.matchLabels');
      return (
        (at(policy, 'spec.policyTypes') as string[]).includes(type) &&
        (selector === undefined || selects(selector, labelsOf(own)))
      );
    });
    const isPeer = ({ podSelector, namespaceSelector }: Manifest) =>
      peer === undefined
        ? namespaceSelector !== undefined || podSelector === undefined
        : at(podSelector, 'matchLabels') === undefined || selects(at(podSelector, 'matchLabels'), labelsOf(peer));
    const rules = policies.flatMap(policy => listAt(policy, `spec.${direction}`));
    const matching = rules.filter(rule => {
      const [peers, ports] = [listAt(rule, direction === 'ingress' ? 'from' : 'to'), listAt(rule, 'ports')];
      return (peers.length === 0 || peers.some(isPeer)) && (ports.length === 0 || ports.some(isPort));
    });
    return policies.length === 0 || matching.length > 0;
  };
  return isAllowed(from, to, 'egress') && isAllowed(to, from, 'ingress');
}

function brokenConnections(all: Manifests): string[] {
  const podNamed = (name: string) => workloads(all).find(workload => at(workload, 'metadata.name') === name);
  return CONNECTIONS.filter(([from, to]) => [from, to].every(name => name === 'outside' || podNamed(name) !== undefined))
    .filter(([from, to, port, protocol, expected]) => passes(all, podNamed(from), podNamed(to), port, protocol) !== expected)
    .map(connection => `${connectionRule(connection)}: the NetworkPolicies decide otherwise`);
}

const connectionRule = ([from, to, port, protocol, expected]: (typeof CONNECTIONS)[number]) =>
  `${from} ${expected ? 'reaches' : 'does not reach'} ${to} at ${protocol} ${port}`;

export const RULES: ReadonlySet<string> = new Set([
  ...POLICY.rules,
  ...Object.keys(RELATIONS),
  ...CONNECTIONS.map(connectionRule),
]);

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
