/**
 * Rules for what serves: how it is replaced, spread, scaled, drained and found.
 */
import { at, containersOf, kindKeeps, listAt, type Manifest, ofKind, podOf, portsOf, type Rule, selects } from './rule.ts';

/** For close handlers, Redis and the exit. */
const SLACK_SECONDS = 5;
const STABLE_LABELS = ['app.kubernetes.io/name', 'app.kubernetes.io/instance'];

/** Milliseconds that a container's environment names. */
const millisecondsOf = (container: Manifest | undefined, name: string) =>
  Number(listAt(container, 'env').find(variable => variable.name === name)?.value);

const labelsOf = (workload: Manifest) => at(workload, 'spec.template.metadata.labels');

export const SERVING_RULES: Rule[] = [
  kindKeeps(
    'Deployment',
    'grace-period',
    'what the grace period cuts is lost',
    'docs/guide/shutdown.md, kubernetes.io pod lifecycle',
    deployment => {
      const [container] = containersOf(deployment);
      const waits = (millisecondsOf(container, 'SHUTDOWN_DELAY_MS') + millisecondsOf(container, 'SHUTDOWN_TIMEOUT_MS')) / 1000;
      const grace = Number(at(deployment, 'spec.template.spec.terminationGracePeriodSeconds'));
      return waits + SLACK_SECONDS < grace && millisecondsOf(container, 'TERMINATION_GRACE_PERIOD_SECONDS') === grace;
    },
  ),
  kindKeeps(
    'Deployment',
    'no-pre-stop',
    'it would add to the delay and count against the grace period',
    'facts: draining 28',
    deployment => containersOf(deployment).every(container => container.lifecycle === undefined),
  ),
  kindKeeps('Deployment', 'surge-first', 'the new pod serves before an old one leaves', 'facts: draining 33', deployment => {
    const { maxSurge, maxUnavailable } = at(deployment, 'spec.strategy.rollingUpdate') as Manifest;
    return maxSurge === 1 && maxUnavailable === 0 && Number(at(deployment, 'spec.minReadySeconds')) >= 5;
  }),
  kindKeeps('Deployment', 'replicas-or-autoscaler', 'an apply would undo the autoscaler', 'kube-score', deployment => {
    return at(deployment, 'spec.replicas') === undefined;
  }),
  kindKeeps('Deployment', 'resize-in-place', 'the pool follows without a restart', 'KEP-1287', deployment =>
    containersOf(deployment).every(
      container => listAt(container, 'resizePolicy').filter(({ restartPolicy }) => restartPolicy === 'NotRequired').length === 2,
    ),
  ),
  kindKeeps(
    'PodDisruptionBudget',
    'drain-goes-on',
    'a pod that is not ready must not block a node drain',
    'facts: draining 34',
    budget => {
      return at(budget, 'spec.unhealthyPodEvictionPolicy') === 'AlwaysAllow' && at(budget, 'spec.maxUnavailable') === 1;
    },
  ),
  kindKeeps('PodDisruptionBudget', 'budget-target', 'it must select pods', 'kube-linter', (budget, all) => {
    return podOf(at(budget, 'spec.selector.matchLabels'), all) !== undefined;
  }),
  kindKeeps('HorizontalPodAutoscaler', 'autoscaler-target', 'it must name a Deployment', 'kube-score', (autoscaler, all) =>
    ofKind(all, 'Deployment').some(({ metadata }) => at(metadata, 'name') === at(autoscaler, 'spec.scaleTargetRef.name')),
  ),
  kindKeeps('HorizontalPodAutoscaler', 'autoscaler-minimum', 'it must stay above the budget', 'kube-score', autoscaler => {
    return Number(at(autoscaler, 'spec.minReplicas')) > 1;
  }),
  kindKeeps(
    'Service',
    'service-target',
    'its selector and port must be a pod’s',
    'kube-linter dangling-service',
    (service, all) => {
      const pod = podOf(at(service, 'spec.selector'), all);
      const ports = pod ? portsOf(pod) : [];
      return listAt(service, 'spec.ports').every(({ targetPort }) => ports.some(({ name }) => name === targetPort));
    },
  ),
  kindKeeps('Service', 'admin-inside', 'the admin port is for probes and Prometheus', 'facts: manifests 43', service =>
    listAt(service, 'spec.ports').every(({ targetPort }) => targetPort !== 'admin'),
  ),
  kindKeeps('Deployment', 'gives-up', 'a rollout that hangs must be reported', 'facts: draining 38', deployment => {
    const seconds = Number(at(deployment, 'spec.progressDeadlineSeconds'));
    return seconds >= 60 && seconds <= 600 && Number(at(deployment, 'spec.revisionHistoryLimit')) > 0;
  }),
  kindKeeps('Deployment', 'selector-stable', 'it can never be changed: no version in it', 'facts: manifests 7', deployment => {
    const selector = at(deployment, 'spec.selector.matchLabels') as Manifest;
    return Object.keys(selector).sort().join() === [...STABLE_LABELS].sort().join() && selects(selector, labelsOf(deployment));
  }),
  kindKeeps('Deployment', 'spread', 'a node or a zone that goes takes few pods', 'kube-score, kube-linter', deployment => {
    const spread = listAt(deployment, 'spec.template.spec.topologySpreadConstraints');
    return ['kubernetes.io/hostname', 'topology.kubernetes.io/zone'].every(key =>
      spread.some(({ topologyKey, maxSkew }) => topologyKey === key && maxSkew === 1),
    );
  }),
  kindKeeps('Deployment', 'spread-softly', 'a cluster of one node runs all pods', 'facts: manifests 10, 11', deployment => {
    const spec = at(deployment, 'spec.template.spec');
    const spread = listAt(spec, 'topologySpreadConstraints');
    return (
      spread.every(({ whenUnsatisfiable }) => whenUnsatisfiable === 'ScheduleAnyway') &&
      at(spec, 'affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution') === undefined
    );
  }),
  kindKeeps('Deployment', 'spread-selector', 'a selector of no pod spreads nothing', 'kube-score', deployment => {
    const spec = at(deployment, 'spec.template.spec');
    const terms = listAt(spec, 'affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution');
    const selectors = [...listAt(spec, 'topologySpreadConstraints'), ...terms.map(term => at(term, 'podAffinityTerm'))];
    return selectors.every(one => selects(at(one, 'labelSelector.matchLabels'), labelsOf(deployment)));
  }),
  kindKeeps(
    'HorizontalPodAutoscaler',
    'autoscaler-calm',
    'pods that come and go cost more than they save',
    'kube-score',
    autoscaler => {
      return (
        Number(at(autoscaler, 'spec.behavior.scaleDown.stabilizationWindowSeconds')) >= 300 &&
        Number(at(autoscaler, 'spec.maxReplicas')) >= Number(at(autoscaler, 'spec.minReplicas'))
      );
    },
  ),
  kindKeeps(
    'Service',
    'service-inside',
    'what comes from outside comes by an Ingress or a Gateway',
    'facts: manifests 47',
    service => {
      return at(service, 'spec.type') === 'ClusterIP';
    },
  ),
];
