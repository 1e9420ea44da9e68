/** Which connections the NetworkPolicies must and must not let pass, as a network plug-in has to decide on them. */
import {
  at,
  COMPONENT,
  labelsOf,
  listAt,
  type Manifest,
  type Manifests,
  NAME,
  ofKind,
  portsOf,
  selects,
  workloads,
} from './manifests.ts';

/** The component of a workload, Redis alone in one pod (`redis`), or a pod of another app: in the same namespace (`neighbour`), or in any other (`outside`). */
type Peer = 'app' | 'sessions' | 'redis' | 'load' | 'neighbour' | 'outside';

type Connection = [from: Peer, to: Peer, port: number, protocol: 'TCP' | 'UDP', passes: boolean];

const CONNECTIONS: Connection[] = [
  // Ingress controllers, wherever they run.
  ['outside', 'app', 3000, 'TCP', true],
  ['outside', 'app', 9090, 'TCP', false],
  ['neighbour', 'app', 9090, 'TCP', false],
  ['app', 'sessions', 6379, 'TCP', true],
  ['load', 'app', 3000, 'TCP', true],
  // Responses above 512 bytes use TCP; a node-local DNS cache is not a pod.
  ['app', 'outside', 53, 'UDP', true],
  ['app', 'outside', 53, 'TCP', true],
  ['load', 'outside', 53, 'UDP', true],
  ['load', 'outside', 53, 'TCP', true],
  ['outside', 'sessions', 6379, 'TCP', false],
  ['neighbour', 'sessions', 6379, 'TCP', false],
  ['redis', 'outside', 53, 'UDP', false],
  ['app', 'outside', 443, 'TCP', false],
  ['load', 'outside', 443, 'TCP', false],
  ['outside', 'load', 3000, 'TCP', false],
  // Other people's pods are none of ours to isolate.
  ['outside', 'neighbour', 3000, 'TCP', true],
  ['neighbour', 'outside', 443, 'TCP', true],
];

interface Pod {
  labels: Manifest;
  namespace: Manifest;
  ports: Manifest[];
}

const NEIGHBOUR_LABELS = { 'app.kubernetes.io/name': 'neighbour', 'app.kubernetes.io/instance': 'neighbour' };

/** Undefined if the manifests have no such pod. */
function podOf(all: Manifests, peer: Peer): Pod | undefined {
  const namespace = { 'kubernetes.io/metadata.name': peer === 'outside' ? 'elsewhere' : 'here' };
  if (peer === 'outside' || peer === 'neighbour') return { labels: NEIGHBOUR_LABELS, namespace, ports: [] };
  const workload = workloads(all).find(one => [COMPONENT, NAME].some(label => labelsOf(one)?.[label] === peer));
  return workload && { labels: labelsOf(workload) ?? {}, namespace, ports: portsOf(workload) };
}

const isSelected = (selector: unknown, labels: Manifest) =>
  at(selector, 'matchLabels') === undefined || selects(at(selector, 'matchLabels'), labels);

/** True if the policies let the pod connect. */
function passes(all: Manifests, from: Pod, to: Pod, port: number, protocol: string): boolean {
  const target = to.ports.find(({ containerPort }) => containerPort === port);
  const isPort = (one: Manifest) => one.protocol === protocol && [port, target?.name].includes(one.port as string | number);
  const isSame = from.namespace['kubernetes.io/metadata.name'] === to.namespace['kubernetes.io/metadata.name'];
  const isAllowed = (own: Pod, peer: Pod, direction: 'ingress' | 'egress') => {
    const type = direction === 'ingress' ? 'Ingress' : 'Egress';
    const isElsewhere = own.namespace['kubernetes.io/metadata.name'] === 'elsewhere';
    const policies = ofKind(all, 'NetworkPolicy').filter(
      ({ spec }) =>
        !isElsewhere && (at(spec, 'policyTypes') as string[]).includes(type) && isSelected(at(spec, 'podSelector'), own.labels),
    );
    const isPeer = ({ podSelector, namespaceSelector, ipBlock }: Manifest) =>
      ipBlock === undefined &&
      isSelected(podSelector, peer.labels) &&
      (namespaceSelector === undefined ? isSame : isSelected(namespaceSelector, peer.namespace));
    const rules = policies.flatMap(policy => listAt(policy, `spec.${direction}`));
    const matching = rules.filter(rule => {
      const [peers, ports] = [listAt(rule, direction === 'ingress' ? 'from' : 'to'), listAt(rule, 'ports')];
      return (peers.length === 0 || peers.some(isPeer)) && (ports.length === 0 || ports.some(isPort));
    });
    return policies.length === 0 || matching.length > 0;
  };
  return isAllowed(from, to, 'egress') && isAllowed(to, from, 'ingress');
}

/** Nothing is said about the app where the component network-policy is not used. */
export function brokenConnections(all: Manifests): string[] {
  const isIsolated = ofKind(all, 'NetworkPolicy').some(({ metadata }) => /(^|-)app$/.test(String(at(metadata, 'name'))));
  return CONNECTIONS.filter(([from, to]) => isIsolated || (from !== 'app' && to !== 'app'))
    .filter(([from, to, port, protocol, expected]) => {
      const [source, target] = [podOf(all, from), podOf(all, to)];
      return source && target && passes(all, source, target, port, protocol) !== expected;
    })
    .map(connection => `${connectionRule(connection)}: the NetworkPolicies decide otherwise`);
}

const connectionRule = ([from, to, port, protocol, expected]: Connection) =>
  `${from} ${expected ? 'reaches' : 'does not reach'} ${to} at ${protocol} ${port}`;

export const CONNECTION_RULES = CONNECTIONS.map(connectionRule);
