/**
 * What manifests must keep to, a rule each: its id, why, and where that comes from. Pure over parsed YAML.
 */

/** A part of a manifest: YAML is data of any shape, and a path that is not there is `undefined`. */
export type Manifest = { [key: string]: unknown };

export interface Rule {
  id: string;
  reason: string;
  source: string;
  /** What breaks the rule; empty where nothing does. */
  broken: (manifests: readonly Manifest[]) => string[];
}

const SLACK_SECONDS = 3;
const WORKLOADS = ['Deployment', 'StatefulSet'];

/** The value at a path such as `spec.template.spec`. */
export function at(value: unknown, path: string): unknown {
  return path.split('.').reduce<unknown>((part, key) => (part as Manifest | undefined | null)?.[key], value);
}
const listAt = (value: unknown, path: string) => (at(value, path) ?? []) as Manifest[];
const nameOf = (manifest: Manifest) => `${manifest.kind} ${at(manifest, 'metadata.name')}`;
const ofKind = (manifests: readonly Manifest[], ...kinds: string[]) =>
  manifests.filter(({ kind }) => kinds.includes(String(kind)));
const containersOf = (workload: Manifest) => listAt(workload, 'spec.template.spec.containers');

/** True where every label of the selector is among the labels. */
function selects(selector: unknown, labels: unknown): boolean {
  const wanted = Object.entries((selector ?? {}) as Manifest);
  return wanted.length > 0 && wanted.every(([key, value]) => (labels as Manifest | undefined)?.[key] === value);
}

/** A rule that each workload's pods must keep: path in the pod's spec, and its value. */
function podSays(id: string, path: string, value: unknown, reason: string, source: string): Rule {
  const isWrong = (workload: Manifest) => at(workload, `spec.template.spec.${path}`) !== value;
  const broken = (manifests: readonly Manifest[]) =>
    ofKind(manifests, ...WORKLOADS)
      .filter(isWrong)
      .map(workload => `${nameOf(workload)}: ${path} must be ${value}`);
  return { id, reason, source, broken };
}

/** A rule that each container must keep. */
function containerKeeps(id: string, reason: string, source: string, keeps: (container: Manifest) => boolean): Rule {
  const broken = (manifests: readonly Manifest[]) =>
    ofKind(manifests, ...WORKLOADS).flatMap(workload =>
      containersOf(workload)
        .filter(container => !keeps(container))
        .map(container => `${nameOf(workload)}, container ${container.name}`),
    );
  return { id, reason, source, broken };
}

/** A rule that each manifest of a kind must keep. */
function kindKeeps(
  kind: string,
  id: string,
  reason: string,
  source: string,
  keeps: (manifest: Manifest, all: readonly Manifest[]) => boolean,
): Rule {
  const broken = (all: readonly Manifest[]) =>
    ofKind(all, kind)
      .filter(manifest => !keeps(manifest, all))
      .map(nameOf);
  return { id, reason, source, broken };
}

const PSS = 'Pod Security Standards, restricted';

/** Milliseconds that a container's environment names. */
const millisecondsOf = (container: Manifest | undefined, name: string) =>
  Number(listAt(container, 'env').find(variable => variable.name === name)?.value);

const podOf = (selector: unknown, all: readonly Manifest[]) =>
  ofKind(all, ...WORKLOADS).find(workload => selects(selector, at(workload, 'spec.template.metadata.labels')));

const probesOf = (container: Manifest) =>
  ['startupProbe', 'readinessProbe', 'livenessProbe'].map(name => container[name] as Manifest | undefined);

export const RULES: Rule[] = [
  {
    id: 'namespace-first',
    reason: 'what is applied before its namespace exists fails',
    source: 'kubectl apply -f FOLDER goes by name',
    broken: all => (all[0]?.kind === 'Namespace' ? [] : [`first is ${all[0]?.kind}`]),
  },
  {
    id: 'namespace-field',
    reason: 'an object without it lands in the namespace of the current context',
    source: 'kube-linter use-namespace',
    broken: all =>
      all.filter(({ kind, metadata }) => kind !== 'Namespace' && at(metadata, 'namespace') !== 'koa-bosun').map(nameOf),
  },
  kindKeeps('Namespace', 'pod-security', 'refuses pods that are not hardened', PSS, manifest =>
    selects({ 'pod-security.kubernetes.io/enforce': 'restricted' }, at(manifest, 'metadata.labels')),
  ),
  podSays('no-token', 'automountServiceAccountToken', false, 'a stolen pod must not reach the API', 'kube-linter, CIS 5.1.6'),
  podSays('no-service-links', 'enableServiceLinks', false, 'a Service redis would inject REDIS_PORT=tcp://…', 'kubelet'),
  podSays('non-root', 'securityContext.runAsNonRoot', true, 'root in a container is root', PSS),
  podSays('seccomp', 'securityContext.seccompProfile.type', 'RuntimeDefault', 'fewer system calls', PSS),
  containerKeeps('no-escalation', 'setuid must not give rights', PSS, container => {
    return at(container, 'securityContext.allowPrivilegeEscalation') === false;
  }),
  containerKeeps('no-capabilities', 'none is needed', PSS, container =>
    listAt(container, 'securityContext.capabilities.drop').some(name => String(name) === 'ALL'),
  ),
  containerKeeps('read-only-root', 'what serves strangers does not change itself', 'kube-score', container => {
    return at(container, 'securityContext.readOnlyRootFilesystem') === true;
  }),
  containerKeeps('limits', 'sizing reads the limits', 'kube-score, polaris', container =>
    ['cpu', 'memory', 'ephemeral-storage'].every(name =>
      ['requests', 'limits'].every(kind => at(container, `resources.${kind}.${name}`) !== undefined),
    ),
  ),
  containerKeeps('memory-request', 'memory cannot be taken back', 'kubernetes.io, QoS', container => {
    return at(container, 'resources.requests.memory') === at(container, 'resources.limits.memory');
  }),
  containerKeeps('image-fixed', 'latest is another image tomorrow', 'kube-linter latest-tag', container =>
    /(:(?!latest$)[\w.-]+|@sha256:[0-9a-f]{64})$/.test(String(container.image)),
  ),
  containerKeeps('three-probes', 'a slow start is no hang', 'kube-score', container =>
    probesOf(container).every(probe => probe?.timeoutSeconds && probe.failureThreshold),
  ),
  containerKeeps('probes-differ', 'a pod that is not ready must not be restarted', 'kube-score', container => {
    const [, readiness, liveness] = probesOf(container).map(probe => JSON.stringify(probe?.httpGet ?? probe?.exec));
    return readiness !== liveness;
  }),
  containerKeeps('probe-port', 'a probe names a port of its container', 'kube-linter readiness-port', container =>
    probesOf(container).every(probe => {
      const port = at(probe, 'httpGet.port');
      return port === undefined || listAt(container, 'ports').some(({ name }) => name === port);
    }),
  ),
  containerKeeps(
    'start-without-redis',
    '/startupz waits for Redis; its failure restarts the pod',
    'src/primary/readiness.ts',
    container => {
      return at(container, 'startupProbe.httpGet.path') !== '/startupz';
    },
  ),
  kindKeeps(
    'Deployment',
    'grace-period',
    'what the grace period cuts is lost',
    'README, kubernetes.io pod lifecycle',
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
      const ports = pod ? containersOf(pod).flatMap(container => listAt(container, 'ports')) : [];
      return listAt(service, 'spec.ports').every(({ targetPort }) => ports.some(({ name }) => name === targetPort));
    },
  ),
  kindKeeps('Service', 'admin-inside', 'the admin port is for probes and Prometheus', 'facts: manifests 43', service =>
    listAt(service, 'spec.ports').every(({ targetPort }) => targetPort !== 'admin'),
  ),
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
  {
    id: 'references',
    reason: 'a pod waits for ever for a ConfigMap or an account that is not there',
    source: 'kube-linter non-existent-service-account',
    broken: all => {
      const has = (kind: string, name: unknown) => ofKind(all, kind).some(({ metadata }) => at(metadata, 'name') === name);
      return ofKind(all, ...WORKLOADS).flatMap(workload => [
        ...(has('ServiceAccount', at(workload, 'spec.template.spec.serviceAccountName')) ? [] : [`${nameOf(workload)}: account`]),
        ...containersOf(workload)
          .flatMap(container => listAt(container, 'envFrom'))
          .filter(source => !has('ConfigMap', at(source, 'configMapRef.name')))
          .map(source => `${nameOf(workload)}: ${JSON.stringify(source)}`),
      ]);
    },
  },
];

/** Every broken rule, as `id: what`. */
export const broken = (manifests: readonly Manifest[]) =>
  RULES.flatMap(({ id, reason, broken }) => broken(manifests).map(what => `${id}: ${what} (${reason})`));
