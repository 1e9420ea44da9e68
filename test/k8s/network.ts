/**
 * Rules for the NetworkPolicies: nothing passes that none names, and all that must pass does.
 */
import {
  at,
  containersOf,
  kindKeeps,
  listAt,
  type Manifest,
  nameOf,
  ofKind,
  podOf,
  portsOf,
  type Rule,
  WORKLOADS,
} from './rule.ts';

const DNS_PORT = 53;
const DIRECTIONS = ['ingress', 'egress'] as const;
type Direction = (typeof DIRECTIONS)[number];

const selectorOf = (policy: Manifest) => at(policy, 'spec.podSelector.matchLabels');
const peersOf = (passage: Manifest, direction: Direction) => listAt(passage, direction === 'ingress' ? 'from' : 'to');
const workloadOf = (peer: Manifest, all: readonly Manifest[]) => podOf(at(peer, 'podSelector.matchLabels'), all);

/** What the policies for a workload's pods let pass. */
function passagesOf(workload: Manifest, direction: Direction, all: readonly Manifest[]): Manifest[] {
  return ofKind(all, 'NetworkPolicy')
    .filter(policy => podOf(selectorOf(policy), all) === workload)
    .flatMap(policy => listAt(policy, `spec.${direction}`));
}

const names = (passage: Manifest, port: unknown, protocol = 'TCP') =>
  listAt(passage, 'ports').some(one => one.port === port && one.protocol === protocol);

/** A rule that a workload of that name must keep, where it is one of the manifests. */
function workloadKeeps(
  name: string,
  id: string,
  reason: string,
  source: string,
  keeps: (workload: Manifest, all: readonly Manifest[]) => boolean,
): Rule {
  const broken = (all: readonly Manifest[]) =>
    ofKind(all, ...WORKLOADS)
      .filter(workload => at(workload, 'metadata.name') === name && !keeps(workload, all))
      .map(nameOf);
  return { id, reason, source, broken };
}

export const NETWORK_RULES: Rule[] = [
  {
    id: 'default-deny',
    reason: 'nothing goes in or out that no policy names',
    source: 'kube-score',
    broken: all => {
      const denies = ({ spec }: Manifest) =>
        JSON.stringify(spec) === JSON.stringify({ podSelector: {}, policyTypes: ['Ingress', 'Egress'] });
      return ofKind(all, 'NetworkPolicy').some(denies) ? [] : ['no NetworkPolicy denies all'];
    },
  },
  kindKeeps('NetworkPolicy', 'policy-selects', 'a policy for no pod does nothing', 'kube-score', (policy, all) => {
    return selectorOf(policy) === undefined || podOf(selectorOf(policy), all) !== undefined;
  }),
  kindKeeps('NetworkPolicy', 'policy-peers', 'a peer that no pod is lets nobody pass', 'kube-score', (policy, all) =>
    DIRECTIONS.every(direction =>
      listAt(policy, `spec.${direction}`)
        .flatMap(passage => peersOf(passage, direction))
        .filter(peer => peer.podSelector !== undefined)
        .every(peer => workloadOf(peer, all) !== undefined),
    ),
  ),
  kindKeeps(
    'NetworkPolicy',
    'policy-ports',
    'a port that its pod has not lets nothing pass',
    'facts: manifests 49',
    (policy, all) => {
      const isPort = (workload: Manifest | undefined, port: unknown) =>
        workload === undefined || portsOf(workload).some(({ name, containerPort }) => [name, containerPort].includes(port));
      const portsIn = (passage: Manifest) => listAt(passage, 'ports').map(({ port }) => port);
      const own = podOf(selectorOf(policy), all);
      return (
        listAt(policy, 'spec.ingress').every(passage => portsIn(passage).every(port => isPort(own, port))) &&
        listAt(policy, 'spec.egress').every(passage =>
          peersOf(passage, 'egress').every(peer => portsIn(passage).every(port => isPort(workloadOf(peer, all), port))),
        )
      );
    },
  ),
  workloadKeeps('app', 'app-from-anyone', 'ingress controllers and Prometheus are elsewhere', 'issue 8', (app, all) => {
    const open = passagesOf(app, 'ingress', all).filter(passage => peersOf(passage, 'ingress').length === 0);
    return ['http', 'admin'].every(port => open.some(passage => names(passage, port)));
  }),
  workloadKeeps(
    'app',
    'probes-pass',
    'some network plug-ins ask the kubelet too',
    'kubernetes.io, network policies',
    (app, all) => {
      const passages = passagesOf(app, 'ingress', all);
      const probes = containersOf(app).flatMap(({ startupProbe, readinessProbe, livenessProbe }) => [
        startupProbe,
        readinessProbe,
        livenessProbe,
      ]);
      return probes.every(probe => passages.some(passage => names(passage, at(probe, 'httpGet.port'))));
    },
  ),
  workloadKeeps('app', 'app-to-redis', 'where its sessions are', 'issue 8', (app, all) => {
    const [redis] = ofKind(all, 'StatefulSet');
    const toRedis = passagesOf(app, 'egress', all).filter(passage => {
      const peers = peersOf(passage, 'egress');
      return peers.length === 0 || peers.some(peer => workloadOf(peer, all) === redis);
    });
    return toRedis.some(passage => names(passage, 6379));
  }),
  ...['app', 'load'].map(name =>
    workloadKeeps(name, 'to-dns', 'answers of more than 512 bytes come by TCP', 'kube-score', (workload, all) =>
      // To anybody: a node-local cache is no pod, and answers on an address of the node.
      passagesOf(workload, 'egress', all).some(
        passage => peersOf(passage, 'egress').length === 0 && names(passage, DNS_PORT, 'UDP') && names(passage, DNS_PORT),
      ),
    ),
  ),
  workloadKeeps('redis', 'redis-from-app', 'nobody else has business with sessions', 'issue 8', (redis, all) => {
    const passages = passagesOf(redis, 'ingress', all);
    const [app] = ofKind(all, 'Deployment');
    const peers = passages.flatMap(passage => peersOf(passage, 'ingress'));
    const isApp = (peer: Manifest) => peer.namespaceSelector === undefined && workloadOf(peer, all) === app;
    return (
      peers.length > 0 &&
      passages.every(passage => peersOf(passage, 'ingress').length > 0 && names(passage, 'redis')) &&
      peers.every(isApp) &&
      passagesOf(redis, 'egress', all).length === 0
    );
  }),
];
